"""What is delivered anew, and differently: corrections, changed contracts, changed models."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from e2e.house import DAILY, House, assert_ledger, assert_oracle, assert_same, delivery
from e2e.records import INVOICES, ORGS, TICKETS, event, events, invoice, org, orgs, ticket
from meterhouse.errors import ModelError, SourceRefusedError
from meterhouse.synth import Options, generate
from oracle import Oracle


@pytest.fixture
def billing(tmp_path: Path) -> House:
    return House.new(tmp_path / "house", models=["gold.revenue_by_org_month"])


@pytest.fixture
def support(tmp_path: Path) -> House:
    return House.new(tmp_path / "house", models=["gold.tickets_by_org_date"])


@pytest.fixture
def owned(tmp_path: Path) -> House:
    """A project with organisations and usage."""
    return House.new(tmp_path / "house", models=["silver.orgs", "silver.usage_enriched", *DAILY])


@pytest.fixture
def usage(tmp_path: Path) -> House:
    return House.new(tmp_path / "house", models=DAILY)


def done(report: Any) -> dict[str, str]:
    """Table → what the batch did to it, of those it touched."""
    return {table.name: table.action for table in report.tables if table.action != "keep"}


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and ".locks" not in path.parts
    }


def revenue(house: House) -> list[tuple[Decimal, int]]:
    return [
        (row["total_cost_usd"], row["invoice_count"])
        for row in house.rows("gold.revenue_by_org_month")
    ]


def test_an_invoice_corrected_twice_and_back_counts_once(billing: House) -> None:
    for subtotal, total in (("10", "12.1"), ("20", "23.1"), ("30", "34.1"), ("10", "12.1")):
        billing.put("billing_monthly.csv", INVOICES + invoice(subtotal))
        billing.ingest()
        billing.batch()

        assert revenue(billing) == [(Decimal(total), 1)]
        assert [row["subtotal"] for row in billing.rows("silver.billing_enriched")] == [
            Decimal(subtotal)
        ]

    term = next(term for term in billing.verified().terms if term.measure == "records")
    assert (term.landed, term.accepted, term.duplicate) == ("4", "4", "0")
    assert (term.current, term.superseded) == ("1", "3")
    assert [row["subtotal"] for row in billing.rows("bronze.billing_monthly")] == [10, 20, 30, 10]


def test_the_same_corrections_in_one_call_give_the_same_revenue(billing: House) -> None:
    for number, subtotal in enumerate(("10", "20", "30", "10.0")):
        billing.put(f"billing_monthly_{number}.csv", INVOICES + invoice(subtotal))
    billing.ingest()
    billing.batch()

    assert revenue(billing) == [(Decimal("12.1"), 1)]
    term = next(term for term in billing.verified().terms if term.measure == "records")
    assert (term.accepted, term.current, term.superseded) == ("4", "1", "3")


def test_an_invoice_that_moves_to_another_month_leaves_none_behind(billing: House) -> None:
    billing.put("billing_monthly.csv", INVOICES + invoice("10") + invoice("7", 2))
    billing.ingest()
    billing.batch()
    moved = invoice("10").replace("2025-07-01", "2025-08-01") + invoice("7", 2)
    billing.put("billing_monthly.csv", INVOICES + moved)
    billing.ingest()
    billing.batch()

    rows = billing.rows("gold.revenue_by_org_month")
    assert [(str(row["month"]), row["invoice_count"]) for row in rows] == [
        ("2025-07-01", 1),
        ("2025-08-01", 1),
    ]
    billing.verified()


def test_a_ticket_resolved_reopened_and_resolved_is_resolved_once(support: House) -> None:
    found = []
    for resolved in ("", "2025-07-05", "", "2025-07-05"):
        support.put("support_tickets.csv", TICKETS + ticket(resolved) + ticket("", 2))
        support.ingest()
        support.batch()
        (row,) = support.rows("gold.tickets_by_org_date")
        found.append((row["ticket_count"], row["resolved_count"], row["resolution_hours_sum"]))

    assert found == [(2, 0, 0), (2, 1, 48), (2, 0, 0), (2, 1, 48)]
    term = next(term for term in support.verified().terms if term.measure == "records")
    assert (term.landed, term.accepted, term.duplicate) == ("8", "5", "3")


def test_an_old_file_under_another_name_takes_nothing_back(billing: House) -> None:
    billing.put("billing_monthly.csv", INVOICES + invoice("10"))
    billing.ingest()
    billing.put("billing_monthly.csv", INVOICES + invoice("20"))
    billing.ingest()
    billing.batch()
    before = billing.tables()

    billing.put("billing_monthly_restored.csv", INVOICES + invoice("10"))
    billing.ingest()
    billing.batch()

    assert_same(billing.tables(), before)
    assert revenue(billing) == [(Decimal("23.1"), 1)]
    ledger = billing.ledger()["billing_monthly"]
    assert (ledger["landed"], ledger["duplicate"]) == (3, 1)


def test_corrections_in_place_and_under_other_names_come_to_what_the_oracle_says(
    billing: House,
) -> None:
    first, second, third = (INVOICES + invoice(subtotal) for subtotal in ("10", "20", "10.00"))
    arrivals = [
        ("billing_monthly.csv", first),
        ("billing_monthly_old.csv", first),  # a copy: duplicates
        ("billing_monthly.csv", second),
        ("billing_monthly_old.csv", second),  # a copy again
        ("billing_monthly.csv", first),  # back to what it was itself: a correction
        ("billing_monthly_new.csv", third),  # the same by value: equal to what is current
        ("billing_monthly_old.csv", second),  # already done
    ]
    for name, text in arrivals:
        billing.put(name, text)
        billing.ingest(billing.inbox / name)
    billing.batch()

    oracle = Oracle([(name, text.encode()) for name, text in arrivals])
    assert_oracle(billing, oracle, ["silver.billing_enriched", "gold.revenue_by_org_month"])
    assert_ledger(billing, oracle)
    assert revenue(billing) == [(Decimal("12.1"), 1)]


def test_a_renamed_org_has_two_versions_and_old_events_bear_the_new_name(owned: House) -> None:
    owned.put("customers_orgs.csv", ORGS + org(1, "Before") + org(2))
    owned.put("events_1.jsonl", event(1))
    owned.ingest()
    owned.batch()
    owned.put("customers_orgs.csv", ORGS + org(1, "After") + org(2))
    owned.ingest()
    report = owned.batch()

    rows = [row for row in owned.rows("silver.orgs") if row["org_id"] == "o-1"]
    assert [(row["org_name"], row["version"], row["is_current"]) for row in rows] == [
        ("Before", 1, False),
        ("After", 2, True),
    ]
    assert rows[0]["valid_to_position"] == rows[1]["valid_from_position"]
    assert rows[0]["valid_to"] == rows[1]["valid_from"]
    assert [row["org_name"] for row in owned.rows("silver.usage_enriched")] == ["After"]
    assert "gold.org_daily_usage_by_service" not in done(report)
    owned.verified()


def test_an_org_renamed_and_renamed_back_has_three_versions(owned: House) -> None:
    for name in ("Acme", "Apex", "Acme"):
        owned.put("customers_orgs.csv", ORGS + org(1, name))
        owned.ingest()
        owned.batch()

    rows = owned.rows("silver.orgs")
    assert [(row["org_name"], row["is_current"]) for row in rows] == [
        ("Acme", False),
        ("Apex", False),
        ("Acme", True),
    ]


def test_an_org_missing_from_tonights_list_is_gone_until_it_returns(owned: House) -> None:
    owned.put("customers_orgs.csv", orgs(*range(1, 11)))
    owned.put("events_1.jsonl", event(1))
    owned.ingest()
    owned.batch()
    owned.put("customers_orgs.csv", orgs(*range(2, 11)))

    ran = owned.cli("ingest", str(owned.inbox))
    owned.batch()

    assert ran.code == 0
    assert "keys removed        1" in ran.out
    (first, *_) = owned.rows("silver.orgs")
    assert (first["org_id"], first["is_current"]) == ("o-1", False)
    assert first["valid_to"] is not None
    (row,) = owned.rows("silver.usage_enriched")
    assert (row["org_known"], row["org_name"]) == (False, None)
    assert [row["daily_cost_usd"] for row in owned.rows("gold.finops_by_org_day")] == [
        Decimal("0.25")
    ]
    owned.verified()

    owned.put("customers_orgs.csv", orgs(*range(1, 11)))
    owned.ingest()
    owned.batch()

    assert [row["org_known"] for row in owned.rows("silver.usage_enriched")] == [True]
    assert [row["version"] for row in owned.rows("silver.orgs")][:2] == [1, 2]
    owned.verified()


def test_a_list_that_lost_half_its_orgs_stops_that_source_only(owned: House) -> None:
    owned.put("customers_orgs.csv", orgs(*range(1, 11)))
    owned.ingest()
    owned.batch()
    owned.put("customers_orgs.csv", orgs(*range(1, 6)))
    owned.put("events_1.jsonl", event(7, org_id="o-7"))

    ran = owned.cli("ingest", str(owned.inbox))

    assert ran.code == 1
    assert 'stopped source "customers_orgs"' in ran.err
    assert "inbox/customers_orgs.csv" in ran.err
    assert "shrink_limit" in ran.err
    assert "Traceback" not in ran.err
    owned.batch()
    assert [row["org_known"] for row in owned.rows("silver.usage_enriched")] == [True]
    assert owned.table("silver.orgs").num_rows == 10
    owned.verified()

    owned.edit("contracts/customers_orgs.yaml", "shrink_limit: 0.2", "shrink_limit: 0.5")
    owned.ingest()
    owned.batch()

    assert [row["org_known"] for row in owned.rows("silver.usage_enriched")] == [False]
    assert sum(row["is_current"] for row in owned.rows("silver.orgs")) == 5
    owned.verified()


def test_an_added_rule_holds_for_what_lands_after_it(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3, region="mars"))
    usage.ingest()
    usage.batch()
    usage.edit(
        "contracts/usage_events.yaml",
        "  - name: conflicting_duplicate",
        "  - name: region_unknown\n    holds: region <> 'mars'\n    severity: quarantine\n"
        "    because: We have no region there.\n  - name: conflicting_duplicate",
    )
    usage.put("events_2.jsonl", events(3, 6, region="mars"))
    usage.ingest()
    report = usage.batch()

    assert done(report) == {"bronze.quarantine_usage": "append"}
    assert [row["event_count"] for row in usage.rows("gold.finops_by_org_day")] == [3]
    held = usage.rows("bronze.quarantine_usage")
    assert [(row["event_id"], row["invalid_reason"]) for row in held] == [
        (f"e-{number}", "region_unknown") for number in range(4, 7)
    ]
    ledger = usage.ledger()["usage_events"]
    assert (ledger["accepted"], ledger["quarantined"], ledger["duplicate"]) == (3, 3, 1)


def test_an_added_column_is_null_for_what_landed_before_it(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 2))
    usage.ingest()
    usage.batch()
    add_column(usage, "  team: {type: text, doc: Team that pays.}")
    usage.put("events_2.jsonl", event(3, team="blue") + event(4))
    usage.ingest()
    usage.batch()

    rows = usage.rows("bronze.usage_events")
    assert [(row["event_id"], row["team"]) for row in rows] == [
        ("e-1", None),
        ("e-2", None),
        ("e-3", "blue"),
        ("e-4", None),
    ]
    assert [row["event_count"] for row in usage.rows("gold.finops_by_org_day")] == [4]
    ran = usage.cli("read", "bronze.usage_events", "--where", "team = 'blue'", "--columns", "team")
    assert ran.out == "team\nblue\n"
    usage.verified()


def test_an_undeclared_field_is_kept_and_once_declared_a_column(usage: House) -> None:
    usage.put("events_1.jsonl", event(1, team="red") + event(2))
    usage.ingest()
    usage.batch()
    assert [row["extra"] for row in usage.rows("bronze.usage_events")] == ['{"team":"red"}', None]
    assert "team" in usage.cli("status").out

    add_column(usage, "  team: {type: text, doc: Team that pays.}")
    usage.put("events_2.jsonl", event(3, team="blue"))
    usage.ingest()
    usage.batch()

    rows = usage.rows("bronze.usage_events")
    assert [(row["team"], row["extra"]) for row in rows] == [
        (None, '{"team":"red"}'),
        (None, None),
        ("blue", None),
    ]
    usage.verified()


def test_a_copy_stays_a_duplicate_when_its_field_was_declared_meanwhile(usage: House) -> None:
    line = event(1, team="red", weight=12.5, fast=True)
    usage.put("events_1.jsonl", line)
    usage.ingest()
    add_column(
        usage,
        "  team: {type: text, doc: Team that pays.}\n"
        "  weight: {type: decimal, doc: Its weight.}\n"
        "  fast: {type: boolean, doc: Whether it is in a hurry.}",
    )
    usage.put("events_2.jsonl", line + event(2, team="red"))
    usage.ingest()
    usage.batch()

    ledger = usage.ledger()["usage_events"]
    assert (ledger["accepted"], ledger["quarantined"], ledger["duplicate"]) == (2, 0, 1)


def add_column(house: House, column: str) -> None:
    house.edit(
        "contracts/usage_events.yaml", "\nderived: # computed", f"{column}\n\nderived: # computed"
    )


def test_a_changed_model_recomputes_what_depends_on_it_and_says_so(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.batch()
    first = generation(usage)
    usage.edit(
        "models/gold/finops_by_org_day.sql",
        "sum(daily.requests), 0)::DECIMAL(38, 9) AS requests",
        "sum(daily.event_count), 0)::DECIMAL(38, 9) AS requests",
    )

    ran = usage.cli("batch")

    assert ran.code == 0, ran.err
    lines = [line for line in ran.out.splitlines() if "gold." in line]
    assert [line.split()[0] for line in lines] == ["gold.finops_by_org_day"]
    assert "its model, or one that it reads, changed" in lines[0]
    assert [row["requests"] for row in usage.rows("gold.finops_by_org_day")] == [3]
    assert generation(usage) == first + 1

    usage.edit("models/silver/usage.sql", "lower(trim(event.service, ' '))", "'cloud'")
    report = usage.batch()

    assert done(report) == {
        "gold.finops_by_org_day": "recompute",
        "gold.org_daily_usage_by_service": "recompute",
    }
    assert [row["service"] for row in usage.rows("gold.org_daily_usage_by_service")] == ["cloud"]
    usage.verified()


def generation(house: House) -> int:
    published = house.project.published()
    assert published is not None
    return published.generation


BY_REGION = """\
/* ---
description: Charges by region and day.
owner: me@example.com
kind: mergeable
grain: [region, usage_date]
columns:
  region: Where it was used.
  usage_date: {unit: UTC, doc: Day.}
  cost_usd: {unit: USD, doc: Charges.}
  event_count: Events.
serving: {partition_key: [region], clustering: [usage_date]}
audits:
  - unique: [region, usage_date]
  - same_total: {cost_usd: gold.org_daily_usage_by_service.daily_cost_usd}
--- */
SELECT
    usage.region::VARCHAR AS region,
    usage.event_date::DATE AS usage_date,
    coalesce(sum(usage.cost_usd_increment), 0)::DECIMAL(38, 9) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM silver.usage AS usage
