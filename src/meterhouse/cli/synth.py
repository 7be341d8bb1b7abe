"""``meterhouse synth``: a lifelike delivery with known truth. Needs no project."""

from __future__ import annotations

import sys
from datetime import datetime

import click

__all__ = ["synth"]

SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("directory", type=click.Path(), metavar="DIR")
@click.option("--events", type=int, default=43_200, show_default=True, help="Lines of usage.")
@click.option("--orgs", type=int, default=80, show_default=True, help="Organisations.")
@click.option("--days", type=int, default=60, show_default=True, help="Days of usage.")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2025-07-03",
    show_default=True,
    help="First day of usage.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--duplicates", type=SHARE, default=0.01, show_default=True, help="Share of repeated lines."
)
@click.option(
    "--late", type=SHARE, default=0.02, show_default=True, help="Share a week or more late."
)
@click.option("--poison", type=SHARE, default=0.01, show_default=True, help="Share broken.")
@click.option(
    "--conflicts",
    type=SHARE,
    default=0.001,
    show_default=True,
    help="Share with an earlier line's id and another amount.",
)
@click.option("--drift", is_flag=True, help="Schema version 3 and a new column near the end.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "jsonl.gz"]),
    default="jsonl",
    show_default=True,
    help="Of the files of usage.",
)
@click.option("--files", type=int, default=120, show_default=True, help="Files of usage.")
def synth(directory: str, start: datetime, format_: str, **numbers: object) -> None:
    """Write a delivery like a real one below DIR: all eight sources, with corrections.

    What was planted and what must come of it is in DIR/truth.json.

    \b
    Example:
      meterhouse synth delivery --events 100000 --poison 0.02 --drift
    """  # noqa: D301 - \b is click's mark for "keep these lines"
    from pathlib import Path

    from meterhouse.synth import Options, generate

    options = Options(start=start.date(), format=format_, **numbers)  # type: ignore[arg-type]
    with click.progressbar(
        length=options.events,
        label="usage events",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:

        def show(lines: int) -> None:
            bar.update(lines - bar.pos)

        truth = generate(Path(directory), options, show)
    counted = truth.records("usage_events")
    click.echo(
        f"wrote {counted['landed']:,} events in {options.file_count} files to {directory}:"
        f" {counted['accepted']:,} sound, {counted['quarantined']:,} to be held,"
        f" {counted['duplicate']:,} duplicates; the truth is in {Path(directory) / 'truth.json'}"
    )
