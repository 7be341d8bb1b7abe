"""Tables that stopped following the log: since which position, and why.

Kept in the details of the answers, in the words that a batch uses for a table whose model is
not valid: ``stale`` (table → position), ``stale_ingest_ts``, and ``stale_reason``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meterhouse.ports import Answers

__all__ = ["Stale"]


class Stale:
    """The stale tables of the answers at one position."""

    def __init__(
        self,
        position: int,
        positions: Mapping[str, int],
        times: Mapping[str, str],
        reasons: Mapping[str, str],
    ) -> None:
        self.position = position
        """Where the answers stand: what becomes stale now stays there."""
        self._positions = dict(positions)
        self._times = dict(times)
        self._reasons = dict(reasons)
        self._dropped: dict[str, tuple[int, str]] = {}

    @classmethod
    def read(cls, answers: Answers) -> Stale:
        """Return what the answers say."""
        found = answers.details
        return cls(
            answers.stamp.position,
            found.get("stale", {}),
            found.get("stale_ingest_ts", {}),
            found.get("stale_reason", {}),
        )

    def __contains__(self, table: object) -> bool:
        return table in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._positions))

    def stands(self, table: str, epoch: int) -> int:
        """Return the position of a stale table's rows, where ``epoch`` is that of the epoch."""
        return max(self._positions[table], epoch)

    @property
    def reasons(self) -> dict[str, str]:
        """Table → why, those that a batch left behind included."""
        known = {name: "its model is not valid" for name in self._positions}
        return known | self._reasons

    def add(self, table: str, reason: str, ingest_ts: str) -> None:
        """Note that ``table`` stays at this position; one that stays already stays there."""
        if table in self._dropped:
            self.move(table, *self._dropped.pop(table))
        elif table not in self._positions:
            self.move(table, self.position, ingest_ts)
        self._reasons[table] = reason

    def move(self, table: str, position: int, ingest_ts: str) -> None:
        """Note that the rows of a stale table stand at ``position``."""
        self._positions[table], self._times[table] = position, ingest_ts

    def drop(self, table: str) -> None:
        """Note that ``table`` follows again; ``add`` takes that back."""
        self._dropped[table] = (self._positions.pop(table), self._times.pop(table, ""))
        self._reasons.pop(table, None)

    def details(self) -> dict[str, Any]:
        """Return the part of the details that says so."""
        return {
            "stale": self._positions,
            "stale_ingest_ts": self._times,
            "stale_reason": self._reasons,
        }
