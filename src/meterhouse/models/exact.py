"""Decimals as integers of their smallest unit, in numpy: where arithmetic stays exact.

A column fits 64-bit words nearly always; where it does not, the same code runs on Python
integers, which have no limit. Nothing here ever goes through a double.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Integers", "decimals", "divided_half_even", "units"]

Integers: TypeAlias = npt.NDArray[Any]
"""int64, or object holding Python integers where a value would not fit."""

WORD: Final = 2**62
"""Magnitudes below it can be added once more without leaving int64."""


def units(column: pa.ChunkedArray | pa.Array) -> tuple[Integers, npt.NDArray[np.bool_], int]:
    """Return a BIGINT or DECIMAL column as integers of its last place.

    Returns:
        The integers (0 where NULL), where the column is NULL, and its scale.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), bool)
    if not pa.types.is_decimal128(column.type):
        whole = column.cast(pa.int64()).fill_null(0)
        return _narrow(np.asarray(whole.to_numpy(zero_copy_only=False))), null, 0
    if not len(column):
        return np.zeros(0, np.int64), null, column.type.scale
    words = np.frombuffer(column.buffers()[1], "<i8").reshape(-1, 2)
    words = words[column.offset : column.offset + len(column)]
    low, high = words[:, 0].copy(), words[:, 1].copy()
    low[null] = high[null] = 0
    if np.array_equal(high, low >> 63):
        return _narrow(low), null, column.type.scale
    wide = high.astype(object) * 2**64 + low.view(np.uint64).astype(object)
    return wide, null, column.type.scale


def _narrow(values: npt.NDArray[np.int64]) -> Integers:
    fits = not len(values) or (int(values.max()) < WORD and int(values.min()) > -WORD)
    return values if fits else values.astype(object)


def decimals(values: Integers, null: npt.NDArray[np.bool_], scale: int) -> pa.Array:
    """Return integers of the last place as a DECIMAL(38, ``scale``) column.

    Raises:
        OverflowError: A value has more than 38 digits.
    """
    words = np.zeros((len(values), 2), "<u8")
    if values.dtype == object:
        chosen = np.where(null, 0, values)
        if len(chosen) and max(abs(int(chosen.max())), abs(int(chosen.min()))) >= 10**38:
            raise OverflowError("a ratio or score has more than 38 digits")
        mask = 2**64 - 1
        words[:, 0] = [int(value) & mask for value in chosen]
        words[:, 1] = [(int(value) >> 64) & mask for value in chosen]
    else:
        chosen = np.where(null, 0, values).astype(np.int64)
        words[:, 0] = chosen.view(np.uint64)
        words[:, 1] = (chosen >> 63).view(np.uint64)
    valid = pa.array(~null, pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(
        pa.decimal128(38, scale), len(values), [valid, pa.py_buffer(words.tobytes())]
    )


def divided_half_even(up: Integers, times: int, down: Integers, divide: int) -> Integers:
    """Return up × times ÷ (down × divide), rounded half-even; 0 where ``down`` is 0."""
    largest_up = int(np.abs(up).max()) * times if len(up) else 0
    largest_down = int(np.abs(down).max()) * divide if len(down) else 0
    wide = up.dtype == object or down.dtype == object
    if wide or max(largest_up, largest_down, times, divide) >= WORD:
        up, down = up.astype(object), down.astype(object)
    bottom = down * divide
    negative = bottom < 0
    top = np.where(negative, -(up * times), up * times)
    bottom = np.where(bottom == 0, 1, np.abs(bottom))
    whole = top // bottom
    rest = (top - whole * bottom) * 2
    away = (rest > bottom) | ((rest == bottom) & (whole % 2 != 0))
    return np.where(down == 0, 0, whole + away.astype(whole.dtype))