GROUP BY usage.region, usage.event_date
"""


UNWANTED = "SELECT * FROM gold.cost_by_region WHERE region = 'mars'"


def add_model(house: House, text: str = BY_REGION) -> None:
    (house.root / "models" / "gold" / "cost_by_region.sql").write_text(text)


def test_a_model_that_the_user_adds_is_a_table_of_the_next_batch(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3) + event(4, region=None))
    usage.ingest()
    usage.batch()
    add_model(usage)

    report = usage.batch()

    assert done(report) == {"gold.cost_by_region": "recompute"}
    ran = usage.cli("read", "cost_by_region")
    assert ran.out == (
        "region,usage_date,cost_usd,event_count\n"
        "unknown,2025-07-03,0.25,1\n"
        "us-east,2025-07-03,0.75,3\n"
    )
    usage.verified()

    usage.put("events_2.jsonl", events(5, 6))
    usage.ingest()
    assert done(usage.batch())["gold.cost_by_region"] == "merge"
    assert [row["event_count"] for row in usage.rows("gold.cost_by_region")] == [1, 5]
    usage.verified()

    (usage.root / "models" / "gold" / "cost_by_region.sql").unlink()
    assert usage.batch().dropped == ("gold.cost_by_region",)
    assert usage.cli("read", "gold.cost_by_region").code == 2
    usage.verified()


def test_an_audit_that_fails_publishes_nothing_and_names_the_rows(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.batch()
    published = (usage.root / "lake" / "published.json").read_bytes()
    answer = usage.cli("query", "daily-cost").out
    unwanted = BY_REGION.replace("audits:\n", f"audits:\n  - nothing_on_mars: {UNWANTED}\n")
    add_model(usage, unwanted)
    usage.put("events_2.jsonl", events(4, 9) + event(10, region="mars", cost_usd_increment=7))
    usage.ingest()

    ran = usage.cli("batch")

    assert ran.code in (1, 2)
    assert "nothing_on_mars" in ran.err
    assert "gold.cost_by_region" in ran.err
    assert "mars" in ran.err.replace("nothing_on_mars", "")
    assert "Traceback" not in ran.err
    assert (usage.root / "lake" / "published.json").read_bytes() == published
    assert usage.cli("query", "daily-cost").out == answer
    assert usage.cli("read", "gold.cost_by_region").code == 2
    with pytest.raises(ModelError, match="nothing_on_mars"):
        usage.project.batch()
    usage.verified()

    add_model(usage)
    usage.batch()

    assert [row["event_count"] for row in usage.rows("gold.finops_by_org_day")] == [10]
    usage.verified()


def test_an_audit_is_run_again_when_the_other_table_that_it_reads_changed(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    add_model(usage)
    usage.batch()
    usage.edit(
        "models/gold/org_daily_usage_by_service.sql",
        "FROM silver.usage AS usage",
        "FROM silver.usage AS usage WHERE usage.event_id <> 'e-1'",
    )
    usage.edit(
        "models/gold/org_daily_usage_by_service.sql",
        "  - same_total: {daily_cost_usd: silver.usage.cost_usd_increment}\n",
        "",
    )

    with pytest.raises(ModelError, match=r"gold\.cost_by_region") as refused:
        usage.project.batch()

    assert "same_total" in str(refused.value)
    assert [row["event_count"] for row in usage.rows("gold.finops_by_org_day")] == [3]


def test_a_model_that_is_not_valid_stops_nothing_but_itself(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.batch()
    add_model(usage, BY_REGION.replace("count(*)::BIGINT", "avg(usage.cost_usd_increment)::DOUBLE"))
    usage.put("events_2.jsonl", events(4, 5))
    usage.ingest()

    ran = usage.cli("batch")

    assert ran.code == 0
    assert "models/gold/cost_by_region.sql" in ran.err
    assert [row["event_count"] for row in usage.rows("gold.finops_by_org_day")] == [5]
    usage.verified()


STEPS = 4


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """A generated delivery with corrections of every kind among it."""
    folder = tmp_path_factory.mktemp("corrected") / "delivery"
    options = Options(
        events=800, orgs=10, days=20, seed=21, duplicates=0.05, poison=0.05, files=STEPS
    )
    generate(folder, options)
    return delivery(folder)


def test_many_small_batches_and_one_full_one_give_the_tables_of_one_large(
    corrected: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    house = House.new(tmp_path / "house")
    parts = steps(corrected)
    actions: set[str] = set()
    for part in parts:
        for name, data in part:
            house.put(name, data)
        house.ingest()
        actions |= set(done(house.batch()).values())
    small = house.tables(layers=("bronze", "silver", "gold"))
    assert {"append", "merge", "recompute"} <= actions
    assert_oracle(house, Oracle([file for part in parts for file in part]))

    report = house.batch(full=True)

    assert all(table.action == "recompute" for table in report.tables)
    assert_same(house.tables(layers=("bronze", "silver", "gold")), small)
    house.verified()


def steps(delivered: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
    """The delivery in steps: masters first, then a file of events each, corrections between."""
    stream = [file for file in delivered if "stream" in file[0]]
    first = [file for file in delivered if "_2" not in file[0] and "stream" not in file[0]]
    later = [file for file in delivered if "_2" in file[0] and "stream" not in file[0]]
    later.sort(key=lambda file: file[0].rpartition("_")[2])
    parts = [first]
    for number, file in enumerate(stream):
        share = later[number * len(later) // STEPS : (number + 1) * len(later) // STEPS]
        parts += [sorted(share), [file]] if number == 0 else [[*sorted(share), file]]
    return [part for part in parts if part]


def test_a_batch_with_nothing_new_changes_nothing_and_says_so(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.batch()
    before = files(usage.root)

    report, ran = usage.batch(), usage.cli("batch")

    assert not report.changed
    assert (ran.code, ran.out.splitlines()[0][:11]) == (0, "nothing new")
    assert files(usage.root) == before


def test_ingesting_again_changes_nothing_and_says_so(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.batch()
    log = files(usage.root / "log")

    ran = usage.cli("ingest", str(usage.inbox))

    assert ran.code == 0
    assert "0 files taken, 1 already done" in ran.out
    assert files(usage.root / "log") == log
    assert not usage.batch().changed


def test_a_source_that_refuses_a_file_publishes_the_others(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.put("events_1.jsonl", events(2, 3))
    usage.put("events_2.jsonl", event(9))

    report = usage.project.ingest(usage.inbox)

    assert [type(error) for error in report.errors] == [SourceRefusedError]
    usage.batch()
    assert [row["event_count"] for row in usage.rows("gold.finops_by_org_day")] == [4]
    usage.verified()


def test_what_a_publication_stands_for_is_in_its_answers(usage: House) -> None:
    usage.put("events_1.jsonl", events(1, 3))
    usage.ingest()
    usage.batch()
    usage.put("events_2.jsonl", event(9))
    head = usage.ingest().stamp.position

    before = json.loads(usage.cli("query", "daily-cost", "--format", "json").out)["as_of"]
    usage.batch()
    after = json.loads(usage.cli("query", "daily-cost", "--format", "json").out)["as_of"]

    assert before["log_position"] == head - 1
    assert after["log_position"] == head
