"""The batch layer: whole or not at all, twice is once, increments equal recomputation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterhouse.errors import DamageError, ModelError
from meterhouse.lake.delta import Contents
from meterhouse.names import TECHNICAL
from meterhouse.testing_serving import MemoryServing
from unit.layers.house import (
    House,
    contents_of,
    costs,
    event,
    few_contracts,
    files_of,
    filled,
    model_text,
    names,
    org,
    shipped_contracts,
    shipped_models,
    small_models,
    ticket,
    with_contract,
)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    contracts = few_contracts()
    house = House(tmp_path, small_models(contracts), contracts)
    yield house
    house.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    contracts = few_contracts()
    house = House(tmp_path_factory.mktemp("template"), small_models(contracts), contracts)
    filled(house).run()
    yield house
    house.close()


@pytest.fixture
def live(template: House, tmp_path: Path) -> Iterator[House]:
    """A project with one publication."""
    house = template.copy(tmp_path)
    yield house
    house.close()


def test_an_empty_log_publishes_nothing(house: House) -> None:
    report = house.run()

    assert not report.changed
    assert report.position == 0
    assert not (house.root / "lake/published.json").exists()


def test_the_first_batch_publishes_every_table(house: House) -> None:
    report = filled(house).run()

    assert report.changed
    assert report.position == house.published().stamp.position == 6
    assert costs(house) == {"org-1": (Decimal("0.1"), 1)}
    assert [row["org_name"] for row in house.read("silver.enriched")] == ["Org 1"]
    assert len(house.read("bronze.quarantine_usage")) == 1
    assert set(house.published().tables) >= {"bronze.removed_keys", "gold.org_costs"}
    assert house.serving.stamp() == house.published().stamp


def test_tables_of_sources_never_delivered_exist_empty(house: House) -> None:
    house.take("usage_events", event(1))
    house.run()

    assert house.read("bronze.support_tickets") == []
    assert house.read("gold.tickets") == []


def test_nothing_new_changes_nothing(live: House) -> None:
    before = (live.root / "lake/published.json").read_bytes(), files_of(live)

    report = live.run()

    assert not report.changed
    assert ((live.root / "lake/published.json").read_bytes(), files_of(live)) == before


def test_new_events_are_appended_and_merged(live: House) -> None:
    live.take("usage_events", event(3, cost_usd_increment=Decimal("0.2")), event(4, org_id="org-2"))

    report = live.run()

    assert names(report, "merge") == ["gold.costs"]
    assert names(report, "append") == ["bronze.usage_events", "silver.enriched"]
    assert names(report, "recompute") == ["gold.org_costs"]
    assert costs(live) == {"org-1": (Decimal("0.3"), 2), "org-2": (Decimal("0.1"), 1)}
    assert {row["average_usd"] for row in live.read("gold.costs")} == {
        Decimal("0.15"),
        Decimal("0.1"),
    }


def test_an_entry_without_accepted_rows_moves_the_position_only(live: House) -> None:
    versions = {name: table.version for name, table in live.published().tables.items()}
    live.take("usage_events", event(1, verdict="duplicate"))

    report = live.run()

    assert report.changed
    assert set(names(report, "keep")) == set(versions)
    assert live.published().stamp.position == 7
    assert {name: table.version for name, table in live.published().tables.items()} == versions
    assert live.serving.stamp() == live.published().stamp


def test_increments_equal_a_full_recomputation(live: House) -> None:
    for number in range(3, 7):
        live.take("usage_events", event(number, org_id=f"org-{number % 3}"))
        if number % 2:
            live.take("customers_orgs", org(2, org_name=f"Renamed {number}"))
            live.take("support_tickets", ticket(number % 3))
        live.run()
    increments = contents_of(live)

    report = live.run(full=True)

    assert set(names(report, "recompute")) == set(increments)
    assert contents_of(live) == increments
    assert report.generation == 1


def test_a_changed_master_reaches_every_row(live: House) -> None:
    live.take("customers_orgs", org(1, org_name="Renamed"))

    report = live.run()

    assert "silver.enriched" in names(report, "recompute")
    assert [row["org_name"] for row in live.read("silver.enriched")] == ["Renamed"]
    assert len(live.read("bronze.customers_orgs")) == 3


def test_a_key_gone_from_a_snapshot_is_not_joined(live: House) -> None:
    live.take("customers_orgs", {"org_id": "org-1", "verdict": "removed", "source_line": None})

    live.run()

    assert [row["org_name"] for row in live.read("silver.enriched")] == [None]
    [removed] = live.read("bronze.removed_keys")
    assert (removed["source"], removed["key"]) == ("customers_orgs", '["org-1"]')


def test_a_changed_model_is_recomputed_from_the_log_with_what_reads_it(live: House) -> None:
    doubled = model_text("costs").replace(
        "sum(usage.cost_usd)", "sum(usage.cost_usd + usage.cost_usd)"
    )
    live.models = small_models(
        live.contracts,
        gold_costs=doubled.replace("  - same_total: {cost_usd: silver.usage.cost_usd}\n", ""),
    )

    report = live.run()

    assert names(report, "recompute") == ["gold.costs", "gold.org_costs"]
    assert {table.why for table in report.tables if table.action == "recompute"} == {
        "its model, or one that it reads, changed"
    }
    assert report.generation == 2
    assert costs(live) == {"org-1": (Decimal("0.2"), 1)}


def test_a_new_model_is_a_new_table_and_a_deleted_one_is_gone(live: House) -> None:
    live.models = small_models(
        live.contracts,
        gold_tickets="",
        gold_more=model_text("tickets").replace("Tickets by", "More by"),
    )

    report = live.run()

    assert report.dropped == ("gold.tickets",)
    assert "gold.tickets" not in live.published().tables
    assert live.read("gold.more") == [{"org_id": "org-1", "ticket_count": 1}]


def test_a_model_that_is_not_valid_keeps_its_last_table(live: House) -> None:
    live.models = small_models(live.contracts, gold_costs="SELECT nonsense")
    live.take("support_tickets", ticket(2))

    report = live.run()

    assert names(report, "stale") == ["gold.costs", "gold.org_costs"]
    assert report.problems
    assert live.published().details["stale"] == {"gold.costs": 6, "gold.org_costs": 6}
    assert set(live.published().details["stale_ingest_ts"]) == {"gold.costs", "gold.org_costs"}
    assert costs(live) == {"org-1": (Decimal("0.1"), 1)}
    assert live.read("gold.tickets") == [{"org_id": "org-1", "ticket_count": 2}]


def test_a_model_that_is_valid_again_lacks_nothing(live: House) -> None:
    valid = live.models
    live.models = small_models(live.contracts, gold_costs="SELECT nonsense")
    live.take("usage_events", event(3))
    live.run()
    live.models = valid
    live.take("usage_events", event(4))

    live.run()

    assert costs(live) == {"org-1": (Decimal("0.3"), 3)}
    assert live.published().details["stale"] == {}


def test_a_lake_that_lost_a_table_says_so(live: House) -> None:
    shutil.rmtree(live.root / "lake/gold/costs")

    with pytest.raises(DamageError) as caught:
        live.run()

    assert "rebuild" in caught.value.fix


def test_a_failed_audit_publishes_nothing_and_says_which_rows(live: House) -> None:
    before = (live.root / "lake/published.json").read_bytes()
    wrong = model_text("tickets").replace(
        "--- */", "audits:\n  - few: SELECT org_id FROM gold.tickets WHERE ticket_count > 1\n--- */"
    )
    live.models = small_models(live.contracts, gold_tickets=wrong)
    live.take("support_tickets", ticket(2))

    with pytest.raises(ModelError) as caught:
        live.run()

    assert 'audit "few" of model "gold.tickets" failed: org_id=org-1' in caught.value.what
    assert (live.root / "lake/published.json").read_bytes() == before
    assert live.serving.stamp() == live.published().stamp


def test_a_total_that_does_not_fit_is_found_in_the_new_rows_alone(live: House) -> None:
    wrong = model_text("costs").replace(
        "sum(usage.cost_usd)", "sum(usage.cost_usd) FILTER (usage.org_id <> 'org-9')"
    )
    live.models = small_models(live.contracts, gold_costs=wrong)
    live.take("usage_events", event(9, org_id="org-9"))

    with pytest.raises(ModelError) as caught:
        live.run()

    assert "same_total" in caught.value.what


def test_a_changed_default_restates_its_table(house: House) -> None:
    filled(house)
    house.take("usage_events", event(5, schema_version=None))
    house.run()
    usage = house.contracts["usage_events"]
    house.contracts["usage_events"] = with_contract(
        usage, "version, default: 1", "version, default: 2"
    )
    house.take("usage_events", event(6))

    report = house.run()

    assert ("bronze.usage_events", "its contract changed") in {
        (table.name, table.why) for table in report.tables
    }
    assert {row["schema_version"] for row in house.read("bronze.usage_events")} == {1, 2}
    assert report.generation == 2
    assert costs(house)["org-1"][1] == 3


def test_a_contract_with_another_column_reads_older_rows_too(live: House) -> None:
    usage = live.contracts["usage_events"]
    live.contracts["usage_events"] = with_contract(
        usage, "  carbon_kg:", '  note: {type: text, doc: "Free text."}\n  carbon_kg:'
    )
    live.take("usage_events", event(6, note="hello"))

    live.run()

    assert {row["event_id"]: row["note"] for row in live.read("bronze.usage_events")} == {
        "e-1": None,
        "e-6": "hello",
    }


def test_events_from_the_future_do_not_move_the_latest_day(tmp_path: Path) -> None:
    contracts = shipped_contracts()
    house = House(tmp_path, shipped_models(contracts), contracts)
    house.take("usage_events", event(1), event(2, event_ts=datetime(2099, 1, 1, tzinfo=UTC)))
    house.take("support_tickets", ticket(1))
    house.run()
    first = house.published().details["latest_day"]
    house.take("usage_events", event(3, event_ts=datetime(2025, 7, 9, tzinfo=UTC)))
    house.take("usage_events", event(4, event_ts=datetime(2025, 7, 5, tzinfo=UTC)))

    house.run()

    assert house.models.problems == ()
    assert first == {
        "gold.org_daily_usage_by_service": "2025-07-03",
        "gold.tickets_by_org_date": "2025-07-03",
    }
    assert house.published().details["latest_day"] == first | {
        "gold.org_daily_usage_by_service": "2025-07-09"
    }
    assert (
        json.loads(house.serving.details)["latest_day"] == house.published().details["latest_day"]
    )
    house.close()


class EndingServing(MemoryServing):
    """A serving store of a process that ends when it would publish."""

    def publish(self, *_: Any, **__: Any) -> None:
        raise KeyboardInterrupt


def test_a_crash_before_serving_is_finished_by_the_next_batch(house: House) -> None:
    filled(house)
    with pytest.raises(KeyboardInterrupt):
        house.run(serving=EndingServing())
    assert house.serving.stamp() is None

    assert house.run().changed

    assert house.serving.stamp() == house.published().stamp
    assert not house.run().changed


def test_a_commit_left_over_by_a_crash_is_undone_by_the_next_batch(live: House) -> None:
    table = live.published().table("gold.costs")
    live.lake.commit("gold.costs", Contents(table.arrow_schema(), (), ()), published=table.version)

    assert live.run().changed

    left = live.published().table("gold.costs")
    assert (left.version, left.files) == (table.version + 2, table.files)
    assert not live.lake.ahead_of("gold.costs", left.version)


def test_a_damaged_judged_file_is_not_built_upon(house: House) -> None:
    filled(house)
    path = next((house.root / "judged/usage_events").iterdir())
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(DamageError) as caught:
        house.run()

    assert str(path) in caught.value.where


def test_a_damaged_gold_file_is_not_merged(live: House) -> None:
    path = live.root / "lake" / live.published().table("gold.costs").files[0].path
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    live.take("usage_events", event(3))

    with pytest.raises(DamageError) as caught:
        live.run()

    assert str(path) in caught.value.where


def test_a_log_that_went_backwards_is_refused(live: House) -> None:
    last = live.published().stamp.position
    (live.root / f"log/{last:012d}.json").unlink()

    with pytest.raises(DamageError):
        House(live.root, live.models, live.contracts, serving=live.serving).run()


def test_technical_columns_are_everywhere_in_bronze(live: House) -> None:

    for name in ("bronze.usage_events", "bronze.quarantine_usage", "bronze.customers_orgs"):
        assert set(TECHNICAL) <= set(live.read(name)[0])
