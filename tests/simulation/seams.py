"""Where the product meets the machine: each of these calls is an operation of a process.

Only calls of the standard library are replaced, and only while a simulation runs; nothing
of the product is, but that models of texts compiled before are not compiled again. A call
first hands over to the scheduler, then does what it always did.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import secrets
import select
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest

from meterhouse.lake import delta
from meterhouse.models import graph
from simulation.scheduler import Process, Scheduler

__all__ = ["Machine", "installed"]

_DRAWN = re.compile(r"(?<=\.tmp-)[0-9-]+|(?<=\.follow-)\d+|(?<=\.)\d{20}-|\d{20}(?=-)")
"""Parts of names that are other ones in each run: process ids, times."""


class Machine(Protocol):
    """What the seams tell of."""

    root: Path
    scheduler: Scheduler
    names: random.Random
    locked: dict[int, Process]
    """Open lock files and whose they are."""
    lockless: bool
    """True: nobody gets to hold the lock of ``ingest``, as on a file system without locks."""

    def synced(self, descriptor: int) -> None:
        """A file or folder was fsynced."""
        ...

    def committed(self, path: Path, image: bytes, *, durable: bool) -> None:
        """A database was committed to."""
        ...

    def slept(self, seconds: float) -> None:
        """A process let time pass."""
        ...

    def ticks(self) -> float:
        """Return the machine's seconds, which never go back."""
        ...


@contextmanager
def installed(machine: Machine) -> Iterator[None]:
    """Let every process of ``machine`` meet it, and nothing else, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("link", "replace", "rename", "unlink", "remove"):
            patch.setattr(os, name, _operation(machine, name, getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, _fsync(machine, getattr(os, name)))
        patch.setattr(os, "close", _close(machine, os.close))
        patch.setattr(fcntl, "flock", _flock(machine, fcntl.flock))
        patch.setattr(sqlite3, "connect", _connect(machine, sqlite3.connect))
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=machine.names.getrandbits(128)))
        patch.setattr(
            secrets,
            "token_hex",
            lambda size=4: f"{machine.names.getrandbits(8 * size):0{2 * size}x}",
        )
        patch.setattr(time, "sleep", _sleep(machine))
        patch.setattr(time, "monotonic", _monotonic(machine, time.monotonic))
        patch.setattr(select, "poll", lambda: _Poll(machine))
        patch.setattr(signal, "signal", _signal(machine, signal.signal))
        # Some batches are enough to meet a checkpoint of a Delta log.
        patch.setattr(delta, "CHECKPOINT_EVERY", 3)
        patch.setattr(time, "time_ns", lambda: int(machine.ticks() * 1e9))
        patch.setattr(graph, "models_of", _compiled_once(machine, graph.models_of))
        yield


def _operation(machine: Machine, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, *rest: Any, **options: Any) -> Any:
        if options.get("dir_fd") is not None or _inside(machine, path):
            machine.scheduler.operation(f"{name} {_shown(machine, path)}")
        return real(path, *rest, **options)

    return call


def _fsync(machine: Machine, real: Callable[[int], None]) -> Callable[[int], None]:
    def call(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if _inside(machine, path):
            machine.scheduler.operation(f"fsync {_shown(machine, path)}")
            machine.synced(descriptor)
            return
        real(descriptor)

    return call


def _close(machine: Machine, real: Callable[[int], None]) -> Callable[[int], None]:
    def call(descriptor: int) -> None:
        machine.locked.pop(descriptor, None)
        real(descriptor)

    return call


def _flock(machine: Machine, real: Callable[[int, int], None]) -> Callable[[Any, int], None]:
    def leave(descriptor: int, process: Process) -> None:
        """The system closes what a process had open."""
        if machine.locked.get(descriptor) is process:
            os.close(descriptor)

    def call(file: Any, how: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        process = machine.scheduler.current()
        machine.scheduler.operation(f"flock {_DRAWN.sub('*', name)}")
        if process is not None and isinstance(file, int):
            machine.locked[descriptor] = process
            process.leaves.append(lambda: leave(descriptor, process))
        if machine.lockless and name == "ingest":
            return
        while True:
            try:
                real(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how & fcntl.LOCK_NB or process is None:
                    raise
                machine.scheduler.operation(f"flock {name}", waiting=True)
            else:
                return

    return call


def _sleep(machine: Machine) -> Callable[[float], None]:
    def call(seconds: float) -> None:
        if machine.scheduler.current() is None:
            return  # Nobody moves meanwhile.
        machine.scheduler.operation("sleep", waiting=True)
        machine.slept(seconds)

    return call


def _monotonic(machine: Machine, real: Callable[[], float]) -> Callable[[], float]:
    return lambda: real() if machine.scheduler.current() is None else machine.ticks()


def _signal(machine: Machine, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(number: Any, handler: Any) -> Any:
        process = machine.scheduler.current()
        if process is None:
            return real(number, handler)
        before = process.handlers.get(number, signal.SIG_DFL)
        process.handlers[number] = handler
        return before

    return call


class _Poll:
    """Nobody tells of changes here: a wait ends with its time, or with a signal."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def register(self, descriptor: int, events: int = 0) -> None:
        """Nothing is ever readable."""

    def poll(self, milliseconds: float = 0.0) -> list[tuple[int, int]]:
        self._machine.scheduler.operation("wait", waiting=True)
        self._machine.slept(milliseconds / 1000)
        return []


