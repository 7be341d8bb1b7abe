"""The sample, cell by cell: every table, every question and every figure, as an oracle computes."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from e2e.conftest import Computed
from e2e.house import House, Ran, assert_ledger, cli, rows_of
from oracle import canonical

pytestmark = pytest.mark.sample

TABLES = {
    "silver.billing_enriched": ("invoice_id",),
    "silver.marketing_enriched": ("touch_id",),
    "silver.nps_enriched": ("org_id", "survey_date"),
    "silver.org_users": ("org_id",),
    "silver.orgs": ("org_id",),
    "silver.resources": ("resource_id",),
    "silver.support_tickets_enriched": ("ticket_id",),
    "silver.usage_enriched": ("event_id",),
    "silver.users": ("user_id",),
    "gold.cost_anomaly_mart": ("org_id", "usage_date", "service"),
    "gold.finops_by_org_day": ("org_id", "usage_date"),
    "gold.genai_tokens_by_org_date": ("org_id", "usage_date"),
    "gold.marketing_by_channel_month": ("channel", "campaign", "month"),
    "gold.nps_by_org": ("org_id",),
    "gold.org_daily_usage_by_service": ("org_id", "usage_date", "service"),
    "gold.revenue_by_org_month": ("org_id", "month"),
    "gold.tickets_by_org_date": ("org_id", "ticket_date", "severity"),
    "gold.usage_by_5min": ("window_start", "org_id", "service", "region"),
    "gold.usage_sliding_15min": ("window_start", "org_id", "service", "region"),
}
"""Every table of silver and gold, by the grain that its printed rows are sorted by."""

NESTED = {"resource_tags", "tags", "currencies"}


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def by_grain(rows: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    """The oracle's rows in the order in which they must be printed."""
    return sorted(rows, key=lambda row: [canonical(row[column]) for column in TABLES[table]])


LARGE = {
    "silver.usage_enriched": "event_date",
    "gold.usage_by_5min": "window_start",
    "gold.usage_sliding_15min": "window_start",
}
"""Tables that take long to print, with the column their middle is told by."""


def shortened(rows: list[dict[str, Any]], table: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the largest tables' middle only, and the options that ask for them."""
    column = LARGE.get(table)
    if column is None:
        return rows, []
    lo, hi = "2025-07-16", "2025-07-20"
    where = f"{column} >= '{lo}' AND {column} < '{hi}'"
    return [row for row in rows if lo <= (canonical(row[column]) or "") < hi], ["--where", where]


def as_printed(row: dict[str, Any], *, null: str | None) -> dict[str, Any]:
    """The oracle's row as CSV prints it, lists and maps parsed."""
    printed: dict[str, Any] = {}
    for name, value in row.items():
        text = canonical(value)
        printed[name] = null if text is None else value if name in NESTED else text
    return printed


def test_the_oracle_computes_every_table_of_silver_and_gold(
    sample_house: House, sample_oracle: Computed
) -> None:
    published = sample_house.project.published()
    assert published is not None

    assert set(TABLES) == set(sample_oracle.tables)
    views = set(sample_house.project.at_position("information_schema").tables) - set(
        published.tables
    )
    assert views == {"gold.usage_sliding_15min"}
    assert set(TABLES) <= set(published.tables) | views


@pytest.mark.parametrize("table", TABLES)
def test_a_table_read_in_python_is_the_oracles(
    sample_house: House, sample_oracle: Computed, table: str
) -> None:
    expected = by_grain(sample_oracle.tables[table], table)

    found = sample_house.rows(table)

    columns = list(expected[0])
    assert [[row[name] for name in columns] for row in found] == [
        list(row.values()) for row in expected
    ]
    for name in columns:  # 1 and Decimal(1) are equal, but not the same
        kinds = ({type(row[name]) for row in rows} for rows in (found, expected))
        assert len(set(map(frozenset, kinds))) == 1, name


@pytest.mark.parametrize("table", TABLES)
def test_a_table_printed_as_csv_is_the_oracles(
    sample_house: House, sample_oracle: Computed, table: str
) -> None:
    expected, options = shortened(by_grain(sample_oracle.tables[table], table), table)

    ran = sample_house.cli("read", table, "--format", "csv", *options)

    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].split(",") == sample_house.table(table).schema.names
    found = parsed(ran.out)
    columns = list(expected[0])
    printed = [
        {
            name: json.loads(row[name]) if name in NESTED and row[name] else row[name]
            for name in columns
        }
        for row in found
    ]
    assert printed == [as_printed(row, null="") for row in expected]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_printed_as_json_is_the_oracles(
    sample_house: House, sample_oracle: Computed, table: str
) -> None:
    expected, options = shortened(by_grain(sample_oracle.tables[table], table), table)

    ran = sample_house.cli("read", table, "--format", "json", *options)

    assert ran.code == 0, ran.err
    body = json.loads(ran.out)
    assert body["columns"] == sample_house.table(table).schema.names
    assert set(body["as_of"]) >= {"log_position", "ingest_ts", "age_s"}
    columns = list(expected[0])
    for found, row in zip(body["rows"], expected, strict=True):
        for column in columns:
            value = found[column]
            assert type(value) is json_type(row[column]), (column, value)
            if column not in NESTED:
                value = canonical(value)
            assert value == (row[column] if column in NESTED else canonical(row[column])), column


