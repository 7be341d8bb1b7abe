"""A serving store in memory, for tests: yours too, not only ours."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

import pyarrow as pa

from meterhouse.arrow_text import kind_of
from meterhouse.errors import EnvironmentFailureError, ModelError, UsageError
from meterhouse.formats import Column
from meterhouse.ports import Answers, LiveChange, LiveRows, Stamp
from meterhouse.serving.schema import Condition, Layout, Served

__all__ = ["MemoryServing", "MemorySnapshot"]

Key = tuple[Any, ...]
Row = dict[str, Any]
_EXACT: Final = Context(prec=200)


@dataclass
class _Epoch:
    name: str
    stamp: Stamp
    ingest_ts: datetime
    details: str
    tables: dict[str, pa.Table] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Live:
    """A row as it is since a position; None where the key has none any more."""

    row: Row | None
    changed_at: int


class MemoryServing:
    """``ports.ServingStore`` and ``ports.LiveStore`` in dictionaries. Lost with the process."""

    def __init__(self, layouts: Mapping[str, Layout] | None = None) -> None:
        """Start with nothing published; ``layouts`` as ``SqliteServing`` takes them."""
        self._layouts = layouts or {}
        self._loading: dict[str, dict[str, pa.Table]] = {}
        self._visible: _Epoch | None = None
        self._live: dict[str, dict[Key, _Live]] = {}
        self._images: dict[str, dict[Key, _Live]] = {}
        self._frozen: int | None = None
        self._answers: tuple[Stamp, datetime, str] | None = None
        self._publication = 0

    def stamp(self) -> Stamp | None:
        """Return up to where the answers stand; None when nothing was ever published."""
        return self._answers[0] if self._answers else None

    def epoch(self) -> Stamp | None:
        """Return what the visible epoch stands for: ``stamp``, or earlier where rows are live."""
        return self._visible.stamp if self._visible else None

    def answers(self) -> Answers | None:
        """Return what the answers stand for; None when nothing was ever published."""
        if self._visible is None or self._answers is None:
            return None
        details = json.loads(self.details or "{}")
        epoch = self._visible.stamp
        return Answers(self._answers[0], epoch, self._publication, self._frozen, details)

    def served(self) -> Served | None:
        """Return what the answers stand for, as SQLite tells it."""
        answers = self.answers()
        if answers is None or self._visible is None or self._answers is None:
            return None
        epoch = self._visible
        behind = [
            name
            for name in epoch.tables
            if (layout := self._layouts.get(name, Layout())).batch_only or not layout.key
        ]
        standing = dict.fromkeys(
            behind if self._ahead() else (), (epoch.stamp.position, epoch.ingest_ts)
        )
        taken = self._answers[1]
        return Served(
            epoch.name, answers.stamp, taken, answers.details, epoch.stamp.position, standing
        )

    @property
    def details(self) -> str:
        """What travels with the answers; empty when nothing was published."""
        if self._visible is None or self._answers is None:
            return ""
        if not self._ahead():
            return self._visible.details
        merged = json.loads(self._visible.details or "{}") | json.loads(self._answers[2] or "{}")
        return json.dumps(merged, sort_keys=True)

    @property
    def tables(self) -> Sequence[str]:
        """Names of the visible epoch's tables, sorted."""
        return sorted(self._visible.tables) if self._visible else []

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        """Add ``rows`` of gold model ``table`` to the invisible ``epoch``; return how many.

        Raises:
            ModelError: Two rows have the same key.
        """
        found = rows.read_all()
        if self._layouts.get(table, Layout()).key:
            self._keyed(table, found.to_pylist())
        self._loading.setdefault(epoch, {})[table] = found
        return int(found.num_rows)

    def publish(self, epoch: str, stamp: Stamp, *, ingest_ts: datetime, details: str) -> None:
        """Make ``epoch`` the visible one and drop the one before."""
        fresh = self._loading.pop(epoch, {})
        before = self._visible
        self._frozen, self._images = None, {}
        if before is not None and before.name == epoch:
            if not fresh:
                return
            fresh = before.tables | fresh
        self._publication += 1
        self._visible = _Epoch(epoch, stamp, ingest_ts, details, fresh)
        self._loading.clear()
        if before is not None and self._continues(before, self._visible):
            self._live = {
                name: {key: it for key, it in rows.items() if it.changed_at > stamp.position}
                for name, rows in self._live.items()
                if name in fresh
            }
            if self._ahead():
                return
        else:
            self._live = {}
        self._answers = (stamp, ingest_ts, "{}")

    def advance(self, change: LiveChange) -> bool:
        """Merge ``change`` in and move the answers to its stamp, all of it or nothing.

        Raises:
            ModelError: Rows of a table can't be merged; nothing was changed.
            UsageError: A table is not published.
        """
        after, upto = change.after.position, change.stamp.position
        if self.stamp() != change.after:
            return False
        if change.publication not in (None, self._publication):
            return False
        if self._frozen is not None and after < self._frozen < upto:
            return False
        changed = {given.table: self._changed_rows(given) for given in change.tables}
        for table, rows in changed.items():
            live = self._live.setdefault(table, {})
            for key, row in rows.items():
                old = live.get(key)
                if old is not None and old.changed_at <= (self._frozen or 0) < upto:
                    self._images.setdefault(table, {})[key] = old
                live[key] = _Live(row, upto)
        self._answers = (change.stamp, change.ingest_ts, change.details)
        return True

    def freeze(self, at_least: int) -> int:
        """Keep the value of every touched row at one position until the next ``publish``."""
        now = self.stamp()
        self._frozen = max(at_least, now.position) if now else at_least
        self._images = {}
        return self._frozen

    def frozen(self, table: str) -> pa.Table:
        """Return the rows touched between the epoch and the frozen position, as they were there.

        Raises:
            EnvironmentFailureError: Nothing is frozen.
        """
        if self._frozen is None:
            raise EnvironmentFailureError("nothing is frozen", table, "run the same command again")
        upto = self._frozen
        live = self._live.get(table, {})
        found = {key: it for key, it in live.items() if it.changed_at <= upto}
        return self._with_positions(table, found | self._images.get(table, {}))

    def changed(self, table: str, after: int, columns: Sequence[str] = ()) -> pa.Table:
        """Return the live rows that changed after log position ``after``; columns as ``frozen``."""
        live = self._live.get(table, {})
        found = {key: it for key, it in live.items() if it.changed_at > after}
        rows = self._with_positions(table, found)
        return rows.select([*columns, "changed_at", "gone"]) if columns else rows

    def changes(self, table: str, after: int) -> int:
        """Return how many rows ``changed`` would."""
        return sum(it.changed_at > after for it in self._live.get(table, {}).values())

    def rows(self, table: str, *, of: pa.Table | None = None) -> pa.RecordBatchReader:
        """Return the finished rows of a table as readers see them; those with the values ``of``.

        Raises:
            UsageError: Nothing was published, or there is no such table, or no such key column.
        """
        stored = self._table(table)
        if of is None and not self._live.get(table):
            return stored.to_reader()
        rows: Iterable[Row] = self._rows(table).values()
        if of is not None:
            names = of.column_names
            for name in names:
                if name not in self._layout(table).key:
                    raise UsageError.unknown(
                        f"key column of {table}", name, self._layout(table).key
                    )
            wanted = {tuple(row.values()) for row in of.to_pylist()}
            rows = [row for row in rows if tuple(row[name] for name in names) in wanted]
        return pa.Table.from_pylist(list(rows), stored.schema).to_reader()

    def close(self) -> None:
        """Nothing is open."""

    def _ahead(self) -> bool:
        assert self._visible is not None
        assert self._answers is not None
        return self._answers[0].position > self._visible.stamp.position

    def _continues(self, before: _Epoch, new: _Epoch) -> bool:
        one, other = before.stamp, new.stamp
        models = [json.loads(it.details or "{}").get("models") for it in (before, new)]
        schemas = all(
            name in before.tables and before.tables[name].schema == table.schema
            for name, table in new.tables.items()
        )
        same_log = (one.project or other.project, one.fork) == (other.project, other.fork)
        return same_log and schemas and models[0] == models[1] and one.position <= other.position

    def _table(self, name: str) -> pa.Table:
        if self._visible is None:
            raise UsageError("nothing was published yet", "", "load and publish an epoch")
        if name not in self._visible.tables:
            raise UsageError.unknown("served table", name, self._visible.tables)
        return self._visible.tables[name]

    def _layout(self, table: str) -> Layout:
        found = self._layouts.get(table, Layout())
        if not found.key:
            raise ModelError(
                f"{table} has no key, so it can't follow the log between batches",
                table,
                "name its grain in the model's header",
            )
        return found

    def _keyed(self, table: str, rows: Iterable[Row]) -> dict[Key, Row]:
        names = self._layout(table).key
        found: dict[Key, Row] = {}
        for row in rows:
            key = tuple(row[name] for name in names)
            if found.setdefault(key, row) is not row:
                raise ModelError(f"two rows of {table} have the same {', '.join(names)}", table)
        return found

    def _rows(self, table: str) -> dict[Key, Row]:
        """Return the rows as readers see them by key."""
        found = self._keyed(table, self._table(table).to_pylist())
        for key, live in self._live.get(table, {}).items():
            if live.row is None:
                found.pop(key, None)
            else:
                found[key] = live.row
        return found

    def _changed_rows(self, given: LiveRows) -> dict[Key, Row | None]:
        """Return the rows that ``given`` changes, as they are afterwards."""
        table, schema = given.table, self._table(given.table).schema
        names = self._layout(table).key
        rows = self._rows(table)
        new: dict[Key, Row | None] = {}
        if given.partials is not None:
            bases = self._keyed(table, given.bases.to_pylist() if given.bases is not None else [])
            for key, part in self._keyed(table, given.partials.to_pylist()).items():
                known = key in rows or key in self._live.get(table, {})
                old = rows.get(key) if known else bases.get(key)
                new[key] = self._merged(table, schema, old, part)
                if old is not None:
                    rows.setdefault(key, old)
        if given.replaces is not None:
            columns = given.replaces.column_names
            wanted = {tuple(row.values()) for row in given.replaces.to_pylist()}
            for key, row in rows.items():
                if tuple(row[name] for name in columns) in wanted:
                    new[key] = None
        if given.rows is not None:
            for row in given.rows.to_pylist():
                new[tuple(row[name] for name in names)] = {name: row[name] for name in schema.names}
        return {key: row for key, row in new.items() if row != rows.get(key)}

    def _merged(self, table: str, schema: pa.Schema, old: Row | None, part: Row) -> Row | None:
        layout = self._layout(table)
        row = {name: part.get(name) for name in schema.names}
        for name, how in layout.merge.items():
            values = [it[name] for it in (old or {name: None}, row) if it[name] is not None]
            row[name] = _MERGES[how](values) if values else None
        if layout.count_column and row[layout.count_column] == 0:
            return None
        for name, it in layout.ratios.items():
            row[name] = _ratio(row[it.numerator], row[it.denominator], it.times)
        for name in row:
            _check_fits(table, name, row[name], schema.field(name).type)
        return row

    def _with_positions(self, table: str, found: Mapping[Key, _Live]) -> pa.Table:
        stored, key = self._table(table), self._layouts.get(table, Layout()).key
        rows = [
            it.row if it.row is not None else dict(zip(key, at, strict=True))
            for at, it in found.items()
        ]
        positions = pa.array([it.changed_at for it in found.values()], pa.int64())
        gone = pa.array([it.row is None for it in found.values()], pa.bool_())
        listed = pa.Table.from_pylist(rows, stored.schema)
        return listed.append_column("changed_at", positions).append_column("gone", gone)


