"""Delivered text to values: exact numbers, days, instants. Never a float."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

OUT_OF_RANGE = "number_out_of_range"
WRONG_TYPE = "wrong_type"
UNREADABLE = "unreadable"

NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?", re.ASCII)
INSTANT = re.compile(
    r"(?:(\d{4})-(\d\d)-(\d\d)|(\d{4})(\d\d)(\d\d))[Tt ]"
    r"(\d\d)(?:(:?)(\d\d)(?:\8(\d\d)(?:[.,](\d+))?)?)?"
    r"([Zz]|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
"""ISO 8601 in its extended form (2025-07-03T10:00:00Z) or its basic one (20250703T100000Z)."""
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
SPACE = " \t\n\r\f\v"
INT64 = 2**63


class Number(str):
    """The text of a JSON number token."""

    __slots__ = ()


class MalformedError(Exception):
    """The record is not what its format says."""


def significant(text: str) -> tuple[str, str, int] | None:
    """Return (sign, digits, exponent) without zeros at either end; None when no number.

    A number is digits x 10^exponent; zero is ("", "", 0). An exponent is cut at ten
    digits: such a number is beyond any range, and nobody may expand it.
    """
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, power = match[1], match[2], match[3] or "", match[4] or "0"
    if not whole + fraction:
        return None
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "", "", 0
    exponent = int(power[:12]) - len(fraction)
    kept = digits.rstrip("0")
    return sign.replace("+", ""), kept, exponent + len(digits) - len(kept)


def decimal_of(text: str) -> tuple[Decimal | None, str]:
    """Return (value, problem): the value is None when it is no DECIMAL(38,9)."""
    parts = significant(text.strip(SPACE))
    if parts is None:
        return None, WRONG_TYPE
    sign, digits, exponent = parts
    if not digits:
        return Decimal(0), ""
    size = len(digits) + exponent
    if size > 29 or exponent < -9:
        return None, OUT_OF_RANGE
    value = Decimal(f"{sign}{digits}e{exponent}")
    return value, OUT_OF_RANGE if size > 18 else ""


def integer_of(text: str) -> tuple[int | None, str]:
    """Return (value, problem) of an integral number in 64 bits."""
    parts = significant(text.strip(SPACE))
    if parts is None:
        return None, WRONG_TYPE
    sign, digits, exponent = parts
    if not digits:
        return 0, ""
    if exponent < 0:
        return None, WRONG_TYPE
    if len(digits) + exponent > 19:
        return None, OUT_OF_RANGE
    value = int(f"{sign}{digits}") * 10**exponent
    return (value, "") if -INT64 <= value < INT64 else (None, OUT_OF_RANGE)


def day_of(text: str) -> tuple[date | None, str]:
    """Return (day, problem) of YYYY-MM-DD."""
    if not DAY.fullmatch(text):
        return None, UNREADABLE
    try:
        return date(int(text[:4]), int(text[5:7]), int(text[8:])), ""
    except ValueError:
        return None, UNREADABLE


def instant_of(text: str) -> tuple[datetime | None, str]:
    """Return (UTC instant, problem) of ISO 8601 with a time; zone-less is UTC."""
    match = INSTANT.fullmatch(text)
    if match is None:
        return None, UNREADABLE
    basic = match[1] is None
    if match[9] and basic == bool(match[8]):
        return None, UNREADABLE  # the two forms do not mix
    year, month, day = (int(match[place + 3 * basic]) for place in (1, 2, 3))
    hour, minute, second = (int(match[place] or 0) for place in (7, 9, 10))
    micros = int((match[11] or "").ljust(6, "0")[:6])
    zone = match[12] or "Z"
    try:
        offset = UTC if zone in "Zz" else _offset(zone)
        local = datetime(year, month, day, hour, minute, second, micros, offset)
        return local.astimezone(UTC), ""
    except (ValueError, OverflowError):
        return None, UNREADABLE


def _offset(zone: str) -> timezone:
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(zone)
    size = timedelta(hours=hours, minutes=minutes)
    return timezone(-size if zone[0] == "-" else size)


def json_object(text: str) -> dict[str, Any]:
    """Return one JSON object, numbers as their text; strict in all that matters here."""
    if _depth(text) > 64:
        raise MalformedError("nested over 64 levels deep")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_constant,
        )
    except ValueError as error:
        raise MalformedError(str(error)) from error
    if not isinstance(value, dict):
        raise MalformedError("not an object")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise MalformedError("a lone surrogate") from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a key given twice")
    return found


def _constant(name: str) -> Any:
    raise MalformedError(name)


def _depth(text: str) -> int:
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)
    deepest = depth = 0
    for character in outside:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def by_value(value: Any) -> Any:
    """Return ``value`` such that two equal ones are the same record part."""
    if isinstance(value, Number):
        return "number", significant(value)
    if isinstance(value, dict):
        present = ((key, by_value(item)) for key, item in value.items() if item is not None)
        return "object", tuple(sorted(present))
    if isinstance(value, list):
        return "list", tuple(by_value(item) for item in value)
    return type(value).__name__, value
