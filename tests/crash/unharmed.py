"""The story without harm, for what is harmed to be compared with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crash.programs import Programs
from crash.seen import Seen, proven
from crash.story import STEPS, play, prepare
from crash.strace import CALLS, OPEN, Made, made, strace_line

__all__ = ["ALL", "Unharmed", "run_unharmed"]

ALL = os.environ.get("CRASH_POINTS") == "all"
"""Set by ``make test-crash``: every point, not a spread."""


@dataclass(frozen=True)
class Unharmed:
    """What a run without harm makes, shows, and calls; by step."""

    folder: Path
    seen: Mapping[str, Seen]
    """After a step; of steps before the first publication nothing."""
    calls: Mapping[str, Sequence[Made]]

    @property
    def end(self) -> Seen:
        return self.seen[list(STEPS)[-1]]

    def root(self, step: str) -> Path:
        """The project as it is before ``step``, its delivery there."""
        return self.folder / step

    def copy(self, step: str, to: Path) -> Path:
        """Put the project into ``to``, as it is before ``step``."""
        if self.root(step).exists():
            shutil.copytree(self.root(step), to)
        return to


def run_unharmed(runs: Programs, folder: Path) -> Unharmed:
    """Play the story, every call noted, and keep the project as it was before each step."""
    folder.mkdir()
    root, log = folder / "project", folder / "calls"
    seen: dict[str, Seen] = {}
    calls: dict[str, Sequence[Made]] = {}
    for step in STEPS:
        if step != next(iter(STEPS)):
            prepare(root, step)
            shutil.copytree(root, folder / step)
        ended = play(runs, root, step, under=strace_line(log, [*CALLS, OPEN]))
        assert ended.code == 0, ended
        calls[step] = list(made(log))
        if step == "batch" or seen:
            seen[step] = proven(root)
    return Unharmed(folder, seen, calls)
