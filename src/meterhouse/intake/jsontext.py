"""Strict JSON: one reading of it, with numbers kept as their text.

The standard library's decoder is the grammar; what it lets through beyond RFC 8259
(NaN, a key given twice, lone surrogates) or can't survive (deep nesting, numbers of a
gigabyte of digits) is refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO
from json.encoder import encode_basestring
from typing import Any, Final

import numpy as np

__all__ = [
    "MAX_DEPTH",
    "MAX_RECORD_BYTES",
    "Number",
    "canonical",
    "dump",
    "number_parts",
    "read_object",
    "read_value",
]

MAX_RECORD_BYTES: Final = 16 << 20
"""A longer record is malformed."""

MAX_DEPTH: Final = 64
"""Objects and lists within each other; a deeper record is malformed."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]+))?")
_STEPS = np.zeros(256, np.int8)
_STEPS[[0x5B, 0x7B]] = 1
_STEPS[[0x5D, 0x7D]] = -1


class Number(str):
    """A JSON number, as the text it was written in. Never expanded, never rounded."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=_constant
)


def read_object(line: bytes) -> dict[str, Any] | None:
    """Return the one JSON object that ``line`` is; None when it is anything else.

    Numbers come as ``Number``, text as ``str`` without lone surrogates. Never raises.
    """
    try:
        value = read_value(line)
    except ValueError:
        return None
    return value if type(value) is dict else None


def read_value(line: bytes) -> Any:
    """Return the one JSON value that ``line`` is.

    Raises:
        ValueError: It is not one JSON value, or larger or deeper than the limits.
    """
    if len(line) > MAX_RECORD_BYTES or _too_deep(line):
        raise ValueError("beyond the limits of a record")
    value = _DECODER.decode(line.decode("utf-8"))
    if b"\\u" in line:
        dump(value).encode("utf-8")  # UnicodeEncodeError, a ValueError: a lone surrogate
    return value


def _too_deep(line: bytes) -> bool:
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    marks = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    depth = np.cumsum(_STEPS[marks], dtype=np.int32)
    return bool(len(depth)) and int(depth.max()) > MAX_DEPTH


def dump(value: Any) -> str:
    """Return ``value`` as JSON text: keys sorted, no spaces, numbers as delivered."""
    if type(value) is str:
        return encode_basestring(value)
    out = StringIO()
    _write(value, out.write, str, keep_null=True)
    return out.getvalue()


def canonical(value: Any) -> str:
    """Return a text that two values share when they mean the same.

    Keys sorted, numbers by value (``1.0`` is ``1``), a null member is an absent one.
    """
    out = StringIO()
    _write(value, out.write, _canonical_number, keep_null=False)
    return out.getvalue()


def _write(
    value: Any, write: Callable[[str], Any], number: Callable[[Number], str], *, keep_null: bool
) -> None:
    """Write piece by piece: millions of values in one record must not become as many texts."""
    kind = type(value)
    if kind is Number:
        write(number(value))
    elif kind is str:
        write(encode_basestring(value))
    elif kind is dict:
        mark = "{"
        for key in sorted(value):
            if keep_null or value[key] is not None:
                write(f"{mark}{encode_basestring(key)}:")
                _write(value[key], write, number, keep_null=keep_null)
                mark = ","
        write("{}" if mark == "{" else "}")
    elif kind is list:
        mark = "["
        for item in value:
            write(mark)
            _write(item, write, number, keep_null=keep_null)
            mark = ","
        write("[]" if mark == "[" else "]")
    else:
        write("null" if value is None else "true" if value else "false")


def number_parts(text: str) -> tuple[bool, str, int | None, bool] | None:
    """Take a number's text apart: ``(negative, digits, exponent, tiny)``, value = digits x 10^exp.

    ``digits`` has no zeros at either end and is empty for zero. ``exponent`` is None when
    it has more than nine digits of its own; ``tiny`` then says which way. None: no number.
    A plus sign, leading zeros and a missing digit beside the point are accepted.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent_sign, exponent_text = match.groups("")
    if not whole and not fraction:
        return None
    all_digits = (whole + fraction).lstrip("0")
    digits = all_digits.rstrip("0")
    tiny = exponent_sign == "-"
    exponent_text = exponent_text.lstrip("0")
    if len(exponent_text) > 9:
        return sign == "-", digits, None, tiny
    exponent = int(exponent_text or "0")
    shift = len(all_digits) - len(digits) - len(fraction)
    return sign == "-", digits, (-exponent if tiny else exponent) + shift, tiny


def _canonical_number(text: Number) -> str:
    if text.isdigit() and text[-1] != "0":
        return f"{text}e0"
    parts = number_parts(text)
    if parts is None:
        return str(text)
    negative, digits, exponent, _ = parts
    if not digits:
        return "0"
    if exponent is None:
        return str(text).lower()
    return f"{'-' if negative else ''}{digits}e{exponent}"
