"""The eight sources as the oracle knows them: columns, keys, rules in their order."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Literal

Values = Mapping[str, Any]
Broken = Callable[[Values], bool]


@dataclass(frozen=True)
class Source:
    """How one source's records are read and judged."""

    name: str
    patterns: tuple[str, ...]
    format: Literal["jsonl", "csv"]
    mode: Literal["append", "upsert", "snapshot"]
    key: tuple[str, ...]
    columns: Mapping[str, str]
    """Column to type: text, decimal, integer, boolean, date, instant."""
    rules: tuple[str, ...]
    """Names in order; those not in ``conditions`` are decided elsewhere."""
    conditions: Mapping[str, tuple[tuple[str, ...], Broken]]
    """Rule to (columns it looks at, whether the record breaks it)."""
    money: tuple[str, ...] = ()
    currency: str = "USD"
    """A column of this source, else a currency code."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Column to delivered field, where they differ."""
    usable: tuple[str, ...] = ()
    """Columns that ``key_unusable`` looks at."""

    def delivered(self, column: str) -> str:
        """Return the name of the field that feeds ``column``."""
        return self.fields.get(column, column)


def recognise(file_name: str) -> Source:
    """Return the one source whose pattern fits."""
    base = PurePath(file_name).name
    for suffix in (".gz", ".zst"):
        base = base.removesuffix(suffix)
    found = [
        source
        for source in SOURCES.values()
        if any(fnmatch.fnmatchcase(base, pattern) for pattern in source.patterns)
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found)} sources recognise {file_name}")
    return found[0]


def empty(value: Any) -> bool:
    """Whether text is null or holds nothing."""
    return value is None or value == ""


def unusable(value: Any) -> bool:
    """Whether text can't be a key: empty, over 128 bytes, or with control characters."""
    if value is None or not isinstance(value, str):
        return value is None
    return (
        value == ""
        or len(value.encode()) > 128
        or any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)
    )


def _master(
    name: str,
    mode: Literal["append", "upsert", "snapshot"],
    columns: str,
    *,
    key: str,
    rules: str,
    usable: str,
) -> Source:
    """Declare a CSV source; ``columns`` is "name:type …", text where no type is given.

    ``rules`` are all but malformed and wrong_type, which come first everywhere;
    ``usable`` are the columns that ``key_unusable`` looks at.
    """
    typed = dict([*item.split(":"), "text"][:2] for item in columns.split())
    conditions: dict[str, tuple[tuple[str, ...], Broken]] = {}
    for rule in rules.split():
        column = rule.removesuffix("_missing")
        if rule == "rate_missing":
            conditions[rule] = (("exchange_rate_to_usd",), _without_rate)
        elif column != rule:
            conditions[rule] = ((column,), lambda row, column=column: empty(row[column]))  # type: ignore[misc]
    invoices = name == "billing_monthly"
    return Source(
        name=name,
        patterns=(f"{name}*.csv",),
        format="csv",
        mode=mode,
        key=tuple(key.split()),
        columns=typed,
        rules=("malformed", "wrong_type", *rules.split()),
        conditions=conditions,
        money=("subtotal", "credits", "taxes") if invoices else (),
        currency="currency" if invoices else "USD",
        usable=tuple(usable.split()),
    )


def _without_rate(row: Values) -> bool:
    rate = row["exchange_rate_to_usd"]
    return rate is None or rate <= 0


USAGE_EVENTS = Source(
    name="usage_events",
    patterns=("events*.jsonl", "usage*.jsonl"),
    format="jsonl",
    mode="append",
    key=("event_id",),
    columns={
        "event_id": "text",
        "timestamp": "text",
        "event_ts": "instant",
        "org_id": "text",
        "resource_id": "text",
        "service": "text",
        "region": "text",
        "metric": "text",
        "value_num": "decimal",
        "unit": "text",
        "cost_usd_increment": "decimal",
        "schema_version": "integer",
        "carbon_kg": "decimal",
        "genai_tokens": "decimal",
    },
    fields={"event_ts": "timestamp", "value_num": "value"},
    rules=(
        "malformed",
        "wrong_type",
        "event_id_missing",
        "timestamp_missing",
        "timestamp_unreadable",
        "key_unusable",
        "number_out_of_range",
        "cost_below_minimum",
        "unit_missing",
        "conflicting_duplicate",
    ),
    conditions={
        "event_id_missing": (("event_id",), lambda row: empty(row["event_id"])),
        "timestamp_missing": (("timestamp",), lambda row: empty(row["timestamp"])),
        "cost_below_minimum": (
            ("cost_usd_increment",),
            lambda row: (row["cost_usd_increment"] or Decimal(0)) < Decimal("-0.01"),
        ),
        "unit_missing": (
            ("value_num", "unit"),
            lambda row: row["value_num"] is not None and empty(row["unit"]),
        ),
    },
    money=("cost_usd_increment",),
    usable=("org_id", "service", "metric"),
)

SOURCES = {
    source.name: source
    for source in (
        USAGE_EVENTS,
        _master(
            "customers_orgs",
            "snapshot",
            "org_id org_name industry hq_region plan_tier is_enterprise:boolean signup_date:date"
            " sales_rep lifecycle_stage marketing_source nps_score:decimal",
            key="org_id",
            rules="org_id_missing key_unusable signup_date_unreadable number_out_of_range",
            usable="org_id",
        ),
        _master(
            "users",
            "snapshot",
            "user_id org_id email role active:boolean created_at:date last_login:date",
            key="user_id",
            rules="user_id_missing key_unusable created_at_unreadable last_login_unreadable",
            usable="user_id org_id",
        ),
        _master(
            "resources",
            "snapshot",
            "resource_id org_id service region created_at:date state tags_json",
            key="resource_id",
            rules="resource_id_missing key_unusable created_at_unreadable",
            usable="resource_id",
        ),
        _master(
            "billing_monthly",
            "upsert",
            "invoice_id org_id month:date subtotal:decimal credits:decimal taxes:decimal currency"
            " exchange_rate_to_usd:decimal",
            key="invoice_id",
            rules="invoice_id_missing key_unusable month_missing"
            " month_unreadable number_out_of_range rate_missing",
            usable="invoice_id org_id",
        ),
        _master(
            "support_tickets",
            "upsert",
            "ticket_id org_id category severity created_at:date resolved_at:date csat:decimal"
            " sla_breached:boolean",
            key="ticket_id",
            rules="ticket_id_missing key_unusable created_at_missing"
            " created_at_unreadable resolved_at_unreadable number_out_of_range",
            usable="ticket_id org_id severity",
        ),
        _master(
            "marketing_touches",
            "append",
            "touch_id org_id campaign channel timestamp:date clicked:boolean converted:boolean",
            key="touch_id",
            rules="touch_id_missing timestamp_missing"
            " timestamp_unreadable key_unusable conflicting_duplicate",
            usable="touch_id org_id campaign channel",
        ),
        _master(
            "nps_surveys",
            "append",
            "org_id survey_date:date nps_score:decimal comment",
            key="org_id survey_date",
            rules="org_id_missing survey_date_missing survey_date_unreadable"
            " key_unusable number_out_of_range conflicting_duplicate",
            usable="org_id",
        ),
    )
}
