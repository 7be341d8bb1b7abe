"""A batch now and then, as a process of its own beside the follower."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from meterhouse.errors import EnvironmentFailureError
from meterhouse.follow.say import Say

__all__ = ["Batches"]

_OUTPUT: Final = ".meterhouse/batch.log"
_TAIL: Final = 2000
_STOP_S: Final = 10.0
_NICE: Final = 10


class Batches:
    """Starts ``meterhouse batch`` every so often; never two at a time.

    One that fails is said and stops nothing: the next one does its work too.
    """

    def __init__(
        self,
        root: Path,
        command: Sequence[str],
        every: float,
        say: Say,
        *,
        ticks: Callable[[], float],
    ) -> None:
        """Begin at once, then every ``every`` seconds, or when the one before has ended.

        Args:
            root: The project folder.
            command: What to run.
            every: Seconds.
            say: Is told of each end.
            ticks: Seconds that never go back.
        """
        self.done = 0
        self.failed = 0
        self._output = root / _OUTPUT
        self._command = command
        self._every = every
        self._say = say
        self._ticks = ticks
        self._next = ticks()
        self._running: subprocess.Popen[bytes] | None = None
        self._begun = 0.0

    def due(self) -> float:
        """Return when to look next."""
        return self._ticks() + 0.5 if self._running is not None else self._next

    def look(self) -> None:
        """Note an end; start the next one when its time has come."""
        now = self._ticks()
        if self._running is not None:
            code = self._running.poll()
            if code is None:
                return
            self._ended(code, now - self._begun)
        if now >= self._next:
            self._start(now)

    def stop(self) -> None:
        """End a running batch; a batch may be ended at any moment, and done again."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            self._running.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def _start(self, now: float) -> None:
        self._next = now + self._every
        self._begun = now
        try:
            with self._output.open("wb") as output:
                self._running = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            # Whoever is live, or asks, goes before a batch that nobody waits for.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._running.pid, _NICE)
        except OSError as error:
            self.failed += 1
            reason = EnvironmentFailureError(
                f"batch could not be started: {error.strerror}", str(self._output), ""
            )
            self._say.error("batch_failed", "batch", reason)

    def _ended(self, code: int, seconds: float) -> None:
        self._running = None
        if code == 0:
            self.done += 1
            self._say.over("batch")
            self._say.info(
                "batch_done", f"batch done in {seconds:.1f} s", seconds=round(seconds, 3)
            )
            return
        self.failed += 1
        said = self._output.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
        reason = EnvironmentFailureError(
            f"batch ended with exit code {code}", str(self._output), said
        )
        self._say.error("batch_failed", "batch", reason, exit_code=code)
