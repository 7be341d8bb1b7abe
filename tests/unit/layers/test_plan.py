"""What a batch does for each model, from what changed: decided without computing anything."""

from __future__ import annotations

from typing import Any

import pytest

from meterhouse.layers.bronze import bronze_schemas
from meterhouse.layers.plan import Change, plan
from meterhouse.models.graph import Models
from unit.layers.house import few_contracts, model_text, small_models

CONTRACTS = few_contracts()


@pytest.fixture(scope="module")
def models() -> Models:
    found = small_models(CONTRACTS)
    assert found.problems == ()
    return found


def actions(models: Models, full: bool = False, **changed: Change) -> dict[str, str]:
    bronze: dict[str, Change] = dict.fromkeys(bronze_schemas(CONTRACTS), "same")
    bronze.update({f"bronze.{name}": change for name, change in changed.items()})
    published = {name: model.sha256 for name, model in models.by_name.items() if model.stored}
    return {step.name: step.action for step in plan(models, published, bronze, full=full)}


def test_nothing_new_keeps_everything(models: Models) -> None:
    assert set(actions(models).values()) == {"keep"}


def test_new_events_are_appended_and_merged(models: Models) -> None:
    assert actions(models, usage_events="grown") == {
        "silver.usage": "append",
        "silver.enriched": "append",
        "gold.costs": "merge",
        "gold.org_costs": "recompute",
        "gold.tickets": "keep",
    }


def test_a_changed_master_restates_only_what_joins_it(models: Models) -> None:
    found = actions(models, customers_orgs="grown", customers_orgs_current="replaced")

    assert found["silver.enriched"] == "recompute"
    assert found["gold.costs"] == "keep"


def test_new_events_with_a_changed_master_are_not_appended(models: Models) -> None:
    found = actions(models, usage_events="grown", customers_orgs_current="replaced")

    assert found["silver.enriched"] == "recompute"
    assert found["gold.costs"] == "merge"


def test_versions_are_recomputed(models: Models) -> None:
    found = actions(models, support_tickets="grown", support_tickets_current="replaced")

    assert found["gold.tickets"] == "recompute"


def test_restated_facts_are_recomputed(models: Models) -> None:
    found = actions(models, usage_events="replaced")

    assert found["gold.costs"] == found["silver.enriched"] == "recompute"


def test_full_recomputes_everything(models: Models) -> None:
    assert set(actions(models, full=True).values()) == {"recompute"}


def test_a_changed_model_takes_along_what_reads_it(models: Models) -> None:
    changed: dict[str, Any] = {"gold_costs": model_text("costs").replace("Cost by day.", "Daily.")}
    published = {name: model.sha256 for name, model in models.by_name.items() if model.stored}
    bronze: dict[str, Change] = dict.fromkeys(bronze_schemas(CONTRACTS), "same")

    steps = plan(small_models(CONTRACTS, **changed), published, bronze, full=False)

    restated = {step.name for step in steps if step.restated}
    assert restated == {"gold.costs", "gold.org_costs"}
    assert {step.name for step in steps if step.action == "recompute"} == restated


def test_a_new_model_is_computed_from_everything(models: Models) -> None:
    bronze: dict[str, Change] = dict.fromkeys(bronze_schemas(CONTRACTS), "same")
    published = {
        name: model.sha256
        for name, model in models.by_name.items()
        if model.stored and name != "gold.costs"
    }

    found = {step.name: step for step in plan(models, published, bronze, full=False)}

    assert (found["gold.costs"].action, found["gold.costs"].why) == ("recompute", "it is new")
    assert not found["gold.costs"].restated
    assert found["gold.org_costs"].action == "recompute"


DERIVED = """/* ---
description: Cost of all days, added up from the days.
owner: a@example.com
kind: mergeable
grain: [org_id]
columns: {org_id: Organisation., cost_usd: {unit: USD, doc: Cost.}, event_count: Events.}
serving: {partition_key: [org_id], clustering: []}
--- */
SELECT
    cost.org_id::VARCHAR AS org_id,
    coalesce(sum(cost.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    coalesce(sum(cost.event_count), 0)::BIGINT AS event_count
FROM gold.costs AS cost
GROUP BY cost.org_id
"""


def test_what_is_derived_from_a_merged_table_is_merged_too() -> None:
    models = small_models(CONTRACTS, gold_total=DERIVED)
    assert models.problems == ()

    assert actions(models)["gold.total"] == "keep"
    assert actions(models, usage_events="grown")["gold.total"] == "merge"
    assert actions(models, usage_events="replaced")["gold.total"] == "recompute"


def test_what_is_derived_from_a_table_that_is_new_is_computed_whole() -> None:
    models = small_models(CONTRACTS, gold_total=DERIVED)
    bronze: dict[str, Change] = dict.fromkeys(bronze_schemas(CONTRACTS), "same")
    bronze["bronze.usage_events"] = "grown"
    published = {"gold.total": models["gold.total"].sha256}

    found = {step.name: step.action for step in plan(models, published, bronze, full=False)}

    assert (found["gold.costs"], found["gold.total"]) == ("recompute", "recompute")