def json_type(value: Any) -> type:
    """Decimals, days and times are strings in JSON; counts, flags, lists and maps are native."""
    return type(value) if isinstance(value, bool | int | list | dict | None) else str


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("daily-cost", {}),
    ("daily-cost", {"org": "ORG"}),
    ("daily-cost", {"service": "genai"}),
    ("daily-cost", {"from_": date(2025, 7, 10), "to": date(2025, 7, 12)}),
    ("daily-cost", {"org": "ORG", "service": "compute", "from_": date(2025, 8, 30)}),
    ("top-services", {}),
    ("top-services", {"org": "ORG"}),
    ("top-services", {"days": 3, "limit": 2}),
    ("top-services", {"days": 1, "as_of": date(2025, 7, 3)}),
    ("top-services", {"org": "ORG", "days": 60, "as_of": date(2025, 8, 20), "limit": 1}),
    ("ticket-sla", {}),
    ("ticket-sla", {"org": "ORG", "severity": "low", "days": 365}),
    ("ticket-sla", {"severity": "medium", "as_of": date(2025, 8, 1)}),
    ("ticket-sla", {"severity": "high", "days": 90}),
    ("monthly-revenue", {}),
    ("monthly-revenue", {"org": "ORG"}),
    ("monthly-revenue", {"from_": date(2025, 7, 1), "to": date(2025, 7, 1)}),
    ("monthly-revenue", {"org": "ORG", "from_": date(2025, 8, 1)}),
    ("genai-usage", {}),
    ("genai-usage", {"by": "day", "org": "ORG"}),
    ("genai-usage", {"by": "month"}),
    ("genai-usage", {"by": "month", "org": "ORG", "from_": date(2025, 8, 1)}),
    ("genai-usage", {"from_": date(2025, 8, 30), "to": date(2025, 8, 31)}),
    ("anomalies", {}),
    ("anomalies", {"org": "ORG"}),
    ("anomalies", {"service": "compute", "from_": date(2025, 8, 1)}),
    ("anomalies", {"from_": date(2025, 7, 20), "to": date(2025, 8, 10)}),
]


def named(case: Any) -> str:
    return str(case) if isinstance(case, str) else ",".join(f"{k}={v}" for k, v in case.items())


def asked(name: str, arguments: dict[str, Any], oracle: Computed) -> dict[str, Any]:
    """Put the organisation with the most to say in the place of ORG."""
    table = {
        "ticket-sla": "gold.tickets_by_org_date",
        "monthly-revenue": "gold.revenue_by_org_month",
        "genai-usage": "gold.genai_tokens_by_org_date",
        "anomalies": "gold.cost_anomaly_mart",
    }.get(name, "gold.org_daily_usage_by_service")
    most = Counter(row["org_id"] for row in oracle.tables[table]).most_common(1)[0][0]
    return {key: most if value == "ORG" else value for key, value in arguments.items()}


def flags(arguments: dict[str, Any]) -> list[str]:
    return [
        part
        for key, value in arguments.items()
        for part in (f"--{key.strip('_').replace('_', '-')}", str(value))
    ]


