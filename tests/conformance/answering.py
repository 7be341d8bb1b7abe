"""What every store that questions are answered from must do: one suite for all of them.

The truth is the same project in memory; a store's tests give the fixtures ``truth`` and
``store``, both at one position.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.house import House
from meterhouse.errors import UsageError
from meterhouse.formats import text
from meterhouse.models.graph import Models
from meterhouse.serving.queries import ask
from meterhouse.serving.schema import Condition, Snapshot, layouts
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.testing_serving import MemoryServing, MemorySnapshot

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
USAGE = "gold.org_daily_usage_by_service"
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("daily-cost", {}),
    ("daily-cost", {"from": "2025-07-10", "to": "2025-07-31"}),
    ("daily-cost", {"service": "genai"}),
    ("top-services", {}),
    ("top-services", {"days": 30, "limit": 2}),
    ("ticket-sla", {}),
    ("ticket-sla", {"severity": "low", "days": 7}),
    ("monthly-revenue", {}),
    ("genai-usage", {}),
    ("genai-usage", {"by": "month"}),
    ("anomalies", {}),
]
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("daily-cost", {"org": "nobody"}),
    ("daily-cost", {"service": "nothing"}),
    ("daily-cost", {"from": "yesterday"}),
    ("top-services", {"days": 0}),
    ("ticket-sla", {"severity": "worst"}),
    ("nothing-at-all", {}),
]


def in_memory(house: House) -> MemorySnapshot:
    """What ``house`` serves, in memory: the epoch as it is, nothing live over it."""
    models: Models = house.project.models()
    served = SqliteServing(Path(house.root) / "serving.db")
    found = served.served()
    assert found is not None
    assert found.stamp.position == found.epoch_position
    memory = MemoryServing(layouts(models.by_name.values()))
    for name in (name for name, model in models.by_name.items() if model.stored):
        if name.startswith("gold."):
            memory.load(found.epoch, name, served.rows(name))
    details = served.answers()
    assert details is not None
    memory.publish(
        found.epoch, found.stamp, ingest_ts=found.ingest_ts, details=json.dumps(details.details)
    )
    return MemorySnapshot(memory)


class Answering:
    """The suite; ``truth`` and ``store`` are fixtures of who inherits it."""

    def test_it_has_the_same_tables_and_columns(
        self, truth: MemorySnapshot, store: Snapshot
    ) -> None:
        expected = {name: list(columns) for name, columns in truth.tables().items()}

        assert {name: list(columns) for name, columns in store.tables().items()} == expected

    def test_it_stands_for_the_same_position(self, truth: MemorySnapshot, store: Snapshot) -> None:
        assert store.served.stamp == truth.served.stamp
        assert store.served.ingest_ts == truth.served.ingest_ts
        assert store.served.behind == truth.served.behind

    def test_every_cell_of_every_table_is_the_same(
        self, truth: MemorySnapshot, store: Snapshot
    ) -> None:
        for name, columns in truth.tables().items():
            names = [column.name for column in columns]
            expected = Counter(map(_printed, truth.scan(name, names)))

            assert Counter(map(_printed, store.scan(name, names))) == expected, name

    def test_conditions_choose_the_same_rows(self, truth: MemorySnapshot, store: Snapshot) -> None:
        org = sorted(truth.distinct(USAGE, "org_id"))[0]
        columns = ["service", "usage_date", "daily_cost_usd"]
        for conditions in (
            [Condition("org_id", "=", org)],
            [Condition("usage_date", ">=", "2025-07-20")],
            [Condition("org_id", "=", org), Condition("usage_date", "<=", "2025-07-20")],
            [Condition("service", "=", "genai"), Condition("usage_date", "=", "2025-07-20")],
            [Condition("org_id", "=", "nobody")],
            [Condition("event_count", ">=", 3)],
        ):
            found = Counter(store.scan(USAGE, columns, conditions))

            assert found == Counter(truth.scan(USAGE, columns, conditions)), conditions

    def test_values_are_told_once_without_null(
        self, truth: MemorySnapshot, store: Snapshot
    ) -> None:
        for table, column in ((USAGE, "service"), ("gold.revenue_by_org_month", "org_id")):
            found = list(store.distinct(table, column))

            assert sorted(found) == sorted(truth.distinct(table, column))
            assert None not in found

    @pytest.mark.parametrize(("name", "given"), ASKED)
    @pytest.mark.parametrize("of_one", [False, True], ids=["all", "one organisation"])
    def test_a_question_has_the_same_answer(
        self,
        truth: MemorySnapshot,
        store: Snapshot,
        name: str,
        given: dict[str, Any],
        of_one: bool,
    ) -> None:
        org = {"org": sorted(truth.distinct(USAGE, "org_id"))[0]} if of_one else {}

        found = ask(store, name, {**given, **org}, NOW)

        assert found == ask(truth, name, {**given, **org}, NOW)

    @pytest.mark.parametrize(("name", "given"), WRONG)
    def test_what_is_asked_wrongly_is_refused_in_the_same_words(
        self, truth: MemorySnapshot, store: Snapshot, name: str, given: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError) as here:
            ask(truth, name, given, NOW)
        with pytest.raises(UsageError) as there:
            ask(store, name, given, NOW)

        assert (there.value.what, there.value.fix) == (here.value.what, here.value.fix)

    def test_an_unknown_table_or_column_names_the_nearest(self, store: Snapshot) -> None:
        with pytest.raises(UsageError, match="revenue_by_org_mnth"):
            list(store.scan("gold.revenue_by_org_mnth", ["org_id"]))
        with pytest.raises(UsageError, match="servce"):
            list(store.scan(USAGE, ["servce"]))


def _printed(row: tuple[Any, ...]) -> tuple[str | None, ...]:
    return tuple([text(value) for value in row])
