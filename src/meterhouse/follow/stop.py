"""Ending cleanly: a signal is a wish that the loop hears wherever it waits."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop"]


class Stop:
    """Says whether to stop; ends any wait at once when it begins to."""

    def __init__(self) -> None:
        """Nobody wants to stop yet."""
        self.wanted = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self) -> None:
        """Stop after what is being done."""
        self.wanted = True
        os.write(self._write, b".")

    def close(self) -> None:
        """Give back what it waits with."""
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float, descriptors: Sequence[int] = ()) -> None:
        """Wait until one of ``descriptors`` is readable, or to stop, at most ``seconds``."""
        poll = select.poll()
        for descriptor in (self._read, *descriptors):
            poll.register(descriptor, select.POLLIN)
        poll.poll(max(seconds, 0.0) * 1000)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; a second one ends the process as it always would."""
        before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}

        def heard(number: int, frame: FrameType | None) -> None:
            self.set()
            for each, handler in before.items():
                signal.signal(each, handler)

        for each in (signal.SIGTERM, signal.SIGINT):
            before[each] = signal.signal(each, heard) or signal.SIG_DFL
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
