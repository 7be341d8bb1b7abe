"""Arithmetic on numbers that are kept as text: exact, never through a double."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, Inexact
from typing import Final

from meterhouse.formats import decimal_text
from meterhouse.models.model import RATIO_SCALE

__all__ = ["DIGITS", "fits", "quotient", "total", "totals"]

DIGITS: Final = 38
"""Of a DECIMAL: more can't be stored."""
_add: Final = Context(prec=2 * DIGITS + 2, traps=[Inexact]).add


def total(left: str, right: str) -> str:
    """Return left + right in plain notation, of any length."""
    if right == "0":
        return left
    if left == "0":
        return right
    found = _add(Decimal(left), Decimal(right))
    plain = str(found)
    if "E" in plain:  # small numbers, and zeros
        return decimal_text(found)
    return plain.rstrip("0").rstrip(".") or "0" if "." in plain else plain


def fits(value: str, whole_digits: int) -> bool:
    """Tell whether ``value`` has at most ``whole_digits`` digits before its point."""
    return len(value.lstrip("-0").partition(".")[0]) <= whole_digits


def quotient(up: str | int | None, down: str | int | None, times: int) -> str | None:
    """Return times × up ÷ down with 6 places, half-even; None where a side is, or down is 0.

    Source of the rounding: IEEE 754 roundTiesToEven, on integers, as ``models.finalize``.

    Raises:
        OverflowError: The result has more than 38 digits.
    """
    if up is None or down is None:
        return None
    above, below = Decimal(up).as_integer_ratio(), Decimal(down).as_integer_ratio()
    if not below[0]:
        return None
    top = above[0] * below[1] * times * 10**RATIO_SCALE
    bottom = above[1] * below[0]
    if bottom < 0:
        top, bottom = -top, -bottom
    whole, rest = divmod(top, bottom)
    if 2 * rest > bottom or (2 * rest == bottom and whole % 2):
        whole += 1
    if abs(whole) >= 10**DIGITS:
        raise OverflowError("a ratio has more than 38 digits")
    return decimal_text(Decimal(whole).scaleb(-RATIO_SCALE, Context(prec=DIGITS)))


def totals(lefts: Sequence[str], rights: Sequence[str], scale: int) -> list[str]:
    """Return what ``total`` gives for each pair of DECIMAL(38, ``scale``), a column at a time.

    Raises:
        OverflowError: One has more than 38 digits.
    """
    import numpy as np
    import pyarrow as pa

    from meterhouse.arrow_text import text_array
    from meterhouse.models.exact import decimals, units

    kept = pa.decimal128(DIGITS, scale)
    left, null, _ = units(pa.array(lefts, pa.string()).cast(kept))
    right, _, _ = units(pa.array(rights, pa.string()).cast(kept))
    if left.dtype != right.dtype:
        left, right = left.astype(object), right.astype(object)
    found: list[str] = text_array(decimals(np.add(left, right), null, scale)).to_pylist()
    return found
