"""Figures of the running program that rules may put limits on."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

__all__ = ["Figures"]

MINUTE: Final = timedelta(minutes=1)


class Figures:
    """Remembers what was counted over the last minute."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._counted: deque[tuple[datetime, int, int]] = deque()

    def metrics(
        self, now: datetime, *, lag_s: float, landed: int, held: int, parked: int
    ) -> dict[str, Decimal]:
        """Return the metrics of ``rule.METRICS`` that are known.

        Args:
            now: When this was counted.
            lag_s: Seconds since the oldest of what waits was noticed.
            landed: Records landed since the program began.
            held: Of these, newly held ones.
            parked: Sources of which nothing is taken.

        The share of held records is missing while no record landed in the last minute.
        """
        self._counted.append((now, landed, held))
        while len(self._counted) > 2 and now - self._counted[1][0] >= MINUTE:
            self._counted.popleft()
        _, landed_before, held_before = self._counted[0]
        found = {"lag_s": Decimal(f"{lag_s:.3f}"), "parked_sources": Decimal(parked)}
        if landed > landed_before:
            found["quarantine_share"] = Decimal(held - held_before) / (landed - landed_before)
        return found
