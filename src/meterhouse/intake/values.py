"""Delivered text and JSON values into typed columns: once exactly, once vectorised.

``exact`` decides every value. ``vectorised`` decides only what it is sure of and says of
which rows it was not; those are then read exactly. Both give the same value wherever the
second is sure. No number passes through a float.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.intake.contract import ColumnType
from meterhouse.intake.jsontext import dump, number_parts, read_value
from meterhouse.names import SCALE

__all__ = [
    "ARROW_TYPES",
    "INTEGER",
    "PLAIN_NUMBER",
    "Reading",
    "exact",
    "exact_array",
    "vectorised",
]

ARROW_TYPES: Final[dict[ColumnType, pa.DataType]] = {
    "text": pa.string(),
    "decimal": pa.decimal128(38, SCALE),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "json": pa.string(),
}
"""How a contract's column types are stored."""

_SMALL = "|".join(rf"(?:\.[0-9]{{1,{9 - low}}})?[eE]-0?[1-{low}]" for low in (5, 6, 7, 8))
PLAIN_NUMBER: Final = rf"-?(?:(?:0|[1-9][0-9]{{0,17}})(?:\.[0-9]{{1,9}})?|[0-9](?:{_SMALL}))"
"""RE2: numbers that need no thought, below 1e18 and of nine decimals at most.

With a small negative exponent too: that is how many programs write 0.00002.
"""

INTEGER: Final = r"-?(?:0|[1-9][0-9]{0,17})"
"""RE2: the whole ones among them."""

_SPACE = " \t\n\r\f\v"
_WHOLE_DIGITS_READABLE = 38 - SCALE
_WHOLE_DIGITS_SANE = 18
_INT64_DIGITS = 19
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_FIRST_US = (1 - _EPOCH) * _DAY_US
_LAST_US = (date(9999, 12, 31).toordinal() - _EPOCH + 1) * _DAY_US - 1


Reading: TypeAlias = tuple[Any, str | None]
"""What a delivered value is to a column, and what is wrong with it.

The value in the unit that ``exact_array`` takes (unscaled decimals, days, microseconds),
None for NULL; ``wrong_type``, ``unreadable``, ``number_out_of_range``, ``rounded`` or None.
A plain tuple, because one is made for every value of every odd record.
"""

_NULL: Final[Reading] = (None, None)
_WRONG_TYPE: Final[Reading] = (None, "wrong_type")
_UNREADABLE: Final[Reading] = (None, "unreadable")
_OUT_OF_RANGE: Final[Reading] = (None, "number_out_of_range")


def exact(
    kind: ColumnType, *, rounding: bool = False, json_text: bool = False
) -> Callable[[Any], Reading]:
    """Return the function that reads one delivered value for a column of ``kind``.

    It takes what ``jsontext`` gives, or a CSV field's text, and never raises. None is NULL.

    Args:
        kind: The column's type.
        rounding: More than nine decimals are rounded half-even, problem ``rounded``.
        json_text: A text given to a json column is JSON itself (CSV).
    """
    if kind == "decimal":
        return _rounded_decimal if rounding else _decimal
    if kind == "json":
        return _json_from_text if json_text else _json
    return _READERS[kind]


def _text(value: Any) -> Reading:
    if type(value) is str:
        return value, None
    return _NULL if value is None else _WRONG_TYPE


def _decimal(value: Any) -> Reading:
    return _number(value, rounding=False)


def _rounded_decimal(value: Any) -> Reading:
    return _number(value, rounding=True)


_PLAIN = re.compile(r"(-?[0-9]{1,18})(?:\.([0-9]{1,9}))?")


def _number(value: Any, *, rounding: bool) -> Reading:
    if value is None:
        return _NULL
    plain = _PLAIN.fullmatch(value) if isinstance(value, str) else None
    if plain is not None:
        return int(plain[1] + (plain[2] or "").ljust(SCALE, "0")), None
    parts = number_parts(value.strip(_SPACE)) if isinstance(value, str) else None
    if parts is None:
        return _WRONG_TYPE
    negative, digits, exponent, tiny = parts
    if not digits:
        return 0, None
    if exponent is None:
        return (0, "rounded") if tiny and rounding else _OUT_OF_RANGE
    problem = None
    if exponent < -SCALE:
        if not rounding:
            return _OUT_OF_RANGE
        if len(digits) + exponent > _WHOLE_DIGITS_READABLE:
            return _OUT_OF_RANGE
        unscaled, problem = _half_even(digits, len(digits) + exponent + SCALE), "rounded"
    elif len(digits) + exponent > _WHOLE_DIGITS_READABLE:
        return _OUT_OF_RANGE
    else:
        unscaled = int(digits) * 10 ** (exponent + SCALE)
    if unscaled >= 10 ** (_WHOLE_DIGITS_SANE + SCALE):
        if unscaled >= 10**38:
            return _OUT_OF_RANGE
        problem = "number_out_of_range"
    return -unscaled if negative else unscaled, problem


