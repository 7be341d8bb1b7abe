"""``meterhouse ingest``: take files into the log."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterhouse.cli.opening import opened
from meterhouse.cli.progress import progress
from meterhouse.errors import MeterhouseError, UsageError

if TYPE_CHECKING:
    from meterhouse.log.report import IngestReport, SourceReport
    from meterhouse.sources.files import Discovery

__all__ = ["exit_code", "ingest"]

_MOST_NAMES = 20
_TERMS = ("landed", "accepted", "quarantined", "duplicate")


@click.command()
@click.argument("paths", metavar="[PATH]…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--source", metavar="NAME", help="Take the files named as this source.")
@click.pass_context
def ingest(ctx: click.Context, paths: Sequence[Path], source: str | None) -> None:
    """Take files into the log, each record judged. Folders are searched to the bottom.

    Without PATH the folders of the setting ingest.folders are taken. What was taken before
    is "already done", so the same command may be repeated, and after a crash must be. A
    file that grew continues where it ended. A refused file or a stopped source leaves the
    others alone (exit 1). While `meterhouse follow` runs, it takes the files, in pieces
    between what is live.

    With --source the files named are taken as that source whatever they are called; of
    folders, those that its contract recognises.

    \b
    Examples:
      meterhouse ingest inbox
      meterhouse ingest july.log --source usage_events
    """  # noqa: D301 - click wants the backspace itself
    house = opened(ctx.obj)
    given = list(paths) or [house.root / folder for folder in house.settings.ingest_folders]
    found = house.discover(given, source)
    total = sum(delivery.size for delivery in found.files)
    with progress("ingest", total) as done:
        report = house.take(found, done, _waiting)
    _say(found, report)
    ctx.exit(exit_code([*found.problems, *report.errors]))


def _waiting() -> None:
    click.echo("waiting for another ingest to end", err=True)


def _say(found: Discovery, report: IngestReport) -> None:
    """Say what was taken, and what was not; end here when nothing was even recognised."""
    names = found.unrecognised
    if names:
        click.echo(f"no contract recognises {_files(len(names))}:", err=True)
        for name in names[:_MOST_NAMES]:
            # Its own line end would make two names of it.
            shown = _printable(name.replace("\n", r"\x0a"))
            click.echo(f"  {shown}", err=True)
        if len(names) > _MOST_NAMES:
            click.echo(f"  … and {len(names) - _MOST_NAMES:,} more", err=True)
    for error in found.problems:
        click.echo(f"error: {_printable(str(error))}", err=True)
    if names and not found.files and not found.problems:
        raise UsageError(
            "nothing was taken: no contract recognises any of the files",
            "files: of contracts/*.yaml",
            "say what they are: meterhouse ingest FILE --source NAME; or draft a contract: "
            "meterhouse contract infer FILE --source NAME",
        )
    if not (names or found.files or found.problems):
        click.echo("there are no files at these paths", err=True)
    for source in report.sources.values():
        _say_source(source)
    if report.stamp.position:
        click.echo(f"log entry {report.stamp.position}  {report.stamp.head[:16]}…")


def _say_source(report: SourceReport) -> None:
    counts = report.counts
    click.echo(
        f"{report.source:<20} {_files(len(report.taken)):>10} taken, "
        f"{len(report.already):,} already done"
    )
    if report.entries:
        terms = " + ".join(f"{counts.get(term, 0):,} {term}" for term in _TERMS[1:])
        click.echo(f"  records             {counts.get('landed', 0):,} landed = {terms}")
        if counts.get("blank"):
            click.echo(f"  blank lines         {counts['blank']:,}")
        if counts.get("removed"):
            click.echo(f"  keys removed        {counts['removed']:,}")
    for column, currencies in sorted(report.money.items()):
        for currency, sums in sorted(currencies.items()):
            if any(sums.get(term) for term in _TERMS):
                terms = " + ".join(f"{_amount(sums, term)} {term}" for term in _TERMS[1:])
                name = f"{column} {currency}".strip()
                click.echo(f"  {name:<19} {_amount(sums, 'landed')} landed = {terms}")
    for tail in report.waiting:
        click.echo(
            f"  waiting             {_printable(tail.file)}, line {tail.line:,}: "
            f"{tail.size:,} bytes are not a whole record yet",
            err=True,
        )
    for error in report.refused:
        click.echo(f"refused: {_printable(str(error))}", err=True)
    if report.stopped is not None:
        click.echo(f'stopped source "{report.source}": {_printable(str(report.stopped))}', err=True)
    if report.not_tried:
        click.echo(f"  {_files(len(report.not_tried))} after it were not tried", err=True)


def exit_code(errors: Sequence[MeterhouseError]) -> int:
    """1 when data was refused, else 2 for the user's mistakes, else 3 for the machine's."""
    codes = {error.exit_code for error in errors}
    return next((code for code in (1, 2, 3) if code in codes), 0)


def _amount(sums: dict[str, Decimal], term: str) -> str:
    text = f"{sums.get(term, Decimal(0)):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _printable(text: str) -> str:
    """Keep control characters of file names off the terminal; line ends of messages stay."""
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text
    )
