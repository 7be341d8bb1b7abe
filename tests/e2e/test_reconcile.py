"""Metered against invoiced: exact to the last digit, and equal to an independent computation."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Any

import pytest

from e2e.generated import generated
from e2e.house import House, arrival, delivery, rows_of
from meterhouse.analysis.reconcile import AMOUNTS
from oracle import Oracle
from unit.log.house import INVOICES, event, invoice

EXACT = Context(prec=100)
NANO = Decimal("0.000000001")
MODELS = ("gold.org_daily_usage_by_service", "silver.billing_enriched")
SIGNS = {
    "metered_usd": 1,
    "events_without_invoice_usd": -1,
    "invoices_without_events_usd": 1,
    "rate_effect_usd": 1,
    "credits_usd": -1,
    "taxes_usd": 1,
    "unexplained_usd": 1,
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return generated(tmp_path_factory)


def independent(
    tables: dict[str, list[dict[str, Any]]], files: list[tuple[str, bytes]]
) -> dict[tuple[str, date], dict[str, Decimal]]:
    """The terms by organisation and month, from the oracle's tables, with Decimal alone."""
    subtotals = delivered_subtotals(files)
    metered: dict[tuple[str, date], Decimal] = {}
    for row in tables["gold.org_daily_usage_by_service"]:
        key = row["org_id"], row["usage_date"].replace(day=1)
        metered[key] = metered.get(key, Decimal(0)) + row["daily_cost_usd"]
    bills: defaultdict[tuple[str, date], list[dict[str, Any]]] = defaultdict(list)
    for row in tables["silver.billing_enriched"]:
        delivered = subtotals[row["invoice_id"]]
        subtotal = next(
            amount
            for amount, rate in reversed(delivered)
            if product(amount, rate) == row["subtotal_usd"]
        )
        bills[row["org_id"], row["month"]].append({**row, "subtotal": subtotal})
    found = {}
    for key in {*metered, *bills}:
        found[key] = terms(metered.get(key), bills.get(key))
    return found


def delivered_subtotals(files: list[tuple[str, bytes]]) -> dict[str, list[tuple[Decimal, Decimal]]]:
    """Invoice → subtotal and rate of each version, as delivered, in order of arrival."""
    found: defaultdict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for name, data in files:
        if name.startswith("billing_monthly"):
            for row in csv.DictReader(io.StringIO(data.decode())):
                amounts = (row["subtotal"] or "0", row["exchange_rate_to_usd"] or "0")
                found[row["invoice_id"]].append((Decimal(amounts[0]), Decimal(amounts[1])))
    return found


def product(amount: Decimal, rate: Decimal) -> Decimal:
    return EXACT.multiply(amount, rate).quantize(NANO, ROUND_HALF_EVEN, EXACT)


def terms(metered: Decimal | None, bills: list[dict[str, Any]] | None) -> dict[str, Decimal]:
    zero = Decimal(0)
    row = dict.fromkeys(SIGNS, zero)
    invoiced = sum((bill["total_cost_usd"] for bill in bills or []), zero)
    row["metered_usd"] = metered or zero
    if bills is None:
        row["events_without_invoice_usd"] = metered or zero
    elif metered is None:
        row["invoices_without_events_usd"] = invoiced
    else:
        for bill in bills:
            row["credits_usd"] += bill["credits_usd"]
            row["taxes_usd"] += bill["taxes_usd"]
            if bill["currency"] == "USD":
                row["rate_effect_usd"] += bill["subtotal_usd"] - bill["subtotal"]
    known = sum((row[name] * sign for name, sign in SIGNS.items()), zero)
    return row | {"unexplained_usd": invoiced - known, "invoiced_usd": invoiced}


def assert_independent(house: House, expected: dict[tuple[str, date], dict[str, Decimal]]) -> None:
    rows = rows_of(house.project.reconcile().rows)
    found = {(row["org_id"], row["month"]): row for row in rows}
    invoiced_or_metered = {key: row for key, row in found.items() if key in expected}

    assert invoiced_or_metered.keys() == expected.keys()
    for key, terms_ in expected.items():
        for name, amount in terms_.items():
            assert found[key][name] == amount, (key, name)
    for key in found.keys() - expected.keys():
        amounts = {name: found[key][name] for name in AMOUNTS}
        assert {name for name, amount in amounts.items() if amount} == {"quarantined_usd"}


def assert_identity(house: House) -> None:
    found = house.project.reconcile()
    rows = rows_of(found.rows)
    for row in rows:
        total = sum((row[name] * sign for name, sign in SIGNS.items()), Decimal(0))
        assert total == row["invoiced_usd"]
    for name in AMOUNTS:
        assert found.totals[name] == sum((row[name] for row in rows), Decimal(0))
    ledger = {(term.source, term.measure): term for term in house.verified().terms}
    cost = ledger["usage_events", "cost_usd_increment USD"]
    assert found.totals["metered_usd"] == Decimal(cost.accepted)
    assert found.totals["quarantined_usd"] == Decimal(cost.quarantined)


