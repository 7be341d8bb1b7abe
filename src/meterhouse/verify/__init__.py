"""``meterhouse verify``: the ledger re-derived from the bytes, and every view against it."""

from __future__ import annotations

from collections.abc import Callable

from meterhouse.log.entry import Entry
from meterhouse.models.graph import Models
from meterhouse.verify.ledger import Tally, landed_as_logged, terms_of
from meterhouse.verify.publication import (
    check_gold,
    check_lake,
    check_lake_terms,
    check_serving,
)
from meterhouse.verify.report import Check, Finding, Report, Term
from meterhouse.verify.subject import Scope, Subject
from meterhouse.verify.truth import check_landing, check_log, unreferenced
from meterhouse.verify.versions import check_versions
from meterhouse.verify.views import check_judged, check_state, derive_again

__all__ = ["Check", "Finding", "Report", "Scope", "Subject", "Term", "verify"]


def verify(
    subject: Subject,
    models: Models,
    scope: Scope,
    *,
    opening: Check | None = None,
    progress: Callable[[Entry], None] | None = None,
) -> Report:
    """Check log, landing, judged files, index, lake and serving; draw up the ledger.

    Args:
        subject: The project, opened.
        models: Its models.
        scope: How much to look at.
        opening: What could not be opened, found before.
        progress: Called with each entry that was judged again.
    """
    kept: dict[str, Tally] = {}
    upto: dict[str, Tally] = {}
    landed: dict[str, Tally] = {}
    versions: dict[str, tuple[int, int]] = {}
    checks = [opening] if opening is not None and opening.findings else []
    checks += [check_log(subject, scope), check_landing(subject, scope)]
    checks += [check_judged(subject, scope, kept, upto), check_state(subject)]
    checks.append(check_versions(subject, versions))
    if not subject.truth_holds or scope.quick or scope.since:
        landed = landed_as_logged(subject.data_entries())
    else:
        checks.append(derive_again(subject, landed, progress))
    checks += [check_lake(subject), check_lake_terms(subject, upto)]
    checks += [check_gold(subject, models, upto), check_serving(subject)]
    terms = _terms(subject, landed, kept, versions)
    checks.append(_ledger(terms))
    last = subject.entries[-1] if subject.entries else None
    return Report(
        terms=tuple(terms),
        checks=tuple(checks),
        position=last.position if last is not None else 0,
        head=last.sha256 if last is not None else "",
        published=subject.published.stamp.position if subject.published is not None else 0,
        scope="quick" if scope.quick else "full",
        since=scope.since,
        notes=tuple(_notes(subject, scope)),
    )


def _terms(
    subject: Subject,
    landed: dict[str, Tally],
    kept: dict[str, Tally],
    versions: dict[str, tuple[int, int]],
) -> list[Term]:
    blank: dict[str, int] = {}
    for entry in subject.data_entries():
        lines = sum(item.blank for item in entry.inputs)
        blank[entry.source] = blank.get(entry.source, 0) + lines
    terms: list[Term] = []
    for source in sorted(blank):
        terms += terms_of(
            subject.contracts[source],
            landed.get(source, Tally()),
            kept.get(source, Tally()),
            blank[source],
            versions.get(source),
        )
    return terms


def _ledger(terms: list[Term]) -> Check:
    check = Check("ledger", covered=len(terms), unit="terms")
    for term in terms:
        if not term.holds:
            parts = f"{term.accepted} accepted + {term.quarantined} quarantined"
            check.fail(
                "broken",
                "landed is not accepted + quarantined + duplicate"
                + (", or accepted is not current + superseded" if term.current else ""),
                table=f"{term.source} {term.measure}",
                expected=term.landed,
                found=f"{parts} + {term.duplicate} duplicate"
                + (
                    f"; {term.current} current + {term.superseded} superseded"
                    if term.current
                    else ""
                ),
            )
    return check


def _notes(subject: Subject, scope: Scope) -> list[str]:
    notes = []
    left = unreferenced(subject, subject.root)
    if left:
        notes.append(
            f"{len(left)} landed objects that no entry names: a crash left them, "
            f"they may be removed (first: {left[0]})"
        )
    if not subject.truth_holds:
        notes.append("log or landing are damaged, so nothing was judged again")
    elif scope.quick or scope.since:
        notes.append("nothing was judged again; landed is counted from the log entries")
    return notes
