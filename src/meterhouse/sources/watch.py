"""Noticing what happens to deliveries: notices where the system gives them, else looking.

A notice only says where to look and whether a writer has closed the file. Nothing is lost
with one: who follows looks at everything again now and then.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from meterhouse.sources import inotify
from meterhouse.sources.inotify import Inotify
from meterhouse.sources.walk import Found

__all__ = ["Changes", "FolderWatch", "Sign", "Watch", "open_for_writing"]

_FAR: Final = re.compile(r"nfs|cifs|smb|9p|fuse|ceph|gluster|lustre|afs|virtiofs|vboxsf|prl_fs")
"""File systems on which others write unseen by this machine's kernel."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What was noticed of one name since the last look."""

    writing: bool
    """Somebody wrote, and has not closed it since."""
    closed: bool
    """Whoever wrote has closed it, or it was moved here whole."""


@dataclass(slots=True)
class Changes:
    """What was noticed since the last look."""

    names: dict[str, Sign] = field(default_factory=dict)
    """Path → what happened to it. It may be gone."""
    folders: set[str] = field(default_factory=set)
    """Folders that are new, whose content nobody told of."""
    lost: bool = False
    """Notices are missing: look at everything."""


class Watch(Protocol):
    """Tells what changed below folders that it was shown."""

    @property
    def partial(self) -> bool:
        """Whether changes of some of what it was shown are not told: look often."""
        ...

    def fileno(self) -> int | None:
        """Return what is readable when something changed, None when nothing ever tells."""
        ...

    def see(self, found: Found) -> None:
        """Watch what was found, when that takes anything."""
        ...

    def changes(self) -> Changes:
        """Return what changed since the last call; never wait."""
        ...

    def close(self) -> None:
        """Watch no longer."""
        ...


class FolderWatch:
    """Watches folders by the kernel's notices; tells where that is not possible."""

    def __init__(self, *, poll: bool = False) -> None:
        """Open the watch; with ``poll`` there are no notices, as on systems without them."""
        self.partial = False
        self.reason = ""
        """Why something is looked at again and again instead."""
        self._paths: dict[int, str] = {}
        self._files: set[int] = set()
        self._notices: Inotify | None = None
        if poll:
            self._look_often("as asked")
            return
        try:
            self._notices = Inotify()
        except OSError as error:
            self._look_often(error.strerror or "no notices")

    def fileno(self) -> int | None:
        """Return what is readable when something changed."""
        return self._notices.fileno() if self._notices is not None else None

    def see(self, found: Found) -> None:
        """Watch a folder, or a file whose folder is not watched: one named, or behind a link."""
        alone = found.linked or found.named
        if self._notices is None or found.status is None or not (found.folder or alone):
            return
        if _far(found.status.st_dev):
            self._look_often(f"{found.path} is on a file system that others write to")
        try:
            number = self._notices.watch(found.path)
        except OSError as error:
            self._look_often(f"{found.path}: {error.strerror}")
            return
        self._paths[number] = found.path
        if found.folder:
            self._files.discard(number)
        else:
            self._files.add(number)

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        changes = Changes()
        if self._notices is None:
            return changes
        for (number, name), mask in self._notices.read().items():
            path = self._paths.get(number)
            if mask & inotify.LOST:
                changes.lost = True
            elif path is not None and (name or number in self._files):
                self._noticed(changes, f"{path}/{name}" if name else path, mask)
            elif path is not None and mask & inotify.GONE:
                changes.lost = True
            if mask & inotify.UNWATCHED:
                self._paths.pop(number, None)
                self._files.discard(number)
        return changes

    def close(self) -> None:
        """Watch no longer."""
        if self._notices is not None:
            self._notices.close()
            self._notices = None

    def _noticed(self, changes: Changes, path: str, mask: int) -> None:
        if mask & inotify.FOLDER:
            if mask & (inotify.CREATED | inotify.MOVED_IN):
                changes.folders.add(path)
            if mask & inotify.LEFT:
                # What was below goes on telling, under a name that is no longer its own.
                changes.lost = True
            return
        writing = bool(mask & inotify.WRITTEN) and not mask & inotify.CLOSED
        closed = bool(mask & (inotify.CLOSED | inotify.MOVED_IN)) and not writing
        changes.names[path] = Sign(writing, closed)

    def _look_often(self, reason: str) -> None:
        self.partial = True
        self.reason = self.reason or reason


def open_for_writing(path: Path) -> bool | None:
    """Return whether any process of this machine can write to ``path`` now.

    None where the system does not say: on other systems, for files of other users, and on
    file systems that other machines write to.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if _far(os.fstat(descriptor).st_dev):
            # There a lease is refused, or granted, for reasons of their own.
            return None
        # A read lease is given only while nobody has the file open for writing. Should
        # somebody open it within these lines, this signal, ignored by default, says so.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(descriptor)


@functools.cache
def _far(device: int) -> bool:
    """Return whether a device is mounted from elsewhere; False where that can't be told."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        before, _, behind = line.partition(" - ")
        if before.split(" ")[2] == number:
            return _FAR.match(behind) is not None
    return False
