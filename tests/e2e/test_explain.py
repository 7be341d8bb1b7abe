"""Where a number comes from: every table's cells are what the records behind them add up to."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from e2e.generated import generated
from e2e.house import House, rows_of
from meterhouse.analysis.explain import Beside, Explained, Part
from meterhouse.formats import text
from unit.log.house import INVOICES, ORGS, event, invoice, org

TABLES = (
    "gold.cost_anomaly_mart",
    "gold.finops_by_org_day",
    "gold.genai_tokens_by_org_date",
    "gold.marketing_by_channel_month",
    "gold.nps_by_org",
    "gold.nps_by_org_date",
    "gold.org_daily_usage_by_service",
    "gold.revenue_by_org_month",
    "gold.revenue_by_org_month_currency",
    "gold.tickets_by_org_date",
    "gold.usage_by_5min",
    "gold.usage_sliding_15min",
    "silver.billing_enriched",
    "silver.marketing_enriched",
    "silver.nps_enriched",
    "silver.org_users",
    "silver.orgs",
    "silver.resources",
    "silver.support_tickets_enriched",
    "silver.usage_enriched",
    "silver.users",
)
NOT_ADDED_UP = ("silver.marketing_enriched", "silver.orgs", "silver.resources", "silver.users")
"""Their rows are one record each, without a number of its own."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return generated(tmp_path_factory)


def key_of(house: House, table: str, row: dict[str, Any]) -> dict[str, str]:
    return {name: text(row[name]) or "" for name in house.project.models()[table].grain}


def explained(house: House, table: str, **key: str) -> Explained:
    return house.project.explain(table, key, limit=1000)


def beside(part: Part, verdict: str) -> Beside:
    return next(found for found in part.beside if found.verdict == verdict)