@pytest.mark.parametrize(("name", "arguments"), QUESTIONS, ids=named)
def test_a_question_is_answered_as_the_oracle_does(
    sample_house: House, sample_oracle: Computed, name: str, arguments: dict[str, Any]
) -> None:
    arguments = asked(name, arguments, sample_oracle)
    expected = sample_oracle.question(name, **arguments)
    assert expected, "an empty answer proves nothing"

    answer = sample_house.project.query(name, **arguments)

    columns = [column.name for column in answer.columns]
    assert columns == list(expected[0])
    found = [dict(zip(columns, row, strict=True)) for row in answer.rows]
    assert found == expected
    table = answer.table()
    assert not any(pa.types.is_floating(kind) for kind in table.schema.types)
    assert rows_of(table) == expected


@pytest.mark.parametrize(("name", "arguments"), QUESTIONS, ids=named)
def test_a_question_is_printed_as_the_oracle_answers(
    sample_house: House, sample_oracle: Computed, name: str, arguments: dict[str, Any]
) -> None:
    arguments = asked(name, arguments, sample_oracle)
    expected = sample_oracle.question(name, **arguments)

    as_csv, as_json, as_lines = (
        sample_house.cli("query", name, *flags(arguments), "--format", form)
        for form in ("csv", "json", "jsonl")
    )

    assert (as_csv.code, as_json.code, as_lines.code) == (0, 0, 0), as_csv.err
    assert parsed(as_csv.out) == [as_printed(row, null="") for row in expected]
    body = json.loads(as_json.out)
    assert body["columns"] == list(expected[0])
    assert body["rows"] == [json.loads(line) for line in as_lines.out.splitlines()]
    for found, row in zip(body["rows"], expected, strict=True):
        assert [type(value) for value in found.values()] == [
            json_type(value) for value in row.values()
        ]
        assert {key: canonical(value) for key, value in found.items()} == as_printed(row, null=None)


def test_standard_output_carries_the_answer_alone(sample_house: House) -> None:
    ran = sample_house.cli("query", "monthly-revenue")

    assert ran.out.splitlines()[0].startswith("org_id,month,subtotal_usd")
    assert "as of log position" in ran.err
    assert "as of" not in ran.out


def test_answers_say_how_many_rows_reported(sample_house: House, sample_oracle: Computed) -> None:
    body = json.loads(sample_house.cli("query", "daily-cost", "--format", "json").out)
    daily = sample_oracle.tables["gold.org_daily_usage_by_service"]

    assert body["coverage"]["requests"] == {
        "reported": sum(row["requests_reported_count"] for row in daily),
        "of": sum(row["event_count"] for row in daily),
    }


def test_the_ledger_is_the_oracles_and_holds(sample_house: House, sample_oracle: Computed) -> None:
    assert_ledger(sample_house, sample_oracle)  # type: ignore[arg-type]


def test_every_held_record_is_in_quarantine_with_bytes_place_and_reasons(
    sample_house: House, sample_oracle: Computed, sample: Path
) -> None:
    expected = Counter(
        (item.file, item.line, item.raw, item.invalid_reason, item.broken_rules)
        for item in sample_oracle.verdicts
        if item.verdict == "quarantined"
    )

    rows = sample_house.rows("bronze.quarantine_usage")

    found = Counter(
        (
            str(Path(row["source_file"]).relative_to(sample)),
            row["source_line"],
            row["raw"],
            row["invalid_reason"],
            tuple(row["broken_rules"]),
        )
        for row in rows
    )
    assert found == expected
    assert all(row["raw_text"] == row["raw"].decode() for row in rows)


def test_every_accepted_record_is_in_bronze_with_its_place(
    sample_house: House, sample_oracle: Computed, sample: Path
) -> None:
    expected = Counter(
        (item.source, item.file, item.line)
        for item in sample_oracle.verdicts
        if item.verdict == "accepted"
    )

    found = Counter(
        (source, str(Path(file).relative_to(sample)), line)
        for source in sample_oracle.ledger
        for table in [sample_house.table(f"bronze.{source}")]
        for file, line in zip(
            table["source_file"].to_pylist(), table["source_line"].to_pylist(), strict=True
        )
    )

    assert found == expected


