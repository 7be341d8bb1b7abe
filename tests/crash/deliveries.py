"""The small project, and what arrives at each step of its story.

New, late, corrected, grown, doubled and broken records; an organisation more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from e2e.house import reduce_catalog
from e2e.records import INVOICES, event, events, invoice, orgs

__all__ = ["DELIVERIES", "deliver", "furnish"]

_MODELS = ("gold.finops_by_org_day", "gold.revenue_by_org_month")
"""Merged from what is merged, and a view; over events, a master, and invoices with versions."""

_SETTINGS = {
    '# piece_bytes = "32MiB"': 'piece_bytes = "4KiB"',
    "# threads = 2": "threads = 1",
}
"""Several entries a delivery; calls in the same order from run to run."""

_GROWING = events(27, 40, org_id="o-2", service="genai", genai_tokens=7)
_LATE = events(41, 52, timestamp="2025-06-02T23:59:00Z") + event(41, cost_usd_increment=9)
_HELD = event(90, cost_usd_increment=-5) + event(91, org_id="")

DELIVERIES: Mapping[str, Mapping[str, str]] = {
    "ingest": {
        "events_1.jsonl": events(1, 24) + "garbage\n" + events(20, 26),
        "events_2.jsonl": _GROWING,
        "customers_orgs.csv": orgs(1, 2, 3),
        "billing_monthly.csv": INVOICES + invoice("10") + invoice("7.5", 2),
    },
    "ingest more": {
        "events_3.jsonl": events(30, 44) + _HELD,
        "billing_monthly.csv": INVOICES + invoice("20") + invoice("7.5", 2),
    },
    "follow": {
        "events_2.jsonl": _GROWING + events(80, 89, org_id="o-2"),
        "events_4.jsonl": _LATE,
        "customers_orgs.csv": orgs(1, 2, 3, 4),
        "billing_monthly.csv": INVOICES + invoice("20") + invoice("8.5", 2) + invoice("1", 3),
    },
    "follow on": {
        "events_5.jsonl": events(60, 70, timestamp="2025-07-04T00:00:00Z") + events(1, 5),
        "billing_monthly.csv": INVOICES + invoice("21") + invoice("8.5", 2) + invoice("1", 3),
    },
}
"""Step of the story → file → text."""


def furnish(root: Path) -> None:
    """Make a new project a small one; one that is small already stays as it is."""
    path = root / "meterhouse.toml"
    text = path.read_text()
    for old, new in _SETTINGS.items():
        assert old in text or new in text, f"{path} does not hold {old}"
        text = text.replace(old, new)
    path.write_text(text)
    reduce_catalog(root, _MODELS)


def deliver(step: str, inbox: Path) -> None:
    """Put what arrives before ``step`` into a folder, each file at once; once is enough."""
    for name, text in DELIVERIES.get(step, {}).items():
        path, draft = inbox / name, inbox.parent.parent / f".delivered-{name}"
        if path.exists() and path.read_text() == text:
            continue
        draft.write_text(text)
        # Long closed: nobody has to wait and see whether it grows.
        os.utime(draft, (1_760_000_000, 1_760_000_000))
        draft.replace(path)
