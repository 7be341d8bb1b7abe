"""Windows older than what the serving store holds: a late event is merged into the lake's row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.lake.published import Published, PublishedTable, StoredFile, encoded_schema
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.models.graph import load_models
from unit.layers.house import CATALOG, House, event, few_contracts
from unit.layers.live import TAKEN, Live, in_order, live, tables

WINDOWS = "gold.usage_by_5min"
KEEP = {WINDOWS: "2025-07-02T00:00:00+00:00"}
OLD, NEW = datetime(2025, 7, 1, 10, 1, tzinfo=UTC), datetime(2025, 7, 3, 10, 1, tzinfo=UTC)


def at(number: int, moment: datetime | None, **changed: Any) -> dict[str, Any]:
    return event(number, event_ts=moment, **changed)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    contracts = few_contracts()
    models = load_models(CATALOG / "models", bronze_schemas(contracts))
    opened = House(tmp_path / "house", models, contracts)
    opened.take("usage_events", at(1, OLD), at(2, OLD, org_id="org-2"), at(3, NEW))
    yield opened
    opened.close()


def published(answers: Live, position: int, root: Path) -> Published:
    """Write the gold tables as a batch would, and return the publication of them."""
    found = {}
    made = tables(answers.generation, answers.blobs, answers.state, answers.engine, position)
    for name, rows in made.items():
        path = root / f"{name}-{position}.parquet"
        pq.write_table(rows, path)
        found[name] = PublishedTable(
            name,
            0,
            rows.num_rows,
            answers.generation.models[name].sha256,
            encoded_schema(rows.schema),
            (),
            (StoredFile(path.name, rows.num_rows, path.stat().st_size, ""),),
            (),
        )
    return Published(answers.stamp(position), TAKEN, 1, found, root=str(root))


def checked(answers: Live) -> None:
    """Read live rows over the epoch's and, for old windows, over the lake's."""
    expected = answers.expected()
    epoch = answers.store.epoch()
    assert epoch is not None
    lake = tables(answers.generation, answers.blobs, answers.state, answers.engine, epoch.position)
    served = answers.served()
    grain = answers.generation.models[WINDOWS].grain
    live_keys = {tuple(row[column] for column in grain) for row in served[WINDOWS]}
    old = [
        row
        for row in lake[WINDOWS].to_pylist()
        if tuple(row[column] for column in grain) not in live_keys
        and row["window_start"] < datetime.fromisoformat(KEEP[WINDOWS])
    ]
    rows = pa.Table.from_pylist([*served[WINDOWS], *old], lake[WINDOWS].schema)
    assert in_order(rows, answers.generation, WINDOWS) == expected.pop(WINDOWS)
    assert {name: served[name] for name in expected} == expected


@pytest.mark.parametrize("there", [True, False], ids=["lake", "log"])
def test_a_late_event_is_merged_into_the_row_of_its_window(
    house: House, tmp_path: Path, there: bool
) -> None:
    answers = live(house)
    answers.publish(2, keep_from=KEEP)
    lake = published(answers, 2, tmp_path)
    answers.lake = lambda: lake if there else None
    assert [row["org_id"] for row in answers.served()[WINDOWS]] == ["org-1"]
    house.take("usage_events", at(4, OLD), at(5, NEW))

    answers.follow()

    (old,) = [row for row in answers.served()[WINDOWS] if row["window_start"] < NEW.replace(day=2)]
    assert (old["cost_usd"], old["event_count"]) == (Decimal("0.2"), 2)
    checked(answers)


def test_an_event_without_a_time_is_merged_into_the_row_without_one(
    house: House, tmp_path: Path
) -> None:
    house.take("usage_events", at(20, None))
    answers = live(house)
    answers.publish(3, keep_from=KEEP)
    lake = published(answers, 3, tmp_path)
    answers.lake = lambda: lake
    house.take("usage_events", at(21, None), at(22, OLD))

    answers.follow()

    found = {row["window_start"]: row["event_count"] for row in answers.served()[WINDOWS]}
    assert (found[None], found[OLD.replace(minute=0)]) == (2, 2)


def test_another_late_event_of_a_window_finds_the_live_row(house: House, tmp_path: Path) -> None:
    answers = live(house)
    answers.publish(2, keep_from=KEEP)
    lake = published(answers, 2, tmp_path)
    answers.lake = lambda: lake
    for number in (4, 5, 6):
        house.take("usage_events", at(number, OLD), at(10 + number, OLD, org_id=f"org-{number}"))
        answers.follow()
        checked(answers)


def test_a_lake_that_is_ahead_of_the_epoch_is_not_what_it_was_loaded_from(
    house: House, tmp_path: Path
) -> None:
    answers = live(house)
    answers.publish(2, keep_from=KEEP)
    house.take("usage_events", at(4, OLD))
    ahead = published(answers, 3, tmp_path)
    answers.lake = lambda: ahead

    answers.follow()

    checked(answers)


def test_a_publication_seen_once_serves_until_the_epoch_follows(
    house: House, tmp_path: Path
) -> None:
    answers = live(house)
    answers.publish(2, keep_from=KEEP)
    first = published(answers, 2, tmp_path)
    answers.lake = lambda: first
    house.take("usage_events", at(4, OLD))
    answers.follow()
    ahead = published(answers, 3, tmp_path)
    answers.lake = lambda: ahead
    house.take("usage_events", at(5, OLD), at(6, OLD, org_id="org-2"))
    answers.follow()
    checked(answers)

    answers.publish(3, keep_from=KEEP)
    house.take("usage_events", at(7, OLD, org_id="org-3"), at(8, OLD))
    answers.follow()

    checked(answers)
