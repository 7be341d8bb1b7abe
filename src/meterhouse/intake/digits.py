"""Numbers out of bytes, many at a time, in integer arithmetic only."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from meterhouse.names import SCALE

__all__ = ["NULL", "ends_with", "plain_numbers"]

Words: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Counts: TypeAlias = npt.NDArray[np.int64]


def _each(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)


_LAST: Final = np.array([(1 << 64) - (1 << (64 - 8 * count)) for count in range(9)], np.uint64)
"""Masks of the last bytes of a word, which are its high ones."""

_ZEROS, _DOTS = _each(0x30), _each(0x2E)
_HIGH, _LOW = _each(0x80), _each(0x7F)
_NO_DIGIT = _each(0x80 - 10)
_ONE = np.uint64(1)
_S3, _S8, _S16, _S32 = (np.uint64(shift) for shift in (3, 8, 16, 32))
_PAIRS, _FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_TENS, _HUNDREDS = np.uint64(10 * 2**8 + 1), np.uint64(100 * 2**16 + 1)
_TEN_THOUSANDS = np.uint64(10_000 * 2**32 + 1)

_POWERS: Final = 10 ** np.arange(SCALE + 1, dtype=np.int64)

NULL: Final = b"null"


def ends_with(words: Words, sizes: Counts, text: bytes) -> Mask:
    """Return which texts of ``sizes`` bytes are ``text`` (at most 8 bytes).

    Args:
        words: The eight bytes that end where the text does, little endian.
        sizes: Bytes of each text.
        text: What to look for.
    """
    wanted = np.uint64(int.from_bytes(text.rjust(8, b"\0"), "little"))
    same: Mask = (sizes == len(text)) & (words & _LAST[len(text)] == wanted)
    return same


def plain_numbers(
    words: Words, whole_words: Words, counts: tuple[Counts, Counts, Mask]
) -> tuple[Counts, Mask]:
    raise NotImplementedError
