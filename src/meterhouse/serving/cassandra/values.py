"""Served values as CQL's and back, exactly.

What the embedded store keeps as text that says exactly what it means becomes CQL's own
types where these hold it to the last digit; see ``tables.CqlColumn``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from meterhouse.errors import ModelError
from meterhouse.serving.cassandra.layout import CqlColumn
from meterhouse.serving.schema import NULL_KEY

__all__ = ["as_bound", "from_cql", "period", "to_cql"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY_ZERO: Final = 719_163
"""1970-01-01 as a proleptic Gregorian ordinal."""
_CENTRE: Final = 2**31
"""The driver binds a whole number as a date as it is on the wire: 1970-01-01 is this."""

_NO_KEY: Final[dict[str, Any]] = {
    "text": "\x00",
    "bigint": -(2**63),
    "decimal": Decimal("-1E+999"),
    "date": 0,
    "timestamp": 253_402_300_799_999,
    "blob": b"\x00",
}
"""Stand for NULL in a key, by CQL type. No served value is one of them: keys hold no control
characters, no day lies millions of years back, no window begins at 9999-12-31T23:59:59.999."""


def to_cql(column: CqlColumn, *, key: bool) -> Callable[[Any], Any]:
    """Return what turns a stored value of the embedded store into one the driver binds.

    Raises (the function returned):
        ModelError: A window's time is not whole milliseconds.
    """
    write = _WRITERS.get((column.kind, column.type), _same)
    missing = _NO_KEY[column.type] if key else None

    def converted(value: Any) -> Any:
        return missing if value is None or value == NULL_KEY else write(value)

    return converted


def from_cql(column: CqlColumn, *, key: bool) -> Callable[[Any], Any]:
    """Return what turns a value that the driver read into a Python value, NULL into None."""
    read = _READERS.get((column.kind, column.type), _same)
    missing = _read_missing(column) if key else None

    def converted(value: Any) -> Any:
        return None if value is None or (key and value == missing) else read(value)

    return converted


def period(cut: str, kind: str, bound: int) -> int:
    """Return the first day of the period that a key value lies in, both as they are bound.

    Args:
        cut: "day" or "month", UTC.
        kind: CQL type of the value: date or timestamp.
        bound: As ``to_cql`` gives it; what stands for NULL stays that.
    """
    if bound == _NO_KEY[kind]:
        return int(_NO_KEY["date"])
    days = bound - _CENTRE if kind == "date" else bound // 86_400_000
    if cut == "month":
        days = date.fromordinal(days + _DAY_ZERO).replace(day=1).toordinal() - _DAY_ZERO
    return days + _CENTRE


def as_bound(value: Any, kind: str) -> Any:
    """Return a key value of CQL type ``kind``, as it was read, as ``to_cql`` gives it."""
    if kind == "date":
        return value.days_from_epoch + _CENTRE
    if kind == "timestamp":
        return (value.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
    return value


def _same(value: Any) -> Any:
    return value


def _days(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _DAY_ZERO + _CENTRE


def _milliseconds(text: str) -> int:
    whole, rest = divmod(datetime.fromisoformat(text) - _EPOCH, _MILLISECOND)
    if rest:
        raise ModelError(
            f'window time "{text}" is not whole milliseconds, so CQL can\'t hold it',
            "",
            "let the model cut its windows at whole seconds",
        )
    return whole


def _day(value: Any) -> date:
    """The driver gives its own Date, which counts days."""
    return date.fromordinal(value.days_from_epoch + _DAY_ZERO)


def _read_missing(column: CqlColumn) -> Any:
    if column.type == "date":
        from cassandra.util import Date

        return Date(_NO_KEY["date"] - _CENTRE)
    if column.type == "timestamp":
        # The driver gives times without a zone.
        return datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC).replace(tzinfo=None)
    return _NO_KEY[column.type]


def _moment(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


_WRITERS: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("decimal", "decimal"): Decimal,
    ("date", "date"): _days,
    ("timestamp", "timestamp"): _milliseconds,
    ("boolean", "boolean"): bool,
    ("boolean", "text"): lambda value: "true" if value else "false",
    ("bytes", "blob"): base64.b64decode,
    ("integer", "bigint"): int,
}
_READERS: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("date", "date"): _day,
    ("timestamp", "timestamp"): _moment,
    ("timestamp", "text"): datetime.fromisoformat,
    ("boolean", "text"): lambda value: value == "true",
    ("json", "text"): json.loads,
}
