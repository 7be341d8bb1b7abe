"""A replica in a dictionary: of two writes of one row that with the later timestamp wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from e2e.house import House
from meterhouse.cli.replicas import _in_log
from meterhouse.serving.cassandra.layout import CqlTable
from meterhouse.serving.cassandra.stamps import write_time
from meterhouse.serving.cassandra.tables import cql_tables
from meterhouse.serving.positions import ReplicaPosition
from meterhouse.serving.replication import Change, Replication, SyncReport
from meterhouse.serving.snapshot import opened

Row = tuple[Any, ...]
Cells = dict[Row, tuple[int, Row | None]]
"""Key → timestamp and row, None where it is gone."""


@dataclass
class Writer:
    """Writes one table."""

    cells: Cells
    places: Sequence[int]

    def key_of(self, row: Sequence[Any]) -> Row:
        return tuple(row[place] for place in self.places)

    def write(self, changes: Iterable[Change], generation: int) -> int:
        given = list(changes)
        for row, position, gone in given:
            key = self.key_of(row)
            self._put(key, None if gone else tuple(row), write_time(generation, position))
        return len(given)

    def keys(self) -> Iterator[Row]:
        return iter([key for key, (_, row) in self.cells.items() if row is not None])

    def delete(self, keys: Sequence[Row], generation: int, position: int) -> None:
        for key in keys:
            self._put(key, None, write_time(generation, position))

    def empty(self) -> None:
        self.cells.clear()

    def _put(self, key: Row, row: Row | None, timestamp: int) -> None:
        if key not in self.cells or self.cells[key][0] <= timestamp:
            self.cells[key] = (timestamp, row)


@dataclass
class MemoryReplica(Replication):
    """Keeps what it is given, as a cluster with one row of each key would."""

    house: House
    lists_orgs: ClassVar[bool] = False
    cells: dict[str, Cells] = field(default_factory=dict)
    stood: tuple[int, ReplicaPosition | None] = (0, None)

    def __post_init__(self) -> None:
        self.tables = cql_tables(self.house.project.models().by_name.values())
        self.in_log = lambda found: _in_log(self.house.project, found)

    @property
    def where(self) -> str:
        return "memory"

    def label(self) -> str:
        return "memory"

    def position(self) -> ReplicaPosition | None:
        return self.stood[1]

    def make_tables(self) -> bool:
        return False

    def writer(self, table: CqlTable) -> Writer:
        names = [column.name for column in table.columns]
        key = [part.column for part in table.partition] + [name for name, _ in table.clustering]
        places = [names.index(name) for name in dict.fromkeys(key)]
        return Writer(self.cells.setdefault(table.name, {}), places)

    def rows(self, table: CqlTable) -> Iterator[Row]:
        cells = self.cells.get(table.name, {}).values()
        return iter([row for _, row in cells if row is not None])

    def forget(self) -> None:
        self.stood = (0, None)

    def list_orgs(self, orgs: Sequence[str], target: ReplicaPosition) -> None:
        raise AssertionError("it lists none")

    def stand(self, target: ReplicaPosition) -> None:
        timestamp = write_time(target.generation, target.position + target.epoch)
        self.stood = max(self.stood, (timestamp, target), key=lambda each: each[0])

    def synced(self) -> SyncReport:
        """Bring it to where the embedded store stands, as a command of its own does."""
        self._ours = ""
        with opened(self.house.root / "serving.db") as snapshot:
            return self.sync(snapshot)

    def rebuilt(self) -> SyncReport:
        with opened(self.house.root / "serving.db") as snapshot:
            return self.rebuild(snapshot)

    def contents(self) -> dict[str, list[str]]:
        """Rows by table, in order."""
        found = [table for tables in self.tables.values() for table in tables]
        return {table.name: sorted(map(repr, self.rows(table))) for table in found}

    def agrees(self) -> bool:
        """Tell whether it holds what one that is made now from the embedded store does."""
        other = MemoryReplica(self.house)
        other.synced()
        return self.contents() == other.contents() and self.position() == other.position()
