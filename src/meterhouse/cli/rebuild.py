"""``meterhouse rebuild``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meterhouse.cli.opening import opened

if TYPE_CHECKING:
    from meterhouse.log.entry import Entry

__all__ = ["rebuild"]


@click.command()
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Go on with a log that ends before what the views were made from, for good.",
)
@click.pass_obj
def rebuild(option: str | None, accept_loss: bool) -> None:
    """Make every view anew from log and landing: judged files, index, lake, serving.

    Gives the same tables, digit for digit. Refused, with nothing changed, when log or
    landing are damaged. Safe to repeat after an interruption.
    """
    from meterhouse.cli.progress import progress

    house = opened(option)
    forks: list[Entry] = []
    with progress("judging again", house.head) as done:

        def judged(entry: Entry) -> None:
            done(1, entry.source)
            if entry.kind == "fork":
                forks.append(entry)

        report = house.rebuild(
            accept_loss=accept_loss,
            progress=judged,
            waiting=lambda: click.echo("waiting for another command to end", err=True),
        )
    for problem in report.problems:
        click.echo(f"warning: {problem}", err=True)
    if not report.position:
        click.echo("nothing to rebuild: the log is empty")
        return
    click.echo(
        f"rebuilt from {report.position:,} log entries: {len(report.tables)} tables, "
        f"{sum(table.rows for table in report.tables):,} rows"
    )
    if accept_loss and forks and forks[-1].position == report.position:
        lost = forks[-1].details["lost"]
        click.echo(
            f"entry {report.position:,} of the log says that it goes on without what it had up "
            f"to entry {lost['position']:,}; meterhouse ingest takes those files again"
        )
