"""Write timestamps: which of two writes to a cell wins, decided by the log alone.

A row's timestamp is made of its generation and of the log position it stands for, so that
repeated, reordered and competing writes end in the same cells: one timestamp always
carries one value. They lie above any clock's (microseconds since 1970 reach 2^62 in the
year 148108), so a cell that somebody writes by hand with today's time changes nothing.
"""

from __future__ import annotations

from typing import Final

__all__ = ["write_order", "write_time"]

_BASE: Final = 1 << 62
_POSITIONS: Final = 1 << 40
"""A generation has room for 34 years of a thousand entries a second."""
_GENERATIONS: Final = 1 << 21


def write_time(generation: int, position: int) -> int:
    """Return the timestamp of a value that stands for ``position`` of ``generation``.

    Raises:
        ValueError: They are beyond what a 64-bit timestamp has room for.
    """
    return _BASE + write_order(generation, position)


def write_order(generation: int, position: int) -> int:
    """Return a number that grows with the generation, and within one with the position.

    Raises:
        ValueError: They are beyond what a 64-bit timestamp has room for.
    """
    if not (0 <= generation < _GENERATIONS and 0 <= position < _POSITIONS):
        raise ValueError(f"no timestamp for position {position} of generation {generation}")
    return generation * _POSITIONS + position
