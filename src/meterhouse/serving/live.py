"""Live rows of one table: looked up, merged, replaced, kept as they were.

All of it works inside a transaction of the caller's. A key is the tuple of stored values of
the layout's key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from meterhouse.errors import ModelError, UsageError
from meterhouse.ports import LiveRows
from meterhouse.serving.merging import Merger, Row
from meterhouse.serving.overlay import counting, key_join
from meterhouse.serving.schema import CHANGED_AT, GONE, StoredTable, quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LiveTable", "Positions"]

Key = tuple[Any, ...]
Found = dict[Key, tuple[Any, ...]]
"""Rows by key: their columns, then the position of their last change (0 for a row of the
epoch or of the lake) and 1 where the key is gone."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a change takes place in the log."""

    stamp: int
    """Of the entry the change goes up to."""
    frozen: int | None


class LiveTable:
    """Live rows of one table over the rows of the epoch."""

    def __init__(self, table: StoredTable, epoch: int) -> None:
        """Look at ``table``, whose epoch stands at position ``epoch``.

        Raises:
            ModelError: The table has no key, so it can't be live.
        """
        if not table.live:
            raise ModelError(
                f"{table.name} has no key, so it can't follow the log between batches",
                table.name,
                "name its grain in the model's header",
            )
        self._table = table
        self._epoch = epoch
        places = {column.name: number for number, column in enumerate(table.columns)}
        self._key = _key_of([places[name] for name in table.layout.key])

    def change(self, connection: sqlite3.Connection, given: LiveRows, at: Positions) -> None:
        """Bring the rows to ``at.stamp``.

        Raises:
            ModelError: Rows can't be merged, or two have the same key.
        """
        if given.partials is not None:
            parts = self._by_key(self._rows_of(given.partials))
            found = self._fetch(connection, self._table.layout.key, parts)
            if given.bases is not None:
                for key, row in self._by_key(self._rows_of(given.bases)).items():
                    found.setdefault(key, (*row, 0, 0))
            before = [found.get(key) for key in parts] if found else [None] * len(parts)
            rows = self._merger.merged([_alive(it) for it in before], list(parts.values()))
            self._write(connection, zip(parts, before, rows, strict=True), at)
        if given.rows is not None or given.replaces is not None:
            self._replace(connection, given, at)

    def _replace(self, connection: sqlite3.Connection, given: LiveRows, at: Positions) -> None:
        new: dict[Key, Row | None] = {}
        found: Found = {}
        if given.replaces is not None:
            found = self.like(connection, given.replaces)
            new = dict.fromkeys(found)
        if given.rows is not None:
            rows = self._by_key(self._rows_of(given.rows))
            others = [key for key in rows if key not in found]
            found |= self._fetch(connection, self._table.layout.key, others)
            new |= rows
        changes = ((key, found.get(key), row) for key, row in new.items())
        self._write(connection, changes, at)

    def like(self, connection: sqlite3.Connection, values: pa.Table) -> Found:
        """Return the rows, and the live ones that are gone, with one of ``values``.

        Raises:
            UsageError: A column of ``values`` is not one of the table's key.
        """
        from meterhouse.serving.arrow_rows import stored_columns, stored_rows

        names, key = tuple(values.column_names), self._table.layout.key
        for name in names:
            if name not in key:
                raise UsageError.unknown(f"key column of {self._table.name}", name, key)
        columns = stored_columns(values.schema)
        rows = (stored_rows(batch, columns, names) for batch in values.to_batches())
        return self._fetch(connection, names, (row for batch in rows for row in batch))

    @cached_property
    def _merger(self) -> Merger:
        from meterhouse.serving.arrow_rows import schema_from_text

        return Merger(self._table, schema_from_text(self._table.arrow_schema))

    def _rows_of(self, rows: pa.Table) -> Iterator[Row]:
        """Yield Arrow rows as stored ones; columns that ``rows`` lacks are NULL."""
        from meterhouse.serving.arrow_rows import stored_columns, stored_values

        kept = stored_columns(rows.schema)
        described = {column.name: column for column in self._table.columns}
        for column in kept:
            if described.get(column.name, column) != column:
                raise ModelError(
                    f'column "{column.name}" of {self._table.name} is {column.kind}, where the '
                    f"served one is {described[column.name].kind}",
                    self._table.name,
                    "publish the model's new text first: meterhouse batch",
                )
        for batch in rows.to_batches():
            values = dict(stored_values(batch, kept, self._table.layout.key))
            yield from zip(*(values.get(name, repeat(None)) for name in described), strict=False)

    def _by_key(self, rows: Iterable[Row]) -> dict[Key, Row]:
        # In the order of the key, so that the pages of a table are gone through once.
        listed = sorted(rows, key=self._order)
        found = dict(zip(map(self._key, listed), listed, strict=True))
        if len(found) != len(listed):
            raise ModelError(
                f"two rows of {self._table.name} have the same "
                f"{', '.join(self._table.layout.key)}; nothing was changed",
                self._table.name,
                "make the grain in the model's header name the columns that identify a row",
            )
        return found

    def _order(self, row: Row) -> str:
        return "\0".join(map(str, self._key(row)))

    def _fetch(
        self, connection: sqlite3.Connection, names: Sequence[str], values: Iterable[Key]
    ) -> Found:
        """Return the rows with ``values`` in the columns ``names``, live over the epoch's."""
        leads = self._leads(names)
        wanted = self._wanted(connection, names, leads)
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT OR IGNORE INTO {wanted} VALUES ({marks})", values)
        found: Found = {}
        for sql in self._joins(wanted, names, leads):
            rows = connection.execute(sql).fetchall()
            found |= zip(map(self._key, rows), rows, strict=True)
        connection.execute(f"DELETE FROM {wanted}")
        return found

    def _leads(self, names: Sequence[str]) -> bool:
        """Tell whether the key begins with ``names``: then each value is looked up in it."""
        return set(self._table.layout.key[: len(names)]) == set(names)

    def _wanted(self, connection: sqlite3.Connection, names: Sequence[str], leads: bool) -> str:
        """Return a temporary table for values of ``names``, which stays for the next time."""
        types = {column.name: column.storage for column in self._table.columns}
        name = "temp." + quoted(f"{self._table.name}({','.join(names)})")
        columns = ", ".join(f"{quoted(column)} {types[column]}" for column in names)
        if not leads:
            # Every row of the table is looked up among the values instead.
            columns += f", PRIMARY KEY ({', '.join(map(quoted, names))})"
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        return name

    def _joins(self, wanted: str, names: Sequence[str], leads: bool) -> tuple[str, str]:
        """Return the SELECTs of live rows, and of those of the epoch that no live one hides."""
        live, epoch = quoted(self._table.live), quoted(self._table.physical)
        key = self._table.layout.key
        # SQLite keeps the order of a CROSS JOIN.
        order = "{0} AS w CROSS JOIN {1} AS t" if leads else "{1} AS t CROSS JOIN {0} AS w"
        columns = ", ".join(f"t.{quoted(column.name)}" for column in self._table.columns)
        match = key_join("t", "w", names)
        return (
            f"SELECT {columns}, t.{quoted(CHANGED_AT)}, t.{quoted(GONE)} "
            f"FROM {order.format(wanted, live)} WHERE {match} AND {counting(self._epoch, 't.')}",
            f"SELECT {columns}, 0, 0 FROM {order.format(wanted, epoch)} WHERE {match} "
            f"AND NOT EXISTS (SELECT 1 FROM {live} AS l WHERE {key_join('l', 't', key)} "
            f"AND {counting(self._epoch, 'l.')})",
        )

    def _write(
        self,
        connection: sqlite3.Connection,
        changes: Iterable[tuple[Key, tuple[Any, ...] | None, Row | None]],
        at: Positions,
    ) -> None:
        """Store what differs from what was found; keep that as it was at the frozen position.

        ``changes`` are keys, what was found of them, and the new rows: None where gone.
        """
        images, changed = [], []
        frozen = at.frozen if at.frozen is not None and at.frozen < at.stamp else 0
        alive, gone = (at.stamp, 0), (at.stamp, 1)
        for key, stored, row in changes:
            if stored is None:
                if row is None:
                    continue
            elif row == _alive(stored):
                continue
            elif 0 < stored[-2] <= frozen:
                images.append(stored)
            changed.append(self._tombstone(key) + gone if row is None else row + alive)
        _insert(connection, self._table.image, images)
        _insert(connection, self._table.live, changed)

    def _tombstone(self, key: Key) -> Row:
        values = dict(zip(self._table.layout.key, key, strict=True))
        return tuple([values.get(column.name) for column in self._table.columns])


def _key_of(places: Sequence[int]) -> Callable[[Row], Key]:
    if len(places) > 1:
        return itemgetter(*places)
    [place] = places
    return lambda row: (row[place],)


def _alive(stored: tuple[Any, ...] | None) -> Row | None:
    """Return the columns of a found row; None where there is none or it is gone."""
    return None if stored is None or stored[-1] else stored[:-2]


def _insert(connection: sqlite3.Connection, physical: str, rows: Sequence[Row]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT OR REPLACE INTO {quoted(physical)} VALUES ({marks})", rows)
