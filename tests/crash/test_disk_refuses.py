"""A disk that fails or is full at any call: a clear message, exit 3, nothing lost; then on."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random

import pytest

from crash.points import Point, disk_points, in_turns, part_of, some_points
from crash.programs import Ended, Programs
from crash.seen import assert_seen, assert_whole, proven
from crash.story import after, play
from crash.strace import OPEN, injected
from crash.unharmed import ALL, Unharmed

PARTS = 64 if ALL else 12
SPREAD, SERIES, SEED = 2, 1, 1
ERRORS = ("EIO", "ENOSPC")
ONWARDS = 0.5
"""Of so many of all calls each later call of that name fails, too."""
_LOGGED = b"\2\2"
"""Bytes 18 and 19 of an SQLite file whose changes go into a write-ahead log first."""


@pytest.mark.parametrize("part", range(PARTS))
def test_a_disk_that_refuses_is_named_and_nothing_is_lost(
    unharmed: Unharmed,
    runs: Programs,
    tmp_path: Path,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    struck: dict[str, Counter[str]] = {}
    for point, error, onwards in part_of(strikes(unharmed), part, PARTS):
        root = tmp_path / "project"
        ended = refused_at(point, unharmed, runs, root, error, onwards=onwards)
        if ended is not None:
            how = f"{error}{' from there on' if onwards else ''}, exit {ended.code}"
            struck.setdefault(how, Counter())[point.call] += 1
            assert_clear(point, ended)
            if ended.code or point.step != "init":
                assert_goes_on(point, unharmed, runs, root)
        shutil.rmtree(root, ignore_errors=True)
    for how, counts in struck.items():
        record_property(f"points of {how}", dict(counts))


@pytest.mark.parametrize(("step", "database"), [("batch", "serving.db"), ("follow", "alerts.db")])
def test_what_is_read_without_a_lock_is_written_by_a_write_ahead_log_only(
    unharmed: Unharmed, runs: Programs, tmp_path: Path, step: str, database: str
) -> None:
    made = [one for one in unharmed.calls[step] if one.call == "fdatasync"]
    first = [one for one in made if one.path.endswith(f"/{database}-journal")]

    for one, error in product(first, ERRORS):
        point, root = Point(step, one.call, one.number), tmp_path / f"{error}-{one.number}"
        ended = refused_at(point, unharmed, runs, root, error, onwards=False)

        assert ended is not None, str(point)
        assert_clear(point, ended)
        # Without one a crash would show readers half a change.
        assert (root / database).read_bytes()[18:20] in (b"", _LOGGED), str(point)
        assert f"/{database}" in ended.err, (str(point), ended.err)
        assert_goes_on(point, unharmed, runs, root)

    assert first, f"{database} is made in another way: what is struck has to be named anew"


def strikes(unharmed: Unharmed) -> list[tuple[Point, str, bool]]:
    """Return the calls that fail, and how."""
    known = disk_points(unharmed.calls, unharmed.folder)
    chance = Random(SEED)
    if ALL:
        # Each call in both ways; all of them in one way first.
        firsts = [chance.randrange(2) for _ in known]
        found = [
            (point, ERRORS[(first + turn) % 2], chance.random() < ONWARDS)
            for turn in range(2)
            for first, point in zip(firsts, in_turns(known, SEED), strict=True)
        ]
    else:
        found = [
            (point, error, onwards)
            for at, (error, onwards) in enumerate(product(ERRORS, (False, True)))
            for point in some_points(unharmed.calls, SEED + at, spread=SPREAD, series=SERIES)
            if point in known
        ]
        chance.shuffle(found)
    # A system that opens nothing any more runs no program.
    return [(point, error, on and point.call != OPEN) for point, error, on in found]


def refused_at(
    point: Point, unharmed: Unharmed, runs: Programs, root: Path, error: str, *, onwards: bool
) -> Ended | None:
    """Play one step in which a call fails; None when it never came to that call."""
    log = root.with_suffix(".calls")
    unharmed.copy(point.step, root)
    strike = point.injection(f"error={error}", onwards=onwards)
    ended = play(runs, root, point.step, under=strike.line(log))
    return ended if injected(log) else None


def assert_clear(point: Point, ended: Ended) -> None:
    """It ends well all the same, or with exit 3 and what happened, where, and what to do."""
    if ended.code == 0:
        return
    assert ended.code == 3, (str(point), ended.err)
    assert "Traceback" not in ended.err, (str(point), ended.err)
    said = ended.err[ended.err.rindex("error: ") :].splitlines()
    assert [line[:9] for line in said[1:]] == ["  where: ", "  fix:   "], (str(point), ended.err)
    assert all(len(line) > len("  where: ") for line in said), (str(point), ended.err)


def assert_goes_on(point: Point, unharmed: Unharmed, runs: Programs, root: Path) -> None:
    """What was refused is whole; the same command ends where it always does."""
    if point.step in after("init"):
        assert_whole(root)
    ended = play(runs, root, point.step)
    assert ended.code == 0, (str(point), ended)
    if point.step in unharmed.seen:
        assert_seen(proven(root), unharmed.seen[point.step])
