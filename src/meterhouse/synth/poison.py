"""Ways in which a line of usage can be broken, and the verdict each must get."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["FLAWS", "Flaw", "with_field"]


@dataclass(frozen=True, slots=True)
class Flaw:
    """One way to break a line."""

    name: str
    reason: str
    """First rule it breaks; empty for a blank line, which is no record."""
    apply: Callable[[bytes, int], bytes]
    """From (a sound line, its place in the stream) to the broken one, unlike any other."""
    cost: int | Literal["kept", "lost"] = "kept"
    """What the ledger reads of its amount: the line's own, nothing, or so many 1e-9 USD."""


def with_field(line: bytes, name: str, value: bytes) -> bytes:
    """Return ``line`` with JSON text ``value`` for the field ``name``."""
    pattern = rb'("' + name.encode() + rb'": )("[^"]*"|[^,}]*)'
    return re.sub(pattern, lambda match: match[1] + value, line, count=1)


def _set(**fields: bytes) -> Callable[[bytes, int], bytes]:
    def apply(line: bytes, place: int) -> bytes:
        for name, value in fields.items():
            line = with_field(line, name, value)
        return line

    return apply


def _without_id(value: bytes) -> Callable[[bytes, int], bytes]:
    """Take the id away; the fraction of the second keeps the line unlike others."""

    def apply(line: bytes, place: int) -> bytes:
        line = line.replace(b'Z"', b'.%06dZ"' % (place % 1_000_000), 1)
        return with_field(line, "event_id", value)

    return apply


MALFORMED: dict[str, Callable[[bytes, int], bytes]] = {
    "truncated": lambda line, place: line[: len(line) // 2],
    "garbage": lambda line, place: b"ERROR emitter %d: connection reset" % place,
    "two_objects": lambda line, place: line + line,
    "array": lambda line, place: b"[" + line + b"]",
    "trailing_comma": lambda line, place: line[:-1] + b",}",
    "nan": _set(value=b"NaN"),
    "infinity": _set(cost_usd_increment=b"-Infinity"),
    "broken_utf8": lambda line, place: line.replace(b'"region": "', b'"region": "\xff\xfe', 1),
    "control_character": lambda line, place: line.replace(b'"unit": ', b'"unit"\x01: ', 1),
    "nul_byte": lambda line, place: line + b"\x00",
    "lone_surrogate": _set(region=rb'"\ud800"'),
    "key_twice": lambda line, place: line[:-1] + b', "event_id": "evt_twice%d"}' % place,
    "single_quotes": lambda line, place: line.replace(b'"', b"'"),
}

FLAWS: tuple[Flaw, ...] = (
    *(Flaw(name, "malformed", apply, "lost") for name, apply in MALFORMED.items()),
    Flaw("object_as_text", "wrong_type", _set(org_id=b'{"id": 7}')),
    Flaw("boolean_as_number", "wrong_type", _set(value=b"true")),
    Flaw("words_as_cost", "wrong_type", _set(cost_usd_increment=b'"free"'), "lost"),
    Flaw("grouped_digits", "wrong_type", _set(value=b'"1_000"')),
    Flaw("decimal_comma", "wrong_type", _set(value=b'"1,5"')),
    Flaw("id_null", "event_id_missing", _without_id(b"null")),
    Flaw("id_empty", "event_id_missing", _without_id(b'""')),
    Flaw("time_null", "timestamp_missing", _set(timestamp=b"null")),
    Flaw("time_empty", "timestamp_missing", _set(timestamp=b'""')),
    Flaw("day_only", "timestamp_unreadable", _set(timestamp=b'"2025-07-09"')),
    Flaw("no_such_day", "timestamp_unreadable", _set(timestamp=b'"2025-02-30T10:00:00Z"')),
    Flaw("hour_24", "timestamp_unreadable", _set(timestamp=b'"2025-07-09T24:00:00Z"')),
    Flaw("words_as_time", "timestamp_unreadable", _set(timestamp=b'"yesterday"')),
    Flaw("org_null", "key_unusable", _set(org_id=b"null")),
    Flaw("org_long", "key_unusable", _set(org_id=b'"' + b"o" * 300 + b'"')),
    Flaw("service_empty", "key_unusable", _set(service=b'""')),
    Flaw("metric_null", "key_unusable", _set(metric=b"null")),
    Flaw("bell_in_service", "key_unusable", _set(service=rb'"com\u0007pute"')),
    Flaw("value_huge", "number_out_of_range", _set(value=b"1e400")),
    Flaw("value_endless", "number_out_of_range", _set(value=b"1e999999999")),
    Flaw(
        "cost_float_noise",
        "number_out_of_range",
        _set(cost_usd_increment=b"0.30000000000000004"),
        "lost",
    ),
    Flaw("ten_decimals", "number_out_of_range", _set(value=b"0.0000000001")),
    Flaw(
        "refund",
        "cost_below_minimum",
        _set(cost_usd_increment=b"-4.3486"),
        -4_348_600_000,
    ),
    Flaw(
        "just_below",
        "cost_below_minimum",
        _set(cost_usd_increment=b"-0.010000001"),
        -10_000_001,
    ),
    Flaw("unit_null", "unit_missing", _set(value=b"12.5", unit=b"null")),
    Flaw("unit_empty", "unit_missing", _set(value=b'"12.5"', unit=b'""')),
    Flaw(
        "refund_without_unit",
        "cost_below_minimum",
        _set(cost_usd_increment=b"-1.5", value=b"3", unit=b"null"),
        -1_500_000_000,
    ),
    Flaw("blank", "", lambda line, place: b" " * (place % 3)),
)
