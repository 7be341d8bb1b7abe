"""Killed at a system call, any of them: the same command finishes the work, nothing is lost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from crash.points import Point, all_points, in_turns, part_of, some_points
from crash.programs import Programs
from crash.seen import assert_seen, assert_whole, proven
from crash.story import after, play
from crash.strace import made
from crash.unharmed import ALL, Unharmed

PARTS = 64 if ALL else 12
SPREAD, SERIES, SEED = 8, 2, 1
WHOLE_STORY = 5
"""After each so-many-eth kill the rest of the story is played, too."""


@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_at_a_call_loses_nothing_and_doubles_nothing(
    unharmed: Unharmed,
    runs: Programs,
    tmp_path: Path,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    if ALL:
        points = all_points(unharmed.calls)
    else:
        points = some_points(unharmed.calls, SEED, spread=SPREAD, series=SERIES)
    struck: Counter[str] = Counter()
    for number, point in enumerate(part_of(in_turns(points, SEED), part, PARTS)):
        if killed_at(point, unharmed, runs, tmp_path / "project"):
            struck[point.call] += 1
            rest = number % WHOLE_STORY == 0
            assert_finished(point, unharmed, runs, tmp_path / "project", rest=rest)
        shutil.rmtree(tmp_path / "project", ignore_errors=True)
    record_property("points of death", dict(struck))


def killed_at(point: Point, unharmed: Unharmed, runs: Programs, root: Path) -> bool:
    """Play one step up to a kill; False when it never came to that call."""
    log = root.with_suffix(".calls")
    unharmed.copy(point.step, root)
    ended = play(runs, root, point.step, under=point.injection("signal=KILL").line(log))
    if not ended.killed:
        assert ended.code == 0, (str(point), ended)
        return False
    # It died by the injection: some thread came to just that call, and none went beyond.
    assert max(one.number for one in made(log)) == point.number, str(point)
    return True


def assert_finished(
    point: Point, unharmed: Unharmed, runs: Programs, root: Path, *, rest: bool
) -> None:
    """What the crash left is whole; the same command, and the story, end where they always do."""
    if point.step in after("init"):
        assert_whole(root)
    for step in [point.step, *(after(point.step) if rest else ())]:
        ended = play(runs, root, step)
        assert ended.code == 0, (str(point), step, ended)
        if step == point.step and step in unharmed.seen:
            assert_seen(proven(root), unharmed.seen[step])
    if rest:
        assert_seen(proven(root), unharmed.end)
