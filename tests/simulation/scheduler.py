"""Simulated processes: threads of which one runs at a time, chosen by the seed."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["DiedError", "Process", "Scheduler", "StuckError"]

_LONGEST = 60.0
"""Seconds a process may compute between two operations before the simulation is stuck."""


_PATIENCE = 1000
"""So often in a row somebody may wait before all of them wait for each other."""


_PROCESS = re.compile(r"\(process \d+\)")
"""A number that is another one in each run."""


class DiedError(BaseException):
    """The process was killed: no operation of it reaches the machine any more."""


class StuckError(AssertionError):
    """Nobody can go on, or somebody never hands over."""


class _Ends(Enum):
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


@dataclass
class Process:
    """One simulated process."""

    name: str
    work: Callable[[], object]
    on_end: Callable[[Process], None] = lambda process: None
    """Called by the scheduler, with ``result`` and ``error`` set."""
    result: object = None
    error: BaseException | None = None
    doomed: bool = False
    """It dies at its next operation."""
    since: int = 0
    """Steps that were made when it was started."""
    at: str = "start"
    """The operation it is about to do."""
    waiting: bool = False
    """It waits for what another process holds; asked again only after others have moved."""
    state: _Ends = _Ends.RUNNING
    handlers: dict[int, Any] = field(default_factory=dict)
    """What it does when a signal comes."""
    signals: list[int] = field(default_factory=list)
    """Signals that it has not seen yet."""
    leaves: list[Callable[[], None]] = field(default_factory=list)
    """What the system does when the process ends, however it does: closes its files."""
    turn: threading.Lock = field(default_factory=lambda: _taken())
    """Released by whoever gives the process its turn."""
    thread: threading.Thread | None = None

    @property
    def over(self) -> bool:
        """Return whether it ended, by itself or not."""
        return self.state is not _Ends.RUNNING

    @property
    def died(self) -> bool:
        """Return whether it was killed."""
        return self.state is _Ends.DEAD


def _taken() -> threading.Lock:
    """Return a lock that somebody else will release: a bare one is quicker than a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Scheduler:
    """Runs processes one operation at a time.

    Outside of a process (set-up, checks) an operation is just carried out.
    """

    def __init__(self, chance: random.Random, hidden: str = "") -> None:
        """Draw the order of the processes from ``chance``; keep ``hidden`` out of the trace."""
        self._hidden = hidden
        self.processes: list[Process] = []
        self.steps = 0
        self.trace: list[str] = []
        self.last: Process | None = None
        """Who did something in the last step."""
        self._chance = chance
        self._by_thread: dict[int, Process] = {}
        self._back = _taken()
        self._started = 0

    def start(
        self,
        name: str,
        work: Callable[[], object],
        on_end: Callable[[Process], None] = lambda process: None,
    ) -> Process:
        """Add a process; it does nothing before it is its turn."""
        self._started += 1
        process = Process(f"{name}-{self._started}", work, on_end, since=self.steps)
        process.thread = threading.Thread(target=self._body, args=(process,), name=process.name)
        self.processes.append(process)
        process.thread.start()
        return process

    def current(self) -> Process | None:
        """Return the process that calls, None outside of one."""
        return self._by_thread.get(threading.get_ident())

    def operation(self, what: str, *, waiting: bool = False) -> None:
        """Hand over before the operation ``what``.

        Raises:
            DiedError: The process was killed meanwhile; the operation must not be done.
        """
        process = self.current()
        if process is None:
            return
        if process.doomed:
            raise DiedError
        self.note(f"{process.name}: {what}")
        process.at, process.waiting = what, waiting
        self._back.release()
        process.turn.acquire()
        process.waiting = False
        if process.doomed:
            raise DiedError
        while process.signals:
            number = process.signals.pop(0)
            process.handlers[number](number, None)

    def alive(self) -> bool:
        """Return whether the calling process may still do something; True outside of one."""
        process = self.current()
        return process is None or not process.doomed

    def note(self, line: str) -> None:
        """Add a line to the trace."""
        shown = line.replace(self._hidden, "…") if self._hidden else line
        shown = _PROCESS.sub("(process …)", shown)
        self.trace.append(f"{self.steps:6d} {shown}")

    def step(self) -> bool:
        """Let one process do one operation; False when there is none left.

        Raises:
            StuckError: All of them wait for each other.
        """
        running = [process for process in self.processes if not process.over]
        if not running:
            return False
        ready = [process for process in running if not process.waiting]
        # Whoever waits is asked now and then too: what it waits for may be free by now.
        chosen = self._chance.choice(ready if ready and self._chance.random() < 0.9 else running)
        self._stuck_for = self._stuck_for + 1 if chosen.waiting else 0
        if self._stuck_for > _PATIENCE:
            raise StuckError("all processes wait: " + ", ".join(one.name for one in running))
        self.steps += 1
        self.last = chosen
        self._resume(chosen)
        return True

    _stuck_for = 0

    def send(self, process: Process, number: int) -> None:
        """Send a signal; one that the process does not handle ends it."""
        if number in process.handlers:
            self.note(f"{process.name}: signal {number}")
            process.signals.append(number)
        else:
            self.kill(process)

    def kill(self, process: Process) -> None:
        """Let a process die before its next operation."""
        if process.over:
            return
        self.note(f"{process.name}: killed")
        process.doomed = True
        while not process.over:
            self._resume(process)

    def kill_all(self) -> None:
        """Let every process die."""
        for process in list(self.processes):
            self.kill(process)

    def _resume(self, process: Process) -> None:
        process.turn.release()
        if not self._back.acquire(timeout=_LONGEST):
            raise StuckError(f"{process.name} never came back")
        if process.over:
            self.processes.remove(process)
            process.on_end(process)

    def _body(self, process: Process) -> None:
        self._by_thread[threading.get_ident()] = process
        process.turn.acquire()
        try:
            if not process.doomed:
                process.result = process.work()
            process.state = _Ends.DEAD if process.doomed else _Ends.DONE
        except DiedError:
            process.state = _Ends.DEAD
        except BaseException as error:  # noqa: BLE001  # whatever it is, the simulation looks at it
            process.error = error
            process.state = _Ends.DEAD if process.doomed else _Ends.DONE
        finally:
            process.doomed = True
            for leave in process.leaves:
                leave()
            del self._by_thread[threading.get_ident()]
            self._back.release()