def _half_even(digits: str, kept: int) -> int:
    """Return 0.``digits`` times ten to the ``kept``, to the nearest whole, ties to even."""
    if kept < 0:
        return 0
    whole, rest = int(digits[:kept] or "0"), digits[kept:]
    # ``digits`` ends in no zero, so a rest of "5" is a tie and anything longer is above it.
    up = rest[0] > "5" or (rest[0] == "5" and (len(rest) > 1 or whole % 2 == 1))
    return whole + 1 if up else whole


def _integer(value: Any) -> Reading:
    if value is None:
        return _NULL
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value), None
    parts = number_parts(value.strip(_SPACE)) if isinstance(value, str) else None
    if parts is None:
        return _WRONG_TYPE
    negative, digits, exponent, tiny = parts
    if not digits:
        return 0, None
    if exponent is None:
        return _WRONG_TYPE if tiny else _OUT_OF_RANGE
    if exponent < 0:
        return _WRONG_TYPE
    if len(digits) + exponent > _INT64_DIGITS:
        return _OUT_OF_RANGE
    whole = int(digits) * 10**exponent * (-1 if negative else 1)
    return (whole, None) if -(2**63) <= whole < 2**63 else _OUT_OF_RANGE


def _boolean(value: Any) -> Reading:
    if value is None or type(value) is bool:
        return value, None
    word = value.lower() if type(value) is str and value.isascii() else ""
    return (word == "true", None) if word in ("true", "false") else _WRONG_TYPE


_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIMESTAMP = re.compile(
    r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})[Tt ]"
    r"([0-9]{2})(?:(:?)([0-9]{2})(?:\6([0-9]{2})(?:[.,]([0-9]+))?)?)?"
    r"(?:[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)


@functools.lru_cache(maxsize=4096)
def _days(year: str, month: str, day: str) -> int | None:
    try:
        return date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None


def _date(value: Any) -> Reading:
    if type(value) is not str:
        return _NULL if value is None else _WRONG_TYPE
    if not value:
        return _NULL
    match = _DATE.fullmatch(value)
    days = _days(*match.groups()) if match else None
    return _UNREADABLE if days is None else (days, None)


def _timestamp(value: Any) -> Reading:
    if type(value) is not str:
        return _NULL if value is None else _WRONG_TYPE
    if not value:
        return _NULL
    match = _TIMESTAMP.fullmatch(value)
    if match is None:
        return _UNREADABLE
    (
        year,
        dash,
        month,
        day,
        hour,
        colon,
        minute,
        second,
        fraction,
        sign,
        zone_hour,
        zone_minute,
    ) = match.groups("")
    if minute and bool(dash) != bool(colon):  # basic and extended format do not mix
        return _UNREADABLE
    days = _days(year, month, day)
    clock = [int(part or "0") for part in (hour, minute, second, zone_hour, zone_minute)]
    if days is None or clock[0] > 23 or clock[3] > 23 or max(clock) > 59:
        return _UNREADABLE
    offset = (clock[3] * 60 + clock[4]) * (-1 if sign == "-" else 1)
    seconds = clock[0] * 3600 + (clock[1] - offset) * 60 + clock[2]
    instant = days * _DAY_US + seconds * 1_000_000 + int(fraction[:6].ljust(6, "0"))
    return (instant, None) if _FIRST_US <= instant <= _LAST_US else _UNREADABLE


def _json(value: Any) -> Reading:
    return _NULL if value is None else (dump(value), None)


def _json_from_text(value: Any) -> Reading:
    if value is None:
        return _NULL
    try:
        return _json(read_value(value.encode("utf-8")))
    except ValueError:
        return _WRONG_TYPE


_READERS: Final[dict[ColumnType, Callable[[Any], Reading]]] = {
    "text": _text,
    "integer": _integer,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
}


def exact_array(kind: ColumnType, values: Sequence[Any]) -> pa.Array:
    """Return the column of ``Reading.value``s; None is NULL."""
    if kind == "decimal":
        return _decimals(values)
    if kind in ("timestamp", "date"):
        storage = pa.int64() if kind == "timestamp" else pa.int32()
        return pa.array(values, storage).cast(ARROW_TYPES[kind])
    return pa.array(values, ARROW_TYPES[kind])


def _decimals(unscaled: Sequence[int | None]) -> pa.Array:
    words = b"".join([(value or 0).to_bytes(16, "little", signed=True) for value in unscaled])
    present = np.fromiter((value is not None for value in unscaled), np.bool_, len(unscaled))
    validity = np.packbits(present, bitorder="little")
    return pa.Array.from_buffers(
        ARROW_TYPES["decimal"], len(unscaled), [pa.py_buffer(validity), pa.py_buffer(words)]
    )


