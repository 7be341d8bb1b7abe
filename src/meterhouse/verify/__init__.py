"""``meterhouse verify``: the ledger re-derived from the bytes, and every view against it."""

from __future__ import annotations

from collections.abc import Callable

from meterhouse.log.entry import Entry
from meterhouse.verify.derive import derive_again
from meterhouse.verify.lake import check_gold, check_lake, check_lake_terms
from meterhouse.verify.ledger import Tally, check_ledger, landed_as_logged, terms_of
from meterhouse.verify.live import check_live
from meterhouse.verify.report import Check, Finding, Report, Severity, Term
from meterhouse.verify.served import check_serving
from meterhouse.verify.subject import Scope, Subject
from meterhouse.verify.truth import check_landing, check_log, unreferenced
from meterhouse.verify.versions import check_versions
from meterhouse.verify.views import check_judged, check_state

__all__ = ["Check", "Finding", "Report", "Scope", "Subject", "Term", "verify"]


def verify(
    subject: Subject,
    scope: Scope,
    *,
    opening: Check | None = None,
    progress: Callable[[Entry], None] | None = None,
) -> Report:
    """Check log, landing, judged files, index, lake and serving; draw up the ledger.

    Args:
        subject: The project, opened.
        scope: How much to look at.
        opening: What could not be opened, found before.
        progress: Called with each entry that was judged again.
    """
    kept: dict[str, Tally] = {}
    upto: dict[str, Tally] = {}
    landed: dict[str, Tally] = {}
    versions: dict[str, Tally] = {}
    checks = [opening] if opening is not None and opening.findings else []
    checks += [check_log(subject, scope), check_landing(subject, scope)]
    checks += [check_judged(subject, scope, kept, upto), check_state(subject)]
    checks.append(check_versions(subject, versions))
    attested = [one.attestation for one in subject.segments] if subject.attested else []
    if not _judges_again(subject, scope):
        landed = landed_as_logged(subject.data_entries(upto=subject.covered), attested)
    else:
        checks.append(derive_again(subject, landed, progress))
        for source, tally in landed_as_logged((), attested).items():
            landed.setdefault(source, Tally()).merge(tally)
    checks += [check_lake(subject, scope), check_lake_terms(subject, upto)]
    checks += [check_gold(subject, upto), check_serving(subject)]
    if not (scope.quick or scope.since) and not any(check.findings for check in checks):
        # What is computed from damaged views says nothing of live rows.
        checks.append(check_live(subject))
    terms = _terms(landed, kept, versions)
    checks.append(check_ledger(terms, _of_ledger(checks)))
    return Report(
        terms=tuple(terms),
        checks=tuple(checks),
        position=subject.last.position,
        head=subject.last.head,
        published=subject.published.stamp.position if subject.published is not None else 0,
        scope="quick" if scope.quick else "full",
        since=scope.since,
        notes=tuple(_notes(subject, scope)),
    )


def _judges_again(subject: Subject, scope: Scope) -> bool:
    """What follows sealed entries can be judged only by what the views were after these."""
    there = not subject.attested or subject.state is not None
    return subject.truth_holds and there and not (scope.quick or scope.since)


def _terms(
    landed: dict[str, Tally], kept: dict[str, Tally], versions: dict[str, Tally]
) -> list[Term]:
    terms: list[Term] = []
    for source in sorted({*landed, *kept}):
        terms += terms_of(
            source,
            landed.get(source, Tally()),
            kept.get(source, Tally()),
            versions.get(source),
        )
    return terms


def _of_ledger(checks: list[Check]) -> Severity:
    """A term that does not add up is a broken promise, unless a damaged view explains it."""
    severities = {finding.severity for check in checks for finding in check.findings}
    return "rebuildable" if severities == {"rebuildable"} else "broken"


def _notes(subject: Subject, scope: Scope) -> list[str]:
    notes = []
    left = unreferenced(subject, subject.root)
    if left:
        objects = "1 landed object" if len(left) == 1 else f"{len(left):,} landed objects"
        # What lost entries landed may be the last copy of it.
        what = (
            "some may be of entries that were lost: see docs/backup.md before you remove any"
            if subject.last.fork
            else "what a crash or a refused delivery left may be removed"
        )
        notes.append(f"{objects} that no entry names: {what} (first: {left[0]})")
    last = subject.last.position
    if subject.attested:
        notes.append(
            f"entries 1 to {subject.attested:,} are sealed: their {len(subject.segments):,} "
            "segments attest to them; verify --full reads and judges them again"
        )
    if subject.covered < last:
        notes.append(
            f"log entries {subject.covered + 1} to {last} are not applied yet: the next ingest "
            "or batch does it; the ledger is that of the entries before"
        )
    if not subject.truth_holds:
        notes.append(
            "log or landing are damaged, so nothing was judged again; "
            "landed is counted from the log entries"
        )
    elif not _judges_again(subject, scope):
        notes.append("nothing was judged again; landed is counted from the log entries")
    return notes
