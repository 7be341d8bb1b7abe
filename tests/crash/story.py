"""A project's life: made, fed, published, followed, published again; a process for each step.

Any step may be harmed, and played again afterwards: the same command finishes the work.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from crash.deliveries import deliver, furnish
from crash.programs import Ended, Programs

__all__ = ["LIVE", "STEPS", "after", "play", "prepare"]

_FOLLOW = ("follow", "--once", "--poll", "--interval", "0s")

STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "init": ("init", "{project}"),
    "ingest": ("ingest",),
    "batch": ("batch",),
    "ingest more": ("ingest",),
    "follow": _FOLLOW,
    "batch beside live rows": ("batch",),
    "follow on": _FOLLOW,
}
"""Name of a step → command."""

LIVE: Final = "follow"
"""After this step the answers are live: no batch has seen what they rest on."""


def after(step: str) -> list[str]:
    """Return the steps that follow ``step``."""
    names = list(STEPS)
    return names[names.index(step) + 1 :]


def prepare(root: Path, step: str) -> None:
    """Do what users do before a step; doing it again changes nothing."""
    if step != "init":
        furnish(root)
        deliver(step, root / "inbox")


def play(programs: Programs, root: Path, step: str, *, under: Sequence[str] = ()) -> Ended:
    """Perform one step in a process of its own.

    Args:
        programs: Starts it.
        root: The project.
        step: Which.
        under: Command line of an strace that is to watch it, without ``--attach``.
    """
    prepare(root, step)
    words = [word.format(project=root) for word in STEPS[step]]
    where = [] if step == "init" else ["--project", str(root)]
    running = programs.start(*where, *words, held=True)
    if not under:
        running.go()
        return running.wait()
    watch = subprocess.Popen([*under, f"--attach={running.pid}"], stderr=subprocess.PIPE, text=True)
    assert watch.stderr is not None
    first = watch.stderr.readline()
    assert "attached" in first, first
    running.go()
    ended = running.wait()
    _, said = watch.communicate(timeout=60)
    assert watch.returncode == 0, said
    return ended