def test_the_identity_holds_to_the_last_digit_in_every_row(house: House) -> None:
    assert_identity(house)


def test_each_term_is_what_an_independent_program_computes(house: House) -> None:
    files = arrival(delivery(house.root.parent / "delivery"))

    assert_independent(house, independent(Oracle(files).tables, files))


@pytest.mark.sample
def test_the_sample_reconciles_exactly_and_does_not_agree(
    sample: Path, sample_house: House, sample_oracle: Any
) -> None:
    assert_identity(sample_house)
    assert_independent(sample_house, independent(sample_oracle.tables, delivery(sample)))

    ran = sample_house.cli("reconcile", "--format", "table")
    assert ran.code == 0
    assert "metered and invoiced do not agree: 160 of 240 months" in ran.out
    assert "164184.9028152" in ran.out
    assert "141241.4284" in ran.out


def test_terms_are_disjoint_and_in_order(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    house.put(
        "billing_monthly.csv",
        INVOICES
        + invoice(1, "100")  # July, with events
        + "i-2,o-1,2025-08-01,50,5,1,USD,1.1\n"  # August, with events, rate 1.1
        + "i-3,o-2,2025-07-01,70,,7,EUR,2\n",  # no events
    )
    house.put(
        "events_1.jsonl",
        event(1, cost_usd_increment=90)
        + event(2, timestamp="2025-08-02T00:00:00Z", cost_usd_increment=50)
        + event(3, timestamp="2025-09-01T00:00:00Z", cost_usd_increment=3)
        + event(4, unit=None, cost_usd_increment=11),
    )
    house.ingest()
    house.batch()

    found = house.project.reconcile()

    zero = dict.fromkeys(AMOUNTS, Decimal(0))
    expected = [
        ("o-1", date(2025, 7, 1), {"metered_usd": 90, "taxes_usd": 1, "unexplained_usd": 10,
                                   "invoiced_usd": 101, "quarantined_usd": 11}),
        ("o-1", date(2025, 8, 1), {"metered_usd": 50, "rate_effect_usd": 5, "credits_usd": "5.5",
                                   "taxes_usd": "1.1", "invoiced_usd": "50.6"}),
        ("o-1", date(2025, 9, 1), {"metered_usd": 3, "events_without_invoice_usd": 3}),
        ("o-2", date(2025, 7, 1), {"invoices_without_events_usd": 154, "invoiced_usd": 154}),
    ]  # fmt: skip
    assert rows_of(found.rows) == [
        {"org_id": org, "month": month, **zero, **{k: Decimal(v) for k, v in terms_.items()}}
        for org, month, terms_ in expected
    ]
    assert not found.agrees


def test_where_nothing_is_left_unexplained_it_says_so(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    house.put("billing_monthly.csv", INVOICES + invoice(1, "0.25"))
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.batch()

    ran = house.cli("reconcile", "--format", "table")

    assert "metered and invoiced agree in every organisation and month" in ran.out


def test_held_amounts_beyond_a_decimal_column_are_a_memo_all_the_same(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    huge = "9" * 29
    lines = [event(number).replace("0.25", huge, 1) for number in range(1, 4)]
    house.ingest(house.put("events_1.jsonl", event(9) + "".join(lines)))
    house.batch()

    row = rows_of(house.project.reconcile().rows)[0]

    assert row["quarantined_usd"] == Decimal("299999999999999999999999999997")
    assert "299999999999999999999999999997" in house.cli("reconcile", "--format", "csv").out


def test_rows_come_as_csv_and_json_with_totals(house: House) -> None:
    found = house.project.reconcile()

    csv_rows = list(csv.DictReader(io.StringIO(house.cli("reconcile", "--format", "csv").out)))
    body = json.loads(house.cli("reconcile", "--format", "json").out)

    assert len(csv_rows) == len(body["rows"]) == found.rows.num_rows
    assert list(csv_rows[0]) == ["org_id", "month", *AMOUNTS]
    assert {name: Decimal(total) for name, total in body["totals"].items()} == found.totals
    keys = [(row["org_id"] or "~", row["month"] or "~") for row in csv_rows]
    assert keys == sorted(keys)


def test_one_organisation_alone(house: House) -> None:
    org = house.project.read("gold.finops_by_org_day", limit=1)["org_id"][0].as_py()

    found = house.project.reconcile(org)

    assert set(found.rows["org_id"].to_pylist()) == {org}


def test_an_unknown_organisation_is_answered_with_the_nearest(house: House) -> None:
    org = house.project.read("gold.finops_by_org_day", limit=1)["org_id"][0].as_py()

    ran = house.cli("reconcile", "--org", org[:-1])

    assert ran.code == 2
    assert f'did you mean "{org}"?' in ran.err