FIGURES = {
    "organisations": ("SELECT count(*) FROM bronze.customers_orgs", 80),
    "lowest and highest index of an organisation": (
        "SELECT min(nps_score) || ' ' || max(nps_score) FROM bronze.customers_orgs",
        "-38.000000000 101.000000000",
    ),
    "organisations without an index": (
        "SELECT count(*) - count(nps_score) FROM bronze.customers_orgs",
        11,
    ),
    "plan tiers": ("SELECT count(DISTINCT plan_tier) FROM bronze.customers_orgs", 4),
    "users": ("SELECT count(*) FROM bronze.users", 800),
    "users who never logged in": ("SELECT count(*) - count(last_login) FROM bronze.users", 139),
    "resources": ("SELECT count(*) FROM bronze.resources", 400),
    "resources without tags": ("SELECT count(*) - count(tags_json) FROM bronze.resources", 83),
    "states of resources": ("SELECT count(DISTINCT state) FROM silver.resources", 3),
    "invoices": ("SELECT count(*) FROM bronze.billing_monthly", 240),
    "months of invoices": ("SELECT count(DISTINCT month) FROM bronze.billing_monthly", 3),
    "organisation and month is a key of invoices too": (
        "SELECT count(*) FROM (SELECT DISTINCT org_id, month FROM bronze.billing_monthly)",
        240,
    ),
    "invoices without credits": (
        "SELECT count(*) - count(credits) FROM bronze.billing_monthly",
        137,
    ),
    "credit notes": ("SELECT count(*) FROM bronze.billing_monthly WHERE subtotal < 0", 13),
    "currencies": (
        "SELECT string_agg(currency || ' ' || n, ', ' ORDER BY n DESC) FROM "
        "(SELECT currency, count(*) AS n FROM bronze.billing_monthly GROUP BY currency)",
        "USD 160, ARS 51, EUR 29",
    ),
    "rates of USD invoices": (
        "SELECT round(min(exchange_rate_to_usd), 3) || ' ' || round(max(exchange_rate_to_usd), 3) "
        "FROM bronze.billing_monthly WHERE currency = 'USD'",
        "0.855 1.118",
    ),
    "tickets": ("SELECT count(*) FROM bronze.support_tickets", 1000),
    "open tickets": ("SELECT count(*) - count(resolved_at) FROM bronze.support_tickets", 240),
    "scores of tickets": (
        "SELECT min(csat)::INT || ' to ' || max(csat)::INT FROM bronze.support_tickets",
        "0 to 7",
    ),
    "tickets without a score": ("SELECT count(*) - count(csat) FROM bronze.support_tickets", 254),
    "touches": ("SELECT count(*) FROM bronze.marketing_touches", 1500),
    "surveys": ("SELECT count(*) FROM bronze.nps_surveys", 92),
    "surveys without a score": ("SELECT count(*) - count(nps_score) FROM bronze.nps_surveys", 19),
    "lowest and highest score of a survey": (
        "SELECT min(nps_score)::INT || ' to ' || max(nps_score)::INT FROM bronze.nps_surveys",
        "-16 to 68",
    ),
    "files of events": ("SELECT count(DISTINCT source_file) FROM events", 120),
    "lines of a file of events": (
        "SELECT string_agg(DISTINCT n::VARCHAR, ',') FROM "
        "(SELECT count(*) AS n FROM events GROUP BY source_file)",
        "360",
    ),
    "events": ("SELECT count(*) FROM events", 43_200),
    "ids of events": ("SELECT count(DISTINCT event_id) FROM events", 43_200),
    "days of events": (
        "SELECT count(DISTINCT event_ts::DATE) || ' from ' || min(event_ts)::DATE || ' to ' "
        "|| max(event_ts)::DATE FROM events",
        "60 from 2025-07-03 to 2025-08-31",
    ),
    "days on which one file begins and ends": (
        "SELECT count(DISTINCT a) || ' ' || count(DISTINCT b) FROM (SELECT min(event_ts)::DATE AS a"
        ", max(event_ts)::DATE AS b FROM events GROUP BY source_file)",
        "1 1",
    ),
    "first day of schema version 2": (
        "SELECT min(event_ts)::DATE || '' FROM events WHERE schema_version = 2",
        "2025-07-18",
    ),
    "events of version 1 with carbon or tokens": (
        "SELECT count(*) FROM events WHERE coalesce(schema_version, 1) = 1 "
        "AND (carbon_kg IS NOT NULL OR genai_tokens IS NOT NULL)",
        0,
    ),
    "events with a value": ("SELECT count(value_num) FROM events", 41_014 + 1_309),
    "events without a value": ("SELECT count(*) - count(value_num) FROM events", 877),
    "events without a unit": ("SELECT count(*) - count(unit) FROM events", 2_075),
    "events with a value and no unit": (
        "SELECT count(*) FROM events WHERE unit IS NULL AND value_num IS NOT NULL",
        2_038,
    ),
    "events that cost less than they may": (
        "SELECT count(*) FROM events WHERE cost_usd_increment < -0.01",
        211,
    ),
    "their cost": (
        "SELECT round(sum(cost_usd_increment), 2) || '' FROM events "
        "WHERE cost_usd_increment < -0.01",
        "-917.60",
    ),
    "events with tokens": ("SELECT count(genai_tokens) FROM events", 3_132),
    "services with tokens": (
        "SELECT string_agg(DISTINCT service, ',') FROM events WHERE genai_tokens IS NOT NULL",
        "genai",
    ),
    "units by metric": (
        "SELECT string_agg(DISTINCT metric || ':' || unit, ' ' ORDER BY metric || ':' || unit) "
        "FROM events WHERE unit IS NOT NULL",
        "cpu_hours:hours requests:count storage_gb_hours:gb_hours",
    ),
    "raw cost of all events": (
        "SELECT sum(coalesce(cost_usd_increment, 0)) FROM events",
        Decimal("147433.9778"),
    ),
    "held by reason": (
        "SELECT string_agg(invalid_reason || ' ' || n, ', ' ORDER BY n) FROM (SELECT "
        "invalid_reason, count(*) AS n FROM bronze.quarantine_usage GROUP BY invalid_reason)",
        "cost_below_minimum 211, unit_missing 2033",
    ),
    "accepted": ("SELECT count(*) FROM bronze.usage_events", 40_956),
    "cost in gold": (
        "SELECT sum(daily_cost_usd) FROM gold.org_daily_usage_by_service",
        Decimal("141241.4284"),
    ),
    "cost held": (
        "SELECT sum(cost_usd_increment) FROM bronze.quarantine_usage",
        Decimal("6192.5494"),
    ),
    "rows of the daily mart": ("SELECT count(*) FROM gold.org_daily_usage_by_service", 11_050),
    "rows of revenue": ("SELECT count(*) FROM gold.revenue_by_org_month", 240),
    "revenue": (
        "SELECT round(sum(total_cost_usd), 4) FROM gold.revenue_by_org_month",
        Decimal("164184.9028"),
    ),
    "invoiced for July and August": (
        "SELECT round(sum(subtotal_usd)) FROM gold.revenue_by_org_month "
        "WHERE month IN ('2025-07-01', '2025-08-01')",
        Decimal(84_403),
    ),
    "breached tickets": (
        "SELECT sum(sla_breached_count) || ' in ' || sum(ticket_count) "
        "FROM gold.tickets_by_org_date",
        "95 in 1000",
    ),
}

