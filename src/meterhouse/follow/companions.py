"""Processes that run beside a follower all the time: one for each replica."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from meterhouse.errors import EnvironmentFailureError, error_from
from meterhouse.follow.keeping import ReplicaStanding, read_replica
from meterhouse.follow.say import Say

__all__ = ["Companion"]

_LOOK_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_STOP_S: Final = 10.0
_TAIL: Final = 2000


class Companion:
    """Keeps one process running that keeps one replica up; says how the replica does.

    Whatever becomes of it, the follower goes on.
    """

    def __init__(
        self,
        root: Path,
        store: str,
        command: Sequence[str],
        say: Say,
        *,
        ticks: Callable[[], float],
    ) -> None:
        """Start nothing yet.

        Args:
            root: The project folder.
            store: Name of the replica's store.
            command: What to run.
            say: Is told what becomes of it.
            ticks: Seconds that never go back.
        """
        self.store = store
        self.standing: ReplicaStanding | None = None
        """As its process wrote it last; None before it did."""
        self._root = root
        self._output = root / ".meterhouse" / f"replica-{store}.log"
        self._command = command
        self._say = say
        self._ticks = ticks
        self._running: subprocess.Popen[bytes] | None = None
        self._next = ticks()
        self._pause = 0.0

    def due(self) -> float:
        """Return when to look next."""
        return self._next

    def look(self) -> None:
        """Start it, or start it again; say what changed."""
        now = self._ticks()
        if now < self._next:
            return
        self._next = now + _LOOK_S
        if self._running is None:
            self._start()
        elif (code := self._running.poll()) is not None:
            self._running = None
            self._ended(code)
        else:
            self._listen(self._running.pid)

    def stop(self) -> None:
        """End it; it may be ended at any moment, and goes on from there the next time."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            self._running.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def _start(self) -> None:
        try:
            self._output.parent.mkdir(exist_ok=True)
            with self._output.open("wb") as output:
                self._running = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
        except OSError as error:
            self._later(f"its process could not be started: {error.strerror}", "")

    def _ended(self, code: int) -> None:
        said = self._output.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
        self._later(f"its process ended with exit code {code}", said)

    def _later(self, what: str, said: str) -> None:
        self._pause = min(max(2 * self._pause, 1.0), _LONGEST_PAUSE_S)
        self._next = self._ticks() + self._pause
        reason = EnvironmentFailureError(f"{self.store}: {what}", str(self._output), said)
        self._say.error("replica_stopped", self.store, reason, retry_s=self._pause)

    def _listen(self, pid: int) -> None:
        found = read_replica(self._root, self.store)
        if found is None or found.pid != pid:
            return
        self.standing, self._pause = found, 0.0
        if found.failure is not None:
            self._say.error("replica_failed", self.store, error_from(found.failure))
        else:
            self._say.over(self.store)
