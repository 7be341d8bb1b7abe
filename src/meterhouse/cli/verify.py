"""``meterhouse verify``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from meterhouse.cli.columns import aligned
from meterhouse.cli.opening import opened
from meterhouse.errors import MeterhouseError, UsageError

if TYPE_CHECKING:
    from meterhouse.project import Project
    from meterhouse.verify import Finding, Report, Term

__all__ = ["print_ledger", "verify"]

_SHOWN = 20


@click.command()
@click.option("--quick", is_flag=True, help="Hashes and counts; nothing is judged again.")
@click.option("--full", is_flag=True, help="Read and judge again what is sealed, too.")
@click.option(
    "--since", metavar="N", type=click.IntRange(0), default=0, help="Bytes after entry N only."
)
@click.option("--expect", metavar="N:SHA", help="An anchor kept elsewhere must be in the log.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print it.",
)
@click.pass_obj
def verify(
    option: str | None, quick: bool, full: bool, since: int, expect: str | None, form: str
) -> int:
    """Re-derive the ledger from the landed bytes and check every view against it.

    Exit 0: everything holds. Exit 1: something does not, and is named; when only views are
    damaged the verdict is "rebuildable", and `meterhouse rebuild` restores them. Of sealed
    entries the attestations of their segments are checked; --full reads all of it again.

    \b
    Example:
      meterhouse verify --expect 128:9c1f0a
    """  # noqa: D301 - click wants the backspace itself
    anchor = _anchor(expect)
    from meterhouse.cli.progress import progress

    house = opened(option)
    entries = _entries(house)
    if entries and since > entries:
        raise UsageError(
            f"the log has no entry {since:,}", "--since", f"its last entry is {entries:,}"
        )
    with progress("judging again", entries) as done:
        report = house.verify(
            quick=quick,
            since=since,
            expect=anchor,
            full=full,
            progress=lambda entry: done(1, entry.source),
        )
    if form == "json":
        click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        print_ledger(report)
    return 0 if report.verdict == "holds" else 1


def _entries(house: Project) -> int:
    """Return how many entries there are; 0 for a damaged log, which the report tells of."""
    try:
        return house.head
    except MeterhouseError:
        return 0


def _anchor(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]*):([0-9a-f]{6,64})", text.strip().lower())
    if match is None:
        raise UsageError(
            f'"{text}" is not an anchor', "--expect", "give N:SHA as `meterhouse status` prints it"
        )
    return int(match[1]), match[2]


def print_ledger(report: Report) -> None:
    """Print the ledger as a table, then every check with what it covered and found."""
    rows = [
        (
            "" if term.holds else "✗",
            term.source,
            term.measure,
            term.landed,
            term.accepted,
            term.quarantined,
            term.duplicate,
            _aside(term),
        )
        for term in report.terms
    ]
    head = ("", "source", "measure", "landed =", "accepted +", "quarantined +", "duplicate", "")
    for line in aligned([head, *rows], right=(3, 4, 5, 6)):
        click.echo(line)
    click.echo("")
    checks = [
        ("ok" if not check.findings else "✗", check.name, f"{check.covered:,}", check.unit)
        for check in report.checks
    ]
    for line in aligned(checks, right=(2,)):
        click.echo(line)
    for finding in report.findings[:_SHOWN]:
        click.echo(f"\n{_told(finding)}")
    if len(report.findings) > _SHOWN:
        click.echo(f"\n… and {len(report.findings) - _SHOWN} more: --format json lists them all")
    click.echo("")
    for note in report.notes:
        click.echo(f"note: {note}")
    click.echo(_verdict(report))


def _aside(term: Term) -> str:
    said = []
    if term.current:
        said.append(f"{term.current} current + {term.superseded} superseded")
    if term.blank not in ("", "0"):
        said.append(f"{term.blank} blank lines")
    if term.unreadable not in ("", "0"):
        said.append(f"{term.unreadable} unreadable")
    if term.rounded:
        said.append(f"+ {term.rounded} rounded off")
    return ", ".join(said)


def _told(finding: Finding) -> str:
    lines = [f"{finding.severity}: {finding.what}"]
    entry = str(finding.entry) if finding.entry is not None else ""
    for name, value in (
        ("file", finding.file),
        ("entry", entry),
        ("table", finding.table),
        ("expected", finding.expected),
        ("found", finding.found),
    ):
        if value:
            lines.append(f"  {name + ':':9} {value}")
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    at = f"log position {report.position:,}, published {report.published:,}"
    if report.verdict == "holds":
        return f"everything holds ({at}; anchor {report.position}:{report.head[:16]})"
    if report.verdict == "rebuildable":
        return f"views are damaged, the truth is whole ({at}); restore them: meterhouse rebuild"
    return f"broken ({at}); restore the files named above from a backup: docs/backup.md"
