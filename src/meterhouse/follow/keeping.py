"""Keeping a replica of the served rows up: a process of its own, with a lag of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.follow.say import Say
from meterhouse.follow.stop import Stop
from meterhouse.formats import timestamp_text
from meterhouse.log.lock import Lock
from meterhouse.ports import Clock
from meterhouse.serving.reader import Reader
from meterhouse.serving.snapshot import SqliteSnapshot, read

__all__ = ["Keeping", "ReplicaStanding", "read_replica", "replica_standing"]

_SERVING: Final = "serving.db"
_LOOK_S: Final = 0.03
"""Between two looks at where the answers stand: each takes some tenths of a millisecond."""
_WRITE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


class _Report(Protocol):
    @property
    def rows(self) -> int: ...
    @property
    def gone(self) -> int: ...


class _Replica(Protocol):
    def sync(self, snapshot: SqliteSnapshot) -> _Report: ...


@dataclass(frozen=True, slots=True)
class ReplicaStanding:
    """Where a replica stands that a process keeps up. Times ISO 8601, UTC."""

    store: str
    """cassandra, or whatever it is kept in."""
    pid: int
    at: str
    """When this was written."""
    position: int
    """Up to which log entry it is; 0 while it isn't known."""
    served: int
    """Where the embedded answers stand."""
    lag_s: float
    """Seconds since they went on without it; 0 while it stands with them."""
    rows: int
    """Written or deleted by this process."""
    failure: Mapping[str, Any] | None = None
    """Why it does not go on, while it doesn't."""


@dataclass(frozen=True, slots=True)
class _Stand:
    """What a replica has to be brought to."""

    position: int
    publication: int
    """Another number for each batch."""
    models: object
    """Which models the answers were computed with."""


def _stand(snapshot: SqliteSnapshot) -> _Stand:
    served = snapshot.served
    publication = snapshot.standing.publication
    return _Stand(served.stamp.position, publication, served.details.get("models"))


def replica_standing(store: str) -> str:
    """Return the name of the small file that says where a replica stands."""
    return f".meterhouse/replica-{store}.json"


def read_replica(root: Path, store: str) -> ReplicaStanding | None:
    """Return what was last written of a replica; None where nothing readable is."""
    try:
        body = json.loads((root / replica_standing(store)).read_bytes())
        return ReplicaStanding(**body)
    except (OSError, ValueError, TypeError):
        return None


class Keeping:
    """Brings one replica to where the embedded answers stand, again and again.

    Whatever fails is said and tried again, after 1, 2, 4 … 30 seconds. The embedded store is
    only read.
    """

    def __init__(
        self,
        root: Path,
        store: str,
        open_replica: Callable[[], AbstractContextManager[_Replica]],
        writing: Lock,
        say: Say,
        *,
        clock: Clock,
        ticks: Callable[[], float],
    ) -> None:
        """Connect to nothing yet.

        Args:
            root: The project folder.
            store: Name of what it is kept in.
            open_replica: Opens it for the tables that are served when it is called.
            writing: Held while it is written; where another process does, it is left alone.
            say: Is told what happens.
            clock: For the standing.
            ticks: Seconds that never go back.
        """
        self._root = root
        self._store = store
        self._open = open_replica
        self._writing = writing
        self._say = say
        self._clock = clock
        self._ticks = ticks
        self._reader = Reader(root / _SERVING)
        self._served = 0
        self._position = 0
        self._done: _Stand | None = None
        self._behind: float | None = None
        self._rows = 0
        self._pause = 0.0
        self._failure: MeterhouseError | None = None
        self._over = threading.Event()
        self._stop = Stop()
        self._wanted: Callable[[], bool] = lambda: True

    def run(self, stop: Stop, wanted: Callable[[], bool] = lambda: True) -> None:
        """Keep it up until told to stop, or until it is not ``wanted`` any more."""
        self._stop, self._wanted = stop, wanted
        # A first synchronisation may take minutes: how far behind it is is told all the same.
        telling = threading.Thread(target=self._tell, daemon=True)
        telling.start()
        while self._on:
            try:
                self._keep()
                self._pause = 0.0
            except MeterhouseError as error:
                self._failed(error)
                self._wait(self._pause)
        self._over.set()
        telling.join()
        self._write()

    def _tell(self) -> None:
        while not self._over.is_set():
            with suppress(MeterhouseError):
                self._look()
            self._write()
            self._over.wait(_WRITE_S)

    @property
    def _on(self) -> bool:
        return not self._stop.wanted and self._wanted()

    def _keep(self) -> None:
        """Sync whenever the answers have moved; return when their tables are others."""
        models = self._look().models
        with self._open() as replica:
            while self._on:
                found = self._look()
                if found.models != models:
                    return
                if found != self._done and self._writing.take():
                    try:
                        self._sync(replica, models)
                    finally:
                        self._writing.release()
                self._stop.wait(_LOOK_S)

    def _look(self) -> _Stand:
        """Return where the answers stand now."""
        found = self._reader.read(_stand)
        self._served = found.position
        if found == self._done:
            self._behind = None
        elif self._behind is None:
            self._behind = self._ticks()
        return found

    def _sync(self, replica: _Replica, models: object) -> None:
        """Bring it to where the answers stand, unless their tables are no longer the replica's.

        Looked at once nobody else writes: who did may have come further than we saw before.
        """

        def sync(snapshot: SqliteSnapshot) -> tuple[_Stand, _Report] | None:
            stand = _stand(snapshot)
            return (stand, replica.sync(snapshot)) if stand.models == models else None

        if (done := read(self._root / _SERVING, sync)) is not None:
            self._synced(*done)

    def _synced(self, stand: _Stand, report: _Report) -> None:
        self._rows += report.rows + report.gone
        self._position, self._done = stand.position, stand
        self._behind = None
        if self._failure is not None:
            self._failure = None
            self._say.over(self._store)
            self._say.info(
                "replica_recovered",
                f"{self._store} goes on: it stands at entry {self._position:,}",
                store=self._store,
                position=self._position,
            )

    def _failed(self, error: MeterhouseError) -> None:
        if isinstance(error, UsageError) and self._served == 0:
            self._pause = 1.0
            return  # nothing is served yet
        self._pause = min(max(2 * self._pause, 1.0), _LONGEST_PAUSE_S)
        self._failure = error
        self._say.error("replica_failed", self._store, error, retry_s=self._pause)

    def _wait(self, seconds: float) -> None:
        until = self._ticks() + seconds
        while self._on and (left := until - self._ticks()) > 0:
            self._stop.wait(min(left, _WRITE_S))

    def _write(self) -> None:
        behind = self._behind
        standing = ReplicaStanding(
            self._store,
            os.getpid(),
            timestamp_text(self._clock()),
            self._position,
            self._served,
            round(self._ticks() - behind, 3) if behind is not None else 0.0,
            self._rows,
            self._failure.body() if self._failure is not None else None,
        )
        path = self._root / replica_standing(self._store)
        new = path.with_name(path.name + ".new")
        # A full disk is said where entries are written.
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            new.write_text(json.dumps(asdict(standing), sort_keys=True), "utf-8")
            new.replace(path)
