"""What lies at some paths: folders to the bottom, links followed, each folder once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from meterhouse.errors import UsageError

__all__ = ["Found", "identity", "shown", "walk"]

_OWN: Final = frozenset(
    (
        ".locks",
        ".meterhouse",
        ".requests",
        ".tmp",
        "contracts",
        "generations",
        "index",
        "judged",
        "lake",
        "landing",
        "log",
        "models",
    )
)
"""Folders of a project that never hold deliveries."""


@dataclass(frozen=True, slots=True)
class Found:
    """A name that the walk came to: a file, a folder, or something else."""

    path: str
    """As it was reached."""
    real: str
    """Resolved; of a link that leads nowhere its own place."""
    status: os.stat_result | None
    """Of what it leads to; None when that can't be looked at."""
    error: OSError | None
    """Why it can't be looked at, or, of a folder that was found before, into."""
    linked: bool
    """Reached by a link of its own: writes to it are not seen in the folder it lies in."""
    named: bool
    """One of the paths given, not found below one."""

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def regular(self) -> bool:
        """Whether it is a file whose bytes can be read again and again."""
        return self.status is not None and stat.S_ISREG(self.status.st_mode)


def walk(paths: Iterable[str | Path], project: str) -> Iterator[Found]:
    """Yield everything at ``paths`` and below, folders before what is in them, by name.

    A folder is yielded before it is read, so that whoever watches it misses nothing; each
    is visited once, however many links lead to it. The product's own folders in the
    resolved folder ``project`` are passed over.

    Raises:
        UsageError: A path does not exist.
    """
    look = _Walk(project)
    for given in paths:
        path = Path(given)
        if not (path.is_symlink() or path.exists()):
            raise UsageError(
                f'path "{shown(path)}" does not exist', "", "see the spelling; nothing was taken"
            )
        yield from look.at(str(path), path.stat, linked=path.is_symlink(), named=True)


def identity(real: str, project: str) -> str:
    r"""Return what the log calls the file at resolved path ``real``.

    Relative to the resolved folder ``project`` when it lies inside. Bytes that are not
    UTF-8 become ``\xNN`` (and a name's own ``\x`` becomes ``\x5cx``), so that different
    names stay different.
    """
    inside = real.startswith(project.rstrip("/") + "/")
    name = os.path.relpath(real, project) if inside else real
    return os.fsencode(name).replace(b"\\x", b"\\x5cx").decode("utf-8", "backslashreplace")


def shown(name: str | Path) -> str:
    """Return a name as text that can be printed, whatever its bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class _Walk:
    """One walk: remembers the folders it has been to."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._visited: set[tuple[int, int]] = set()

    def at(
        self,
        path: str,
        look: Callable[[], os.stat_result],
        real: str = "",
        *,
        linked: bool = False,
        named: bool = False,
    ) -> Iterator[Found]:
        """Yield what is at ``path`` and below; ``real`` is given where it is known."""
        try:
            status = look()
        except OSError as error:
            whole = Path(path)
            place = os.path.realpath(whole.parent) + "/" + whole.name
            yield Found(path, place, None, error, linked, named)
            return
        found = Found(path, real or os.path.realpath(path), status, None, linked, named)
        if not found.folder:
            yield found
        elif (key := (status.st_dev, status.st_ino)) not in self._visited:
            self._visited.add(key)
            yield found
            yield from self._below(found)

    def _below(self, folder: Found) -> Iterator[Found]:
        try:
            with os.scandir(folder.path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield replace(folder, error=error)
            return
        own = folder.real == self._project
        for entry in entries:
            if own and (entry.name in _OWN or entry.name == "meterhouse.toml"):
                continue
            linked = entry.is_symlink()
            real = "" if linked else f"{folder.real.rstrip('/')}/{entry.name}"
            yield from self.at(entry.path, entry.stat, real, linked=linked)
