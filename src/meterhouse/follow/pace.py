"""How much is taken at once: as much as keeps nobody waiting."""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

_ROUND_S: Final = 0.2
"""How long a round may be: who comes in the middle of one waits for it and for his own."""
_LEAST: Final = 128 << 10
_MOST: Final = 4 << 20
"""Larger entries are no faster, and cost memory."""


class Pace:
    """Sizes pieces by how long those before took, answers included.

    What a byte costs depends on how many keys its records touch: a quiet hour of one
    organisation is many times cheaper than a year of all.
    """

    def __init__(self, most: int = _MOST) -> None:
        """Begin in the middle; a piece never has more than ``most`` bytes."""
        self._most = min(most, _MOST)
        self._least = min(_LEAST, self._most)
        self._bytes = min(1 << 20, self._most)

    def __call__(self) -> int:
        """Return how many bytes to take at once now."""
        return self._bytes

    def took(self, size: int, seconds: float) -> None:
        """Note that a round took ``size`` bytes, and how long it was."""
        if size < self._bytes // 2:
            # What is fixed in a round would look like the price of its bytes.
            return
        fitting = int(size * _ROUND_S / max(seconds, 0.001))
        # Not more than double at once: one quick piece says little about the next.
        self._bytes = max(min(fitting, 2 * self._bytes, self._most), self._least)
