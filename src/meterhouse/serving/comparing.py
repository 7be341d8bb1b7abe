"""Holding a replica against the embedded store, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from meterhouse.formats import text
from meterhouse.serving.cassandra.layout import CqlTable
from meterhouse.serving.replication import ReplicaPosition, changed_rows
from meterhouse.serving.schema import StoredTable, decoder
from meterhouse.serving.snapshot import SqliteSnapshot

__all__ = ["Comparison", "Difference", "Readable", "compare"]

_SHOWN: Final = 20
_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell, or one row, that is not what the embedded store has."""

    table: str
    key: str
    column: str
    """Empty when the whole row is missing or too many."""
    replica: str
    """As text; empty for NULL and where the row is missing."""
    served: str


@dataclass
class Comparison:
    """What was found; ``cells`` 0 and no missing or extra rows: the two agree."""

    position: int
    """Of the replica; 0 while it is empty."""
    served_position: int
    rows: int = 0
    """Rows of the embedded store that were held against the replica's, over all tables."""
    cells: int = 0
    """Cells that differ, in rows that both have."""
    missing: int = 0
    extra: int = 0
    waiting: int = 0
    """Rows that changed after the replica's position: they have not arrived yet."""
    shown: list[Difference] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """True when nothing differs but what is still on its way."""
        return not (self.cells or self.missing or self.extra)


class Readable(Protocol):
    """A replica, as far as comparing needs it."""

    @property
    def tables(self) -> Mapping[str, Sequence[CqlTable]]:
        """Return its tables by gold model."""
        ...

    def position(self) -> ReplicaPosition | None:
        """Return up to where it is; None while it is empty or being made."""
        ...

    def rows(self, table: CqlTable) -> Iterator[tuple[Any, ...]]:
        """Yield every row of ``table``: its columns, in their order, as Python values."""
        ...


def compare(replica: Readable, snapshot: SqliteSnapshot) -> Comparison:
    """Compare every row of every table; each table is held in memory once.

    Values are compared, not texts: 1.5 and 1.50 are one number.
    """
    before = replica.position()
    found = Comparison(before.position if before else 0, snapshot.served.stamp.position)
    for model, several in replica.tables.items():
        if model not in snapshot.stored:
            continue
        stored = snapshot.stored[model]
        for table in several:
            _Table(replica, snapshot, stored, table, found).compare()
    return found


class _Table:
    def __init__(
        self,
        replica: Readable,
        snapshot: SqliteSnapshot,
        stored: StoredTable,
        table: CqlTable,
        found: Comparison,
    ) -> None:
        self._replica = replica
        self._snapshot = snapshot
        self._stored = stored
        self._table = table
        self._found = found
        names = [column.name for column in table.columns]
        self._names = names
        self._grain = [names.index(name) for name in stored.layout.key]

    def compare(self) -> None:
        late = {self._key(row) for row in self._late()}
        wanted = {self._key(row): row for row in self._served()}
        self._found.rows += len(wanted)
        for row in self._replica.rows(self._table):
            key = self._key(row)
            other = wanted.pop(key, None)
            if key in late:
                continue
            if other is None:
                self._found.extra += 1
                self._show(key, "", "there", "")
            elif row != other:
                self._cells(key, row, other)
        for key in wanted:
            if key not in late:
                self._found.missing += 1
                self._show(key, "", "", "there")
        self._found.waiting += len(late)

    def _cells(self, key: tuple[Any, ...], row: Sequence[Any], other: Sequence[Any]) -> None:
        for name, one, two in zip(self._names, row, other, strict=True):
            if one != two:
                self._found.cells += 1
                self._show(key, name, text(one), text(two))

    def _show(self, key: tuple[Any, ...], column: str, replica: object, served: object) -> None:
        if len(self._found.shown) < _SHOWN:
            named = ", ".join(
                f"{self._names[place]}={text(value)}"
                for place, value in zip(self._grain, key, strict=True)
            )
            self._found.shown.append(
                Difference(self._table.name, named, column, str(replica), str(served))
            )

    def _key(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple([row[place] for place in self._grain])

    def _served(self) -> Iterator[tuple[Any, ...]]:
        return self._snapshot.scan(self._stored.name, self._names)

    def _late(self) -> Iterator[tuple[Any, ...]]:
        """Yield rows that changed after the replica's position; those that are gone too."""
        if not self._stored.live or self._stored.layout.batch_only:
            return
        read = [decoder(column, self._stored.name) for column in self._stored.columns]
        for chunk in changed_rows(self._snapshot, self._stored, self._found.position):
            for row, _, _ in chunk:
                yield tuple([convert(value) for convert, value in zip(read, row, strict=True)])
