"""What a verification found: terms of the ledger, checks, findings, one verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Check", "Finding", "Report", "Severity", "Term"]

Severity = Literal["broken", "rebuildable"]


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the ledger: a source's records, or one of its money columns by currency.

    Every number was counted at its own sink; none is a difference of others.
    """

    source: str
    measure: str
    """"records", or "<money column> <currency>"."""
    landed: str
    accepted: str
    quarantined: str
    duplicate: str
    blank: str = ""
    """Blank lines, which are no records. Empty for money."""
    current: str = ""
    superseded: str = ""
    """Of accepted versions; empty for append sources."""
    unreadable: str = ""
    """Records whose amount could not be read: counted, never summed. Empty for records."""
    rounded: str = ""
    """What rounding took off, where a contract rounds: landed is then accepted + quarantined
    + duplicate + rounded. Empty when nothing was rounded, or nothing judged again."""
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold."""

    severity: Severity
    """broken: truth is damaged. rebuildable: a view is, and `rebuild` restores it."""
    what: str
    file: str = ""
    entry: int | None = None
    table: str = ""
    expected: str = ""
    found: str = ""


@dataclass(slots=True)
class Check:
    """A kind of comparison, how much it covered, and what it found."""

    name: str
    covered: int = 0
    """Files, entries, rows or values compared."""
    unit: str = ""
    findings: list[Finding] = field(default_factory=list)

    def fail(self, severity: Severity, what: str, **where: Any) -> None:
        """Add a finding."""
        self.findings.append(Finding(severity, what, **where))

    def expect(self, expected: object, found: object, what: str, **where: Any) -> bool:
        """Add a broken-promise finding unless both are equal; return whether they are."""
        if expected == found:
            return True
        severity: Severity = where.pop("severity", "broken")
        self.fail(severity, what, expected=str(expected), found=str(found), **where)
        return False


@dataclass(frozen=True, slots=True)
class Report:
    """The whole answer of ``meterhouse verify``."""

    terms: tuple[Term, ...]
    checks: tuple[Check, ...]
    position: int
    head: str
    published: int
    """Position of the last publication; 0 when there is none."""
    scope: Literal["full", "quick"]
    since: int
    notes: tuple[str, ...] = ()
    """Worth knowing, and no damage."""

    @property
    def findings(self) -> list[Finding]:
        """All that does not hold, in the order it was found."""
        return [finding for check in self.checks for finding in check.findings]

    @property
    def verdict(self) -> Literal["holds", "rebuildable", "broken"]:
        """holds; rebuildable when only views are damaged; broken otherwise."""
        severities = {finding.severity for finding in self.findings}
        return "broken" if "broken" in severities else "rebuildable" if severities else "holds"

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "verdict": self.verdict,
            "position": self.position,
            "head": self.head,
            "published": self.published,
            "scope": self.scope,
            "since": self.since,
            "terms": [asdict(term) for term in self.terms],
            "checks": [
                {
                    "name": check.name,
                    "covered": check.covered,
                    "unit": check.unit,
                    "holds": not check.findings,
                    "findings": [asdict(finding) for finding in check.findings],
                }
                for check in self.checks
            ],
            "notes": list(self.notes),
        }
