"""The newest of what is served: sums of one day and of its windows, exact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from docs_pages.dictionary import shipped_models
from meterhouse.analysis.latest import DAILY, WINDOWS, Latest, Window, latest
from meterhouse.models.finalize import arrow_schema
from meterhouse.ports import Stamp
from meterhouse.serving.reader import Reader
from meterhouse.serving.schema import layouts
from meterhouse.serving.sqlite import SqliteServing

DAY = date(2025, 9, 1)
NOON = datetime(2025, 9, 1, 12, 5, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteServing]:
    found = SqliteServing(tmp_path / "serving.db", layouts(shipped_models().by_name.values()))
    yield found
    found.close()


def daily(org: str, service: str, day: date, cost: str, events: int = 1) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(arrow_schema(shipped_models()[DAILY]).names, 0)
    named = {"org_id": org, "service": service, "usage_date": day, "event_count": events}
    return row | named | {"daily_cost_usd": Decimal(cost)}


def window(org: str, start: datetime, cost: str, events: int = 1) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(arrow_schema(shipped_models()[WINDOWS]).names, 0)
    named = {"org_id": org, "service": "compute", "region": "eu", "window_start": start}
    return row | named | {"cost_usd": Decimal(cost), "event_count": events}


def seen(
    store: SqliteServing,
    path: Path,
    days: list[dict[str, Any]],
    windows: list[dict[str, Any]],
    *,
    most: int = 5,
    details: dict[str, Any] | None = None,
) -> Latest:
    for name, rows in ((DAILY, days), (WINDOWS, windows)):
        schema = arrow_schema(shipped_models()[name])
        store.load("one", name, pa.Table.from_pylist(rows, schema).to_reader())
    stamp = Stamp("p", 0, 7, "h")
    store.publish("one", stamp, ingest_ts=NOON, details=json.dumps(details or {}))
    return Reader(path / "serving.db").read(lambda snapshot: latest(snapshot, most))


def test_the_latest_day_is_summed_by_service_dearest_first(
    store: SqliteServing, tmp_path: Path
) -> None:
    huge = "10000000000000000000000000000"
    found = seen(
        store,
        tmp_path,
        [
            daily("a", "compute", DAY, huge, 3),
            daily("b", "compute", DAY, "0.000000001", 4),
            daily("a", "storage", DAY, "5"),
            daily("a", "compute", DAY - timedelta(days=1), "999"),
        ],
        [],
    )

    assert (found.position, found.day) == (7, DAY)
    assert found.services == [
        ("compute", Decimal(huge + ".000000001"), 7),
        ("storage", Decimal(5), 1),
    ]
    assert found.windows == []


def test_a_day_that_is_said_to_be_the_latest_wins_over_one_of_the_year_2099(
    store: SqliteServing, tmp_path: Path
) -> None:
    days = [daily("a", "compute", DAY, "1"), daily("a", "compute", date(2099, 1, 1), "9")]

    found = seen(store, tmp_path, days, [], details={"latest_day": {DAILY: "2025-09-01"}})

    assert found.day == DAY
    assert found.services == [("compute", Decimal(1), 1)]


def test_without_that_it_is_the_latest_before_the_last_entry(
    store: SqliteServing, tmp_path: Path
) -> None:
    days = [daily("a", "compute", DAY, "1"), daily("a", "compute", date(2099, 1, 1), "9")]

    assert seen(store, tmp_path, days, []).day == DAY


def test_windows_are_summed_over_everybody_newest_first(
    store: SqliteServing, tmp_path: Path
) -> None:
    early = NOON - timedelta(hours=11)
    found = seen(
        store,
        tmp_path,
        [daily("a", "compute", DAY, "1"), daily("b", "compute", DAY, "1")],
        [
            window("a", NOON, "1.5", 2),
            window("b", NOON, "0.25", 1),
            window("b", early, "7", 5),
            window("a", NOON - timedelta(days=1), "100"),
        ],
    )

    assert found.windows == [
        Window(NOON, Decimal("1.75"), 3),
        Window(early, Decimal(7), 5),
    ]


def test_no_more_windows_than_asked_for(store: SqliteServing, tmp_path: Path) -> None:
    windows = [window("a", NOON - timedelta(minutes=5 * n), "1") for n in range(20)]

    found = seen(store, tmp_path, [daily("a", "compute", DAY, "1")], windows, most=3)

    assert [one.start for one in found.windows] == [
        NOON - timedelta(minutes=5 * n) for n in range(3)
    ]


def test_without_usage_there_is_no_day(store: SqliteServing, tmp_path: Path) -> None:
    found = seen(store, tmp_path, [], [])

    assert (found.day, found.services, found.windows) == (None, [], ())
