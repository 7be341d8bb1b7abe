"""One writer at a time, so that two commands do not judge the same bytes in turns.

For liveness only: without it the log stays as right, since an entry is put if absent.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["Lock", "all_at_once", "held", "one_writer", "together"]

_LOOK_S: Final = 0.05


class Lock:
    """A lock file. It is let go when the process ends, however that ends."""

    def __init__(self, path: Path) -> None:
        """Know the file; it is made when it is not there, and never deleted."""
        self._path = path
        self._descriptor: int | None = None

    def take(self, *, wait: bool = False, shared: bool = False) -> bool:
        """Take it, ``shared`` with others who do; False when it is held and ``wait`` is False."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, how | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let it go; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def held(path: Path) -> bool:
    """Return whether a process holds the lock file ``path`` now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def one_writer(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file ``path``; wait while another process does.

    The lock ends with the process, however that ends.

    Args:
        path: Made when it is not there; never deleted.
        waiting: Called once when there is somebody to wait for.
    """
    lock = Lock(path)
    if not lock.take():
        waiting()
        lock.take(wait=True)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def all_at_once(
    paths: Sequence[Path], waiting: Callable[[], None] = lambda: None
) -> Iterator[list[Lock]]:
    """Hold several lock files; hold none while waiting for another.

    So whoever holds one of them may wait for another one of them, too.

    Args:
        paths: Lock files.
        waiting: Called once when there is somebody to wait for.
    """
    told = False
    while True:
        locks = [Lock(path) for path in paths]
        try:
            if all(lock.take() for lock in locks):
                yield locks
                return
        finally:
            for lock in locks:
                lock.release()
        if not told:
            told = True
            waiting()
        time.sleep(_LOOK_S)


@contextmanager
def together(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` with any number of others; wait while ``one_writer`` does."""
    lock = Lock(path)
    lock.take(wait=True, shared=True)
    try:
        yield
    finally:
        lock.release()
