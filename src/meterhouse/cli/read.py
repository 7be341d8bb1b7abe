"""``meterhouse read``: print a table of the lake."""

from __future__ import annotations

import re
from pathlib import Path

import click

from meterhouse.cli.output import Destination, output_options
from meterhouse.errors import UsageError

__all__ = ["read"]


@click.command()
@click.argument("table", metavar="TABLE")
@click.option("--where", metavar="SQL", default="", help="Only rows that meet this condition.")
@click.option("--columns", metavar="a,b,…", default="", help="Only these columns, in this order.")
@click.option("--limit", metavar="N", help="Only the first N rows.")
@output_options
@click.pass_obj
def read(
    project: str | None,
    /,
    table: str,
    where: str,
    columns: str,
    limit: str | None,
    format_: str | None,
    output: Path | None,
) -> None:
    """Print the rows of TABLE, sorted by its grain, at the position of the answers.

    \b
    Examples:
      meterhouse read gold.revenue_by_org_month --where "month = '2025-07-01'"
      meterhouse read bronze.quarantine_usage --columns raw_text,broken_rules --limit 20
    """  # noqa: D301 - click wants the backspace itself
    to = Destination(format_, output)
    wanted = tuple(name.strip() for name in columns.split(",") if name.strip())
    most = _limit(limit)

    from meterhouse.cli.lake import open_lake
    from meterhouse.reading import Selection, grain_of, resolve, rows_of

    with open_lake(project, f"{table} {where}") as lake:
        name = resolve(lake.tables, table)
        grain = grain_of(lake.tables, lake.root, name)
        selection = Selection(wanted, where, most)
        with rows_of(lake.tables, lake.engine, name, grain, selection) as rows:
            lake.emit(rows, to, [name])


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise UsageError(f'--limit can\'t be "{text}"', "", "write a whole number")
    return int(text)