EVENTS = (
    "WITH events AS (SELECT source_file, event_id, event_ts, service, metric, unit, value_num, "
    "cost_usd_increment, schema_version, carbon_kg, genai_tokens FROM bronze.usage_events "
    "UNION ALL BY NAME SELECT source_file, event_id, event_ts, service, metric, unit, value_num, "
    "cost_usd_increment, schema_version, carbon_kg, genai_tokens FROM bronze.quarantine_usage) "
)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_that_was_counted_comes_out(sample_house: House, figure: str) -> None:
    sql, expected = FIGURES[figure]

    found = sample_house.project.sql(EVENTS + sql if " events" in sql else sql)

    assert found.num_rows == 1
    assert found.column(0)[0].as_py() == expected


def test_a_wrong_name_is_answered_with_the_nearest(sample_house: House) -> None:
    cases: list[tuple[Ran, str]] = [
        (sample_house.cli("read", "gold.finops_by_org_dya"), "gold.finops_by_org_day"),
        (sample_house.cli("read", "gold.nps_by_org", "--columns", "org_idd"), "org_id"),
        (sample_house.cli("query", "top-service"), "top-services"),
        (sample_house.cli("query", "daily-cost", "--service", "genia"), "genai"),
        (sample_house.cli("sql", "SELECT * FROM gold.nps_by_orgs"), "nps_by_org"),
        (cli("--project", str(sample_house.root), "query", "anomalies", "--orgs", "x"), "--org"),
    ]

    for ran, nearest in cases:
        assert ran.code == 2, ran
        assert nearest in ran.err
        assert ran.out == ""
        assert "Traceback" not in ran.err
