"""Upkeep: what keeps a log of many small entries small, a slice at a time beside live work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from meterhouse.errors import MeterhouseError
from meterhouse.log.lock import Lock
from meterhouse.log.sealing import Sealing

__all__ = ["SEALING_LOCK", "Upkeep", "for_seconds"]

SEALING_LOCK: Final = ".locks/sealing"
"""Held while files of log and landing are put together; a backup may hold it, too."""
_AGAIN: Final = 256
"""Entries until what went wrong is tried again."""


class Upkeep:
    """Seals in slices. What goes wrong stops only this: the log stays as it was."""

    def __init__(
        self, root: Path, sealing: Sealing, *, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        """Do nothing yet.

        Args:
            root: The project folder.
            sealing: What is to be done.
            ticks: Seconds that never go back.
        """
        self.problem: MeterhouseError | None = None
        """Why sealing stopped, the last time it did."""
        self._sealing = sealing
        self._lock = Lock(root / SEALING_LOCK)
        self._ticks = ticks
        self._work: Iterator[None] | None = None
        self._not_before = 0

    @property
    def busy(self) -> bool:
        """Whether a range is half done."""
        return self._work is not None

    def step(self, head: int, seconds: float) -> None:
        """Work for about ``seconds``, where something is due.

        Args:
            head: Position of the last entry.
            seconds: A single file that is written may take longer.
        """
        if self._work is None:
            if head < self._not_before or not self._sealing.due(head) or not self._lock.take():
                return
            self._work = self._sealing.steps()
        try:
            if for_seconds(self._work, seconds, self._ticks):
                return
            self.problem = None
        except MeterhouseError as error:
            self.problem = error
            self._not_before = head + _AGAIN
        self.close()

    def close(self) -> None:
        """Leave what is half done to the next one."""
        self._work = None
        self._lock.release()


def for_seconds(
    work: Iterator[None], seconds: float, ticks: Callable[[], float] = time.monotonic
) -> bool:
    """Do ``work`` for about so long; return whether some is left."""
    end = ticks() + seconds
    while ticks() < end:
        try:
            next(work)
        except StopIteration:
            return False
    return True
