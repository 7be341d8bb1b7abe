"""Live rows of one table: looked up, merged, replaced, kept as they were.

All of it works inside a transaction of the caller's. A key is the tuple of stored values of
the layout's key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import ModelError, UsageError
from meterhouse.ports import LiveRows
from meterhouse.serving.merging import Merger, Row
from meterhouse.serving.overlay import counting, key_join
from meterhouse.serving.schema import CHANGED_AT, GONE, StoredTable, quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LiveTable", "Positions"]

Key = tuple[Any, ...]
Found = dict[Key, Row]
"""Rows by key: their columns, then the position of their last change (0 for a row of the
epoch or of the lake) and 1 where the key is gone."""


_NUMBER: Final = quoted("@number")
_MANY: Final = 100
"""Rows from which putting them in order pays."""


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
            self._merge(connection, given.partials, given.bases, at)
        if given.rows is not None or given.replaces is not None:
            self._replace(connection, given, at)

    def _merge(
        self,
        connection: sqlite3.Connection,
        partials: pa.Table,
        bases: pa.Table | None,
        at: Positions,
    ) -> None:
        """Add ``partials`` to the rows with their keys; most of many are new, and cost little."""
        parts = self._listed(partials)
        names = [column.name for column in self._table.columns]
        with self._waiting(connection, names, parts) as wanted:
            matches = self._matches(connection, wanted, self._table.layout.key)
            found = {row[-1] - 1: row[:-1] for row in matches}
            if bases is not None:
                older = {self._key(row): (*row, 0, 0) for row in self._listed(bases)}
                for number, part in enumerate(parts):
                    if number not in found and (row := older.get(self._key(part))) is not None:
                        found[number] = row
            known = list(range(len(parts))) if self._merger.computes else sorted(found)
            if len(known) < len(parts):
                self._add_new(connection, wanted, known, at)
        before = [found.get(number) for number in known]
        some = [parts[number] for number in known]
        rows = self._merger.merged([_alive(row) for row in before], some)
        self._write(connection, zip(map(self._key, some), before, rows, strict=True), at)

    def _add_new(
        self, connection: sqlite3.Connection, wanted: str, known: Iterable[int], at: Positions
    ) -> None:
        """Store the rows of ``wanted`` as they are, but for those with the numbers ``known``."""
        connection.executemany(
            f"DELETE FROM {wanted} WHERE {_NUMBER} = ?", ((number + 1,) for number in known)
        )
        columns = ", ".join(quoted(column.name) for column in self._table.columns)
        count = self._table.layout.count_column
        connection.execute(
            f"INSERT OR REPLACE INTO {quoted(self._table.live)} SELECT {columns}, ?, 0 "
            f"FROM {wanted} {f'WHERE {quoted(count)} IS NOT 0' if count else ''}",
            (at.stamp,),
        )

    def _replace(self, connection: sqlite3.Connection, given: LiveRows, at: Positions) -> None:
        new: dict[Key, Row | None] = {}
        found: Found = {}
        if given.replaces is not None:
            found = self.like(connection, given.replaces)
            new = dict.fromkeys(found)
        if given.rows is not None:
            rows = {self._key(row): row for row in self._listed(given.rows)}
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

    def _listed(self, rows: pa.Table) -> list[Row]:
        """Return Arrow rows as stored ones; each key is there once.

        Many are in the order of the key, so that the pages of a table are gone through once.
        """
        if rows.num_rows > _MANY and (order := self._order(rows.schema)):
            rows = rows.sort_by(order)
        listed = list(self._rows_of(rows))
        if len(set(map(self._key, listed))) != len(listed):
            raise ModelError(
                f"two rows of {self._table.name} have the same "
                f"{', '.join(self._table.layout.key)}; nothing was changed",
                self._table.name,
                "make the grain in the model's header name the columns that identify a row",
            )
        return listed

    def _order(self, schema: pa.Schema) -> list[tuple[str, str]]:
        """Return the key as Arrow sorts by it, up to the first column that it can't sort by."""
        layout = self._table.layout
        sorts = takewhile(lambda name: _can_be_sorted(schema.field(name).type), layout.key)
        return [
            (name, "descending" if name in layout.descending else "ascending") for name in sorts
        ]

    def _fetch(
        self, connection: sqlite3.Connection, names: Sequence[str], values: Iterable[Key]
    ) -> Found:
        """Return the rows with ``values`` in the columns ``names``, live over the epoch's."""
        with self._waiting(connection, names, values) as wanted:
            return {self._key(row): row[:-1] for row in self._matches(connection, wanted, names)}

    @contextmanager
    def _waiting(
        self, connection: sqlite3.Connection, names: Sequence[str], rows: Iterable[Row]
    ) -> Iterator[str]:
        """Have ``rows`` of the columns ``names`` in a temporary table, numbered from 1 on."""
        wanted = self._wanted(connection, names)
        columns, marks = ", ".join(map(quoted, names)), ", ".join("?" * len(names))
        connection.executemany(f"INSERT OR IGNORE INTO {wanted} ({columns}) VALUES ({marks})", rows)
        yield wanted
        # Where something fails the transaction ends, and takes them along.
        connection.execute(f"DELETE FROM {wanted}")

    def _wanted(self, connection: sqlite3.Connection, names: Sequence[str]) -> str:
        """Return a temporary table of the columns ``names``, which stays for the next time."""
        storage = {column.name: column.storage for column in self._table.columns}
        typed = [f"{quoted(column)} {storage[column]}" for column in names]
        # The types are in its name: the next generation's may be others.
        name = "temp." + quoted(f"{self._table.name}({', '.join(typed)})")
        parts = [f"{_NUMBER} INTEGER PRIMARY KEY", *typed]
        if not self._leads(names):
            # Every row of the table is looked up among the values instead.
            parts.append(f"UNIQUE ({', '.join(map(quoted, names))})")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(parts)})")
        return name

    def _matches(
        self, connection: sqlite3.Connection, wanted: str, names: Sequence[str]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield stored rows, each with the number of the one in ``wanted`` like it in ``names``."""
        for sql in self._joins(wanted, names):
            yield from connection.execute(sql).fetchall()

    def _leads(self, names: Sequence[str]) -> bool:
        """Tell whether a value of ``names`` can be looked up in the order of the key."""
        key = self._table.layout.key
        return set(names) >= set(key) or set(key[: len(names)]) == set(names)

    def _joins(self, wanted: str, names: Sequence[str]) -> tuple[str, str]:
        """Return the SELECTs of live rows, and of those of the epoch that no live one hides."""
        live, epoch = quoted(self._table.live), quoted(self._table.physical)
        key = self._table.layout.key
        # SQLite keeps the order of a CROSS JOIN.
        order = "{1} AS t CROSS JOIN {0} AS w"
        if self._leads(names):
            order = "{0} AS w CROSS JOIN {1} AS t"
        columns = ", ".join(f"t.{quoted(column.name)}" for column in self._table.columns)
        match = key_join("t", "w", names)
        return (
            f"SELECT {columns}, t.{quoted(CHANGED_AT)}, t.{quoted(GONE)}, w.{_NUMBER} "
            f"FROM {order.format(wanted, live)} WHERE {match} AND {counting(self._epoch, 't.')}",
            f"SELECT {columns}, 0, 0, w.{_NUMBER} FROM {order.format(wanted, epoch)} WHERE {match} "
            f"AND NOT EXISTS (SELECT 1 FROM {live} AS l WHERE {key_join('l', 't', key)} "
            f"AND {counting(self._epoch, 'l.')})",
        )

    def _write(
        self,
        connection: sqlite3.Connection,
        changes: Iterable[tuple[Key, Row | None, Row | None]],
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


def _can_be_sorted(data_type: pa.DataType) -> bool:
    from pyarrow import types

    others = (types.is_dictionary, types.is_interval, types.is_nested)
    return not any(is_one(data_type) for is_one in others)


def _alive(stored: Row | None) -> Row | None:
    """Return the columns of a found row; None where there is none or it is gone."""
    return None if stored is None or stored[-1] else stored[:-2]


def _insert(connection: sqlite3.Connection, physical: str, rows: Sequence[Row]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT OR REPLACE INTO {quoted(physical)} VALUES ({marks})", rows)
