"""Windows of five and of fifteen minutes: each event is looked at, none is merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

Row = dict[str, Any]

EXACT = Context(prec=120)
FIVE = timedelta(minutes=5)
FIRST = datetime(1, 1, 1, tzinfo=UTC)


def windows(usage: Sequence[Row]) -> dict[str, list[Row]]:
    """Return both window tables from the enriched events."""
    return {
        "gold.usage_by_5min": _table(usage, lambda moment: iter([_start(moment)])),
        "gold.usage_sliding_15min": _table(usage, _starts),
    }


def _start(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    return moment.replace(minute=moment.minute - moment.minute % 5, second=0, microsecond=0)


def _starts(moment: datetime) -> Iterator[datetime]:
    """Yield the starts of the fifteen minutes, every five, that ``moment`` is in."""
    start = _start(moment)
    for _ in range(3):
        yield start
        if start < FIRST + FIVE:
            return
        start -= FIVE


def _table(usage: Sequence[Row], starts: Callable[[datetime], Iterator[datetime]]) -> list[Row]:
    groups: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in usage:
        for start in starts(row["event_ts"]):
            groups[start, row["org_id"], row["service"], row["region"]].append(row)
    return [
        {
            **dict(zip(("window_start", "org_id", "service", "region"), key, strict=True)),
            "cost_usd": _total(row["cost_usd_increment"] for row in rows),
            "event_count": len(rows),
            "genai_tokens": _total(row["genai_tokens"] for row in rows),
            "genai_reported_count": sum(row["genai_tokens"] is not None for row in rows),
        }
        for key, rows in groups.items()
    ]


def _total(values: Iterator[Decimal | None]) -> Decimal:
    result = Decimal(0)
    for value in values:
        if value is not None:
            result = EXACT.add(result, value)
    return result
