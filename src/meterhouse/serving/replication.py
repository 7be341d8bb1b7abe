"""Bringing a replica to where the embedded store stands: what changed, or the whole of it.

What is common to every store that holds a replica. Rows are absolute: each write says what
a row is, never by how much it changes, so to repeat one is to change nothing. The
replica's position is written last, and is the position of every answer from it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Protocol

from meterhouse.serving.cassandra.layout import CqlTable, tables_text
from meterhouse.serving.positions import (
    ReplicaPosition,
    changed,
    is_past,
    old_windows,
    refuse,
    stands,
    why_whole,
)
from meterhouse.serving.schema import CHANGED_AT, GONE, NULL_KEY, StoredTable, quoted
from meterhouse.serving.snapshot import SqliteSnapshot

__all__ = [
    "Change",
    "ReplicaPosition",
    "Replication",
    "SyncReport",
    "TableWriter",
    "batch_of",
    "changed_rows",
]

_CHUNK: Final = 5_000
_ORG: Final = "org_id"
_BEHIND: Final = "behind"
_OLDER: Final = "older"
"""Detail: window tables with rows older than what the embedded store keeps."""

Change = tuple[Sequence[Any], int, bool]
"""A row of the embedded store, the log position it stands for, and whether it is gone."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a synchronisation wrote."""

    position: int
    rows: int
    """Written, in all tables; a row that is kept by two keys counts twice."""
    gone: int
    """Deleted."""
    whole: bool
    """True when every row was written, not only what had changed."""
    why: str


class TableWriter(Protocol):
    """Writes and lists the rows of one table of the replica."""

    def key_of(self, row: Sequence[Any]) -> Any:
        """Return the key of a row of the embedded store; ``keys`` yields the same."""
        ...

    def write(self, changes: Iterable[Change], generation: int) -> int:
        """Write rows and delete those that are gone; return how many of both. Idempotent."""
        ...

    def keys(self) -> Iterator[Any]:
        """Yield the key of every row that is there."""
        ...

    def delete(self, keys: Sequence[Any], generation: int, position: int) -> None:
        """Delete rows, as of ``position``. Idempotent."""
        ...

    def empty(self) -> None:
        """Delete every row, whoever wrote it."""
        ...


