"""Keeping the replica: what changed, then up to where; the whole of it where that is unclear.

Rows are absolute and carry timestamps made of the log position (``stamps``), so to repeat,
reorder or race is to end in the same cells. The row of ``replica`` is written last, and is
the position of every answer from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meterhouse.errors import DamageError
from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import ORGS, REPLICA, CqlTable, quoted, tables_text
from meterhouse.serving.cassandra.rows import Rows, StoredKey
from meterhouse.serving.cassandra.stamps import write_time
from meterhouse.serving.cassandra.tables import (
    columns_of,
    create_orgs,
    create_replica,
    create_table,
)
from meterhouse.serving.schema import CHANGED_AT, GONE, NULL_KEY, StoredTable
from meterhouse.serving.schema import quoted as sql_quoted
from meterhouse.serving.snapshot import SqliteSnapshot

__all__ = ["Replica", "ReplicaPosition", "SyncReport", "changed_rows", "replica_position"]

_CHUNK: Final = 5_000
_NAME: Final = "serving"
_ORG: Final = "org_id"
_BEHIND: Final = "behind"
_COLUMNS: Final = (
    "project",
    "fork",
    "generation",
    "position",
    "epoch",
    "head",
    "ingest_ts",
    "tables",
    "details",
)


@dataclass(frozen=True, slots=True)
class ReplicaPosition:
    """Up to where the log is in the replica."""

    project: str
    fork: int
    generation: int
    position: int
    epoch: int
    """Position of the batch that its batch-only tables stand for."""
    head: str
    ingest_ts: str
    tables: str
    details: str


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


def replica_position(session: CqlSession) -> ReplicaPosition | None:
    """Return up to where the replica is; None while it is empty or being made."""
    if not _exists(session, REPLICA):
        return None
    listed = ", ".join(map(quoted, _COLUMNS))
    cql = f'SELECT {listed} FROM {quoted(REPLICA)} WHERE "name" = ?'
    found = list(session.rows(cql, (_NAME,)))
    return ReplicaPosition(*found[0]) if found and found[0].position is not None else None


class Replica:
    """The gold tables of one embedded store, kept in one keyspace."""

    def __init__(self, session: CqlSession, tables: Mapping[str, tuple[CqlTable, ...]]) -> None:
        """Keep ``tables`` (``tables.cql_tables``); tables that are missing are made."""
        self.session = session
        self.tables = tables

    def sync(self, snapshot: SqliteSnapshot) -> SyncReport:
        """Bring the replica to where ``snapshot`` stands.

        Raises:
            DamageError: The replica is ahead of the log, or of another project.
            EnvironmentFailureError: The cluster can't be reached; run it again.
        """
        fresh = self._make_tables()
        before = None if fresh else replica_position(self.session)
        target = self._target(snapshot)
        if before is not None:
            _check(before, target, self.session.where)
        if before is None:
            report = self._whole(snapshot, target, "it was empty")
        elif before.generation != target.generation:
            report = self._whole(snapshot, target, "the tables were restated")
        elif before.tables != target.tables:
            report = self._whole(snapshot, target, "its tables changed")
        elif before.position < target.epoch:
            report = self._whole(snapshot, target, "it was behind the last batch")
        elif (before.position, before.epoch) == (target.position, target.epoch):
            return SyncReport(target.position, 0, 0, False, "")
        else:
            report = self._changes(snapshot, before, target)
        self._stand(target)
        return report

    def rebuild(self, snapshot: SqliteSnapshot) -> SyncReport:
        """Empty every table and write it anew: wins over whatever anybody wrote by hand.

        Answers are refused meanwhile. Safe to repeat and to interrupt.
        """
        self._make_tables()
        # First of all: no answer may say that it is whole while it is not.
        for name in (REPLICA, ORGS, *(table.name for table in self._all_tables())):
            self.session.run(f"TRUNCATE TABLE {quoted(name)}")
        target = self._target(snapshot)
        report = self._whole(snapshot, target, "made anew")
        self._stand(target)
        return report

    def _all_tables(self) -> Iterator[CqlTable]:
        return (table for found in self.tables.values() for table in found)

    def _make_tables(self) -> bool:
        """Make what is missing; return whether a table had to be made or made anew."""
        wanted = {table.name: create_table(table) for table in self._all_tables()}
        wanted |= {ORGS: create_orgs(), REPLICA: create_replica()}
        made = False
        for name, cql in wanted.items():
            there = _columns(self.session, name)
            if there == columns_of(cql):
                continue
            if there:
                self.session.run(f"DROP TABLE {quoted(name)}")
            self.session.run(cql)
            made = True
        return made

    def _target(self, snapshot: SqliteSnapshot) -> ReplicaPosition:
        served = snapshot.served
        details = snapshot.standing.epoch.details
        return ReplicaPosition(
            served.stamp.project,
            served.stamp.fork,
            int(details.get("generation", 0)),
            served.stamp.position,
            served.epoch_position,
            served.stamp.head,
            served.ingest_ts.isoformat(),
            tables_text(self.tables),
            json.dumps({**served.details, _BEHIND: _behind(snapshot)}, sort_keys=True),
        )

    def _stored(self, snapshot: SqliteSnapshot) -> Iterator[tuple[StoredTable, CqlTable]]:
        for model, tables in self.tables.items():
            if model in snapshot.stored:
                for table in tables:
                    yield snapshot.stored[model], table

    def _whole(self, snapshot: SqliteSnapshot, target: ReplicaPosition, why: str) -> SyncReport:
        written = gone = 0
        for stored, table in self._stored(snapshot):
            rows, dropped = self._table_whole(snapshot, stored, table, target.position, target)
            written, gone = written + rows, gone + dropped
        for _, table in self._unserved(snapshot):
            self.session.run(f"TRUNCATE TABLE {quoted(table.name)}")
        self._orgs(snapshot, target, after=None)
        return SyncReport(target.position, written, gone, True, why)

    def _unserved(self, snapshot: SqliteSnapshot) -> Iterator[tuple[str, CqlTable]]:
        for model, tables in self.tables.items():
            if model not in snapshot.stored:
                for table in tables:
                    yield model, table

    def _table_whole(
        self,
        snapshot: SqliteSnapshot,
        stored: StoredTable,
        table: CqlTable,
        position: int,
        target: ReplicaPosition,
    ) -> tuple[int, int]:
        """Write every row, delete every other; return how many of each."""
        rows = Rows(self.session, table)
        timestamp = write_time(target.generation, position)
        count = 0
        known: set[StoredKey] = set()
        for chunk in snapshot.raw(stored, _CHUNK):
            count += rows.write((row, position, timestamp, False) for row in chunk)
            known.update(rows.key_of(row) for row in chunk)
        ghosts = [key for key in rows.keys() if key not in known]  # noqa: SIM118  # not a dict
        rows.delete(ghosts, timestamp)
        return count, len(ghosts)

    def _changes(
        self, snapshot: SqliteSnapshot, before: ReplicaPosition, target: ReplicaPosition
    ) -> SyncReport:
        written = gone = 0
        for stored, table in self._stored(snapshot):
            if not stored.live or stored.layout.batch_only:
                if before.epoch != target.epoch:
                    rows, dropped = self._table_whole(snapshot, stored, table, target.epoch, target)
                    written, gone = written + rows, gone + dropped
                continue
            writer = Rows(self.session, table)
            for chunk in changed_rows(snapshot, stored, before.position):
                written += writer.write(
                    (row, position, write_time(target.generation, position), is_gone)
                    for row, position, is_gone in chunk
                )
                gone += sum(is_gone for _, _, is_gone in chunk)
            if stored.layout.keep and before.epoch != target.epoch:
                gone += self._too_old(snapshot, stored, table, target)
        self._orgs(snapshot, target, after=before.position)
        return SyncReport(target.position, written - gone, gone, False, "")

    def _too_old(
        self,
        snapshot: SqliteSnapshot,
        stored: StoredTable,
        table: CqlTable,
        target: ReplicaPosition,
    ) -> int:
        """Delete the windows that the embedded store has given up since the last batch."""
        rows = Rows(self.session, table)
        known = {rows.key_of(row) for chunk in snapshot.raw(stored, _CHUNK) for row in chunk}
        old = [key for key in rows.keys() if key not in known]  # noqa: SIM118  # not a dict
        rows.delete(old, write_time(target.generation, target.epoch))
        return len(old)

    def _orgs(
        self, snapshot: SqliteSnapshot, target: ReplicaPosition, *, after: int | None
    ) -> None:
        """List every organisation; one without rows left stays, and its partitions are empty."""
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
        insert = self.session.prepare(
            f'INSERT INTO {quoted(ORGS)} ("list", "org_id", "as_of") VALUES (?, ?, ?) '
            "USING TIMESTAMP ?"
        )
        timestamp = write_time(target.generation, target.position)
        self.session.each(
            [
                insert.bind(("all", org, target.position, timestamp))
                for org in sorted(org for org in found if org is not None and org != NULL_KEY)
            ]
        )

    def _stand(self, target: ReplicaPosition) -> None:
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        listed = ", ".join(map(quoted, ("name", *_COLUMNS)))
        self.session.write(
            f"INSERT INTO {quoted(REPLICA)} ({listed}) VALUES ({marks}) USING TIMESTAMP ?",
            (
                _NAME,
                *(getattr(target, name) for name in _COLUMNS),
                write_time(target.generation, target.position),
            ),
        )


def _behind(snapshot: SqliteSnapshot) -> dict[str, list[object]]:
    """Return the tables that stand where the last batch stands, while others are ahead."""
    return {
        name: [position, taken.isoformat()]
        for name, (position, taken) in snapshot.served.behind.items()
    }


def changed_rows(
    snapshot: SqliteSnapshot, stored: StoredTable, after: int
) -> Iterator[list[tuple[Sequence[Any], int, bool]]]:
    """Yield live rows that changed after ``after``, with their position and whether gone."""
    names = ", ".join(sql_quoted(column.name) for column in stored.columns)
    cursor = snapshot.connection.execute(
        f"SELECT {names}, {sql_quoted(CHANGED_AT)}, {sql_quoted(GONE)} "
        f"FROM {sql_quoted(stored.live)} WHERE {sql_quoted(CHANGED_AT)} > ?",
        (after,),
    )
    while rows := cursor.fetchmany(_CHUNK):
        yield [(row[:-2], row[-2], bool(row[-1])) for row in rows]


def _exists(session: CqlSession, name: str) -> bool:
    return bool(_columns(session, name))


def _columns(session: CqlSession, name: str) -> dict[str, str]:
    """Return column → type of a table as the cluster has it; empty when there is none."""
    cql = (
        "SELECT column_name, type FROM system_schema.columns "
        "WHERE keyspace_name = ? AND table_name = ?"
    )
    rows = session.rows(cql, (session.driver.keyspace, name))
    return {row.column_name: row.type for row in rows}


def _check(before: ReplicaPosition, target: ReplicaPosition, where: str) -> None:
    """Refuse a replica that knows more than the log, or something else."""
    fix = (
        "if this project is the one to go on with, make the replica anew: meterhouse serving "
        "rebuild; else restore the newer log (docs/backup.md). Nothing was written"
    )
    if before.project != target.project:
        raise DamageError("the replica is of another project", where, fix)
    ahead = (before.fork, before.generation, before.position) > (
        target.fork,
        target.generation,
        target.position,
    )
    if ahead or before.fork > target.fork or before.generation > target.generation:
        raise DamageError(
            f"the replica stands at log position {before.position:,} of generation "
            f"{before.generation}, ahead of {target.position:,} of generation {target.generation} "
            "here: an older state of the project was restored",
            where,
            fix,
        )
    if before.position == target.position and before.head != target.head:
        raise DamageError(
            f"log entry {before.position:,} is not the one that the replica was made from",
            where,
            fix,
        )
