"""The ledger's terms: what landed against where it went, in records and in money."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache

import pyarrow as pa
import pytest

from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.log.entry import Entry
from meterhouse.names import ACCEPTED, DUPLICATE, QUARANTINED
from meterhouse.scaffold import SHIPPED
from meterhouse.verify.ledger import (
    CURRENT,
    SUPERSEDED,
    Tally,
    check_ledger,
    columns_counted,
    landed_as_logged,
    terms_of,
)
from meterhouse.verify.report import Term

DECIMAL = pa.decimal128(38, 9)


@cache
def contract(source: str) -> Contract:
    return load_contracts(SHIPPED / "contracts")[source]


def events(*rows: tuple[str, str | None]) -> pa.Table:
    """Judged events by verdict and cost."""
    return pa.table(
        {
            "verdict": [verdict for verdict, _ in rows],
            "cost_usd_increment": pa.array(
                [None if cost is None else Decimal(cost) for _, cost in rows], DECIMAL
            ),
        }
    )


def invoices(*rows: tuple[str, str | None, str]) -> pa.Table:
    """Accepted invoices by subtotal and currency."""
    amounts = pa.array([Decimal(amount) for amount, _, _ in rows], DECIMAL)
    return pa.table(
        {
            "verdict": [verdict for _, _, verdict in rows],
            "currency": pa.array([currency for _, currency, _ in rows], pa.string()),
            "subtotal": amounts,
        }
    )


def tally(source: str, rows: pa.Table) -> Tally:
    found = Tally()
    found.add(contract(source), rows)
    return found


def test_records_and_money_are_counted_by_verdict_and_add_up() -> None:
    rows = events(
        (ACCEPTED, "0.1"),
        (ACCEPTED, "0.2"),
        (QUARANTINED, "-5"),
        (DUPLICATE, "0.1"),
        (ACCEPTED, None),
    )

    records, money = terms_of(
        "usage_events", tally("usage_events", rows), tally("usage_events", rows), None
    )

    assert (records.landed, records.accepted, records.quarantined, records.duplicate) == (
        "5",
        "3",
        "1",
        "1",
    )
    assert (money.measure, money.landed) == ("cost_usd_increment USD", "-4.6")
    assert (money.accepted, money.quarantined, money.duplicate) == ("0.3", "-5", "0.1")
    assert records.holds
    assert money.holds


def test_sums_have_no_bound() -> None:
    huge = "99999999999999999999999999999.999999999"
    found = tally("usage_events", events(*[(QUARANTINED, huge)] * 40))

    (_, money) = terms_of("usage_events", found, found, None)

    assert money.landed == "3999999999999999999999999999999.99999996"


def test_each_currency_is_a_term_and_an_unknown_one_is_a_question_mark() -> None:
    rows = invoices(("10", "USD", ACCEPTED), ("20", "EUR", ACCEPTED), ("5", None, QUARANTINED))
    found = tally("billing_monthly", rows)

    terms = {term.measure: term for term in terms_of("billing_monthly", found, found, None)}

    assert terms["subtotal USD"].accepted == "10"
    assert terms["subtotal EUR"].accepted == "20"
    assert terms["subtotal ?"].quarantined == "5"


def test_of_versions_current_and_superseded_add_up_to_accepted_in_records_and_money() -> None:
    found = tally("billing_monthly", invoices(("10", "USD", ACCEPTED), ("12", "USD", ACCEPTED)))
    versions = Tally()
    billing = contract("billing_monthly")
    for kind, amount in ((CURRENT, "12"), (SUPERSEDED, "10")):
        versions.records[kind] += 1
        versions.add_money(billing, kind, invoices((amount, "USD", ACCEPTED)))

    records, money = terms_of("billing_monthly", found, found, versions)

    assert (records.current, records.superseded, records.holds) == ("1", "1", True)
    assert (money.current, money.superseded, money.holds) == ("12", "10", True)


@pytest.mark.parametrize(
    "kept",
    [
        events((ACCEPTED, "1")),
        events((ACCEPTED, "1"), (ACCEPTED, "1"), (ACCEPTED, "1")),
        events((ACCEPTED, "1"), (ACCEPTED, "1.000000001")),
    ],
    ids=["a record less", "a record more", "another amount"],
)
def test_a_term_that_does_not_add_up_is_named_with_both_sides(kept: pa.Table) -> None:
    landed = tally("usage_events", events((ACCEPTED, "1"), (ACCEPTED, "1")))

    terms = terms_of("usage_events", landed, tally("usage_events", kept), None)
    check = check_ledger(terms, "broken")

    assert check.findings
    assert all(found.severity == "broken" for found in check.findings)
    assert "usage_events" in check.findings[0].table
    assert "landed" in check.findings[0].expected
    assert "accepted" in check.findings[0].found


def test_a_lost_version_breaks_the_term() -> None:
    found = tally("billing_monthly", invoices(("10", "USD", ACCEPTED), ("12", "USD", ACCEPTED)))
    versions = Tally()
    versions.records[CURRENT] = 1

    records = terms_of("billing_monthly", found, found, versions)[0]

    assert not records.holds


def test_what_the_log_says_landed_is_taken_as_it_says() -> None:
    entry = Entry(
        position=2,
        kind="data",
        previous="",
        ingest_ts="2025-09-01T00:00:00.000000Z",
        source="usage_events",
        counts={"landed": 3, "accepted": 2, "quarantined": 1, "duplicate": 0, "blank": 1},
        money={"cost_usd_increment": {"USD": {"landed": "0.000000003", "unreadable": "1"}}},
    )

    found = landed_as_logged([entry, replace(entry, position=3)])["usage_events"]
    records, money = terms_of("usage_events", found, Tally(), None)

    assert (records.landed, records.blank) == ("6", "2")
    assert (money.landed, money.unreadable) == ("0.000000006", "2")


def test_columns_that_an_older_contract_lacked_are_left_out() -> None:
    assert columns_counted(contract("billing_monthly"), ["verdict", "subtotal", "currency"]) == [
        "verdict",
        "subtotal",
        "currency",
    ]


def test_a_term_of_an_append_source_has_no_versions() -> None:
    term = Term("s", "records", landed="0", accepted="0", quarantined="0", duplicate="0")

    assert (term.current, term.superseded) == ("", "")
