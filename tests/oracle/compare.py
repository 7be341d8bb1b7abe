"""Rows as text, so that two programs' answers can be laid side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]


def canonical(value: Any) -> str | None:
    """Return ``value`` as `meterhouse read --format csv` prints it; None for NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text in ("-0", "") else text
    if isinstance(value, datetime):
        text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        fraction = f".{value.microsecond:06d}".rstrip("0").rstrip(".")
        return f"{text}{fraction}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def canonical_rows(
    rows: Iterable[Row], columns: Sequence[str] | None = None
) -> list[dict[str, str | None]]:
    """Return rows as text, in an order of their own; only ``columns`` when given."""
    found = [{column: canonical(row[column]) for column in (columns or row)} for row in rows]
    return sorted(
        found, key=lambda row: [(value is not None, value or "") for value in row.values()]
    )


def differences(expected: Sequence[Row], actual: Sequence[Row], *, limit: int = 5) -> list[str]:
    """Return what differs, in words; an empty list when nothing does.

    ``actual`` may have more columns, rows in any order, and values as text, as JSON
    gives them, or native. In CSV an empty field and NULL are one.
    """
    if not expected:
        return [f"{len(actual)} rows, none expected"] if actual else []
    columns = list(expected[0])
    if actual:
        missing = [column for column in columns if column not in actual[0]]
        if missing:
            return [f"columns missing: {', '.join(missing)}"]
    wanted = Counter(_comparable(row, columns) for row in expected)
    found = Counter(_comparable(row, columns) for row in actual)
    problems = []
    if len(expected) != len(actual):
        problems.append(f"{len(actual)} rows, {len(expected)} expected")
    for word, rows in (("missing", wanted - found), ("unexpected", found - wanted)):
        for values in list(rows.elements())[:limit]:
            shown = {column: value for column, value in zip(columns, values, strict=True) if value}
            problems.append(f"{word}: {shown}")
    return problems


def _comparable(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(_folded(canonical(row[column])) for column in columns)


def _folded(text: str | None) -> str:
    """Return JSON of lists and maps in one spelling, NULL as empty."""
    if text is not None and text[:1] in ("[", "{"):
        try:
            return canonical(json.loads(text)) or ""
        except ValueError:
            return text
    return text or ""
