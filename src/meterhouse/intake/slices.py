"""Many slices of one run of bytes at a time: compared, read as numbers, made into texts."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.names import SCALE

__all__ = ["MARGIN", "Block", "Mask", "Places", "Words"]

Places: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]

MARGIN: Final = 256
"""A slice that begins in the block may be read this far beyond its end."""

_MINUS: Final = 0x2D


def _each(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)


_LAST: Final = np.array([(1 << 64) - (1 << (64 - 8 * count)) for count in range(9)], np.uint64)
"""Masks of the last bytes of a word, which are its high ones."""
_ZEROS, _DOTS = _each(0x30), _each(0x2E)
_HIGH, _LOW, _TO_TEN = _each(0x80), _each(0x7F), _each(0x80 - 10)
_ONE = np.uint64(1)
_S3, _S8, _S16, _S32 = (np.uint64(shift) for shift in (3, 8, 16, 32))
_EVERY_2ND, _EVERY_4TH = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_JOIN_2 = np.uint64(10 * 2**8 + 1)
_JOIN_4 = np.uint64(100 * 2**16 + 1)
_JOIN_8 = np.uint64(10_000 * 2**32 + 1)
_POWERS: Final = 10 ** np.arange(SCALE + 1, dtype=np.int64)


class Block:
    """Some bytes and a margin around them; places count from the start of the margin."""

    def __init__(self, text: memoryview) -> None:
        """Put ``text`` between two margins of NUL."""
        self.text = b"".join([bytes(MARGIN), text, bytes(MARGIN)])
        self.view: npt.NDArray[np.uint8] = np.frombuffer(self.text, np.uint8)

    def holds(self, at: Places, text: bytes) -> Mask:
        """Return at which places ``text`` stands; it has no NUL, and fits the margin."""
        width = len(text)
        every = np.ndarray(len(self.view) - width + 1, f"S{width}", self.text, strides=(1,))
        same: Mask = every[at] == text
        return same

    def _before(self, at: Places) -> Words:
        """Return the eight bytes before each place, the last of them highest."""
        # S8, because numpy copies words that are not aligned far slower than texts.
        every = np.ndarray(len(self.view) - 7, "S8", self.text, strides=(1,))
        return every[at - 8].view("<u8")

    def are(self, text: bytes, starts: Places, ends: Places) -> Mask:
        """Return which slices are ``text`` (at most eight bytes)."""
        wanted = np.uint64(int.from_bytes(text.rjust(8, b"\0"), "little"))
        same: Mask = self._before(ends) & _LAST[len(text)] == wanted
        same &= ends - starts == len(text)
        return same

    def texts(self, starts: Places, ends: Places, null: Mask | None = None) -> pa.StringArray:
        """Return the slices as texts; they are UTF-8, in order, and do not overlap.

        Args:
            starts: Where each begins.
            ends: Where each ends.
            null: Which are NULL, whatever their slice.
        """
        count = len(starts)
        if not count:
            return pa.array([], pa.string())
        # Slices and the gaps between them alternate: every other value is taken.
        edges = np.empty(2 * count, np.int32)
        edges[0::2], edges[1::2] = starts, ends
        buffers = [None, pa.py_buffer(edges), pa.py_buffer(self.text)]
        alternating = pa.Array.from_buffers(pa.string(), 2 * count - 1, buffers)
        taken = alternating.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32)))
        if null is None or not null.any():
            return taken
        validity = pa.py_buffer(np.packbits(~null, bitorder="little"))
        return pa.Array.from_buffers(pa.string(), count, [validity, *taken.buffers()[1:]])

    def numbers(self, starts: Places, ends: Places) -> tuple[Places, Mask]:
        """Return the slices as numbers in units of 1e-9, and which of them surely are.

        Sure of JSON's numbers with up to eight digits before the point and seven behind
        it, without an exponent. What is not sure means nothing.
        """
        negative = self.view[starts] == _MINUS
        starts = starts + negative
        tails = self._before(ends) & _LAST[np.clip(ends - starts, 0, 8)]
        dots = _dots(tails)
        pointed = dots != 0
        units = np.int64(0)
        sure = np.ones(len(starts), np.bool_)
        whole_ends = ends
        if pointed.any():
            # The first of them, if there are more: what follows is not all digits then.
            places = np.bitwise_count((dots & -dots) - _ONE) >> 3
            decimals = np.where(pointed, 7 - places.astype(np.int64), 0)
            whole_ends = ends - decimals - pointed
            fraction, sure = _digits(tails, decimals)
            sure &= ~pointed | (decimals > 0)
            units = fraction * _POWERS[SCALE - decimals]
        sizes = whole_ends - starts
        some = np.clip(sizes, 1, 8)
        whole, digits = _digits(self._before(whole_ends), some)
        sure = sure & digits & (sizes == some) & ((some == 1) | (whole >= _POWERS[some - 1]))
        units = units + whole * _POWERS[SCALE]
        return np.where(negative, -units, units), sure


def _dots(words: Words) -> Words:
    """Return words with the high bit of each byte set that is a point, and no other bit."""
    words = words ^ _DOTS
    marks: Words = ~(((words & _LOW) + _LOW) | words | _LOW)
    return marks


def _digits(words: Words, counts: Places) -> tuple[Places, Mask]:
    """Return the number that the last ``counts`` bytes of each word are, and if they are one."""
    words = (words ^ _ZEROS) & _LAST[counts]
    digits: Mask = ((words + _TO_TEN) | words) & _HIGH == 0
    words = ((words * _JOIN_2) >> _S8) & _EVERY_2ND
    words = ((words * _JOIN_4) >> _S16) & _EVERY_4TH
    words = (words * _JOIN_8) >> _S32
    return words.astype(np.int64), digits
