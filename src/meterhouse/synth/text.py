"""Numbers and identifiers as columns of text: NUL bytes pad, and are dropped at the end.

Text is looked up in tables of four digits, never formatted value by value. Amounts
are integers of their last decimal; no float is ever printed.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["BASE36", "Bytes", "Ints", "eight", "fraction", "identifiers", "plain", "table", "whole"]

Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.bytes_]]"

BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
HALF = 36**6
BLOCK = 10_000


def table(items: list[str]) -> Bytes:
    """Return ``items`` as fixed-width UTF-8, padded with NUL."""
    return np.array([item.encode() for item in items], dtype=np.bytes_)


TRIPLES = table([a + b + c for a in BASE36 for b in BASE36 for c in BASE36])
HIGH = table([str(number or "") for number in range(BLOCK)])
LOW = np.concatenate(
    [
        table([str(number) for number in range(BLOCK)]),
        table([f"{number:04d}" for number in range(BLOCK)]),
    ]
)
LAST = table([f"{number:04d}".rstrip("0") or "0" for number in range(BLOCK)])
TAIL = table([f"{number:04d}".rstrip("0") for number in range(BLOCK)])
FULL = table([f"{number:04d}" for number in range(BLOCK)])


def whole(values: Ints) -> tuple[Bytes, Bytes]:
    """Return two columns of text of integers from 0 to 99,999,999."""
    high, low = np.divmod(values, BLOCK)
    return HIGH[high], LOW[low + BLOCK * (high > 0)]


def fraction(values: Ints) -> Bytes:
    """Return the decimals of ten-thousandths (0 to 9,999): at least one digit."""
    return LAST[values]


def eight(values: Ints) -> tuple[Bytes, Bytes]:
    """Return the decimals of 1e-8 (0 to 99,999,999): at least one digit."""
    high, low = np.divmod(values, BLOCK)
    return np.where(low > 0, FULL[high], LAST[high]), TAIL[low]


def plain(amount: int, places: int) -> str:
    """Return integer ``amount`` of 10^-places in plain notation without trailing zeros."""
    sign, digits = ("-" if amount < 0 else ""), str(abs(amount)).rjust(places + 1, "0")
    head, tail = digits[: len(digits) - places], digits[len(digits) - places :].rstrip("0")
    return f"{sign}{head}.{tail}" if tail else f"{sign}{head}"


def identifiers(places: Ints, salt: int) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Return twelve characters for each place: scattered, and no two alike below 36^6.

    The last six are a permutation of the place, the first six a mix of it.
    """
    # 5 and 7 have no factor in common with 36, so their powers' product permutes.
    low = (places * 1_838_265_625 + salt * 7_919) % HALF
    mixed = (places.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    high = (mixed >> np.uint64(20)) % np.uint64(HALF)
    first, second = np.divmod(high.astype(np.int64), 36**3)
    third, fourth = np.divmod(low, 36**3)
    return TRIPLES[first], TRIPLES[second], TRIPLES[third], TRIPLES[fourth]
