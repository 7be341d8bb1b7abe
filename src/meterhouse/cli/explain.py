"""``meterhouse explain``: where a number comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.columns import aligned, printable
from meterhouse.cli.opening import opened
from meterhouse.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.analysis.explain import Explained, Part

__all__ = ["explain", "print_explained"]


@click.command()
@click.argument("table")
@click.argument("key", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Records shown of each kind; sums are over all.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print it.",
)
@click.pass_obj
def explain(option: str | None, table: str, key: tuple[str, ...], limit: int, form: str) -> int:
    """Show the records that add up to one row of TABLE, and what stands beside it.

    \b
    Example:
      meterhouse explain gold.finops_by_org_day org_id=org_0001 usage_date=2025-08-01
    """  # noqa: D301 - click wants the backspace itself
    wanted = dict(_pair(text) for text in key)

    found = opened(option).explain(table, wanted, limit)
    if form == "json":
        click.echo(json.dumps(_body(found), indent=2, ensure_ascii=False))
    else:
        print_explained(found)
    return 1 if found.mismatches else 0


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f'"{text}" names no column', "KEY=VALUE", "write column=value")
    return name, value


def print_explained(found: Explained) -> None:
    """Print the definition, the row, and the records behind it."""
    from meterhouse.formats import text

    model = found.model
    click.echo(f"{model.name}: {model.description}\n")
    if found.row is None:
        click.echo("there is no such row")
    else:
        docs = {column.name: column for column in model.columns}
        rows = [
            (
                name,
                text(value) or "",
                docs[name].unit if name in docs else "",
                docs[name].doc if name in docs else "",
            )
            for name, value in found.row.items()
        ]
        for line in aligned(rows, right=(1,), indent="  "):
            click.echo(line)
    _print_definition(found)
    for part in found.parts:
        _print_part(part)
    click.echo("")
    click.echo(_sentence(found))


def _print_definition(found: Explained) -> None:
    """Print how each cell that is no key is computed."""
    click.echo(f"\ndefined in {found.definition.file}")
    click.echo(f"  from {', '.join(found.definition.reads)}")
    for name, expression in found.definition.expressions.items():
        if name not in found.model.grain:
            click.echo(f"  {name} = {expression}")


def _sentence(found: Explained) -> str:
    if found.mismatches:
        return f"the records do not add up to: {', '.join(found.mismatches)}"
    if found.row is None:
        return "nothing counts in such a row"
    if not found.parts:
        return "this table is not made of single records; explain what it reads, named above"
    if found.compared:
        return f"the records add up to {', '.join(found.compared)}"
    return "the row is made of this record"


def _print_part(part: Part) -> None:
    click.echo(f"\n{_records(part.count)} of {part.source} behind {part.model}")
    _print_records(part.records, part.count, part.sums)
    for beside in part.beside:
        if beside.count:
            click.echo(f"\n{_records(beside.count)} {beside.verdict}, not counted")
            _print_records(beside.records, beside.count, beside.sums)
        else:
            click.echo(f"\nno {beside.verdict} records beside them")


def _records(count: int) -> str:
    return f"{count:,} record" if count == 1 else f"{count:,} records"


def _print_records(records: pa.Table, count: int, sums: Mapping[str, Any]) -> None:
    from meterhouse.formats import decimal_text, text

    if not count:
        return
    measures = [name for name in sums if sums[name]]
    reasons = ["reason"] if any(_reasons(records)) else []
    rows = [("entry", "file:line", *reasons, *measures)]
    for row in records.to_pylist():
        place = printable(f"{row['source_file']}:{row['source_line']}")
        values = (text(row[name]) or "" for name in (*reasons, *measures))
        rows.append((str(row["log_position"]), place, *values))
    blank = ("",) * len(reasons)
    if count > records.num_rows:
        more = f"{count - records.num_rows:,} more"
        rows.append(("…", more, *blank, *("" for _ in measures)))
    if measures:
        total = (decimal_text(sums[name]) for name in measures)
        rows.append(("", "sum of all", *blank, *total))
    first = 2 + len(reasons)
    for line in aligned(rows, right=range(first, first + len(measures)), indent="  "):
        click.echo(line)


def _reasons(records: pa.Table) -> list[str | None]:
    if "reason" not in records.column_names:
        return []
    found: list[str | None] = records["reason"].to_pylist()
    return found


def _body(found: Explained) -> dict[str, Any]:
    from meterhouse.formats import native

    def records(table: pa.Table) -> list[dict[str, Any]]:
        return [{k: native(v) for k, v in row.items()} for row in table.to_pylist()]

    return {
        "table": found.model.name,
        "description": found.model.description,
        "definition": {
            "file": found.definition.file,
            "reads": list(found.definition.reads),
            "columns": found.definition.expressions,
        },
        "sql": found.model.sql,
        "row": None
        if found.row is None
        else {name: native(value) for name, value in found.row.items()},
        "adds_up": not found.mismatches,
        "compared": list(found.compared),
        "mismatches": list(found.mismatches),
        "parts": [
            {
                "model": part.model,
                "source": part.source,
                "count": part.count,
                "sums": {name: native(value) for name, value in part.sums.items()},
                "records": records(part.records),
                **{
                    beside.verdict: {
                        "count": beside.count,
                        "sums": {name: native(value) for name, value in beside.sums.items()},
                        "records": records(beside.records),
                    }
                    for beside in part.beside
                },
            }
            for part in found.parts
        ],
    }