def _connect(machine: Machine, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(database: Any, timeout: float = 5.0, **options: Any) -> Any:
        text = str(database)
        if options.get("uri"):
            text = unquote(urlsplit(text).path)
        path = Path(text)
        if not _inside(machine, path):
            return real(database, timeout=timeout, **options)
        machine.scheduler.operation(f"open {_shown(machine, path)}")
        connection = real(database, timeout=0.0, factory=_Connection, **options)
        connection.machine = machine
        connection.path = path
        connection.resting = "immutable=1" in str(database)
        process = machine.scheduler.current()
        if process is not None:
            process.leaves.append(connection.close)
        return connection

    return call


class _Connection(sqlite3.Connection):
    """Each statement outside a transaction, each BEGIN and each COMMIT is an operation."""

    machine: Machine
    path: Path
    closed = False
    resting: bool
    """Opened as a file that nobody writes to: no other process runs while it is read."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        verb = sql.lstrip()[:6].upper()
        if self.in_transaction and verb not in ("COMMIT", "ROLLBA"):
            return super().execute(sql, *values)
        self._operation(verb)
        changes = self.total_changes
        new = verb == "PRAGMA" and "journal_mode" in sql and not self.path.stat().st_size
        cursor = self._patiently(lambda: sqlite3.Connection.execute(self, sql, *values))
        # With its journal's mode a new file gets its first page, in a transaction of its own.
        if verb == "COMMIT" or (not self.in_transaction and (new or self.total_changes != changes)):
            self._committed()
        return cursor

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        self._operation("SCRIPT")
        cursor = self._patiently(lambda: sqlite3.Connection.executescript(self, sql))
        self._committed()
        return cursor

    def commit(self) -> None:
        if self.in_transaction:
            self._operation("COMMIT")
            super().commit()
            self._committed()

    def rollback(self) -> None:
        self._operation("ROLLBA")
        super().rollback()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.machine.scheduler.alive():
            super().close()
            return
        # Who was killed leaves the files as they are: no log is written back.
        files = [self.path, *(Path(f"{self.path}-{end}") for end in ("wal", "shm"))]
        before = {path: path.read_bytes() for path in files if path.exists()}
        super().close()
        if before and not all(path.exists() for path in before):
            for path, data in before.items():
                path.write_bytes(data)

    def _operation(self, verb: str) -> None:
        if not self.resting:
            self.machine.scheduler.operation(f"{verb.strip()} {self.path.name}")

    def _patiently(self, action: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        """Wait for another process's transaction as long as it takes."""
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                busy = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY
                if not busy or self.machine.scheduler.current() is None:
                    raise
                self.machine.scheduler.operation(f"busy {self.path.name}", waiting=True)

    def _committed(self) -> None:
        level = sqlite3.Connection.execute(self, "PRAGMA synchronous").fetchone()[0]
        self.machine.committed(self.path, self.serialize(), durable=level >= 2)


_Texts = Mapping[str, tuple[str, str]]
_COMPILED: dict[object, graph.Models] = {}
"""What the product made of texts and schemas, for all machines: nothing else goes into it."""


def _compiled_once(
    machine: Machine, real: Callable[[_Texts, Mapping[str, pa.Schema]], graph.Models]
) -> Callable[[_Texts, Mapping[str, pa.Schema]], graph.Models]:
    def call(texts: _Texts, sources: Mapping[str, pa.Schema]) -> graph.Models:
        named = {name: (text, _shown(machine, path)) for name, (text, path) in texts.items()}
        key = tuple(named.items()), tuple(sources.items())
        if key not in _COMPILED:
            _COMPILED[key] = real(named, sources)
        return _COMPILED[key]

    return call


def _inside(machine: Machine, path: Any) -> bool:
    return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(machine.root)


def _shown(machine: Machine, path: Any) -> str:
    name = str(path).removeprefix(f"{machine.root}/")
    return _DRAWN.sub("*", name)
