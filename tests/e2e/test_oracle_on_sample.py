"""The oracle against the figures that were counted by hand on the sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from oracle import Oracle

pytestmark = pytest.mark.sample


@pytest.fixture(scope="module")
def oracle(sample: Path) -> Oracle:
    files = sorted(path for path in sample.rglob("*") if path.is_file())
    return Oracle([(str(path.relative_to(sample)), path.read_bytes()) for path in files])


def total(rows: Iterable[dict[str, Any]], column: str) -> Decimal:
    return sum((row[column] for row in rows), start=Decimal(0))


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("customers_orgs", 80),
        ("users", 800),
        ("resources", 400),
        ("billing_monthly", 240),
        ("support_tickets", 1000),
        ("marketing_touches", 1500),
        ("nps_surveys", 92),
        ("usage_events", 43_200),
    ],
)
def test_every_record_of_a_source_lands(oracle: Oracle, source: str, rows: int) -> None:
    assert oracle.ledger[source]["records"]["landed"] == rows


def test_only_events_are_held_and_each_is_counted_once(oracle: Oracle) -> None:
    held = Counter(
        (verdict.source, verdict.invalid_reason)
        for verdict in oracle.verdicts
        if verdict.verdict != "accepted"
    )

    assert held == {
        ("usage_events", "cost_below_minimum"): 211,
        ("usage_events", "unit_missing"): 2033,
    }
    assert oracle.ledger["usage_events"]["records"]["accepted"] == 40_956


def test_unit_is_missing_beside_a_value_in_as_many_events_as_were_counted(
    oracle: Oracle,
) -> None:
    assert sum("unit_missing" in verdict.broken_rules for verdict in oracle.verdicts) == 2038


def test_money_landed_is_money_served_plus_money_held(oracle: Oracle) -> None:
    money = oracle.ledger["usage_events"]["money"]["cost_usd_increment"]["USD"]
    daily = oracle.tables["gold.org_daily_usage_by_service"]

    assert money["landed"] == Decimal("147433.9778")
    assert money["accepted"] == Decimal("141241.4284")
    assert money["quarantined"] == Decimal("6192.5494")
    assert total(daily, "daily_cost_usd") == Decimal("141241.4284")


def test_costs_below_the_minimum_add_up(oracle: Oracle) -> None:
    costs = [
        Decimal(verdict.raw.split(b'"cost_usd_increment": ')[1].split(b",")[0].decode())
        for verdict in oracle.verdicts
        if verdict.invalid_reason == "cost_below_minimum"
    ]

    assert sum(costs, start=Decimal(0)).quantize(Decimal("0.01")) == Decimal("-917.60")


def test_gold_has_the_rows_that_were_counted(oracle: Oracle) -> None:
    assert len(oracle.tables["gold.org_daily_usage_by_service"]) == 11_050
    assert len(oracle.tables["gold.revenue_by_org_month"]) == 240


def test_revenue_adds_up_to_the_cent(oracle: Oracle) -> None:
    revenue = total(oracle.tables["gold.revenue_by_org_month"], "total_cost_usd")

    assert revenue.quantize(Decimal("0.0001")) == Decimal("164184.9028")


def test_subtotals_of_july_and_august_are_what_was_invoiced(oracle: Oracle) -> None:
    months = (date(2025, 7, 1), date(2025, 8, 1))
    rows = [row for row in oracle.tables["gold.revenue_by_org_month"] if row["month"] in months]

    assert round(total(rows, "subtotal_usd")) == 84_403


def test_currencies_and_credit_notes_are_kept(oracle: Oracle) -> None:
    invoices = oracle.tables["silver.billing_enriched"]

    assert Counter(row["currency"] for row in invoices) == {"USD": 160, "ARS": 51, "EUR": 29}
    assert sum(row["subtotal_usd"] < 0 for row in invoices) == 13


def test_tickets_scores_and_breaches_are_as_counted(oracle: Oracle) -> None:
    tickets = oracle.tables["silver.support_tickets_enriched"]

    assert sum(row["sla_breached_bool"] for row in tickets) == 95
    assert sum(row["csat"] is None for row in tickets) == 254
    assert sum(row["resolution_hours"] is None for row in tickets) == 240
    assert {row["csat"] for row in tickets if row["csat"] is not None} == set(range(8))


def test_masters_and_surveys_are_as_counted(oracle: Oracle) -> None:
    scores = [row["nps_score"] for row in oracle.tables["silver.orgs"]]
    surveys = [row["nps_score"] for row in oracle.tables["silver.nps_enriched"]]

    assert (min(filter(None, scores)), max(filter(None, scores))) == (-38, 101)
    assert scores.count(None) == 11
    assert surveys.count(None) == 19
    assert (min(filter(None, surveys)), max(filter(None, surveys))) == (-16, 68)
    assert sum(row["tags_json"] is None for row in oracle.tables["silver.resources"]) == 83
    assert sum(row["last_login"] is None for row in oracle.tables["silver.users"]) == 139


def test_tokens_are_reported_by_genai_only(oracle: Oracle) -> None:
    usage = oracle.tables["silver.usage_enriched"]
    using = [row for row in usage if row["genai_tokens"] is not None]

    assert {row["service"] for row in using} == {"genai"}
    assert len(using) + _held_with_tokens(oracle) == 3132


def _held_with_tokens(oracle: Oracle) -> int:
    return sum(
        b'"genai_tokens"' in verdict.raw
        for verdict in oracle.verdicts
        if verdict.verdict == "quarantined"
    )


def test_latest_day_of_usage_and_of_tickets_ends_the_default_period(oracle: Oracle) -> None:
    end = date(2025, 8, 31)

    assert oracle.question("top-services") == oracle.question("top-services", as_of=end)
    assert oracle.question("ticket-sla") == oracle.question("ticket-sla", as_of=end)
    assert oracle.question("ticket-sla")


def test_a_whole_delivery_twice_changes_no_table(oracle: Oracle, sample: Path) -> None:
    names = ["billing_monthly.csv", "nps_surveys.csv", "usage_events_stream/events_part_0000.jsonl"]
    once = [(name, (sample / name).read_bytes()) for name in names]
    twice = once + [(f"again/{name}", data) for name, data in once]

    first, second = Oracle(once), Oracle(twice)

    assert second.tables == first.tables
    for source in ("billing_monthly", "nps_surveys", "usage_events"):
        records = second.ledger[source]["records"]
        assert records["landed"] == 2 * first.ledger[source]["records"]["landed"]
        assert records["duplicate"] == first.ledger[source]["records"]["landed"]
