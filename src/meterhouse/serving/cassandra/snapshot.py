"""Answers from the replica in Cassandra, by CQL alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import ORGS, CqlColumn, CqlTable, quoted
from meterhouse.serving.cassandra.replica import replica_position
from meterhouse.serving.cassandra.values import from_cql, to_cql
from meterhouse.serving.partitioned import Partitions, ReplicaSnapshot, reach
from meterhouse.serving.schema import Condition

__all__ = ["CassandraSnapshot"]


class CassandraSnapshot(ReplicaSnapshot):
    """``schema.Snapshot`` over one keyspace."""

    def __init__(self, session: CqlSession) -> None:
        """Look up where the replica stands.

        Raises:
            UsageError: It is empty, or being made anew.
        """
        self._session = session
        super().__init__(replica_position(session), session.where)

    def read(
        self, model: str, columns: Sequence[CqlColumn], conditions: Sequence[Condition]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield ``columns`` of the rows in the partitions that ``conditions`` name."""
        chosen, partitions = reach(self._tables[model], conditions, self._orgs)
        keys = {*chosen.key, *(part.column for part in chosen.partition)}
        types = {column.name: column for column in chosen.columns}
        read = [from_cql(types[column.name], key=column.name in keys) for column in columns]
        names = [column.name for column in columns]
        for raw in self._rows(chosen, partitions, names, conditions):
            yield tuple([convert(value) for convert, value in zip(read, raw, strict=True)])

    def _orgs(self) -> list[str]:
        cql = f'SELECT "org_id" FROM {quoted(ORGS)} WHERE "list" = ?'
        return [row.org_id for row in self._session.rows(cql, ("all",))]

    def _rows(
        self,
        table: CqlTable,
        partitions: Partitions | None,
        columns: Sequence[str],
        conditions: Sequence[Condition],
    ) -> Iterator[Any]:
        cql = f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(table.name)}"
        if partitions is None:
            return self._session.rows(cql)
        where = [f"{quoted(part.name)} = ?" for part in table.partition]
        bounds = []
        if table.clustering:
            # The first clustering column can be cut in the cluster; NULL's stand-in is below all.
            name = table.clustering[0][0]
            column = next(column for column in table.columns if column.name == name)
            write = to_cql(column, key=True)
            for term in conditions:
                if term.column == name:
                    where.append(f"{quoted(name)} {term.operator} ?")
                    bounds.append(write(term.value))
        cql = f"{cql} WHERE {' AND '.join(where)}"
        values = [(*one, *bounds) for one in partitions]
        if len(values) == 1:
            return self._session.rows(cql, values[0])
        return self._session.rows_of_all(cql, values)
