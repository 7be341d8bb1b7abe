"""Answers from a replica: what ``queries.ask`` reads, as SQLite gives it.

A question that names an organisation reads partitions of that organisation; one that does
not reads the listed organisations' partitions, many at a time. Nothing is filtered by the
store but by key. Rows of one partition are whole; over several the answer's position is
one that all of them have reached, and some may be further (G4 is per partition here).
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from meterhouse.errors import UsageError
from meterhouse.formats import Column
from meterhouse.ports import Stamp
from meterhouse.serving.cassandra.layout import CqlColumn, CqlTable, tables_from_text
from meterhouse.serving.cassandra.values import period, to_cql
from meterhouse.serving.replication import ReplicaPosition
from meterhouse.serving.schema import Condition, Served, StoredColumn, decoder

__all__ = ["Partitions", "ReplicaSnapshot", "holds", "reach"]

Partitions = list[tuple[Any, ...]]
"""Partition keys, as ``values.to_cql`` gives them."""
_MOST_PERIODS: Final = 400
"""Partitions of one period each that a question may read for one other key."""


class ReplicaSnapshot(ABC):
    """``schema.Snapshot`` over a replica."""

    def __init__(self, found: ReplicaPosition | None, where: str) -> None:
        """Stand where the replica stands.

        Raises:
            UsageError: It is empty, or being made anew.
        """
        if found is None:
            raise UsageError(
                "the replica holds no answers yet",
                where,
                "fill it: meterhouse serving rebuild (--store says which)",
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

    @abstractmethod
    def read(
        self, model: str, columns: Sequence[CqlColumn], conditions: Sequence[Condition]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield ``columns`` of the rows, as Python values, of all that ``conditions`` need.

        The store may leave out rows that don't meet them, and need not.
        """

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
        known = {column.name: column for column in self._tables[table][0].columns}
        wanted = list(dict.fromkeys([*columns, *(term.column for term in conditions)]))
        for name in wanted:
            if name not in known:
                raise UsageError.unknown(f"column of {table}", name, known)
        tests = [
            holds(wanted.index(term.column), known[term.column].kind, term) for term in conditions
        ]
        for row in self.read(table, [known[name] for name in wanted], conditions):
            if all(test(row) for test in tests):
                yield row[: len(columns)] if len(wanted) > len(columns) else row

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        """Yield the values of ``column`` but NULL, each once."""
        seen = set()
        for (value,) in self.scan(table, [column]):
            if value is not None and value not in seen:
                seen.add(value)
                yield value


def reach(
    tables: Sequence[CqlTable],
    conditions: Sequence[Condition],
    orgs: Callable[[], Sequence[str]],
) -> tuple[CqlTable, Partitions | None]:
    """Choose the table whose partitions the conditions name; None means all of them.

    Args:
        tables: Those that hold the rows, each by its own key.
        conditions: What is asked for.
        orgs: Lists the organisations, for a question that names none.
    """
    for candidate in tables:
        if (named := _named(candidate, conditions, ())) is not None:
            return candidate, named
    listed = orgs()
    for candidate in tables:
        if (named := _named(candidate, conditions, listed)) is not None:
            return candidate, named
    return tables[0], None


def _named(
    table: CqlTable, conditions: Sequence[Condition], orgs: Sequence[str]
) -> Partitions | None:
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


def holds(place: int, kind: str, term: Condition) -> Callable[[tuple[Any, ...]], bool]:
    """Return what tells whether a row meets ``term``, whose column is at ``place``."""
    wanted = decoder(StoredColumn(term.column, kind, "TEXT"), "")(term.value)  # type: ignore[arg-type]

    def met(row: tuple[Any, ...]) -> bool:
        value = row[place]
        if value is None:
            return False
        if term.operator == "=":
            return bool(value == wanted)
        return bool(value >= wanted if term.operator == ">=" else value <= wanted)

    return met
