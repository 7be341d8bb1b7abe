"""Metered against invoiced: one identity by organisation and month, in USD.

    metered − events_without_invoice + invoices_without_events
            + rate_effect − credits + taxes + unexplained = invoiced

The terms are disjoint, in this order: an organisation's month with events and no invoice
is the first, one with an invoice and no events the second, whole; the other three are
taken only where both are there. ``rate_effect`` is what the rate of an invoice in USD that
is not 1 puts on its subtotal. ``unexplained`` is what is left, shown and not spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from meterhouse.errors import UsageError
from meterhouse.ports import Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["AMOUNTS", "Reconciliation", "reconcile"]

AMOUNTS: Final = (
    "metered_usd",
    "events_without_invoice_usd",
    "invoices_without_events_usd",
    "rate_effect_usd",
    "credits_usd",
    "taxes_usd",
    "unexplained_usd",
    "invoiced_usd",
    "quarantined_usd",
)
"""Columns of the answer; the last is a memo and no term of the identity."""

_EXACT: Final = Context(prec=120)
_MOST: Final = Decimal(10) ** 29
"""From here on an amount is beyond DECIMAL(38,9)."""

SQL: Final = """
WITH metered AS (
    SELECT org_id, date_trunc('month', usage_date)::DATE AS month,
        sum(daily_cost_usd)::DECIMAL(38, 9) AS metered_usd
    FROM gold.org_daily_usage_by_service GROUP BY ALL
), invoiced AS (
    SELECT org_id, month,
        sum(total_cost_usd)::DECIMAL(38, 9) AS invoiced_usd,
        sum(credits_usd)::DECIMAL(38, 9) AS credits_usd,
        sum(taxes_usd)::DECIMAL(38, 9) AS taxes_usd,
        coalesce(sum(subtotal_usd - coalesce(subtotal, 0)) FILTER (currency = 'USD'), 0)
            ::DECIMAL(38, 9) AS rate_effect_usd
    FROM silver.billing_enriched GROUP BY ALL
), keys AS (
    SELECT org_id, month FROM metered UNION SELECT org_id, month FROM invoiced
)
SELECT keys.org_id, keys.month, metered_usd, invoiced_usd, credits_usd, taxes_usd, rate_effect_usd
FROM keys
LEFT JOIN metered ON metered.org_id IS NOT DISTINCT FROM keys.org_id
    AND metered.month IS NOT DISTINCT FROM keys.month
LEFT JOIN invoiced ON invoiced.org_id IS NOT DISTINCT FROM keys.org_id
    AND invoiced.month IS NOT DISTINCT FROM keys.month
"""

HELD: Final = """
SELECT org_id, date_trunc('month', event_ts AT TIME ZONE 'UTC')::DATE AS month, cost_usd_increment
FROM bronze.quarantine_usage WHERE cost_usd_increment IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The identity by organisation and month, and over all of them."""

    rows: pa.Table
    """Grain org_id, month (both NULL where a held record's could not be read)."""
    totals: dict[str, Decimal]
    """Sum of each amount over the rows."""
    agrees: bool
    """True when nothing is left unexplained anywhere."""


def reconcile(session: Session, org: str | None = None) -> Reconciliation:
    """Return the reconciliation from a session that sees the published tables.

    Needs gold.org_daily_usage_by_service, silver.billing_enriched, bronze.quarantine_usage.
    Rows are sorted by organisation and month, NULL last.

    Raises:
        UsageError: ``org`` has neither events nor invoices nor anything held.
    """
    held = _held(session)
    months = {(row["org_id"], row["month"]): row for row in session.query(SQL).to_pylist()}
    keys = sorted({*months, *held}, key=_order)
    rows = [
        _identity(org_id, month, months.get((org_id, month), {}), held.get((org_id, month)))
        for org_id, month in keys
        if org in (None, org_id)
    ]
    if org is not None and not rows:
        known = {org_id for org_id, _ in keys if org_id is not None}
        raise UsageError.unknown("organisation", org, known, where="meterhouse reconcile --org")
    totals = {name: _sum(row[name] for row in rows) for name in AMOUNTS}
    agrees = all(row["unexplained_usd"] == 0 for row in rows)
    return Reconciliation(_table(rows), totals, agrees)


_Key: TypeAlias = tuple[str | None, date | None]


def _order(key: _Key) -> tuple[object, ...]:
    org_id, month = key
    return (org_id is None, org_id or "", month is None, month or date.min)


def _held(session: Session) -> dict[_Key, Decimal]:
    """Return what is held by organisation and month, NULL where that could not be read.

    Added up here: a held amount may be so large that two of them are beyond DECIMAL(38,9).
    """
    found: dict[_Key, Decimal] = {}
    for batch in session.stream(HELD):
        for row in batch.to_pylist():
            key = (row["org_id"], row["month"])
            found[key] = _EXACT.add(found.get(key, Decimal(0)), row["cost_usd_increment"])
    return found


def _table(rows: list[dict[str, object]]) -> pa.Table:
    import pyarrow as pa

    def amount(name: str) -> pa.DataType:
        most = max((abs(_amount(row[name])) for row in rows), default=Decimal(0))
        return pa.decimal128(38, 9) if most < _MOST else pa.decimal256(76, 9)

    schema = pa.schema(
        [
            ("org_id", pa.string()),
            ("month", pa.date32()),
            *((name, amount(name)) for name in AMOUNTS),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _identity(
    org_id: str | None, month: date | None, row: Mapping[str, object], held: Decimal | None
) -> dict[str, object]:
    metered, invoiced = row.get("metered_usd"), row.get("invoiced_usd")
    zero = Decimal(0)
    both = metered is not None and invoiced is not None
    known = {
        "metered_usd": metered or zero,
        "invoiced_usd": invoiced or zero,
        "events_without_invoice_usd": metered or zero if invoiced is None else zero,
        "invoices_without_events_usd": invoiced or zero if metered is None else zero,
        "rate_effect_usd": row["rate_effect_usd"] if both else zero,
        "credits_usd": row["credits_usd"] if both else zero,
        "taxes_usd": row["taxes_usd"] if both else zero,
        "quarantined_usd": held or zero,
    }
    explained = _sum(
        _EXACT.multiply(_amount(known[name]), sign)
        for name, sign in (
            ("metered_usd", 1),
            ("events_without_invoice_usd", -1),
            ("invoices_without_events_usd", 1),
            ("rate_effect_usd", 1),
            ("credits_usd", -1),
            ("taxes_usd", 1),
        )
    )
    unexplained = _EXACT.subtract(_amount(known["invoiced_usd"]), explained)
    return {"org_id": org_id, "month": month, "unexplained_usd": unexplained, **known}


def _amount(value: object) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(0)


def _sum(values: Iterable[object]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _EXACT.add(total, _amount(value))
    return total
