"""The newest of what is served: cost of the latest day by service, the newest windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Final

from meterhouse.formats import timestamp_text
from meterhouse.serving.schema import Condition, Snapshot

__all__ = ["Latest", "Window", "latest"]

DAILY: Final = "gold.org_daily_usage_by_service"
WINDOWS: Final = "gold.usage_by_5min"
DAY: Final = timedelta(days=1)
FIVE_MINUTES: Final = timedelta(minutes=5)
EXACT: Final = Context(prec=400)
FIRST_GLANCE: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Window:
    """Five minutes, all organisations and services together."""

    start: datetime
    cost_usd: Decimal
    events: int


@dataclass(frozen=True, slots=True)
class Latest:
    """What is newest at one position. Money: USD, exact."""

    position: int
    ingest_ts: datetime
    """When the entry at that position was taken."""
    day: date | None
    """The latest day not after the day its events were taken; None without usage."""
    services: Sequence[tuple[str, Decimal, int]]
    """Service, cost and events of that day, dearest first."""
    windows: Sequence[Window]
    """The newest windows of that day, newest first."""


def latest(snapshot: Snapshot, windows: int) -> Latest:
    """Return what is newest, with at most so many windows.

    A table that is not published is taken as empty.
    """
    served = snapshot.served
    day = _latest_day(snapshot)
    services: dict[str, list[tuple[Decimal, int]]] = defaultdict(list)
    orgs: set[str] = set()
    if day is not None:
        columns = ("org_id", "service", "daily_cost_usd", "event_count")
        of_day = [Condition("usage_date", "=", day.isoformat())]
        for org, service, cost, events in snapshot.scan(DAILY, columns, of_day):
            orgs.add(org)
            services[service].append((cost, events))
    summed = [
        (service, _sum(cost for cost, _ in rows), sum(events for _, events in rows))
        for service, rows in services.items()
    ]
    return Latest(
        position=served.stamp.position,
        ingest_ts=served.ingest_ts,
        day=day,
        services=sorted(summed, key=lambda row: (-row[1], row[0])),
        windows=_windows(snapshot, day, orgs, windows) if day is not None else (),
    )


def _latest_day(snapshot: Snapshot) -> date | None:
    if DAILY not in snapshot.tables():
        return None
    known = snapshot.served.details.get("latest_day")
    if known is not None:
        return date.fromisoformat(known[DAILY]) if DAILY in known else None
    ingested = snapshot.served.ingest_ts.date().isoformat()
    days = snapshot.scan(DAILY, ["usage_date"], [Condition("usage_date", "<=", ingested)])
    return max((day for (day,) in days), default=None)


def _windows(snapshot: Snapshot, day: date, orgs: set[str], wanted: int) -> list[Window]:
    """Return the newest windows of ``day``; looks back further until there are enough.

    Organisation by organisation, as the rows lie; whoever has windows on the day is in ``orgs``.
    """
    if WINDOWS not in snapshot.tables():
        return []
    start = datetime.combine(day, time(), UTC)
    end = min(start + DAY, max(snapshot.served.ingest_ts, start + FIRST_GLANCE))
    glance = FIRST_GLANCE
    while True:
        since = max(start, end - glance)
        found = _windows_since(snapshot, orgs, since, start + DAY)
        if len(found) >= wanted or since == start:
            return found[:wanted]
        glance *= 2


def _windows_since(
    snapshot: Snapshot, orgs: set[str], since: datetime, before: datetime
) -> list[Window]:
    parts: dict[datetime, list[tuple[Decimal, int]]] = defaultdict(list)
    for org in orgs:
        conditions = [
            Condition("org_id", "=", org),
            Condition("window_start", ">=", timestamp_text(since)),
            Condition("window_start", "<=", timestamp_text(before - FIVE_MINUTES)),
        ]
        columns = ("window_start", "cost_usd", "event_count")
        for start, cost, events in snapshot.scan(WINDOWS, columns, conditions):
            parts[start].append((cost, events))
    return [
        Window(start, _sum(cost for cost, _ in parts[start]), sum(n for _, n in parts[start]))
        for start in sorted(parts, reverse=True)
    ]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
