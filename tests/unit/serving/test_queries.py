"""The six questions over small tables in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from meterhouse.errors import UsageError
from meterhouse.formats import Column, Kind
from meterhouse.ports import Stamp
from meterhouse.serving.answer import Answer
from meterhouse.serving.queries import QUESTIONS, ask
from meterhouse.serving.schema import Condition, Served

INGESTED = datetime(2025, 9, 1, 6, tzinfo=UTC)
NOW = datetime(2025, 9, 1, 8, tzinfo=UTC)
USAGE = "gold.org_daily_usage_by_service"
TICKETS = "gold.tickets_by_org_date"
GENAI = "gold.genai_tokens_by_org_date"

COLUMNS: Mapping[str, Mapping[str, Kind]] = {
    USAGE: {
        "org_id": "text",
        "usage_date": "date",
        "service": "text",
        "daily_cost_usd": "decimal",
        "requests": "decimal",
        "requests_reported_count": "integer",
        "genai_reported_count": "integer",
        "event_count": "integer",
    },
    TICKETS: {
        "org_id": "text",
        "ticket_date": "date",
        "severity": "text",
        "ticket_count": "integer",
        "sla_breached_count": "integer",
    },
    "gold.revenue_by_org_month": {
        "org_id": "text",
        "month": "date",
        "subtotal_usd": "decimal",
        "credits_usd": "decimal",
        "taxes_usd": "decimal",
        "total_cost_usd": "decimal",
        "invoice_count": "integer",
    },
    GENAI: {
        "org_id": "text",
        "usage_date": "date",
        "total_tokens": "decimal",
        "genai_cost_usd": "decimal",
    },
    "gold.cost_anomaly_mart": {
        "service": "text",
        "usage_date": "date",
        "org_id": "text",
        "flag_mad": "boolean",
    },
}

Rows = Sequence[tuple[Any, ...]]


class MemorySnapshot:
    """A snapshot of rows given by table."""

    def __init__(self, details: Mapping[str, Any] | None = None, **rows: Rows) -> None:
        stamp = Stamp("project", 0, 42, "head")
        self.served = Served("epoch", stamp, INGESTED, details or {})
        self._rows = {f"gold.{name}": found for name, found in rows.items()}
        self.missing: set[str] = set()

    def tables(self) -> Mapping[str, Sequence[Column]]:
        return {
            name: [Column(column, kind) for column, kind in columns.items()]
            for name, columns in COLUMNS.items()
            if name not in self.missing
        }

    def scan(
        self, table: str, columns: Sequence[str], conditions: Sequence[Condition] = ()
    ) -> Iterator[tuple[Any, ...]]:
        for values in self._rows.get(table, []):
            row = dict(zip(COLUMNS[table], values, strict=True))
            if all(meets(row[term.column], term) for term in conditions):
                yield tuple(row[name] for name in columns)

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        yield from {value for (value,) in self.scan(table, [column]) if value is not None}


def meets(value: Any, term: Condition) -> bool:
    if value is None:
        return False
    stored = value.isoformat() if isinstance(value, date) else value
    outcome = {
        "=": stored == term.value,
        ">=": stored >= term.value,
        "<=": stored <= term.value,
    }
    return outcome[term.operator]


def used(
    org: str, day: date, service: str, cost: str, reported: int = 0, events: int = 1
) -> tuple[Any, ...]:
    genai = reported if service == "genai" else 0
    return (org, day, service, Decimal(cost), Decimal(reported * 10), reported, genai, events)


def day(number: int, month: int = 8) -> date:
    return date(2025, month, number)


def asked(snapshot: MemorySnapshot, name: str, **given: object) -> Answer:
    return ask(snapshot, name, given, NOW)


def test_daily_cost_is_sorted_by_day_org_and_service_and_shows_coverage() -> None:
    snapshot = MemorySnapshot(
        org_daily_usage_by_service=[
            used("b", day(2), "compute", "1.5", reported=1, events=4),
            used("a", day(2), "storage", "2", reported=0, events=3),
            used("a", day(2), "compute", "3", reported=2, events=2),
            used("z", day(1), "compute", "4"),
        ]
    )

    answer = asked(snapshot, "daily-cost")

    assert [row[:3] for row in answer.rows] == [
        (day(1), "z", "compute"),
        (day(2), "a", "compute"),
        (day(2), "a", "storage"),
        (day(2), "b", "compute"),
    ]
    assert [column.name for column in answer.columns] == [
        "usage_date",
        "org_id",
        "service",
        "cost_usd",
        "requests",
    ]
    assert answer.extras()["coverage"] == {"requests": {"reported": 3, "of": 10}}


def test_filters_and_inclusive_days_narrow_the_answer() -> None:
    snapshot = MemorySnapshot(
        org_daily_usage_by_service=[
            used(org, day(number), service, "1")
            for org in ("a", "b")
            for number in (1, 2, 3, 4)
            for service in ("compute", "genai")
        ]
    )

    answer = asked(
        snapshot, "daily-cost", org="a", service=" COMPUTE ", from_="2025-08-02", to="2025-08-03"
    )

    assert [row[:3] for row in answer.rows] == [
        (day(2), "a", "compute"),
        (day(3), "a", "compute"),
    ]


def test_every_answer_carries_position_and_age() -> None:
    answer = asked(MemorySnapshot(), "monthly-revenue")

    assert answer.extras()["as_of"] == {
        "log_position": 42,
        "ingest_ts": "2025-09-01T06:00:00Z",
        "age_s": 7200,
    }
    assert answer.sentences() == ["as of log position 42 (2025-09-01T06:00:00Z, 2 h ago)"]


def test_a_clock_that_went_back_makes_the_age_zero() -> None:
    answer = ask(MemorySnapshot(), "anomalies", {}, datetime(2020, 1, 1, tzinfo=UTC))

    assert answer.as_of.age_s == 0


def test_top_services_rank_by_cost_then_name_over_the_last_days() -> None:
    snapshot = MemorySnapshot(
        {"latest_day": {USAGE: "2025-08-31"}},
        org_daily_usage_by_service=[
            used("a", day(31), "storage", "0.1"),
            used("a", day(18), "storage", "0.2"),
            used("a", day(17), "storage", "1000"),
            used("a", day(30), "compute", "0.3"),
            used("a", day(30), "genai", "5"),
            used("b", day(30), "genai", "-1"),
            used("b", date(2099, 1, 1), "genai", "7"),
        ],
    )

    answer = asked(snapshot, "top-services")

    assert answer.rows == [
        ("a", 1, "genai", Decimal(5)),
        ("a", 2, "compute", Decimal("0.3")),
        ("a", 3, "storage", Decimal("0.3")),
        ("b", 1, "genai", Decimal(-1)),
    ]
    assert answer.window == (day(18), day(31))


def test_top_services_can_be_limited_per_organisation_and_moved() -> None:
    snapshot = MemorySnapshot(
        {"latest_day": {USAGE: "2025-08-31"}},
        org_daily_usage_by_service=[
            used(org, day(5), service, cost)
            for org in ("a", "b")
            for service, cost in (("x", "1"), ("y", "2"))
        ],
    )

    answer = asked(snapshot, "top-services", days="1", as_of="2025-08-05", limit=1)

    assert [(row[0], row[2]) for row in answer.rows] == [("a", "y"), ("b", "y")]


def test_the_latest_day_ignores_filters_and_the_future() -> None:
    rows = [
        used("a", day(10), "x", "1"),
        used("b", day(31), "x", "1"),
        used("b", date(2099, 1, 1), "x", "1"),
    ]

    without_details = asked(
        MemorySnapshot(org_daily_usage_by_service=rows), "top-services", org="a", days=14
    )
    believed = MemorySnapshot(
        {"latest_day": {USAGE: "2025-08-11"}}, org_daily_usage_by_service=rows
    )

    assert without_details.window == (day(18), day(31))
    assert without_details.rows == []
    assert asked(believed, "top-services", org="a").window == (date(2025, 7, 29), day(11))


def test_without_a_day_to_end_with_the_answer_is_empty() -> None:
    for details in ({}, {"latest_day": {}}):
        answer = asked(MemorySnapshot(details), "top-services")

        assert answer.rows == []
        assert answer.window is None


def test_money_adds_up_exactly_whatever_its_length() -> None:
    big = "99999999999999999999999999999.999999999"
    snapshot = MemorySnapshot(
        {"latest_day": {USAGE: "2025-08-31"}},
        org_daily_usage_by_service=[
            used("a", day(30), "x", big),
            used("a", day(31), "x", "0.000000001"),
        ],
    )

    assert asked(snapshot, "top-services").rows[0][3] == Decimal("1E+29")


def test_ticket_sla_divides_once_per_day_over_all_organisations() -> None:
    snapshot = MemorySnapshot(
        {"latest_day": {TICKETS: "2025-08-31"}},
        tickets_by_org_date=[
            ("a", day(31), "critical", 1, 1),
            ("b", day(31), "critical", 2, 0),
            ("b", day(31), "low", 9, 9),
            ("b", day(2), "critical", 0, 0),
            ("b", day(1), "critical", 9, 9),
        ],
    )

    answer = asked(snapshot, "ticket-sla")

    assert answer.rows == [(day(2), 0, 0, None), (day(31), 3, 1, Decimal("0.333333"))]


@pytest.mark.parametrize(
    ("breached", "tickets", "rate"),
    [(1, 2_000_000, "0"), (3, 2_000_000, "0.000002"), (2, 3, "0.666667"), (4, 4, "1")],
)
def test_rates_round_half_even_to_six_places(breached: int, tickets: int, rate: str) -> None:
    snapshot = MemorySnapshot(
        tickets_by_org_date=[("a", day(31), "critical", tickets, breached)],
    )

    assert asked(snapshot, "ticket-sla").rows[0][3] == Decimal(rate)


def test_monthly_revenue_filters_by_the_months_first_day() -> None:
    money = (Decimal(3), Decimal(1), Decimal(2), Decimal(4))
    snapshot = MemorySnapshot(
        revenue_by_org_month=[
            ("b", day(1, 7), *money, 1),
            ("a", day(1, 8), *money, 1),
            ("a", day(1, 7), *money, 1),
        ]
    )

    answer = asked(snapshot, "monthly-revenue", from_="2025-07-01", to="2025-07-31")

    assert answer.rows == [("a", day(1, 7), *money), ("b", day(1, 7), *money)]


def test_genai_growth_is_against_the_day_before_even_outside_the_range() -> None:
    snapshot = genai(("a", day(1), "4"), ("a", day(2), "5"), ("a", day(4), "6"))

    answer = asked(snapshot, "genai-usage", from_="2025-08-02")

    assert [(row[1], row[4]) for row in answer.rows] == [
        (day(2), Decimal("0.25")),
        (day(4), None),
    ]


def test_genai_by_month_adds_days_up_per_organisation() -> None:
    snapshot = genai(
        ("a", day(31, 7), "3"),
        ("a", day(1), "1"),
        ("a", day(31), "1"),
        ("b", day(5), "8"),
        ("b", date(2025, 6, 30), "8"),
    )

    answer = asked(snapshot, "genai-usage", by="month")

    assert [(row[0], row[1], row[2], row[4]) for row in answer.rows] == [
        ("a", day(1, 7), Decimal(3), None),
        ("a", day(1), Decimal(2), Decimal("-0.333333")),
        ("b", day(1, 6), Decimal(8), None),
        ("b", day(1), Decimal(8), None),
    ]
    assert answer.columns[1].name == "month"


def test_genai_coverage_counts_the_services_events_of_the_same_days() -> None:
    snapshot = MemorySnapshot(
        org_daily_usage_by_service=[
            used("a", day(1), "genai", "1", reported=3, events=5),
            used("a", day(2), "genai", "1", reported=1, events=2),
            used("a", day(2), "compute", "1", reported=9, events=9),
        ]
    )

    by_day = asked(snapshot, "genai-usage", from_="2025-08-02")
    by_month = asked(snapshot, "genai-usage", by="month", from_="2025-08-01")

    assert by_day.extras()["coverage"] == {"total_tokens": {"reported": 1, "of": 2}}
    assert by_month.extras()["coverage"] == {"total_tokens": {"reported": 4, "of": 7}}


def test_growth_from_nothing_is_null() -> None:
    answer = asked(genai(("a", date.min, "0"), ("a", date(1, 1, 2), "5")), "genai-usage")

    assert [row[4] for row in answer.rows] == [None, None]


def genai(*rows: tuple[str, date, str]) -> MemorySnapshot:
    return MemorySnapshot(
        genai_tokens_by_org_date=[(org, at, Decimal(n), Decimal(1)) for org, at, n in rows]
    )


def test_anomalies_are_the_columns_of_their_table_sorted_by_its_grain() -> None:
    snapshot = MemorySnapshot(
        cost_anomaly_mart=[("y", day(1), "b", True), ("x", day(2), "a", False)]
    )

    answer = asked(snapshot, "anomalies")

    assert [column.name for column in answer.columns] == [*COLUMNS["gold.cost_anomaly_mart"]]
    assert [row[2] for row in answer.rows] == ["a", "b"]


def test_an_unknown_organisation_or_service_names_the_nearest() -> None:
    snapshot = MemorySnapshot(org_daily_usage_by_service=[used("org_0001", day(1), "genai", "1")])

    with pytest.raises(UsageError) as raised:
        asked(snapshot, "monthly-revenue", org="org_001")
    assert raised.value.fix == 'did you mean "org_0001"?'
    with pytest.raises(UsageError, match='no served table has service "gen-ai"'):
        asked(snapshot, "anomalies", service="gen-ai")


def test_an_organisation_known_elsewhere_has_an_empty_answer() -> None:
    snapshot = MemorySnapshot(org_daily_usage_by_service=[used("a", day(1), "genai", "1")])

    assert asked(snapshot, "monthly-revenue", org="a").rows == []


def test_a_severity_that_was_named_must_exist() -> None:
    snapshot = MemorySnapshot(tickets_by_org_date=[("a", day(1), "critical", 1, 0)])

    with pytest.raises(UsageError, match='severity "critcal"'):
        asked(snapshot, "ticket-sla", severity="critcal")


def test_an_unknown_question_names_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        asked(MemorySnapshot(), "top-service")

    assert raised.value.fix == 'did you mean "top-services"?'


def test_a_question_whose_table_is_gone_says_so() -> None:
    snapshot = MemorySnapshot()
    snapshot.missing.add(TICKETS)

    with pytest.raises(UsageError, match=r"needs gold\.tickets_by_org_date"):
        asked(snapshot, "ticket-sla")


def test_every_answer_is_an_arrow_table_too() -> None:
    for name in QUESTIONS:
        answer = asked(MemorySnapshot(), name)

        assert answer.table().column_names == [column.name for column in answer.columns]
