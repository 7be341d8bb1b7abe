"""Rows on their way into the replica: bound statements, those of one partition together.

An unlogged batch within one partition is one mutation: a partition changes whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import AS_OF, CqlTable, quoted
from meterhouse.serving.cassandra.stamps import write_time
from meterhouse.serving.cassandra.values import as_bound, period, to_cql
from meterhouse.serving.replication import Change

__all__ = ["Rows", "StoredKey"]

StoredKey = tuple[Any, ...]
_TOGETHER: Final = 50
"""Rows in a batch: about 10 KB, so that no node waits long for one."""


class Rows:
    """Writes and lists the rows of one table."""

    def __init__(self, session: CqlSession, table: CqlTable) -> None:
        self._session = session
        self._table = table
        names = [column.name for column in table.all_columns]
        keys = set(table.key) | {part.column for part in table.partition}
        self._key_places = [names.index(name) for name in table.key]
        self._places = {column.name: place for place, column in enumerate(table.columns)}
        self._writers = [to_cql(column, key=column.name in keys) for column in table.columns]
        self._types = {column.name: column.type for column in table.all_columns}
        self._cuts = [part for part in table.partition if part.cut]
        marks = ", ".join("?" * (len(names) + 1))
        listed = ", ".join(map(quoted, [*names, AS_OF]))
        self._insert = (
            f"INSERT INTO {quoted(table.name)} ({listed}) VALUES ({marks}) USING TIMESTAMP ?"
        )
        where = " AND ".join(f"{quoted(name)} = ?" for name in table.key)
        self._delete = f"DELETE FROM {quoted(table.name)} USING TIMESTAMP ? WHERE {where}"
        self._list = f"SELECT {', '.join(map(quoted, table.key))} FROM {quoted(table.name)}"

    def key_of(self, row: Sequence[Any]) -> StoredKey:
        """Return the primary key of a row of the embedded store, as the driver binds it."""
        return self._key(self._bound(row))

    def write(self, changes: Iterable[Change], generation: int) -> int:
        """Write rows of the embedded store, and delete those that are gone; return how many."""
        statements, count = [], 0
        for partition in self._by_partition(changes, generation):
            for start in range(0, len(partition), _TOGETHER):
                statements.append(self._together(partition[start : start + _TOGETHER]))
                count += len(partition[start : start + _TOGETHER])
        self._session.each(statements)
        return count

    def delete(self, keys: Sequence[StoredKey], generation: int, position: int) -> None:
        """Delete the rows of ``keys``, as ``key_of`` gives them, as of ``position``."""
        timestamp = write_time(generation, position)
        statement = self._session.prepare(self._delete)
        self._session.each([statement.bind((timestamp, *key)) for key in keys])

    def keys(self) -> Iterator[StoredKey]:
        """Yield the key of every row that is there, as ``key_of`` gives it."""
        kinds = [self._types[name] for name in self._table.key]
        for row in self._session.rows(self._list):
            yield tuple([as_bound(value, kind) for value, kind in zip(row, kinds, strict=True)])

    def empty(self) -> None:
        """Delete every row, whatever its timestamp."""
        self._session.run(f"TRUNCATE TABLE {quoted(self._table.name)}")

    def _bound(self, row: Sequence[Any]) -> list[Any]:
        values = [write(value) for write, value in zip(self._writers, row, strict=True)]
        cut = [
            period(part.cut, self._types[part.column], values[self._places[part.column]])
            for part in self._cuts
        ]
        return [*cut, *values]

    def _key(self, bound: Sequence[Any]) -> StoredKey:
        return tuple([bound[place] for place in self._key_places])

    def _by_partition(self, changes: Iterable[Change], generation: int) -> Iterable[list[Any]]:
        found: dict[StoredKey, list[Any]] = {}
        size = len(self._table.partition)
        insert = self._session.prepare(self._insert)
        delete = self._session.prepare(self._delete)
        for row, position, gone in changes:
            timestamp = write_time(generation, position)
            bound = self._bound(row)
            key = self._key(bound)
            statement = (
                delete.bind((timestamp, *key))
                if gone
                else insert.bind((*bound, position, timestamp))
            )
            found.setdefault(key[:size], []).append(statement)
        return found.values()

    @staticmethod
    def _together(statements: Sequence[Any]) -> Any:
        if len(statements) == 1:
            return statements[0]
        from cassandra.query import BatchStatement, BatchType

        batch = BatchStatement(batch_type=BatchType.UNLOGGED)
        batch.is_idempotent = True
        for statement in statements:
            batch.add(statement)
        return batch
