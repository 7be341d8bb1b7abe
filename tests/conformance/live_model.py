"""What a live serving store must hold, as dictionaries of every position there was.

Nothing of the product is used here: rows are merged by hand, and each position's rows are
kept whole, so that any position can be looked up afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import pyarrow as pa

from meterhouse.models.model import Ratio
from meterhouse.ports import LiveChange, LiveRows, Stamp
from meterhouse.serving.schema import Layout

DAILY = "gold.daily"
SUMS = "gold.sums"
"""DAILY without its ratio: a part alone is a whole row."""
BY_ORG = "gold.by_org"
MONEY = pa.decimal128(38, 9)
DAILY_SCHEMA = pa.schema(
    [
        ("org_id", pa.string()),
        ("day", pa.date32()),
        ("cost_usd", MONEY),
        ("rows_count", pa.int64()),
        ("first_at", pa.timestamp("us", "UTC")),
        ("top_usd", MONEY),
        ("cost_avg", pa.decimal128(38, 6)),
    ]
)
PARTIAL_SCHEMA = pa.schema(list(DAILY_SCHEMA)[:-1])
BY_ORG_SCHEMA = pa.schema([("org_id", pa.string()), ("day", pa.date32()), ("cost_usd", MONEY)])
LAYOUTS = {
    DAILY: Layout(
        key=("org_id", "day"),
        descending=frozenset({"day"}),
        merge={"cost_usd": "sum", "rows_count": "sum", "first_at": "min", "top_usd": "max"},
        ratios={"cost_avg": Ratio("cost_usd", "rows_count")},
        count_column="rows_count",
        keep="day",
    ),
    SUMS: Layout(
        key=("org_id", "day"),
        descending=frozenset({"day"}),
        merge={"cost_usd": "sum", "rows_count": "sum", "first_at": "min", "top_usd": "max"},
        count_column="rows_count",
        keep="day",
    ),
    BY_ORG: Layout(key=("org_id", "day")),
}
SCHEMAS = {DAILY: DAILY_SCHEMA, SUMS: PARTIAL_SCHEMA, BY_ORG: BY_ORG_SCHEMA}
EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
AT = datetime(2025, 9, 1, tzinfo=UTC)

Key = tuple[Any, ...]
Row = tuple[Any, ...]
Rows = dict[Key, Row]


def stamp(position: int) -> Stamp:
    return Stamp("project", 0, position, f"head-{position}" if position else "")


def ingested(position: int) -> datetime:
    return AT + timedelta(seconds=position)


@dataclass(frozen=True)
class Part:
    """What new facts add to one key: cost, how many, the earliest and the largest."""

    org: str | None
    day: int
    cost: Decimal
    count: int
    first: int | None = None
    top: Decimal | None = None

    @property
    def key(self) -> Key:
        return self.org, date(2025, 8, self.day)

    def row(self) -> Row:
        first = None if self.first is None else AT + timedelta(microseconds=self.first)
        return (*self.key, self.cost, self.count, first, self.top)


@dataclass
class World:
    """Rows of all tables at every position, and since when each is what it is."""

    at: dict[int, dict[str, Rows]] = field(default_factory=lambda: {0: {it: {} for it in SCHEMAS}})
    since: dict[int, dict[tuple[str, Key], int]] = field(default_factory=lambda: {0: {}})
    epoch: int = 0
    now: int = 0
    kept_from: int = 1
    """Day of the month from which the epoch holds DAILY and SUMS."""

    def advance(self, to: int, parts: Iterable[Part]) -> LiveChange:
        """Move to ``to`` and return the change that does it."""
        parts = list(parts)
        before = self.at[self.now]
        daily, by_org = dict(before[DAILY]), dict(before[BY_ORG])
        for part in parts:
            merged = _merged(daily.get(part.key), part)
            daily.pop(part.key, None)
            if merged is not None:
                daily[part.key] = merged
        orgs = {part.org for part in parts}
        for key in [key for key in by_org if key[0] in orgs]:
            del by_org[key]
        by_org |= {key: row[:3] for key, row in daily.items() if key[0] in orgs and row[2] > 0}
        after, self.now = self.now, to
        sums = {key: row[:-1] for key, row in daily.items()}
        self.at[to] = {DAILY: daily, SUMS: sums, BY_ORG: by_org}
        self.since[to] = dict(self.since[after])
        for table in SCHEMAS:
            for key in before[table].keys() | self.at[to][table].keys():
                if before[table].get(key) != self.at[to][table].get(key):
                    self.since[to][table, key] = to
        return self._change(after, parts, orgs)

    def _change(self, after: int, parts: list[Part], orgs: set[str | None]) -> LiveChange:
        old = [p.key for p in parts if p.key[1].day < self.kept_from]
        partials = table_of([part.row() for part in parts], PARTIAL_SCHEMA)
        views = [row for key, row in self.at[self.now][BY_ORG].items() if key[0] in orgs]
        return LiveChange(
            stamp(after),
            stamp(self.now),
            ingested(self.now),
            (
                LiveRows(DAILY, partials=partials, bases=self._bases(DAILY, old)),
                LiveRows(SUMS, partials=partials, bases=self._bases(SUMS, old)),
                LiveRows(
                    BY_ORG,
                    rows=table_of(views, BY_ORG_SCHEMA),
                    replaces=pa.table({"org_id": pa.array(sorted(orgs, key=str), pa.string())}),
                ),
            ),
            f'{{"seen": {self.now}}}',
        )

    def _bases(self, table: str, keys: Iterable[Key]) -> pa.Table:
        epoch = self.at[self.epoch][table]
        return table_of([epoch[key] for key in keys if key in epoch], SCHEMAS[table])

    def epoch_rows(self, position: int, table: str) -> list[Row]:
        """Return what a batch loads at ``position``."""
        rows = self.at[position][table].items()
        return [row for key, row in rows if table == BY_ORG or key[1].day >= self.kept_from]

    def publish(self, position: int, *, forget: bool = False) -> None:
        """Let the epoch stand at ``position``; ``forget`` what is later."""
        self.epoch = position
        self.now = position if forget else max(self.now, position)

    def visible(self, table: str) -> Rows:
        """Return what readers see."""
        return {
            key: row
            for key, row in self.at[self.now][table].items()
            if table == BY_ORG
            or key[1].day >= self.kept_from
            or self.since[self.now][table, key] > self.epoch
        }

    def touched(self, table: str, after: int, upto: int) -> set[Key]:
        """Return the keys whose rows at ``upto`` changed after ``after``."""
        return {
            key
            for (name, key), position in self.since[upto].items()
            if name == table and position > after
        }


def _merged(old: Row | None, part: Part) -> Row | None:
    row = part.row()
    if old is not None:
        firsts = [at for at in (old[4], row[4]) if at is not None]
        tops = [top for top in (old[5], row[5]) if top is not None]
        row = (
            *row[:2],
            EXACT.add(old[2], row[2]),
            old[3] + row[3],
            min(firsts, default=None),
            max(tops, default=None),
        )
    if row[3] == 0:
        return None
    average = EXACT.divide(row[2], Decimal(row[3]))
    return (*row, EXACT.quantize(average, Decimal("0.000001")))


def table_of(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Return rows of Python values as an Arrow table."""
    return pa.Table.from_pylist(
        [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
    )


def by_key(table: pa.Table) -> Rows:
    """Return the rows of an Arrow table by their first two columns; none comes twice."""
    rows = [tuple(row.values()) for row in table.to_pylist()]
    found = {row[:2]: row for row in rows}
    assert len(found) == len(rows)
    return found


def with_gone(rows: Mapping[Key, Row]) -> dict[Key, Row | None]:
    """Return what ``frozen`` and ``changed`` gave: rows without positions, None where gone."""
    return {key: None if row[-1] else row[:-2] for key, row in rows.items()}
