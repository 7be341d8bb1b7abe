"""Contracts built in Python, for tests of the parser: one of usage events, one of CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from meterhouse.intake.contract import Column, ColumnType, Contract

EVENT_COLUMNS = (
    Column("event_id", "text", "event_id"),
    Column("timestamp", "text", "timestamp"),
    Column("event_ts", "timestamp", "timestamp"),
    Column("org_id", "text", "org_id"),
    Column("resource_id", "text", "resource_id"),
    Column("service", "text", "service"),
    Column("region", "text", "region"),
    Column("metric", "text", "metric"),
    Column("value_num", "decimal", "value"),
    Column("unit", "text", "unit"),
    Column("cost_usd_increment", "decimal", "cost_usd_increment"),
    Column("schema_version", "integer", "schema_version"),
    Column("carbon_kg", "decimal", "carbon_kg"),
    Column("genai_tokens", "decimal", "genai_tokens"),
)

INVOICE_COLUMNS = (
    Column("invoice_id", "text", "invoice_id"),
    Column("org_id", "text", "org"),
    Column("month", "date", "month"),
    Column("subtotal", "decimal", "subtotal"),
    Column("paid", "boolean", "paid"),
    Column("items", "integer", "items"),
    Column("issued_at", "timestamp", "issued_at"),
    Column("tags", "json", "tags"),
)


def contract(format: str, key: Sequence[str], columns: Sequence[Column]) -> Contract:
    """Return a contract of these columns, with nothing else to it."""
    return Contract(
        source="source",
        table="bronze.source",
        quarantine="bronze.quarantine_source",
        files=("*",),
        format="csv" if format == "csv" else "jsonl",
        mode="append",
        key=tuple(key),
        columns=tuple(columns),
        derived=(),
        rules=(),
        money=(),
        currency="USD",
        currency_column=False,
        version_column="",
        partition_by=(),
        on_new_column="keep",
        shrink_limit="0.2",
        round_decimals=False,
        schema_version="",
        known_schema_versions=(),
        known_values={},
        description="",
        owner="",
        text="",
        sha256="",
    )


def events(**changes: Any) -> Contract:
    """Return a contract like the shipped one of usage events."""
    return replace(contract("jsonl", ["event_id"], EVENT_COLUMNS), **changes)


def invoices(**changes: Any) -> Contract:
    """Return a CSV contract with a column of each type, one of them renamed."""
    return replace(contract("csv", ["invoice_id"], INVOICE_COLUMNS), **changes)


def single(kind: ColumnType, format: str = "jsonl") -> Contract:
    """Return a contract of a text key ``id`` and one column ``x`` of type ``kind``."""
    return contract(format, ["id"], [Column("id", "text", "id"), Column("x", kind, "x")])
