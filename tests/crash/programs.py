"""The program as many processes, started cheaply; held until somebody watches, if wanted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Ended", "Programs", "Running", "programs"]

_TESTS: Final = Path(__file__).resolve().parent.parent
_LONGEST_S: Final = 300.0
"""A process that takes longer hangs."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code; -9 when it was killed."""
    out: str = ""
    err: str = ""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Running:
    """A process that waits to be let go, or runs."""

    pid: int
    _channel: socket.socket
    _programs: Programs

    def go(self) -> None:
        """Let it run."""
        self._channel.send(b"!")

    def ended(self) -> bool:
        """Whether it has ended, without waiting."""
        return self._programs.code(self.pid, wait=False) is not None

    def wait(self) -> Ended:
        """Wait for its end."""
        code = self._programs.code(self.pid, wait=True)
        assert code is not None
        with self._channel as channel:
            channel.setblocking(False)
            try:
                said = json.loads(channel.recv(1 << 20) or b"{}")
            except (BlockingIOError, ConnectionResetError):
                said = {}
        return Ended(code, **said)

    def kill(self) -> None:
        """Kill it, whatever it does; nothing happens when it has ended."""
        if not self.ended():
            # It can't be somebody else by now: its parent tells us of its end in this thread.
            os.kill(self.pid, signal.SIGKILL)


@dataclass
class Programs:
    """What starts them."""

    _control: socket.socket
    _codes: dict[int, int] = field(default_factory=dict)

    def start(self, *arguments: str, held: bool = False) -> Running:
        """Start ``meterhouse`` with these arguments; ``held``: it waits for ``go``."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [json.dumps(arguments).encode()], [theirs.fileno()])
            while "started" not in (message := self._message()):
                self._note(message)
        # The system gives numbers out again.
        self._codes.pop(message["started"], None)
        running = Running(message["started"], ours, self)
        if not held:
            running.go()
        return running

    def code(self, pid: int, *, wait: bool) -> int | None:
        """Return the exit code of a process; None while it runs."""
        while pid not in self._codes:
            self._control.setblocking(wait)
            self._control.settimeout(_LONGEST_S if wait else 0.0)
            try:
                self._note(self._message())
            except BlockingIOError:
                return None
            finally:
                self._control.settimeout(_LONGEST_S)
        return self._codes[pid]

    def _note(self, message: dict[str, Any]) -> None:
        self._codes[message["ended"]] = message["code"]

    def _message(self) -> dict[str, Any]:
        data = self._control.recv(1 << 16)
        assert data, "what starts the processes has died"
        message: dict[str, Any] = json.loads(data)
        return message


@contextmanager
def programs(*, path: Sequence[str] = ()) -> Iterator[Programs]:
    """Start what starts programs; it ends with the block, whatever it started does not."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    places = [*path, str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    with ours:
        with theirs:
            server = subprocess.Popen(
                [sys.executable, "-m", "crash.server", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
                pass_fds=[theirs.fileno()],
            )
        ours.settimeout(_LONGEST_S)
        try:
            yield Programs(ours)
        finally:
            ours.close()
            assert server.wait(_LONGEST_S) == 0
