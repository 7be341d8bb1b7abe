"""The latest day of a table among rows that do not claim to come from the future.

"The last 14 days" must not be moved by one event from the year 2099: a row counts when its
day is not after the UTC day on which its log entry was taken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from meterhouse.ports import Session

__all__ = ["anchored_tables", "latest_days"]

_FACTS: Final[Mapping[str, tuple[str, str]]] = {
    "gold.org_daily_usage_by_service": ("bronze.usage_events", "event_date"),
    "gold.tickets_by_org_date": ("bronze.support_tickets_current", "created_at"),
}
"""Gold table that a question with ``--days`` reads → its facts and their day."""


def anchored_tables(relations: Collection[str]) -> dict[str, str]:
    """Return gold table → relation of its facts, of those that ``relations`` has."""
    return {table: fact for table, (fact, _) in _FACTS.items() if fact in relations}


def latest_days(
    session: Session, tables: Collection[str], before: Mapping[str, str]
) -> dict[str, str]:
    """Return gold table → latest day as ISO text; a table without rows is not in it.

    Args:
        session: Sees the facts of ``tables``: all of them, or those that are new.
        tables: Gold tables to look at.
        before: What held for the facts the session does not see.
    """
    found = dict(before)
    for table in tables:
        fact, day = _FACTS[table]
        rows = session.query(
            f'SELECT max(CAST("{day}" AS DATE)) AS latest FROM {fact} '
            f'WHERE CAST("{day}" AS DATE) <= CAST(ingest_ts AS DATE)',
            again=True,
        )
        latest = rows["latest"][0].as_py()
        if latest is not None:
            found[table] = max(latest.isoformat(), found.get(table, ""))
    return found
