"""``meterhouse quarantine``: what is held, and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.columns import aligned, printable
from meterhouse.cli.opening import opened
from meterhouse.cli.output import Destination, output_options, print_answer, table_file
from meterhouse.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.analysis.held import HeldGroup

__all__ = ["print_held", "quarantine"]


@click.group(invoke_without_command=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print it.",
)
@click.pass_context
def quarantine(ctx: click.Context, form: str) -> None:
    """Count what is held, by source and reason, with its money.

    \b
    Example:
      meterhouse quarantine show --reason unit_missing --limit 3
    """  # noqa: D301 - click wants the backspace itself
    if ctx.invoked_subcommand is not None:
        return

    groups = opened(ctx.obj).quarantine()
    if form == "json":
        click.echo(json.dumps([_body(group) for group in groups], indent=2, ensure_ascii=False))
    else:
        print_held(groups)


def print_held(groups: list[HeldGroup]) -> None:
    """Print held records by source and reason."""
    if not groups:
        click.echo("nothing is held")
        return
    rows = [
        (
            group.source,
            group.reason,
            f"{group.records:,}",
            ", ".join(_money(group)),
            group.because,
        )
        for group in groups
    ]
    head = ("source", "reason", "records", "money held", "because")
    for line in aligned([head, *rows], right=(2,)):
        click.echo(line)


def _money(group: HeldGroup) -> Iterator[str]:
    from meterhouse.formats import decimal_text

    for name, amount in group.money.items():
        yield f"{name} {decimal_text(amount)}"
    if group.unreadable:
        yield f"{group.unreadable} unreadable"


def _body(group: HeldGroup) -> dict[str, Any]:
    from meterhouse.formats import decimal_text

    return {
        "source": group.source,
        "reason": group.reason,
        "because": group.because,
        "records": group.records,
        "money": {name: decimal_text(amount) for name, amount in group.money.items()},
        "unreadable": group.unreadable,
    }


@quarantine.command()
@click.option("--source", default="", metavar="NAME", help="Only of this source.")
@click.option("--reason", default="", metavar="RULE", help="Only with this first broken rule.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Only the first N records.",
)
@click.option("--raw", is_flag=True, help="The bytes as they landed, one record after the other.")
@click.pass_obj
def show(option: str | None, source: str, reason: str, limit: int, raw: bool) -> None:
    """Print held records: the line, file and line number, all reasons, what could be read.

    With --raw, each record's bytes unchanged, followed by a newline.
    """
    shown = 0
    for contract, batch in opened(option).quarantined(source, reason, limit):
        names = [column.name for column in contract.columns]
        for row in batch.to_pylist():
            shown += 1
            if raw:
                sys.stdout.buffer.write(row["raw"] + b"\n")
            else:
                _print_record(row, names)
    sys.stdout.buffer.flush()
    if not shown:
        click.echo("nothing is held", err=True)


def _print_record(row: dict[str, Any], names: list[str]) -> None:
    from meterhouse.formats import text

    said = [f"{row['source_file']}:{row['source_line']}  (log entry {row['log_position']})"]
    said.append(f"  broken:   {', '.join(row['broken_rules'])}")
    read = [f"{name}={text(row[name])}" for name in names if row[name] is not None]
    if read:
        said.append(f"  read:     {', '.join(read)}")
    if row["unreadable"]:
        said.append(f"  unread:   {row['unreadable']}")
    said.append(f"  record:   {row['raw_text']}")
    for line in said:
        click.echo(printable(line.replace("\n", "\\x0a")))
    click.echo("")


@quarantine.command()
@click.option("--source", default="", metavar="NAME", help="Of this source; needed for tables.")
@click.option("--reason", default="", metavar="RULE", help="Only with this first broken rule.")
@output_options
@click.pass_obj
def export(
    option: str | None, source: str, reason: str, format_: str | None, output: Path | None
) -> None:
    """Write held records of one source, with all columns, in any output format."""
    from meterhouse.arrow_text import chunks_of, columns_of
    from meterhouse.layers.bronze import bronze_schemas

    house = opened(option)
    contracts = house.contracts_in_force()
    if not source:
        raise UsageError(
            "held records of different sources have different columns",
            "--source",
            f"name one of {', '.join(sorted(contracts))}",
        )
    to = Destination(format_, output)
    found = (batch for _, batch in house.quarantined(source, reason))
    first = next(found, None)
    schema = first.schema if first is not None else None
    if schema is None:
        schema = bronze_schemas(contracts)[contracts[source].quarantine]
    count = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in chain([first] if first is not None else [], found):
            count += batch.num_rows
            yield batch

    def said() -> Iterator[str]:
        yield f"{count:,} held records" if count else "nothing is held"

    if to.binary:
        table_file(to, schema, batches(), said())
    else:
        print_answer(to, columns_of(schema), chunks_of(batches()), {}, said())
