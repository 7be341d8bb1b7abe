"""Answers from the replica, by CQL alone: what ``queries.ask`` reads, as SQLite gives it.

A question that names an organisation reads partitions of that organisation; one that does
not reads the listed organisations' partitions, many at a time. Nothing is filtered by the
cluster but by key. Rows of one partition are whole; over several the answer's position is
one that all of them have reached, and some may be further (G4 is per partition here).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from meterhouse.errors import UsageError
from meterhouse.formats import Column
from meterhouse.ports import Stamp
from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import (
    ORGS,
    CqlTable,
    quoted,
    tables_from_text,
)
from meterhouse.serving.cassandra.replica import replica_position
from meterhouse.serving.cassandra.values import from_cql, period, to_cql
from meterhouse.serving.schema import Condition, Served, StoredColumn, decoder

__all__ = ["CassandraSnapshot"]

_MOST_PERIODS: Final = 400
"""Partitions of one period each that a question may read for one other key."""


class CassandraSnapshot:
    """``schema.Snapshot`` over one keyspace."""

    def __init__(self, session: CqlSession) -> None:
        """Look up where the replica stands.

        Raises:
            UsageError: It is empty, or being made anew.
        """
        self._session = session
        found = replica_position(session)
        if found is None:
            raise UsageError(
                "the replica holds no answers yet",
                session.where,
                "fill it: meterhouse serving rebuild",
            )
        self._tables = tables_from_text(found.tables)
        details = json.loads(found.details)
        self.served: Final = Served(
            epoch=str(found.epoch),
            stamp=Stamp(found.project, found.fork, found.position, found.head),
            ingest_ts=datetime.fromisoformat(found.ingest_ts),
            details=details,
            epoch_position=found.epoch,
            behind={
                name: (position, datetime.fromisoformat(taken))
                for name, (position, taken) in details.get("behind", {}).items()
            },
        )

    def tables(self) -> Mapping[str, Sequence[Column]]:
        """Return the columns of every table by the model's name."""
        return {
            model: tuple(Column(column.name, column.kind) for column in found[0].columns)
            for model, found in self._tables.items()
        }

    def scan(
        self, table: str, columns: Sequence[str], conditions: Sequence[Condition] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that meet all ``conditions``, as Python values, in no order."""
        if table not in self._tables:
            raise UsageError.unknown("served table", table, self._tables)
        chosen, partitions = self._reach(table, conditions)
        keys = {*chosen.key, *(part.column for part in chosen.partition)}
        known = {column.name: column for column in chosen.columns}
        for name in (*columns, *(term.column for term in conditions)):
            if name not in known:
                raise UsageError.unknown(f"column of {table}", name, known)
        wanted = list(dict.fromkeys([*columns, *(term.column for term in conditions)]))
        read = [from_cql(known[name], key=name in keys) for name in wanted]
        holds = [
            _holds(wanted.index(term.column), known[term.column].kind, term) for term in conditions
        ]
        for raw in self._rows(chosen, partitions, wanted, conditions):
            row = tuple([convert(value) for convert, value in zip(read, raw, strict=True)])
            if all(test(row) for test in holds):
                yield row[: len(columns)] if len(wanted) > len(columns) else row

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        """Yield the values of ``column`` but NULL, each once."""
        seen = set()
        for (value,) in self.scan(table, [column]):
            if value is not None and value not in seen:
                seen.add(value)
                yield value

    def _reach(
        self, table: str, conditions: Sequence[Condition]
    ) -> tuple[CqlTable, list[tuple[Any, ...]] | None]:
        """Choose the table whose partitions the conditions name; None means all of them."""
        for candidate in self._tables[table]:
            if (named := self._named(candidate, conditions, ())) is not None:
                return candidate, named
        orgs = self._orgs()
        for candidate in self._tables[table]:
            if (named := self._named(candidate, conditions, orgs)) is not None:
                return candidate, named
        return self._tables[table][0], None

    def _named(
        self, table: CqlTable, conditions: Sequence[Condition], orgs: Sequence[str]
    ) -> list[tuple[Any, ...]] | None:
        """Return the partition keys that can hold rows; None when they can't be told."""
        choices: list[Sequence[Any]] = []
        types = {column.name: column for column in table.columns}
        for part in table.partition:
            terms = [term for term in conditions if term.column == part.column]
            write = to_cql(types[part.column], key=True)
            equal = [write(term.value) for term in terms if term.operator == "="]
            values: Sequence[Any] | None
            if part.cut:
                values = _periods(part.cut, types[part.column].type, terms, write)
            elif equal:
                values = equal[:1]
            elif part.column == "org_id" and orgs:
                values = orgs
            else:
                values = None
            if values is None:
                return None
            choices.append(values)
        return list(itertools.product(*choices))

    def _orgs(self) -> list[str]:
        cql = f'SELECT "org_id" FROM {quoted(ORGS)} WHERE "list" = ?'
        return [row.org_id for row in self._session.rows(cql, ("all",))]

    def _rows(
        self,
        table: CqlTable,
        partitions: list[tuple[Any, ...]] | None,
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


def _periods(
    cut: str, kind: str, terms: Sequence[Condition], write: Callable[[Any], Any]
) -> list[int] | None:
    """Return the periods between the bounds of ``terms``; None when a bound is missing."""
    low = [write(term.value) for term in terms if term.operator in ("=", ">=")]
    high = [write(term.value) for term in terms if term.operator in ("=", "<=")]
    if not low or not high:
        return None
    first, last = period(cut, kind, max(low)), period(cut, kind, min(high))
    if last - first > _MOST_PERIODS * (31 if cut == "month" else 1):
        return None
    return sorted({period(cut, "date", day) for day in range(first, last + 1)})


def _holds(place: int, kind: str, term: Condition) -> Callable[[tuple[Any, ...]], bool]:
    wanted = decoder(StoredColumn(term.column, kind, "TEXT"), "")(term.value)  # type: ignore[arg-type]

    def holds(row: tuple[Any, ...]) -> bool:
        value = row[place]
        if value is None:
            return False
        if term.operator == "=":
            return bool(value == wanted)
        return bool(value >= wanted if term.operator == ">=" else value <= wanted)

    return holds
