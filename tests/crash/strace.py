"""strace: which calls a process makes, and letting it die or fail at one of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["CALLS", "OPEN", "Injection", "Made", "injected", "made", "strace_line"]

CALLS: Final = (
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "msync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "truncate",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "splice",
    "mkdir",
    "mkdirat",
    "rmdir",
    "creat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "setxattr",
    "fsetxattr",
    "utimensat",
    "futimesat",
    "io_uring_enter",
)
"""Every call that changes a file or a folder, or makes a change durable, whether the program
uses it or not: one that a library begins to use is found."""

OPEN: Final = "openat"
"""Of this one only the calls that may make a file."""


_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OPEN = re.compile(r"\d+<([^<>]*)>")


@dataclass(frozen=True, slots=True)
class Injection:
    """What happens at one call: ``number`` counts the calls of that name in one thread."""

    call: str
    number: int
    what: str = "signal=KILL"
    """Or "error=EIO", "error=ENOSPC"."""
    onwards: bool = False
    """Every later call, too."""

    def __str__(self) -> str:
        then = "+" if self.onwards else ""
        return f"{self.what} at {self.call} {self.number}{then}"

    def line(self, log: Path) -> list[str]:
        """The beginning of a command line that has it happen; see ``strace_line`` for ``log``."""
        when = f"{self.number}+" if self.onwards else str(self.number)
        return [*strace_line(log, [self.call]), f"--inject={self.call}:{self.what}:when={when}"]


@dataclass(frozen=True, slots=True)
class Made:
    """One call that a thread made."""

    thread: int
    call: str
    number: int
    """Counting the calls of that name in that thread, from 1: what ``when`` counts."""
    path: str
    """What it was about; of a new name the new one."""
    makes: bool = False
    """Whether it is an ``openat`` that may make a file."""


def strace_line(log: Path, calls: Sequence[str]) -> list[str]:
    """The beginning of a command line that writes these calls of all threads into ``log``."""
    return [
        _program(),
        "--follow-forks",
        "--decode-fds=path",
        "--string-limit=256",
        "--quiet=exit",
        f"--output={log}",
        # Not every machine has every call.
        f"--trace={','.join(f'?{call}' for call in calls)}",
    ]


def made(log: Path) -> Iterator[Made]:
    """Read back what ``strace_line`` wrote."""
    counts: Counter[tuple[int, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        thread, call = int(match[1]), match[2]
        counts[thread, call] += 1
        # Calls about an open file name it first; others name one path, or the new one last.
        opened = _OPEN.match(match[3])
        names = [opened[1]] if opened else _NAMED.findall(match[3])
        path = names[-1] if names else ""
        yield Made(thread, call, counts[thread, call], path, "O_CREAT" in match[3])


def injected(log: Path) -> int:
    """Return how many calls failed because they were made to."""
    return log.read_text(errors="replace").count(" (INJECTED)")


@cache
def _program() -> str:
    found = shutil.which("strace")
    assert found, "these tests need strace: apt-get install strace"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    assert version is not None, said
    assert (int(version[1]), int(version[2])) >= (5, 3), said
    return found
