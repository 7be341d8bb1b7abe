"""Rows, entries and models that hypothesis makes up for the speed layer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]
Entry = tuple[str, list[Row]]
"""Source and judged rows of one log entry."""

ORGS = st.sampled_from(["org-1", "org-2", "org-3"])
COSTS = st.sampled_from(
    [Decimal(text) for text in ("0.1", "-0.01", "0.000000001", "999999999999.999999999", "0")]
)
MAYBE = st.sampled_from([None, Decimal(1), Decimal("2.5"), Decimal(0)])
MOMENTS = st.sampled_from(
    [
        datetime(2025, 7, 3, 10, 4, 59, 999999, UTC),
        datetime(2025, 7, 3, 10, 5, tzinfo=UTC),
        datetime(2025, 7, 31, 23, 59, 59, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 58, tzinfo=UTC),
        datetime(2099, 1, 1, tzinfo=UTC),
    ]
)
DAYS = st.sampled_from([date(2025, 7, 3), date(2025, 7, 31), date(2025, 8, 1), date(2099, 1, 1)])
VERDICTS = st.sampled_from(["accepted"] * 4 + ["quarantined", "duplicate"])
KEYS = st.integers(1, 4)

USAGE = st.fixed_dictionaries(
    {
        "event_id": st.integers(0, 10**9).map(lambda number: f"e-{number}"),
        "event_ts": MOMENTS,
        "org_id": ORGS,
        "service": st.sampled_from(["compute", " GenAI ", "Ärger"]),
        "region": st.sampled_from(["eu", "", None]),
        "metric": st.sampled_from(["requests", "cpu_hours", "other"]),
        "value_num": MAYBE,
        "unit": st.just("count"),
        "cost_usd_increment": COSTS,
        "genai_tokens": MAYBE,
        "carbon_kg": MAYBE,
        "verdict": VERDICTS,
    }
)
INVOICES = st.fixed_dictionaries(
    {
        "invoice_id": KEYS.map(lambda number: f"i-{number}"),
        "org_id": ORGS,
        "month": DAYS,
        "subtotal": COSTS,
        "credits": MAYBE,
        "taxes": MAYBE,
        "currency": st.sampled_from(["USD", "EUR", None]),
        "exchange_rate_to_usd": st.sampled_from([Decimal(1), Decimal("1.1")]),
        "verdict": VERDICTS,
    }
)
TICKETS = st.fixed_dictionaries(
    {
        "ticket_id": KEYS.map(lambda number: f"t-{number}"),
        "org_id": ORGS,
        "severity": st.sampled_from(["critical", "low", None]),
        "created_at": DAYS,
        "resolved_at": st.sampled_from([None, date(2025, 8, 2)]),
        "sla_breached": st.sampled_from([True, False, None]),
        "csat": MAYBE,
        "verdict": VERDICTS,
    }
)
SURVEYS = st.fixed_dictionaries(
    {
        "org_id": ORGS,
        "survey_date": DAYS,
        "nps_score": st.sampled_from([None, Decimal(10), Decimal(60), Decimal(-120)]),
        "verdict": VERDICTS,
    }
)
MASTERS = st.one_of(
    st.fixed_dictionaries(
        {
            "org_id": ORGS,
            "org_name": st.sampled_from(["One", "Other"]),
            "plan_tier": st.sampled_from(["free", "pro", None]),
        }
    ),
    ORGS.map(lambda name: {"org_id": name, "verdict": "removed"}),
)
SOURCES = {
    "usage_events": USAGE,
    "billing_monthly": INVOICES,
    "support_tickets": TICKETS,
    "nps_surveys": SURVEYS,
    "customers_orgs": MASTERS,
}


@st.composite
def entries(draw: st.DrawFn, sources: tuple[str, ...] = tuple(SOURCES)) -> list[Entry]:
    """Return some log entries: sources in any order, few keys so that they meet."""
    names = draw(st.lists(st.sampled_from(sources), min_size=1, max_size=7))
    return [(name, draw(st.lists(SOURCES[name], max_size=4))) for name in names]
