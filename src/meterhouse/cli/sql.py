"""``meterhouse sql``: one read-only SELECT over all tables."""

from __future__ import annotations

from pathlib import Path

import click

from meterhouse.cli.output import Destination, output_options

__all__ = ["sql"]


@click.command()
@click.argument("text", metavar="SELECT")
@output_options
@click.pass_obj
def sql(project: str | None, /, text: str, format_: str | None, output: Path | None) -> None:
    """Run one SELECT (DuckDB's dialect) over all tables, at one position.

    Files and network are out of its reach; it can change nothing.

    \b
    Example:
      meterhouse sql "SELECT service, sum(daily_cost_usd) AS cost_usd
                      FROM gold.org_daily_usage_by_service GROUP BY service ORDER BY 2 DESC"
    """  # noqa: D301 - click wants the backspace itself
    to = Destination(format_, output)

    from meterhouse.cli.lake import open_lake
    from meterhouse.reading import mentioned, rows_of_sql

    with open_lake(project, text) as lake, rows_of_sql(lake.tables, lake.engine, text) as rows:
        lake.emit(rows, to, mentioned(lake.tables, text))
