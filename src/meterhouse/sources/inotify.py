"""The kernel's notices about folders and files (Linux inotify), read without threads.

Its own small adapter because what the loop needs is lost in general watchers: that the
queue overflowed, that a file was closed after writing, and many notices for one file
folded into one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any, Final

__all__ = [
    "CLOSED",
    "CREATED",
    "FOLDER",
    "GONE",
    "LEFT",
    "LOST",
    "MOVED_IN",
    "UNWATCHED",
    "WRITTEN",
    "Inotify",
]

# From <sys/inotify.h>; part of the kernel's stable interface.
WRITTEN: Final = 0x2
CLOSED: Final = 0x8
"""Closed by somebody who could write."""
MOVED_OUT: Final = 0x40
MOVED_IN: Final = 0x80
CREATED: Final = 0x100
DELETED: Final = 0x200
SELF_DELETED: Final = 0x400
SELF_MOVED: Final = 0x800
UNMOUNTED: Final = 0x2000
LOST: Final = 0x4000
"""The queue was full: any number of notices is missing."""
UNWATCHED: Final = 0x8000
"""The watch ended: what it was on is no more."""
FOLDER: Final = 0x40000000
"""The notice is about a folder."""

LEFT: Final = MOVED_OUT | DELETED
GONE: Final = SELF_DELETED | SELF_MOVED | UNMOUNTED

_WANTED: Final = WRITTEN | CLOSED | LEFT | MOVED_IN | CREATED | SELF_DELETED | SELF_MOVED
_HEAD: Final = struct.Struct("iIII")
_BUFFER: Final = 1 << 18


class Inotify:
    """One queue of notices. Close it; the kernel allows few for each user."""

    def __init__(self) -> None:
        """Open the queue.

        Raises:
            OSError: This system has none, or no more of them (EMFILE).
        """
        libc: Any = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            raise OSError(errno.ENOSYS, "this system has no inotify")
        self._add = libc.inotify_add_watch
        self._add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._remove = libc.inotify_rm_watch
        self._descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _last_error("inotify")

    def fileno(self) -> int:
        """Return what to wait for: it is readable when there are notices."""
        return self._descriptor

    def watch(self, path: str) -> int:
        """Watch a folder's names, or one file; return the number its notices carry.

        Links are followed. Watching the same thing again gives the same number.

        Raises:
            OSError: It is gone, may not be read, or too much is watched already (ENOSPC).
        """
        number: int = self._add(self._descriptor, os.fsencode(path), _WANTED)
        if number < 0:
            raise _last_error(path)
        return number

    def unwatch(self, number: int) -> None:
        """Watch it no longer; nothing happens when the kernel has ended that already."""
        self._remove(self._descriptor, number)

    def read(self) -> dict[tuple[int, str], int]:
        """Return (number, name) → what happened, all that is there; never wait.

        The name is empty for a watched file. What happened to one name is one value.
        """
        found: dict[tuple[int, str], int] = {}
        while True:
            try:
                data = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                number, mask, _, size = _HEAD.unpack_from(data, at)
                at += _HEAD.size + size
                name = os.fsdecode(data[at - size : at].rstrip(b"\0"))
                key = (number, name)
                found[key] = _folded(found.get(key, 0), mask)

    def close(self) -> None:
        """End all watches."""
        os.close(self._descriptor)


def _folded(before: int, mask: int) -> int:
    """Add a notice to those before it; what it makes untrue is taken away."""
    if mask & (MOVED_IN | CREATED):
        # Another file under the same name: what was written before was not this one.
        before &= ~(WRITTEN | CLOSED)
    if mask & WRITTEN:
        before &= ~CLOSED
    return before | mask


def _last_error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
