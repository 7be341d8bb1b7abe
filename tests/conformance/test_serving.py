"""What every serving store must do: one epoch visible, whole, exact."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from meterhouse.errors import UsageError
from meterhouse.ports import ServingStore, Stamp
from meterhouse.serving.schema import Layout
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.testing_serving import MemoryServing

DAILY = "gold.daily"
OTHER = "gold.other"
LAYOUTS = {DAILY: Layout(("org_id", "usage_date"), frozenset({"usage_date"}))}
STORES: dict[str, Callable[[Path], ServingStore]] = {
    "memory": lambda folder: MemoryServing(),
    "sqlite": lambda folder: SqliteServing(folder / "serving.db", LAYOUTS),
}
SCHEMA = pa.schema(
    [("org_id", pa.string()), ("usage_date", pa.date32()), ("cost_usd", pa.decimal128(38, 9))]
)
AT = datetime(2025, 9, 1, 12, 30, 0, 5, tzinfo=UTC)
FIRST = Stamp("project", 0, 7, "aa")
SECOND = Stamp("project", 0, 9, "bb")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ServingStore:
    return STORES[request.param](tmp_path)


def daily(*rows: tuple[str | None, int, str]) -> pa.RecordBatchReader:
    table = pa.table(
        [
            [org for org, _, _ in rows],
            [date(2025, 8, day) for _, day, _ in rows],
            [Decimal(cost) for _, _, cost in rows],
        ],
        schema=SCHEMA,
    )
    return table.to_reader(max_chunksize=2)


def visible(store: ServingStore, table: str = DAILY) -> list[tuple[Any, ...]]:
    rows = store.rows(table).read_all().to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=str)


def publish(store: ServingStore, epoch: str, stamp: Stamp, details: str = "{}") -> None:
    store.publish(epoch, stamp, ingest_ts=AT, details=details)


def test_a_new_store_stands_for_nothing(store: ServingStore) -> None:
    assert store.stamp() is None
    with pytest.raises(UsageError, match="nothing was published"):
        store.rows(DAILY)


def test_loaded_rows_are_invisible_until_published(store: ServingStore) -> None:
    assert store.load("one", DAILY, daily(("a", 1, "1.5"))) == 1
    assert store.stamp() is None

    publish(store, "one", FIRST)

    assert store.stamp() == FIRST
    assert visible(store) == [("a", date(2025, 8, 1), Decimal("1.5"))]


def test_a_new_epoch_replaces_the_one_before_as_a_whole(store: ServingStore) -> None:
    store.load("one", DAILY, daily(("a", 1, "1"), ("b", 1, "2"), ("c", 1, "3")))
    store.load("one", OTHER, daily(("z", 1, "1")))
    publish(store, "one", FIRST)
    store.load("two", DAILY, daily(("a", 1, "9")))
    assert len(visible(store)) == 3

    publish(store, "two", SECOND)

    assert store.stamp() == SECOND
    assert visible(store) == [("a", date(2025, 8, 1), Decimal(9))]
    with pytest.raises(UsageError, match=r"gold\.other"):
        store.rows(OTHER)


def test_loading_a_table_again_replaces_it(store: ServingStore) -> None:
    store.load("one", DAILY, daily(("a", 1, "1"), ("b", 1, "2")))
    store.load("one", DAILY, daily(("c", 1, "3")))

    publish(store, "one", FIRST)

    assert visible(store) == [("c", date(2025, 8, 1), Decimal(3))]


def test_publishing_the_visible_epoch_again_changes_nothing(store: ServingStore) -> None:
    store.load("one", DAILY, daily(("a", 1, "1")))
    publish(store, "one", FIRST)

    publish(store, "one", SECOND)

    assert store.stamp() == FIRST
    assert len(visible(store)) == 1


def test_a_damaged_table_of_the_visible_epoch_can_be_loaded_anew(store: ServingStore) -> None:
    store.load("one", DAILY, daily(("wrong", 1, "1")))
    store.load("one", OTHER, daily(("z", 1, "1")))
    publish(store, "one", FIRST)

    store.load("one", DAILY, daily(("right", 1, "1")))
    assert visible(store)[0][0] == "wrong"
    publish(store, "one", FIRST)

    assert visible(store)[0][0] == "right"
    assert visible(store, OTHER)[0][0] == "z"


def test_an_empty_table_is_there_with_its_columns(store: ServingStore) -> None:
    assert store.load("one", DAILY, daily()) == 0
    publish(store, "one", FIRST)

    assert store.rows(DAILY).read_all().schema == SCHEMA


def test_an_unknown_table_names_the_nearest(store: ServingStore) -> None:
    store.load("one", DAILY, daily())
    publish(store, "one", FIRST)

    with pytest.raises(UsageError, match=r'did you mean "gold\.daily"'):
        store.rows("gold.dialy")


def test_a_null_in_the_key_is_a_row_like_any_other(store: ServingStore) -> None:
    store.load("one", DAILY, daily((None, 1, "1"), ("a", 1, "2")))
    publish(store, "one", FIRST)

    assert [row[0] for row in visible(store)] == ["a", None]


def test_every_type_comes_back_exactly(store: ServingStore) -> None:
    rows = every_type()
    store.load("one", OTHER, rows.to_reader())

    publish(store, "one", FIRST)

    assert store.rows(OTHER).read_all().equals(rows)


def every_type() -> pa.Table:
    big = Decimal("12345678901234567890123456789.123456789")
    tags = pa.map_(pa.string(), pa.list_(pa.string()))
    when = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), None]
    columns: dict[str, pa.Array] = {
        "text": pa.array(["", 'é\x00"\n', None]),
        "cost": pa.array([big, Decimal("-0.000000001"), None], pa.decimal128(38, 9)),
        "ratio": pa.array([Decimal("0.333333"), Decimal(0), None], pa.decimal128(18, 6)),
        "huge": pa.array([10**37, -1, None], pa.decimal128(38, 0)),
        "count": pa.array([2**63 - 1, -(2**63), None]),
        "small": pa.array([1, 2, None], pa.int32()),
        "wide": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "flag": pa.array([True, False, None]),
        "day": pa.array([date(1, 1, 1), date(9999, 12, 31), None]),
        "at": pa.array(when, pa.timestamp("us", "UTC")),
        "zoneless": pa.array([datetime(2025, 1, 1), None, None], pa.timestamp("us")),  # noqa: DTZ001
        "listed": pa.array([["EUR", None], [], None], pa.list_(pa.string())),
        "tags": pa.array([[("a", ["b"])], [], None], tags),
        "money": pa.array([[Decimal("1.5")], [None], None], pa.list_(pa.decimal128(38, 9))),
        "pair": pa.array([{"a": 1, "b": date(2025, 1, 1)}, {"a": None, "b": None}, None]),
        "raw": pa.array([b"", b"\xff\x00", None]),
        "real": pa.array([0.1, float("inf"), None]),
    }
    return pa.table(columns)