class Replication(ABC):
    """The gold tables of one embedded store, kept in another store."""

    tables: Mapping[str, tuple[CqlTable, ...]]
    """By gold model; what is missing is made."""
    lists_orgs: ClassVar[bool] = True
    """Whether organisations are listed in a table of their own."""
    in_log: Callable[[ReplicaPosition], bool] | None = None
    """Tells whether our log holds the entry that the replica was made from; None: not known."""
    who: str = ""
    """Names this writer; two that may write at once have two names."""
    _ours: str = ""
    """Head of the log as we wrote it last: it need not be looked for again."""

    @property
    @abstractmethod
    def where(self) -> str:
        """The store, as messages name it."""

    @abstractmethod
    def label(self) -> str:
        """Return what the replica is in, for people."""

    @abstractmethod
    def position(self) -> ReplicaPosition | None:
        """Return up to where the replica is; None while it is empty or being made."""

    @abstractmethod
    def make_tables(self) -> bool:
        """Make what is missing; return whether a table had to be made or made anew."""

    @abstractmethod
    def writer(self, table: CqlTable) -> TableWriter:
        """Return what writes ``table``."""

    @abstractmethod
    def rows(self, table: CqlTable) -> Iterator[tuple[Any, ...]]:
        """Yield every row of ``table``: its columns, in their order, as Python values."""

    @abstractmethod
    def forget(self) -> None:
        """Delete the position, so that no answer is given, and the list of organisations."""

    @abstractmethod
    def list_orgs(self, orgs: Sequence[str], target: ReplicaPosition) -> None:
        """Add organisations to the list of them."""

    @abstractmethod
    def stand(self, target: ReplicaPosition) -> None:
        """Write the position."""

    def begin(self) -> str:
        """Say that we write; return why all of it has to be written, or nothing."""
        return ""

    def end(self) -> None:  # noqa: B027  # a store whose writes are stamped needs none
        """Say that all was written, and the position too."""

    def sweeps(self) -> None:  # noqa: B027  # only where a later write may bring a row back
        """Say that rows are deleted because they were not found."""

    def sync(self, snapshot: SqliteSnapshot) -> SyncReport:
        """Bring the replica to where ``snapshot`` stands.

        Raises:
            DamageError: The replica is ahead of the log, or of another project.
            EnvironmentFailureError: The store can't be reached; run it again.
        """
        fresh = self.make_tables()
        target = self._target(snapshot)
        found = self._checked(target)
        if found is not None and is_past(found, target):
            return SyncReport(found.position, 0, 0, False, "")
        unclear = self.begin()
        if self.position() != found:
            # Somebody wrote between our look and our saying that we write.
            self.end()
            return self.sync(snapshot)
        before = None if fresh else found
        why = unclear or why_whole(before, target)
        if before is None or why:
            return self._all(snapshot, target, why)
        if (before.position, before.epoch) == (target.position, target.epoch):
            report = SyncReport(target.position, 0, 0, False, "")
        else:
            report, target = self._changes(snapshot, before, target)
            self.stand(target)
        self._ours = target.head
        self.end()
        return report

    def rebuild(self, snapshot: SqliteSnapshot) -> SyncReport:
        """Empty every table and write it anew: wins over whatever anybody wrote by hand.

        Answers are refused meanwhile. Safe to repeat and to interrupt.
        """
        self.make_tables()
        target = self._target(snapshot)
        # First of all: no answer may say that it is whole while it is not.
        self.forget()
        self.begin()
        for found in self.tables.values():
            for table in found:
                self.writer(table).empty()
        return self._all(snapshot, target, "made anew")

    def _checked(self, target: ReplicaPosition) -> ReplicaPosition | None:
        """Return where the replica stands, unless it stands where no log of ours goes."""
        before = self.position()
        if before is not None:
            known: bool | None = True if before.head == self._ours else None
            if not known and self.in_log is not None:
                known = self.in_log(before)
            refuse(before, target, self.where, known)
        return before

    def _all(self, snapshot: SqliteSnapshot, target: ReplicaPosition, why: str) -> SyncReport:
        report, target = self._whole(snapshot, target, why)
        self.stand(target)
        self._ours = target.head
        self.end()
        return report

    def _target(self, snapshot: SqliteSnapshot) -> ReplicaPosition:
        served = snapshot.served
        behind = {
            name: [position, taken.isoformat()] for name, (position, taken) in served.behind.items()
        }
        generation, epoch = batch_of(snapshot)
        return ReplicaPosition(
            served.stamp.project,
            served.stamp.fork,
            generation,
            served.stamp.position,
            epoch,
            served.stamp.head,
            served.ingest_ts.isoformat(),
            tables_text(self.tables),
            json.dumps({**served.details, _BEHIND: behind}, sort_keys=True),
        )

    def _stored(self, snapshot: SqliteSnapshot) -> Iterator[tuple[StoredTable, CqlTable]]:
        for model, tables in self.tables.items():
            if model in snapshot.stored:
                for table in tables:
                    yield snapshot.stored[model], table

    def _whole(
        self, snapshot: SqliteSnapshot, target: ReplicaPosition, why: str
    ) -> tuple[SyncReport, ReplicaPosition]:
        written = gone = 0
        older: set[str] = set()
        for stored, table in self._stored(snapshot):
            rows, dropped = self._table_whole(snapshot, stored, table, target, older)
            written, gone = written + rows, gone + dropped
        for model, tables in self.tables.items():
            if model not in snapshot.stored:
                for table in tables:
                    self.writer(table).empty()
        self._orgs(snapshot, target, after=None)
        target = replace(target, details=changed(target.details, **{_OLDER: sorted(older)}))
        return SyncReport(target.position, written, gone, True, why), target

    def _table_whole(
        self,
        snapshot: SqliteSnapshot,
        stored: StoredTable,
        table: CqlTable,
        target: ReplicaPosition,
        older: set[str],
    ) -> tuple[int, int]:
        """Write every row, delete every other; return how many of each."""
        self.sweeps()
        writer, position = self.writer(table), stands(target, stored)
        count = 0
        known: set[Any] = set()
        for chunk in snapshot.raw(stored, _CHUNK):
            count += writer.write(((row, position, False) for row in chunk), target.generation)
            known.update(writer.key_of(row) for row in chunk)
            if old_windows(target, stored, chunk):
                older.add(stored.name)
        return count, _delete_others(writer, known, target.generation, position)

    def _changes(
        self, snapshot: SqliteSnapshot, before: ReplicaPosition, target: ReplicaPosition
    ) -> tuple[SyncReport, ReplicaPosition]:
        written = gone = 0
        older = set(before.said(_OLDER)) if before.epoch == target.epoch else set()
        for stored, table in self._stored(snapshot):
            live = stored.live and not stored.layout.batch_only
            if not live or stored.name in before.said("stale"):
                if stands(before, stored) == stands(target, stored):
                    continue
                rows, dropped = self._table_whole(snapshot, stored, table, target, older)
            else:
                rows, dropped = self._table_changes(snapshot, stored, table, before, target, older)
            written, gone = written + rows, gone + dropped
        self._orgs(snapshot, target, after=before.position)
        target = replace(target, details=changed(target.details, **{_OLDER: sorted(older)}))
        return SyncReport(target.position, written, gone, False, ""), target

    def _table_changes(
        self,
        snapshot: SqliteSnapshot,
        stored: StoredTable,
        table: CqlTable,
        before: ReplicaPosition,
        target: ReplicaPosition,
        older: set[str],
    ) -> tuple[int, int]:
        """Write and delete what changed since ``before``; return how many of each."""
        writer = self.writer(table)
        written = gone = 0
        for chunk in changed_rows(snapshot, stored, before.position):
            dropped = sum(is_gone for _, _, is_gone in chunk)
            written += writer.write(chunk, target.generation) - dropped
            gone += dropped
            if old_windows(target, stored, [row for row, _, _ in chunk]):
                older.add(stored.name)
        if before.epoch != target.epoch and _gave_up(before, target, stored):
            gone += self._too_old(snapshot, stored, table, target, older)
        return written, gone

    def _too_old(
        self,
        snapshot: SqliteSnapshot,
        stored: StoredTable,
        table: CqlTable,
        target: ReplicaPosition,
        older: set[str],
    ) -> int:
        """Delete the windows that the embedded store has given up since the last batch."""
        self.sweeps()
        writer = self.writer(table)
        known: set[Any] = set()
        for chunk in snapshot.raw(stored, _CHUNK):
            known.update(writer.key_of(row) for row in chunk)
            if old_windows(target, stored, chunk):
                older.add(stored.name)
        return _delete_others(writer, known, target.generation, target.position)

    def _orgs(
        self, snapshot: SqliteSnapshot, target: ReplicaPosition, *, after: int | None
    ) -> None:
        """List every organisation; one without rows left stays, and its partitions are empty."""
        if not self.lists_orgs:
            return
        found: set[Any] = set()
        for stored, _ in self._stored(snapshot):
            places = [n for n, column in enumerate(stored.columns) if column.name == _ORG]
            if not places:
                continue
            chunks: Iterator[Sequence[Any]] = (
                snapshot.raw(stored, _CHUNK)
                if after is None or not stored.live
                else ([row for row, _, _ in one] for one in changed_rows(snapshot, stored, after))
            )
            found.update(row[places[0]] for chunk in chunks for row in chunk)
        self.list_orgs(sorted(org for org in found if org not in (None, NULL_KEY)), target)


