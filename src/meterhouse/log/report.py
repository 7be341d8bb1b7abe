"""What one run of ``ingest`` did, by source."""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from dataclasses import dataclass, field

from meterhouse.errors import MeterhouseError
from meterhouse.log.entry import Entry
from meterhouse.log.ranges import Waiting
from meterhouse.ports import Stamp

__all__ = ["IngestReport", "SourceReport"]

_EXACT = decimal.Context(prec=200, traps=[decimal.Inexact, decimal.InvalidOperation])
"""Sums of amounts below 1e29 with 9 decimals never need as many digits."""


@dataclass
class SourceReport:
    """What one run did with one source."""

    source: str
    taken: list[str] = field(default_factory=list)
    """Files of which something was taken, in the order of the log."""
    already: list[str] = field(default_factory=list)
    """Files of which nothing is new."""
    refused: list[MeterhouseError] = field(default_factory=list)
    """One for each file that was refused; the source's other files are not affected."""
    stopped: MeterhouseError | None = None
    """Why the source stopped; nothing of that file's range was taken."""
    not_tried: list[str] = field(default_factory=list)
    """Files that come after the one at which the source stopped."""
    waiting: list[Waiting] = field(default_factory=list)
    """Ends of files that are not whole records yet."""
    entries: int = 0
    """Log entries, contract entries included."""
    counts: dict[str, int] = field(default_factory=dict)
    """landed, accepted, quarantined, duplicate, blank, removed: records of this run."""
    money: dict[str, dict[str, dict[str, decimal.Decimal]]] = field(default_factory=dict)
    """Money column, currency, term ("landed", …): exact sum of this run."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Count what committed entries hold."""
        for entry in entries:
            self.entries += 1
            for item in entry.inputs:
                if self.taken[-1:] != [item.file]:
                    self.taken.append(item.file)
            for name, count in entry.counts.items():
                self.counts[name] = self.counts.get(name, 0) + count
            for column, currencies in entry.money.items():
                for currency, terms in currencies.items():
                    sums = self.money.setdefault(column, {}).setdefault(currency, {})
                    for term, amount in terms.items():
                        sums[term] = _EXACT.add(
                            sums.get(term, decimal.Decimal(0)), decimal.Decimal(amount)
                        )


@dataclass
class IngestReport:
    """What one run did."""

    sources: dict[str, SourceReport] = field(default_factory=dict)
    stamp: Stamp = field(default_factory=lambda: Stamp("", 0, 0, ""))
    """Head of the log afterwards; the views cover it."""
    unrecognised: list[str] = field(default_factory=list)
    """Files that no contract recognises; nothing of them was taken."""
    problems: list[MeterhouseError] = field(default_factory=list)
    """Files and folders that could not be looked at, or that two contracts claim."""

    @property
    def errors(self) -> list[MeterhouseError]:
        """Everything that could not be looked at, was refused or stopped."""
        found: list[MeterhouseError] = [*self.problems]
        for report in self.sources.values():
            found += report.refused
            found += [report.stopped] if report.stopped is not None else []
        return found

    @property
    def taken(self) -> int:
        """How many files something was taken of."""
        return sum(len(report.taken) for report in self.sources.values())

    @property
    def already(self) -> int:
        """How many files held nothing new."""
        return sum(len(report.already) for report in self.sources.values())
