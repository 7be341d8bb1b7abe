"""``meterhouse batch``: publish the lake, gold and serving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meterhouse.cli.columns import aligned
from meterhouse.cli.opening import opened
from meterhouse.cli.replicas import sync_replicas

if TYPE_CHECKING:
    from meterhouse.layers.batch import BatchReport

__all__ = ["batch", "print_batch"]


@click.command()
@click.option("--full", is_flag=True, help="Compute every table again from the judged files.")
@click.pass_obj
def batch(option: str | None, full: bool) -> None:
    """Publish lake, gold and serving up to the log's head; whole or not at all.

    Only what changed is computed; with nothing new nothing changes. After a crash the same
    command finishes the work; until then the last publication stays. Beside a running follow
    the result is held against the live answers first: where they differ nothing is published.
    The stores of serving.replicas are brought up to it; one that can't be is a warning.
    """
    import sys

    house = opened(option)
    told = sys.stderr.isatty()
    report = house.batch(
        full=full, progress=lambda text: click.echo(f"{text} …", err=True) if told else None
    )
    print_batch(report)
    sync_replicas(house)


def print_batch(report: BatchReport) -> None:
    """Say what a batch did to each table, and why."""
    for problem in report.problems:
        click.echo(f"warning: {problem}", err=True)
    if not report.position:
        click.echo("nothing to publish: the log is empty; take a delivery: meterhouse ingest PATH")
        return
    if not report.changed:
        click.echo(f"nothing new: log position {report.position:,} is published already")
        return
    touched = [table for table in report.tables if table.action != "keep"]
    rows = [
        (table.name, table.action, f"{table.new_rows:,}", f"{table.rows:,}", table.why)
        for table in touched
    ]
    if rows:
        head = ("table", "done", "rows written", "rows", "because")
        for line in aligned([head, *rows], right=(2, 3)):
            click.echo(line)
    kept = len(report.tables) - len(touched)
    if kept:
        click.echo(f"{kept:,} tables had nothing new")
    for name in report.dropped:
        click.echo(f"no longer published: {name}")
    if report.compared:
        click.echo(
            f"agrees with the live answers: {len(report.compared):,} tables, in which "
            f"{sum(report.compared.values()):,} rows had changed"
        )
    click.echo(f"published log position {report.position:,}, generation {report.generation:,}")
