"""Invoices, tickets and masters are live too: corrections take back what they replace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterhouse.layers.bronze import bronze_schemas
from meterhouse.models.graph import models_of
from unit.layers.house import (
    House,
    org,
    shipped_contracts,
    shipped_models,
    ticket,
    with_contract,
)
from unit.layers.live import Live, live

CONTRACTS = shipped_contracts()
MODELS = shipped_models(CONTRACTS)


def invoice(number: int, subtotal: str, **changed: Any) -> dict[str, Any]:
    row = {
        "invoice_id": f"i-{number}",
        "org_id": "org-1",
        "month": date(2025, 7, 1),
        "subtotal": Decimal(subtotal),
        "currency": "USD",
        "exchange_rate_to_usd": Decimal(1),
    }
    return row | changed


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path / "house", MODELS, dict(CONTRACTS))
    yield opened
    opened.close()


@pytest.fixture
def answers(house: House) -> Live:
    return live(house)


def revenue(answers: Live) -> list[tuple[Any, ...]]:
    return [
        (row["org_id"], row["month"].month, row["subtotal_usd"], row["currencies"])
        for row in answers.served()["gold.revenue_by_org_month"]
    ]


def checked(answers: Live) -> None:
    answers.follow()
    assert answers.served() == answers.expected()


def test_an_invoice_that_is_corrected_twice_counts_once(house: House, answers: Live) -> None:
    house.take("billing_monthly", invoice(1, "10"), invoice(2, "5"))
    checked(answers)
    house.take("billing_monthly", invoice(1, "12.5"))
    house.take("billing_monthly", invoice(1, "11"))
    checked(answers)

    assert revenue(answers) == [("org-1", 7, Decimal(16), ["USD"])]


def test_a_corrected_amount_moves_where_the_count_does_not(house: House, answers: Live) -> None:
    house.take("billing_monthly", invoice(1, "10"))
    checked(answers)
    house.take("billing_monthly", invoice(1, "10.000000001"))
    checked(answers)

    assert revenue(answers) == [("org-1", 7, Decimal("10.000000001"), ["USD"])]


def test_an_invoice_that_moves_takes_its_row_along(house: House, answers: Live) -> None:
    house.take("billing_monthly", invoice(1, "10"), invoice(2, "5"))
    checked(answers)
    house.take("billing_monthly", invoice(1, "10", org_id="org-2", month=date(2025, 8, 1)))
    house.take("billing_monthly", invoice(2, "5", currency="EUR", org_id="org-2"))
    checked(answers)

    assert revenue(answers) == [
        ("org-2", 7, Decimal(5), ["EUR"]),
        ("org-2", 8, Decimal(10), ["USD"]),
    ]


def test_versions_within_one_group_of_entries_cancel_out(house: House, answers: Live) -> None:
    house.take("billing_monthly", invoice(1, "10"), invoice(1, "11"))
    house.take("billing_monthly", invoice(1, "12"))
    checked(answers)
    house.take("billing_monthly", invoice(1, "13", org_id="org-2"))
    house.take("billing_monthly", invoice(1, "12"))

    report = answers.follow()

    assert report.changed == {}
    assert answers.served() == answers.expected()


def test_the_larger_version_wins_whatever_came_last(house: House, answers: Live) -> None:
    contract = with_contract(
        CONTRACTS["billing_monthly"], "mode: upsert", "version_column: taxes\nmode: upsert"
    )
    house.contracts["billing_monthly"] = contract
    assert contract.version_column == "taxes"
    answers = live(house)
    house.take("billing_monthly", invoice(1, "10", taxes=Decimal(5)))
    checked(answers)
    house.take("billing_monthly", invoice(1, "20", taxes=Decimal(4)))
    checked(answers)
    house.take("billing_monthly", invoice(1, "30", taxes=None))
    house.take("billing_monthly", invoice(1, "40", taxes=Decimal(6)))
    checked(answers)

    assert revenue(answers) == [("org-1", 7, Decimal(40), ["USD"])]


def test_the_latest_day_goes_back_with_a_corrected_ticket(house: House, answers: Live) -> None:
    house.take("support_tickets", ticket(1), ticket(2, created_at=date(2025, 7, 9)))
    checked(answers)
    assert days(answers) == {"gold.tickets_by_org_date": "2025-07-09"}
    house.take("support_tickets", ticket(2, created_at=date(2025, 7, 1)))
    checked(answers)
    assert days(answers) == {"gold.tickets_by_org_date": "2025-07-03"}
    house.take("support_tickets", ticket(3, created_at=date(2099, 1, 1)))
    checked(answers)

    assert days(answers) == {"gold.tickets_by_org_date": "2025-07-03"}


def days(answers: Live) -> dict[str, str]:
    stored = answers.store.answers()
    assert stored is not None
    found: dict[str, str] = stored.details["latest_day"]
    return found


USERS = """/* ---
description: Organisations by plan.
owner: a@example.com
kind: mergeable
grain: [plan_tier]
columns: {plan_tier: Plan., org_count: Organisations.}
serving: {partition_key: [plan_tier], clustering: []}
--- */
SELECT org.plan_tier::VARCHAR AS plan_tier, count(*)::BIGINT AS org_count
FROM bronze.customers_orgs_current AS org
GROUP BY org.plan_tier
"""
REMOVALS = """/* ---
description: Keys that left a snapshot, by source.
owner: a@example.com
kind: mergeable
grain: [source]
columns: {source: Source., last_at: {unit: UTC, doc: When the last left.}, key_count: Keys.}
serving: {partition_key: [source], clustering: []}
--- */
SELECT
    gone.source::VARCHAR AS source,
    max(gone.ingest_ts)::TIMESTAMPTZ AS last_at,
    count(*)::BIGINT AS key_count
