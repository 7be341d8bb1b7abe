"""One writer at a time, so that two commands do not judge the same bytes in turns.

For liveness only: without it the log stays as right, since an entry is put if absent.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["one_writer"]


@contextmanager
def one_writer(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file ``path``; wait while another process does.

    The lock ends with the process, however that ends.

    Args:
        path: Made when it is not there; never deleted.
        waiting: Called once when there is somebody to wait for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
