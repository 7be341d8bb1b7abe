"""What one run of ``ingest`` did, by source."""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from meterhouse.errors import MeterhouseError, error_from
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
                    for term, amount in terms.items():
                        self._add_money(column, currency, term, decimal.Decimal(amount))

    def after(self, earlier: SourceReport) -> None:
        """Count what ``earlier`` did with the same files too; what it left is as it is now."""
        self.taken = [*earlier.taken, *(name for name in self.taken if name not in earlier.taken)]
        self.already = [name for name in self.already if name not in earlier.taken]
        self.entries += earlier.entries
        for name, count in earlier.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for column, currencies in earlier.money.items():
            for currency, terms in currencies.items():
                for term, amount in terms.items():
                    self._add_money(column, currency, term, amount)

    def _add_money(self, column: str, currency: str, term: str, amount: decimal.Decimal) -> None:
        sums = self.money.setdefault(column, {}).setdefault(currency, {})
        sums[term] = _EXACT.add(sums.get(term, decimal.Decimal(0)), amount)


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

    def after(self, earlier: IngestReport | None) -> IngestReport:
        """Return this report with what ``earlier`` did with the same files counted too."""
        for name, source in (earlier.sources if earlier is not None else {}).items():
            self.sources.setdefault(name, SourceReport(name)).after(source)
        return self

    def body(self) -> dict[str, Any]:
        """Return the report as JSON has it, for another process; see ``from_body``."""
        return {
            "sources": [_source_body(source) for source in self.sources.values()],
            "stamp": asdict(self.stamp),
            "unrecognised": self.unrecognised,
            "problems": [error.body() for error in self.problems],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> IngestReport:
        """Return the report that ``body`` was made of."""
        sources = [_source_report(source) for source in body["sources"]]
        return cls(
            {source.source: source for source in sources},
            Stamp(**body["stamp"]),
            list(body["unrecognised"]),
            [error_from(error) for error in body["problems"]],
        )


def _source_body(report: SourceReport) -> dict[str, Any]:
    body = {field.name: getattr(report, field.name) for field in fields(report)}
    return {
        **body,
        "refused": [error.body() for error in report.refused],
        "stopped": report.stopped.body() if report.stopped is not None else None,
        "waiting": [asdict(waiting) for waiting in report.waiting],
        "money": {
            column: {
                currency: {term: str(amount) for term, amount in terms.items()}
                for currency, terms in currencies.items()
            }
            for column, currencies in report.money.items()
        },
    }


def _source_report(body: Mapping[str, Any]) -> SourceReport:
    return SourceReport(
        **{
            **body,
            "refused": [error_from(error) for error in body["refused"]],
            "stopped": error_from(body["stopped"]) if body["stopped"] else None,
            "waiting": [Waiting(**waiting) for waiting in body["waiting"]],
            "money": {
                column: {
                    currency: {term: decimal.Decimal(amount) for term, amount in terms.items()}
                    for currency, terms in currencies.items()
                }
                for column, currencies in body["money"].items()
            },
        }
    )
