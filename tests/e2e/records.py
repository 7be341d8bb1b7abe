"""Small deliveries, one record at a time."""

from __future__ import annotations

import json
from typing import Any

ORGS = (
    "org_id,org_name,industry,hq_region,plan_tier,is_enterprise,signup_date,sales_rep,"
    "lifecycle_stage,marketing_source,nps_score\n"
)
INVOICES = "invoice_id,org_id,month,subtotal,credits,taxes,currency,exchange_rate_to_usd\n"
TICKETS = "ticket_id,org_id,category,severity,created_at,resolved_at,csat,sla_breached\n"


def event(number: int, **fields: Any) -> str:
    """One line of usage that holds every rule: 0.25 USD of compute on 2025-07-03."""
    body = {
        "event_id": f"e-{number}",
        "timestamp": "2025-07-03T10:00:00Z",
        "org_id": "o-1",
        "resource_id": "r-1",
        "service": "compute",
        "region": "us-east",
        "metric": "cpu_hours",
        "value": 1,
        "unit": "hours",
        "cost_usd_increment": 0.25,
        "schema_version": 1,
        **fields,
    }
    return json.dumps(body) + "\n"


def events(first: int, last: int, **fields: Any) -> str:
    """Lines of usage numbered ``first`` to ``last``."""
    return "".join(event(number, **fields) for number in range(first, last + 1))


def org(number: int, name: str = "") -> str:
    """One organisation."""
    name = name or f"Acme {number}"
    return f"o-{number},{name},Retail,us-east,pro,True,2025-01-01,rep,active,ads,10\n"


def orgs(*numbers: int) -> str:
    """A whole list of organisations."""
    return ORGS + "".join(org(number) for number in numbers)


def invoice(subtotal: str, number: int = 1, *, taxes: str = "1", currency: str = "EUR") -> str:
    """One invoice of July at a rate of 1.1."""
    return f"i-{number},o-1,2025-07-01,{subtotal},,{taxes},{currency},1.1\n"


def ticket(resolved: str, number: int = 1) -> str:
    """One critical ticket opened on 2025-07-03; open while ``resolved`` is empty."""
    return f"t-{number},o-1,billing,critical,2025-07-03,{resolved},4,True\n"
