"""The replica in Cassandra: rows whose write timestamps are made of the log position.

Timestamps (``stamps``) decide which write to a cell wins, so to repeat, reorder or race is
to end in the same cells.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import (
    ORGS,
    REPLICA,
    WRITERS,
    CqlTable,
    quoted,
    tables_from_text,
)
from meterhouse.serving.cassandra.rows import Rows
from meterhouse.serving.cassandra.stamps import write_time
from meterhouse.serving.cassandra.tables import (
    columns_of,
    create_orgs,
    create_replica,
    create_table,
    create_writers,
)
from meterhouse.serving.cassandra.values import from_cql
from meterhouse.serving.cassandra.writers import Writers
from meterhouse.serving.replication import ReplicaPosition, Replication

__all__ = ["Replica", "replica_position"]

_NAME: Final = "serving"
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


def replica_position(session: CqlSession) -> ReplicaPosition | None:
    """Return up to where the replica is; None while it is empty or being made."""
    if not _columns(session, REPLICA):
        return None
    listed = ", ".join(map(quoted, _COLUMNS))
    cql = f'SELECT {listed} FROM {quoted(REPLICA)} WHERE "name" = ?'
    found = list(session.rows(cql, (_NAME,)))
    return ReplicaPosition(*found[0]) if found and found[0].position is not None else None


class Replica(Replication):
    """The gold tables of one embedded store, kept in one keyspace."""

    def __init__(self, session: CqlSession, tables: Mapping[str, tuple[CqlTable, ...]]) -> None:
        """Keep ``tables`` (``tables.cql_tables``); tables that are missing are made."""
        self.session = session
        self.tables = tables
        self.who = uuid.uuid4().hex
        self._writers = Writers(session)
        self._before: ReplicaPosition | None = None

    @property
    def where(self) -> str:
        """The cluster, as messages name it."""
        return self.session.where

    def label(self) -> str:
        """Return what the replica is in, for people."""
        return f"Cassandra {self.session.version()}"

    def position(self) -> ReplicaPosition | None:
        """Return up to where the replica is; None while it is empty or being made."""
        self._before = replica_position(self.session)
        return self._before

    def make_tables(self) -> bool:
        """Make what is missing; return whether a table had to be made or made anew."""
        tables = [table for found in self.tables.values() for table in found]
        wanted = {table.name: create_table(table) for table in tables}
        wanted |= {ORGS: create_orgs(), REPLICA: create_replica(), WRITERS: create_writers()}
        made = False
        before = replica_position(self.session)
        held: set[str] = set()
        if before is not None:
            stood = tables_from_text(before.tables).values()
            held = {ORGS, *(table.name for found in stood for table in found)}
        for name, cql in wanted.items():
            there = _columns(self.session, name)
            if there == columns_of(cql):
                continue
            if name in held:
                # It said that it holds this table: should we die now, nobody may believe it.
                self.session.run(f"TRUNCATE TABLE {quoted(REPLICA)}")
                held = set()
            if there:
                self.session.run(f"DROP TABLE {quoted(name)}")
            self.session.run(cql)
            made = True
        return made

    def writer(self, table: CqlTable) -> Rows:
        """Return what writes ``table``."""
        return Rows(self.session, table)

    def rows(self, table: CqlTable) -> Iterator[tuple[Any, ...]]:
        """Yield every row of ``table``: its columns, in their order, as Python values."""
        keys = {*table.key, *(part.column for part in table.partition)}
        read = [from_cql(column, key=column.name in keys) for column in table.columns]
        listed = ", ".join(quoted(column.name) for column in table.columns)
        for raw in self.session.rows(f"SELECT {listed} FROM {quoted(table.name)}"):
            yield tuple([convert(value) for convert, value in zip(read, raw, strict=True)])

    def begin(self) -> str:
        """Say that we write; return why all of it has to be written, or nothing."""
        return self._writers.begin(self.who)

    def sweeps(self) -> None:
        """Say that rows are deleted because they were not found."""
        self._writers.sweeps()

    def end(self) -> None:
        """Say that all was written, and the position too."""
        self._writers.end()

    def forget(self) -> None:
        """Delete the position, so that no answer is given, and the list of organisations.

        Raises:
            EnvironmentFailureError: A node is away; nothing was deleted.
        """
        self.session.check_all_up()
        for name in (REPLICA, ORGS):
            self.session.run(f"TRUNCATE TABLE {quoted(name)}")

    def list_orgs(self, orgs: Sequence[str], target: ReplicaPosition) -> None:
        """Add organisations to the list of them."""
        insert = self.session.prepare(
            f'INSERT INTO {quoted(ORGS)} ("list", "org_id", "as_of") VALUES (?, ?, ?) '
            "USING TIMESTAMP ?"
        )
        timestamp = write_time(target.generation, target.position)
        self.session.each([insert.bind(("all", org, target.position, timestamp)) for org in orgs])

    def stand(self, target: ReplicaPosition) -> None:
        """Write the position.

        Its timestamp grows with the batch as well: while no entry comes, that alone moves. Where
        neither did and it says something else all the same, the former one has to go first,
        for of two values with one timestamp the larger wins.
        """
        if (before := self._before) is not None and before != target:
            same = (before.generation, before.position + before.epoch)
            if same == (target.generation, target.position + target.epoch):
                self.session.run(f"TRUNCATE TABLE {quoted(REPLICA)}")
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        listed = ", ".join(map(quoted, ("name", *_COLUMNS)))
        self.session.write(
            f"INSERT INTO {quoted(REPLICA)} ({listed}) VALUES ({marks}) USING TIMESTAMP ?",
            (
                _NAME,
                *(getattr(target, name) for name in _COLUMNS),
                write_time(target.generation, target.position + target.epoch),
            ),
        )
        self._before = target


def _columns(session: CqlSession, name: str) -> dict[str, str]:
    """Return column → type of a table as the cluster has it; empty when there is none."""
    cql = (
        "SELECT column_name, type FROM system_schema.columns "
        "WHERE keyspace_name = ? AND table_name = ?"
    )
    rows = session.rows(cql, (session.driver.keyspace, name))
    return {row.column_name: row.type for row in rows}
