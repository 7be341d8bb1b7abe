"""What a generated delivery holds, counted while it is written: exact totals as text."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterhouse.synth.text import plain

__all__ = ["LOST", "Planted", "Tally", "Truth"]

LOST = None
"""The amount of a record whose amount can't be read."""
PLACES = 9


class Tally:
    """Records and money of one source by verdict and reason; money in 1e-9."""

    def __init__(self) -> None:
        self.records: Counter[str] = Counter(
            {"landed": 0, "accepted": 0, "quarantined": 0, "duplicate": 0, "blank": 0}
        )
        self.reasons: Counter[str] = Counter()
        self.reason_money: Counter[str] = Counter()
        self.money: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.unreadable: Counter[tuple[str, str]] = Counter()

    def count(self, verdict: str, reason: str = "", records: int = 1) -> None:
        """Count ``records`` of a verdict; blank lines are no records."""
        self.records[verdict] += records
        if verdict != "blank":
            self.records["landed"] += records
        if reason:
            self.reasons[reason] += records

    def add(
        self, verdict: str, column: str, currency: str, amount: int | None, reason: str = ""
    ) -> None:
        """Add ``amount`` (LOST: count it) to the money of a verdict already counted."""
        if amount is LOST:
            self.unreadable[column, currency] += 1
            return
        for term in ("landed", verdict):
            self.money[column, currency][term] += amount
        if reason:
            self.reason_money[reason] += amount

    def as_text(self) -> dict[str, Any]:
        """Return counts as integers and money as plain decimal text."""
        money: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for column, currency in sorted(set(self.money) | set(self.unreadable)):
            money[column][currency] = {
                term: plain(self.money[column, currency][term], PLACES)
                for term in ("landed", "accepted", "quarantined", "duplicate")
            } | {"unreadable": self.unreadable[column, currency]}
        return {
            "records": dict(self.records),
            "reasons": {
                reason: {"records": count, "money": plain(self.reason_money[reason], PLACES)}
                for reason, count in sorted(self.reasons.items())
            },
            "money": dict(money),
        }


@dataclass
class Planted:
    """Where copies and broken lines are: places of the stream, compactly."""

    duplicates: array[int] = field(default_factory=lambda: array("q"))
    """Place of the copy, place of the first, by turns."""
    conflicts: array[int] = field(default_factory=lambda: array("q"))
    """Likewise."""
    poison: array[int] = field(default_factory=lambda: array("q"))
    """Place, number of the flaw, by turns."""


@dataclass(frozen=True)
class Truth:
    """Everything planted in one delivery, and what must come of it."""

    document: dict[str, Any]
    """Options, files, sources (records and money by verdict and reason), accepted cost by
    service and by day, incidents with their flags, churn, corrections."""
    planted: Planted
    flaws: tuple[str, ...]
    ends: tuple[int, ...]
    """First place of the stream after each file of events."""

    def records(self, source: str) -> dict[str, int]:
        """Return the expected number of records of ``source`` by verdict."""
        counted: dict[str, int] = self.document["sources"][source]["records"]
        return counted

    def write(self, path: Path) -> None:
        """Write truth.json; lists of planted lines one a line, never all in memory."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            text = json.dumps(self.document, indent=1, ensure_ascii=False)
            file.write(text.removesuffix("\n}"))
            file.write(',\n "planted": {')
            first = True
            for name in ("duplicates", "conflicts", "poison"):
                file.write(f'{"" if first else ","}\n  "{name}": [')
                first = False
                self._write_list(file, name)
                file.write("]")
            file.write("\n }\n}\n")

    def _write_list(self, file: Any, name: str) -> None:
        places = getattr(self.planted, name)
        locate = _Locator(self.ends)
        for at in range(0, len(places), 2):
            number, line = locate(places[at])
            if name == "poison":
                item: list[Any] = [number, line, self.flaws[places[at + 1]]]
            else:
                item = [number, line, *locate(places[at + 1])]
            file.write(("," if at else "") + "\n   " + json.dumps(item))


class _Locator:
    """Place of the stream to (number of the file, line in it)."""

    def __init__(self, ends: tuple[int, ...]) -> None:
        self._ends = ends

    def __call__(self, place: int) -> tuple[int, int]:
        number = bisect_right(self._ends, place)
        return number, place - (self._ends[number - 1] if number else 0) + 1
