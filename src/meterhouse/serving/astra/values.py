"""Served values as the Data API's tables take and give them, exactly.

As in CQL (``cassandra.values``), but days and times are ISO 8601 text in JSON. A decimal is
a JSON number with all its digits; astrapy reads and writes it as a Decimal, never a double.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from meterhouse.serving.cassandra.layout import CqlColumn
from meterhouse.serving.cassandra.values import from_cql, to_cql

__all__ = ["as_json", "from_json", "plain", "to_json"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO: Final = 719_163
_CENTRE: Final = 2**31
_NO_DATE: Final = "-5877641-06-23"
"""CQL's first day; stands for NULL in a key."""
_NO_TIME: Final = "9999-12-31T23:59:59.999Z"


def to_json(column: CqlColumn, *, key: bool) -> Callable[[Any], Any]:
    """Return what turns a stored value of the embedded store into one that astrapy sends."""
    bound = to_cql(column, key=key)

    def converted(value: Any) -> Any:
        return as_json(bound(value), column.type)

    return converted


def as_json(bound: Any, kind: str) -> Any:
    """Return a value that CQL's driver would bind as one that astrapy sends."""
    if bound is None:
        return None
    if kind == "date":
        days = bound - _CENTRE
        return _NO_DATE if bound == 0 else date.fromordinal(days + _DAY_ZERO).isoformat()
    if kind == "timestamp":
        return _time(bound)
    return bound


def plain(value: Any, kind: str) -> Any:
    """Return a value that astrapy read as ``as_json`` gives it."""
    if value is None:
        return None
    if kind == "date":
        return value.to_string()
    if kind == "timestamp":
        return _time(value.timestamp_ms)
    return value


def from_json(column: CqlColumn, *, key: bool) -> Callable[[Any], Any]:
    """Return what turns a value of ``plain`` into a Python value, NULL into None."""
    if column.type == "date":
        return _date
    if column.type == "timestamp":
        return _moment
    return from_cql(column, key=key)


def _time(milliseconds: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(text: str | None) -> date | None:
    return None if text in (None, _NO_DATE) else date.fromisoformat(str(text))


def _moment(text: str | None) -> datetime | None:
    return None if text in (None, _NO_TIME) else datetime.fromisoformat(str(text))
