"""Which calls are struck: all of them, or a spread that always has the ones that matter most."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, TypeVar

from crash.strace import OPEN, Injection, Made

__all__ = ["Point", "all_points", "disk_points", "in_turns", "part_of", "some_points"]

Item = TypeVar("Item")
Calls = Mapping[str, Sequence[Made]]
"""Step of the story → what it calls."""

_COMMIT: Final = (
    ("fsync", r"log/\.tmp-"),
    ("link", r"/log/\d{12}\.json$"),
    ("fsync", r"/log$"),
    ("unlink", r"/log/\.tmp-"),
)
"""The commit of an entry: its bytes are durable, it has its name, the name is durable."""

_PUBLICATION: Final = (
    ("rename", r"/serving\.pending$"),
    ("rename", r"/lake/published\.json$"),
    ("fsync", r"/lake$"),
    ("fdatasync", r"/serving\.db"),
    ("unlink", r"/serving\.pending$"),
)

_AFTER_THE_LAST: Final = 3
"""Calls are not the same in number from run to run, where threads share the work."""


@dataclass(frozen=True, order=True)
class Point:
    """One call of one step."""

    step: str
    call: str
    number: int
    """Counting the calls of that name in one thread, from 1."""

    def __str__(self) -> str:
        return f"{self.call} {self.number} of {self.step}"

    def injection(self, what: str, *, onwards: bool = False) -> Injection:
        return Injection(self.call, self.number, what, onwards)


def all_points(calls: Calls) -> list[Point]:
    """Every call of every name, and a few beyond the last, which strike nothing."""
    beyond = [
        Point(step, name, max(numbers) + more)
        for step, made in calls.items()
        for name, numbers in _numbers(made).items()
        for more in range(1, 1 + _AFTER_THE_LAST)
        if name != OPEN
    ]
    return sorted([*_made_points(calls), *beyond])


def disk_points(calls: Calls, folder: Path) -> list[Point]:
    """Every call about a file or folder below ``folder``, whatever thread makes it.

    Threads also wake each other by writing to what is no file; a disk can't refuse that.
    """
    others = {
        (step, one.call): max(
            (it.number for it in made if it.call == one.call and not _below(it, folder)), default=0
        )
        for step, made in calls.items()
        for one in made
    }
    return sorted(
        point
        for point in _made_points(calls)
        if point.number > others[point.step, point.call] or point.call == OPEN
    )


def _below(one: Made, folder: Path) -> bool:
    return one.path.startswith(str(folder)) or not one.path.startswith(
        ("/", "anon_inode:", "pipe:")
    )


def some_points(calls: Calls, seed: int, *, spread: int, series: int) -> list[Point]:
    """A spread of calls of each name, and whole commits and publications.

    Args:
        calls: Those of an unharmed run.
        seed: Of the choice.
        spread: How many of each name over the whole story: far apart, not chance alone.
        series: How many log entries and publications are struck at each of their steps.
    """
    chance = Random(seed)
    found = {
        *_series(calls, _COMMIT, series, chance),
        *_series(calls, _PUBLICATION, series, chance),
    }
    points = _made_points(calls)
    for name in sorted({point.call for point in points}):
        named = [point for point in points if point.call == name]
        count = min(spread, len(named))
        wide = len(named) / count
        found |= {named[int((at + chance.random()) * wide)] for at in range(count)}
    return sorted(found)


def in_turns(points: Sequence[Point], seed: int) -> list[Point]:
    """Order them so that the names take turns: as far as a run gets, it has met all of them.

    The steps come as chance has it, so that no part of the list takes much longer than others.
    """
    by_name: dict[str, list[Point]] = {}
    for point in Random(seed).sample(points, len(points)):
        by_name.setdefault(point.call, []).append(point)
    turns = [(turn, point) for named in by_name.values() for turn, point in enumerate(named)]
    return [point for _, point in sorted(turns, key=lambda one: (one[0], one[1].call))]


def part_of(items: Sequence[Item], part: int, parts: int) -> Sequence[Item]:
    """Return one of ``parts`` parts, none much longer than another; in order."""
    return items[len(items) * part // parts : len(items) * (part + 1) // parts]


def _made_points(calls: Calls) -> list[Point]:
    return [
        Point(step, name, number)
        for step, made in calls.items()
        for name, numbers in _numbers(made).items()
        for number in numbers
    ]


def _numbers(made: Sequence[Made]) -> dict[str, list[int]]:
    """Name → the numbers that its calls have in some thread."""
    found: dict[str, set[int]] = {}
    for one in made:
        if one.call != OPEN or one.makes:
            found.setdefault(one.call, set()).add(one.number)
    return {name: sorted(numbers) for name, numbers in sorted(found.items())}


def _series(
    calls: Calls, kinds: Sequence[tuple[str, str]], count: int, chance: Random
) -> Iterator[Point]:
    """Yield every kind of call of some of the times that they were made."""
    for call, pattern in kinds:
        hits = [
            Point(step, call, one.number)
            for step, made in calls.items()
            for one in made
            if one.call == call and re.search(pattern, one.path)
        ]
        assert hits, f"no {call} of {pattern}: what is struck has to be named anew"
        yield from chance.sample(hits, min(count, len(hits)))