def batch_of(snapshot: SqliteSnapshot) -> tuple[int, int]:
    """Return generation and position of the batch that the embedded answers stand on."""
    generation = snapshot.standing.epoch.details.get("generation", 0)
    return int(generation), snapshot.served.epoch_position


def _delete_others(writer: TableWriter, known: set[Any], generation: int, position: int) -> int:
    """Delete every row whose key is not known; return how many."""
    others = [key for key in writer.keys() if key not in known]  # noqa: SIM118  # not a dict
    writer.delete(others, generation, position)
    return len(others)


def _gave_up(before: ReplicaPosition, target: ReplicaPosition, stored: StoredTable) -> bool:
    """Tell whether a batch took windows out of the embedded store that the replica may have."""
    first = [one.said("keep_from").get(stored.name) for one in (before, target)]
    return bool(stored.layout.keep) and (first[0] != first[1] or stored.name in before.said(_OLDER))


def changed_rows(
    snapshot: SqliteSnapshot, stored: StoredTable, after: int
) -> Iterator[list[Change]]:
    """Yield live rows that changed after ``after``, with their position and whether gone."""
    names = ", ".join(quoted(column.name) for column in stored.columns)
    cursor = snapshot.connection.execute(
        f"SELECT {names}, {quoted(CHANGED_AT)}, {quoted(GONE)} "
        f"FROM {quoted(stored.live)} WHERE {quoted(CHANGED_AT)} > ?",
        (after,),
    )
    while rows := cursor.fetchmany(_CHUNK):
        yield [(row[:-2], row[-2], bool(row[-1])) for row in rows]
