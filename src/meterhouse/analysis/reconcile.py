"""Metered against invoiced: one identity by organisation and month, in USD.

    metered − events_without_invoice + invoices_without_events
            + rate_effect − credits + taxes + unexplained = invoiced

The terms are disjoint, in this order: an organisation's month with events and no invoice
is the first, one with an invoice and no events the second, whole; the other three are
taken only where both are there. ``rate_effect`` is what the rate of an invoice in USD that
is not 1 puts on its subtotal. ``unexplained`` is what is left, shown and not spread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

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

_EXACT: Final = Context(prec=80)

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
), held AS (
    SELECT org_id, date_trunc('month', event_ts AT TIME ZONE 'UTC')::DATE AS month,
        sum(cost_usd_increment)::DECIMAL(38, 9) AS quarantined_usd
    FROM bronze.quarantine_usage WHERE cost_usd_increment IS NOT NULL GROUP BY ALL
), keys AS (
    SELECT org_id, month FROM metered UNION SELECT org_id, month FROM invoiced
    UNION SELECT org_id, month FROM held
)
SELECT keys.org_id, keys.month, metered_usd, invoiced_usd, credits_usd, taxes_usd,
    rate_effect_usd, quarantined_usd
FROM keys
LEFT JOIN metered ON metered.org_id IS NOT DISTINCT FROM keys.org_id
    AND metered.month IS NOT DISTINCT FROM keys.month
LEFT JOIN invoiced ON invoiced.org_id IS NOT DISTINCT FROM keys.org_id
    AND invoiced.month IS NOT DISTINCT FROM keys.month
LEFT JOIN held ON held.org_id IS NOT DISTINCT FROM keys.org_id
    AND held.month IS NOT DISTINCT FROM keys.month
ORDER BY keys.org_id NULLS LAST, keys.month NULLS LAST
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
    """
    import pyarrow as pa

    rows = [_identity(row) for row in session.query(SQL).to_pylist()]
    rows = [row for row in rows if org is None or row["org_id"] == org]
    amount = pa.decimal128(38, 9)
    schema = pa.schema(
        [("org_id", pa.string()), ("month", pa.date32()), *((name, amount) for name in AMOUNTS)]
    )
    totals = {name: _sum(row[name] for row in rows) for name in AMOUNTS}
    agrees = all(row["unexplained_usd"] == 0 for row in rows)
    return Reconciliation(pa.Table.from_pylist(rows, schema=schema), totals, agrees)


def _identity(row: dict[str, object]) -> dict[str, object]:
    metered, invoiced = row["metered_usd"], row["invoiced_usd"]
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
        "quarantined_usd": row["quarantined_usd"] or zero,
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
    return {"org_id": row["org_id"], "month": row["month"], "unexplained_usd": unexplained, **known}


def _amount(value: object) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(0)


def _sum(values: Iterable[object]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _EXACT.add(total, _amount(value))
    return total