Sure: TypeAlias = npt.NDArray[np.bool_] | None
"""Rows that were decided; None when all were."""


def vectorised(kind: ColumnType, texts: pa.StringArray) -> tuple[pa.Array, Sure]:
    """Return ``texts`` as a column of ``kind`` and which rows are decided.

    NULL and, except for text columns, the empty text come out NULL. The value of an
    undecided row means nothing.
    """
    if kind == "text":
        return texts, None
    if kind == "boolean":
        return _vectorised_boolean(texts)
    if kind == "json":
        return texts, _flags(pc.is_null(texts))
    if kind == "timestamp" and _all_of_usual_form(texts):
        try:
            return pc.cast(texts, ARROW_TYPES[kind]), None
        except pa.ArrowInvalid:
            pass  # some day or hour does not exist: the pattern says which
    texts, sure = _plain(texts, _PATTERNS[kind])
    try:
        return pc.cast(texts, ARROW_TYPES[kind]), sure
    except pa.ArrowInvalid:
        if kind == "timestamp":
            try:
                return pc.cast(_usual_timestamps(texts), ARROW_TYPES[kind]), sure
            except pa.ArrowInvalid:
                pass
    undecided = np.zeros(len(texts), np.bool_)
    return pa.nulls(len(texts), ARROW_TYPES[kind]), undecided


_DAYS_OF_MONTHS = (
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[469]|11)-(?:29|30)"
    r"|(?:0[13578]|1[02])-(?:29|3[01]))"
)
_PLAIN_DAY = rf"(?:19|20)[0-9]{{2}}-{_DAYS_OF_MONTHS}"
_PATTERNS: Final[dict[ColumnType, str]] = {
    "decimal": rf"^{PLAIN_NUMBER}$",
    "integer": rf"^{INTEGER}$",
    "date": rf"^{_PLAIN_DAY}$",
    "timestamp": (
        rf"^{_PLAIN_DAY}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?"
        r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?$"
    ),
}
"""Within 1900-2099, so that no offset moves an instant out of years 1-9999."""


_USUAL = np.frombuffer(b"2025-08-18T14:04:00Z", np.uint8)
_USUAL_DIGITS = np.flatnonzero((_USUAL >= 0x30) & (_USUAL <= 0x39))
_USUAL_MARKS = np.flatnonzero((_USUAL < 0x30) | (_USUAL > 0x39))


def _all_of_usual_form(texts: pa.StringArray) -> bool:
    """Return whether all are written like 2025-08-18T14:04:00Z, between 1900 and 2099.

    Cheaper than a regular expression. Which days and hours there are the cast knows.
    """
    width = len(_USUAL)
    _, offsets, text = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts) or texts.null_count or not (np.diff(ends) == width).all():
        return False
    signs = np.frombuffer(text, np.uint8)[ends[0] : ends[-1]].reshape(-1, width)
    marks = signs[:, _USUAL_MARKS] == _USUAL[_USUAL_MARKS]
    digits = signs[:, _USUAL_DIGITS] - np.uint8(0x30) <= 9
    centuries = (signs[:, :2] == np.frombuffer(b"20", np.uint8)).all(axis=1) | (
        signs[:, :2] == np.frombuffer(b"19", np.uint8)
    ).all(axis=1)
    return bool(marks.all() and digits.all() and centuries.all())


# Made once: for each Python value it is given, PyArrow looks for a module that may be missing.
_NOTHING, _TRUE, _NO_TEXT = pa.scalar(0, pa.int32()), pa.scalar(True), pa.scalar(None, pa.string())


def _plain(texts: pa.StringArray, pattern: str) -> tuple[pa.StringArray, Sure]:
    """Null what does not match; sure of what matches, is NULL or empty."""
    matches = pc.match_substring_regex(texts, pattern)
    if pc.all(matches, min_count=0).as_py():
        return texts, None
    empty = pc.equal(pc.binary_length(texts), _NOTHING)
    sure = _flags(pc.fill_null(pc.or_(matches, empty), _TRUE))
    return pc.if_else(matches, texts, _NO_TEXT), None if sure.all() else sure


def _usual_timestamps(texts: pa.StringArray) -> pa.StringArray:
    """Cut fractions to microseconds and call the zone-less UTC."""
    texts = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
    zoned = pc.match_substring_regex(texts, r"(?:Z|[+-][0-9]{2}:[0-9]{2})$")
    return pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", ""))


_WORDS = pa.array(["true", "True", "TRUE", "false", "False", "FALSE"])


def _vectorised_boolean(texts: pa.StringArray) -> tuple[pa.Array, Sure]:
    index = pc.index_in(texts, value_set=_WORDS)
    sure = _flags(pc.or_(pc.is_valid(index), pc.is_null(texts)))
    return pc.less(index, 3), None if sure.all() else sure


def _flags(values: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.bool_)
