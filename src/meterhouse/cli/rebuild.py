"""``meterhouse rebuild``."""

from __future__ import annotations

import click

from meterhouse.cli.opening import opened

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
    with progress("judging again", house.head) as done:
        report = house.rebuild(
            accept_loss=accept_loss,
            progress=lambda entry: done(1, entry.source),
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
    if report.fork is not None:
        at, lost = report.fork.position, report.fork.details["lost"]["position"]
        click.echo(
            f"the log goes on without what came after entry {at - 1:,}, up to {lost:,}: its new "
            f"entry {at:,} says so. meterhouse ingest takes those files again where they still are"
        )
