"""What readers see of a project, and whether it is all that it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from crash.small import small_project
from e2e.house import assert_same, steady
from meterhouse.errors import UsageError

__all__ = ["Seen", "assert_seen", "assert_whole", "look", "proven"]


@dataclass(frozen=True)
class Seen:
    """What readers see of a project at one position, without where and when it came from."""

    position: int
    tables: Mapping[str, pa.Table]
    answers: Mapping[str, list[dict[str, Any]]]
    """Question → its rows."""
    ledger: Mapping[str, Any] = field(default_factory=dict)
    """Term → its amounts."""


_QUESTIONS: Final = ("daily-cost", "monthly-revenue")


def look(root: Path) -> Seen:
    """Read every table and ask what can be asked."""
    project = small_project(root)
    try:
        # Whatever asks which tables there are sees all of them, at one position.
        at = project.at_position("information_schema")
        with at.session(project.engine, list(at.tables)) as session:
            tables = {name: steady(session.query(f"SELECT * FROM {name}")) for name in at.tables}
        answers = {name: project.query(name).table().to_pylist() for name in _QUESTIONS}
    finally:
        project.answers.close()
    return Seen(at.position, tables, answers)


def proven(root: Path) -> Seen:
    """Look, and verify: everything must hold."""
    report = small_project(root).verify()
    assert report.verdict == "holds", "\n".join(map(str, report.findings))
    terms = {f"{term.source} {term.measure}": term for term in report.terms}
    return replace(look(root), ledger=terms)


def assert_seen(found: Seen, expected: Seen) -> None:
    """The same rows, cell by cell; the same answers; the same ledger."""
    assert_same(found.tables, expected.tables)
    assert found.answers == expected.answers
    assert found.ledger == expected.ledger


def assert_whole(root: Path) -> None:
    """What a crash leaves is some whole position: every table and answer tells the same sums."""
    try:
        seen = look(root)
    except UsageError:
        return  # nothing was published yet
    sums = {
        name: (pc.sum(rows[cost]).as_py() or Decimal(0), _events(rows))
        for name, cost in _COSTS.items()
        if (rows := seen.tables.get(name)) is not None
    }
    assert len(set(sums.values())) == 1, sums
    revenue = {
        name: pc.sum(rows["total_cost_usd"]).as_py() or Decimal(0)
        for name in ("silver.billing_enriched", "gold.revenue_by_org_month")
        if (rows := seen.tables.get(name)) is not None
    }
    assert len(set(revenue.values())) == 1, revenue


_COSTS: Final = {
    "bronze.usage_events": "cost_usd_increment",
    "gold.org_daily_usage_by_service": "daily_cost_usd",
    "gold.finops_by_org_day": "daily_cost_usd",
}


def _events(rows: pa.Table) -> int:
    if "event_count" not in rows.column_names:
        return len(rows)
    return pc.sum(rows["event_count"]).as_py() or 0