FROM bronze.removed_keys AS gone
GROUP BY gone.source
"""
HELD = """/* ---
description: Held organisations by reason.
owner: a@example.com
kind: mergeable
grain: [invalid_reason]
columns: {invalid_reason: Rule., longest: Raw bytes., held_count: Records.}
serving: {partition_key: [invalid_reason], clustering: []}
--- */
SELECT
    held.invalid_reason::VARCHAR AS invalid_reason,
    max(octet_length(held.raw))::BIGINT AS longest,
    count(*)::BIGINT AS held_count
FROM bronze.quarantine_customers_orgs AS held
GROUP BY held.invalid_reason
"""
VERSIONS = USERS.replace("_current", "").replace("by plan.", "by plan, all versions.")


@pytest.fixture
def masters(house: House) -> Live:
    texts = {"plans": USERS, "removals": REMOVALS, "held": HELD, "versions": VERSIONS}
    house.models = models_of(
        {f"gold.{name}": (text, f"models/gold/{name}.sql") for name, text in texts.items()},
        bronze_schemas(CONTRACTS),
    )
    assert house.models.problems == ()
    return live(house)


def plans(answers: Live) -> dict[str, int]:
    return {row["plan_tier"]: row["org_count"] for row in answers.served()["gold.plans"]}


def test_a_master_that_leaves_a_snapshot_and_comes_back(house: House, masters: Live) -> None:
    house.take("customers_orgs", org(1, plan_tier="free"), org(2, plan_tier="pro"))
    checked(masters)
    house.take("customers_orgs", org(1, plan_tier="pro"), {"org_id": "org-2", "verdict": "removed"})
    checked(masters)
    assert plans(masters) == {"pro": 1}
    house.take("customers_orgs", org(2, plan_tier="free"))
    checked(masters)
    assert plans(masters) == {"free": 1, "pro": 1}
    house.take("customers_orgs", org(2), {"org_id": "org-2", "verdict": "removed"})
    checked(masters)

    assert plans(masters) == {"pro": 1}
    (left,) = masters.served()["gold.removals"]
    assert left["key_count"] == 2


def test_held_records_and_all_versions_can_be_added_up_too(house: House, masters: Live) -> None:
    held = {"verdict": "quarantined", "invalid_reason": "org_id_missing", "raw": b"x,y"}
    house.take("customers_orgs", org(1, plan_tier="free"), org(9) | held)
    house.take("customers_orgs", org(1, plan_tier="pro"), org(9) | held | {"raw": b"longer"})
    checked(masters)

    assert masters.served()["gold.held"] == [
        {"invalid_reason": "org_id_missing", "longest": 6, "held_count": 2}
    ]
    assert [row["org_count"] for row in masters.served()["gold.versions"]] == [1, 1]


def test_versions_are_found_again_by_a_new_process(house: House, answers: Live) -> None:
    house.take("billing_monthly", invoice(1, "10"), invoice(2, "5"))
    house.take("support_tickets", ticket(1), ticket(2, csat=Decimal(3)))
    checked(answers)
    answers.speed.close()
    answers.speed = answers.fresh()
    house.take("billing_monthly", invoice(2, "6"))
    house.take(
        "support_tickets", ticket(2, csat=None, resolved_at=datetime(2025, 7, 5, tzinfo=UTC).date())
    )
    checked(answers)

    assert revenue(answers) == [("org-1", 7, Decimal(16), ["USD"])]


def test_columns_that_a_former_contract_did_not_have_are_null(house: House, answers: Live) -> None:
    house.take("billing_monthly", invoice(1, "10"))
    new = house.contracts["billing_monthly"]
    former = with_contract(new, "[subtotal, credits, taxes]", "[subtotal, credits]")
    (line,) = (line for line in new.text.splitlines() if line.startswith("  taxes:"))
    house.contracts["billing_monthly"] = with_contract(former, f"{line}\n", "")
    house.take("billing_monthly", invoice(2, "5"), invoice(3, "1"))
    house.contracts["billing_monthly"] = new
    house.take("billing_monthly", invoice(3, "2", taxes=Decimal(1)))
    checked(answers)

    assert revenue(answers) == [("org-1", 7, Decimal(17), ["USD"])]
