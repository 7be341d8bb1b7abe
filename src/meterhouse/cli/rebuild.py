"""``meterhouse rebuild``."""

from __future__ import annotations

import click

__all__ = ["rebuild"]


@click.command()
@click.pass_obj
def rebuild(option: str | None) -> None:
    """Make every view anew from log and landing: judged files, index, lake, serving.

    Gives the same tables, digit for digit. Safe to repeat after an interruption.
    """
    from meterhouse.cli.progress import progress
    from meterhouse.project import open_project

    house = open_project(option)
    with progress("judging again", house.head) as done:
        report = house.rebuild(progress=lambda entry: done(1, entry.source))
    click.echo(
        f"rebuilt from {report.position:,} log entries: {len(report.tables)} tables, "
        f"{sum(table.rows for table in report.tables):,} rows"
    )
    for problem in report.problems:
        click.echo(f"warning: {problem}", err=True)