def test_every_silver_and_gold_table_is_here(house: House) -> None:
    tables = house.project.at_position("information_schema").tables

    assert sorted(name for name in tables if not name.startswith("bronze.")) == list(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_the_records_add_up_to_each_cell_of_a_row(house: House, table: str) -> None:
    rows = house.project.read(table)
    row = rows_of(rows.slice(rows.num_rows // 2, 1))[0]

    found = explained(house, table, **key_of(house, table, row))

    assert found.row is not None
    assert found.mismatches == ()
    assert len(found.parts) == 1
    part = found.parts[0]
    assert part.count == part.records.num_rows > 0
    assert bool(found.compared) == (table not in NOT_ADDED_UP)
    for name in found.compared:
        assert added_up(part.records[name]) == part.sums[name] == Decimal(row[name] or 0), name
    assert_places(house, part)


def added_up(column: pa.ChunkedArray) -> Decimal:
    return sum((Decimal(value) for value in column.to_pylist() if value is not None), Decimal(0))


def assert_places(house: House, part: Part) -> None:
    """Each record is an accepted one of that source, at that file and line."""
    accepted = house.table(house.project.contracts[part.source].table)
    places = ("log_position", "row_number", "source_file", "source_line")
    known = set(zip(*(accepted[name].to_pylist() for name in places), strict=True))
    shown = list(zip(*(part.records[name].to_pylist() for name in places), strict=True))
    assert set(shown) <= known
    assert shown == sorted(shown)


def test_the_records_of_all_rows_are_all_records(house: House) -> None:
    """No record is behind two rows of a table, or behind none."""
    rows = rows_of(house.project.read("gold.tickets_by_org_date", limit=4))
    parts = [
        explained(
            house, "gold.tickets_by_org_date", **key_of(house, "gold.tickets_by_org_date", row)
        ).parts[0]
        for row in rows
    ]

    places = [
        place
        for part in parts
        for place in zip(
            part.records["log_position"].to_pylist(),
            part.records["row_number"].to_pylist(),
            strict=True,
        )
    ]
    assert len(places) == len(set(places)) == sum(row["ticket_count"] for row in rows)


def test_held_records_stand_beside_their_row_with_reason_and_money(house: House) -> None:
    held = house.project.sql(
        "SELECT org_id, lower(trim(service)) AS service, CAST(event_ts AS DATE) AS usage_date, "
        "count(*) AS records, sum(coalesce(cost_usd_increment, 0)) AS cost "
        "FROM bronze.quarantine_usage WHERE org_id IS NOT NULL AND service IS NOT NULL "
        "AND event_ts IS NOT NULL AND metric IS NOT NULL AND length(org_id) < 100 "
        "GROUP BY 1, 2, 3 ORDER BY records DESC, 1, 2, 3 LIMIT 3"
    ).to_pylist()
    assert held

    for row in held:
        key = {name: str(row[name]) for name in ("org_id", "usage_date", "service")}
        found = explained(house, "gold.org_daily_usage_by_service", **key)
        group = beside(found.parts[0], "quarantined")

        assert group.count == row["records"]
        assert group.sums["daily_cost_usd"] == row["cost"]
        assert all(group.records["reason"].to_pylist())


def test_doubled_records_stand_beside_their_row_and_add_nothing(house: House) -> None:
    events = house.table("bronze.usage_events")
    judged = house.project.sql("SELECT event_id FROM silver.usage_enriched")["event_id"]
    doubled = doubled_event(house)
    row = events.filter(pc.equal(events["event_id"], doubled)).to_pylist()[0]

    found = explained(house, "silver.usage_enriched", event_id=doubled)
    part = found.parts[0]

    assert doubled in judged.to_pylist()
    assert (part.count, found.mismatches) == (1, ())
    assert beside(part, "duplicate").count >= 1
    assert beside(part, "duplicate").sums["cost_usd_increment"] == (
        row["cost_usd_increment"] * beside(part, "duplicate").count
    )


def doubled_event(house: House) -> str:
    truth = json.loads((house.root.parent / "delivery" / "truth.json").read_text())
    number, _, first, line = truth["planted"]["duplicates"][0]
    path = house.root.parent / "delivery" / truth["files"][first]
    assert number is not None
    return str(json.loads(path.read_bytes().split(b"\n")[line - 1])["event_id"])


def test_a_conflicting_event_is_held_beside_the_one_that_counts(house: House) -> None:
    truth = json.loads((house.root.parent / "delivery" / "truth.json").read_text())
    _, _, first, line = truth["planted"]["conflicts"][0]
    path = house.root.parent / "delivery" / truth["files"][first]
    event_id = json.loads(path.read_bytes().split(b"\n")[line - 1])["event_id"]

    part = explained(house, "silver.usage_enriched", event_id=event_id).parts[0]

    assert part.count == 1
    assert beside(part, "quarantined").records["reason"].to_pylist() == ["conflicting_duplicate"]


def test_superseded_invoices_stand_beside_revenue_with_their_money(house: House) -> None:
    invoices = house.table("bronze.billing_monthly")
    counts = invoices.group_by(["invoice_id"]).aggregate([("org_id", "count")])
    corrected = counts.filter(pc.greater(counts["org_id_count"], 1))["invoice_id"][0].as_py()
    current = house.project.read("silver.billing_enriched", where=f"invoice_id = '{corrected}'")
    row = rows_of(current)[0]
    versions = rows_of(invoices.filter(pc.equal(invoices["invoice_id"], corrected)))
    older = [one for one in versions if one["subtotal"] != row["subtotal"]] or versions[:-1]

    found = explained(
        house, "gold.revenue_by_org_month", org_id=row["org_id"], month=str(row["month"])
    )

    group = beside(found.parts[0], "superseded")
    assert found.mismatches == ()
    assert group.count >= len(older)
    assert group.sums["subtotal_usd"] != 0


def test_a_superseded_master_is_explained_by_its_own_record(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("silver.orgs",))
    for name in ("Acme", "Bolt", "Acme"):
        house.put("customers_orgs.csv", ORGS + org(1, name) + org(2, "Other"))
        house.ingest()
    house.batch()

    for version, name in enumerate(("Acme 1", "Bolt 1", "Acme 1"), start=1):
        found = explained(house, "silver.orgs", org_id="o-1", version=str(version))
        part = found.parts[0]
        assert found.row is not None
        assert (found.row["org_name"], part.count) == (name, 1)
        assert part.records["log_position"].to_pylist() == [found.row["valid_from_position"]]
        assert beside(part, "superseded").count == 2


def test_definitions_show_expressions_ratios_and_what_is_read(house: House) -> None:
    row = rows_of(house.project.read("gold.marketing_by_channel_month", limit=1))[0]
    key = key_of(house, "gold.marketing_by_channel_month", row)
    words = [f"{name}={value}" for name, value in key.items()]

    out = house.cli("explain", "gold.marketing_by_channel_month", *words).out

    assert "models/gold/marketing_by_channel_month.sql" in out
    assert "silver.marketing_enriched, bronze.marketing_touches" in out
    assert "touch_count = COUNT(*)" in out
    assert "click_rate = clicked_count / touch_count, after the merge, 6 places" in out


def test_scores_of_an_anomaly_say_what_they_are_computed_over(house: House) -> None:
    row = rows_of(house.project.read("gold.cost_anomaly_mart", limit=1))[0]
    found = explained(
        house, "gold.cost_anomaly_mart", **key_of(house, "gold.cost_anomaly_mart", row)
    )

    assert "whole table" in found.definition.expressions["z_score"]
    assert found.compared == ("daily_cost_usd",)


def test_json_holds_definition_row_records_and_verdict(house: House) -> None:
    row = rows_of(house.project.read("gold.nps_by_org", limit=1))[0]

    ran = house.cli("explain", "gold.nps_by_org", f"org_id={row['org_id']}", "--format", "json")

    body = json.loads(ran.out)
    assert (ran.code, ran.err, body["adds_up"]) == (0, "", True)
    assert body["definition"]["columns"]["avg_nps_score"].startswith("nps_score_sum / scored_count")
    part = body["parts"][0]
    assert part["count"] == row["survey_count"]
    assert part["sums"]["survey_count"] == str(row["survey_count"])
    assert {"quarantined", "duplicate"} <= set(part)
    assert part["records"][0]["source_file"].endswith(".csv")


def test_a_row_that_does_not_exist_still_shows_what_is_held(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    house.ingest(house.put("events_1.jsonl", event(1, unit=None) + event(2, org_id="o-2")))
    house.batch()

    found = explained(house, "gold.finops_by_org_day", org_id="o-1", usage_date="2025-07-03")

    assert (found.row, found.parts[0].count) == (None, 0)
    assert beside(found.parts[0], "quarantined").sums["daily_cost_usd"] == Decimal("0.25")


def test_an_empty_value_finds_the_row_whose_key_is_empty(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.revenue_by_org_month",))
    house.put("billing_monthly.csv", INVOICES + "i-1,o-1,2025-07-01,10,,1,,1\n")
    house.ingest()
    house.batch()

    found = explained(
        house,
        "gold.revenue_by_org_month_currency",
        org_id="o-1",
        month="2025-07-01",
        currency="",
    )

    assert found.row is not None
    assert (found.parts[0].count, found.mismatches) == (1, ())


def test_held_amounts_too_large_to_compute_with_do_not_hide_the_row(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.revenue_by_org_month",))
    huge = "9" * 28
    house.put(
        "billing_monthly.csv",
        INVOICES + invoice(1, "10") + f"i-2,o-1,2025-07-01,{huge},,1,USD,{huge}\n",
    )
    house.ingest()
    house.batch()

    found = explained(house, "gold.revenue_by_org_month", org_id="o-1", month="2025-07-01")

    assert found.mismatches == ()
    assert beside(found.parts[0], "quarantined").records["reason"].to_pylist() == [
        "number_out_of_range"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gold.finops_by_org_dya", "a=b"), 'did you mean "gold.finops_by_org_day"?'),
        (("gold.finops_by_org_day", "org=b"), 'did you mean "org_id"?'),
        (("gold.finops_by_org_day", "org_id=b"), "needs usage_date too"),
        (("gold.finops_by_org_day", "org_id=b", "usage_date=soon"), "YYYY-MM-DD"),
        (("gold.finops_by_org_day", "org_id"), "write column=value"),
        (("bronze.usage_events", "event_id=b"), "meterhouse read bronze.usage_events"),
        (("gold.finops_by_org_day", "org_id=o'; DROP", "usage_date=2025-01-01"), ""),
    ],
)
def test_a_wrong_key_is_the_users_mistake(house: House, words: tuple[str, ...], said: str) -> None:
    ran = house.cli("explain", *words)

    assert ran.code == (2 if said else 0)
    assert said in ran.err
    assert "Traceback" not in ran.err