class MemorySnapshot:
    """``schema.Snapshot`` over a ``MemoryServing``: what questions are answered from."""

    def __init__(self, store: MemoryServing) -> None:
        """Stand where ``store`` stands now; later changes of it are seen, too.

        Raises:
            UsageError: Nothing was published.
        """
        served = store.served()
        if served is None:
            raise UsageError("nothing was published yet", "", "publish an epoch")
        self._store = store
        self.served: Final = served

    def tables(self) -> Mapping[str, Sequence[Column]]:
        """Return the columns of every table by the table's name."""
        return {
            name: [Column(item.name, kind_of(item.type)) for item in self._store.rows(name).schema]
            for name in self._store.tables
        }

    def scan(
        self, table: str, columns: Sequence[str], conditions: Sequence[Condition] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that meet all ``conditions``, as Python values, in no order."""
        reader = self._store.rows(table)
        for name in [*columns, *(term.column for term in conditions)]:
            if name not in reader.schema.names:
                raise UsageError.unknown(f"column of {table}", name, reader.schema.names)
        for row in reader.read_all().to_pylist():
            if all(_meets(row[term.column], term) for term in conditions):
                yield tuple([row[name] for name in columns])

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        """Yield the values of ``column`` but NULL, each once."""
        found = dict.fromkeys(value for (value,) in self.scan(table, [column]))
        return (value for value in found if value is not None)


def _meets(value: Any, term: Condition) -> bool:
    if value is None:
        return False
    # Days are compared as the text that the condition has: ISO text has their order.
    own, other = value.isoformat() if isinstance(value, date) else value, term.value
    compare = {"=": operator.eq, ">=": operator.ge, "<=": operator.le}[term.operator]
    return bool(compare(own, other))


def _sum(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Decimal):
        total = Decimal()
        for value in values:
            total = _EXACT.add(total, value)
        return total
    return sum(values)


_MERGES: Final[Mapping[str, Any]] = {"sum": _sum, "min": min, "max": max}


def _ratio(up: Any, down: Any, times: int) -> Decimal | None:
    if up is None or down is None or not down:
        return None
    exact = _EXACT.divide(Decimal(up) * times, Decimal(down))
    return exact.quantize(Decimal("0.000001"), rounding=ROUND_HALF_EVEN, context=_EXACT)


def _check_fits(table: str, name: str, value: Any, data_type: pa.DataType) -> None:
    try:
        pa.array([value], data_type)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise ModelError(
            f'column "{name}" of {table} has more digits than its type holds',
            table,
            "nothing was changed; let the model leave such rows out",
        ) from error
