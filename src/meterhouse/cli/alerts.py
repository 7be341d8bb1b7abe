"""``meterhouse alerts``: what was raised, and whether the rules are valid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meterhouse.cli.columns import aligned
from meterhouse.cli.opening import opened
from meterhouse.cli.output import Destination, output_options, print_answer, table_file
from meterhouse.config import find_project
from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.formats import Column, Row, RowsChunk

if TYPE_CHECKING:
    from meterhouse.alerts.register import Alert, State
    from meterhouse.alerts.rule import Channel, Rulebook

__all__ = ["alerts"]

COLUMNS: Final = (
    Column("rule", "text"),
    Column("state", "text"),
    Column("window", "text"),
    Column("key", "json"),
    Column("occurrence", "integer"),
    Column("values", "json"),
    Column("raised_at", "text"),
    Column("position", "integer"),
    Column("late_by_s", "integer"),
    Column("cleared_at", "text"),
    Column("delivered", "text"),
    Column("idempotency_key", "text"),
)
LONGEST_LOOK_S: Final = 3600.0
STATES: Final[dict[str, tuple[State, ...]]] = {
    "open": ("raised",),
    "silent": ("silent",),
    "cleared": ("cleared",),
    "all": ("raised", "silent", "cleared"),
}


@click.group(invoke_without_command=True)
@click.option(
    "--state",
    metavar="NAME",
    default="open",
    help="open (raised and not cleared; the default), silent, cleared or all.",
)
@click.option("--rule", metavar="NAME", default="", help="Only alerts of this rule.")
@output_options
@click.pass_context
def alerts(
    ctx: click.Context, state: str, rule: str, format_: str | None, output: Path | None
) -> None:
    """List alerts, the newest first, with where each was delivered.

    \b
    Examples:
      meterhouse alerts --state all --rule expensive_window --format json
      meterhouse alerts check
    """  # noqa: D301 - click wants the backspace itself
    if ctx.invoked_subcommand is not None:
        return
    if state not in STATES:
        raise UsageError.unknown("state", state, STATES, where="--state")
    to = Destination(format_, output)

    from meterhouse.alerts.listing import listed
    from meterhouse.alerts.register import FILE_NAME

    root = find_project(ctx.obj, os.environ, Path.cwd())
    found = listed(root / FILE_NAME, STATES[state], rule)
    rows = [_row(alert) for alert in found]
    said = [f"{len(rows):,} alerts" if len(rows) != 1 else "1 alert"]
    if to.binary:
        _write_file(rows, to, said)
    else:
        print_answer(to, COLUMNS, [RowsChunk(COLUMNS, rows)], {}, said)


def _row(alert: Alert) -> Row:
    import json

    return (
        alert.rule,
        alert.state,
        alert.group.window or None,
        json.loads(alert.group.key),
        alert.occurrence,
        dict(alert.numbers),
        alert.raised_at,
        alert.raised_position,
        alert.late_by_s,
        alert.cleared_at or None,
        alert.delivered or None,
        alert.idempotency_key,
    )


def _write_file(rows: list[Row], to: Destination, said: list[str]) -> None:
    """Write Parquet or Arrow; keys and values are JSON text there."""
    import json

    import pyarrow as pa

    types = {"integer": pa.int64()}
    schema = pa.schema([(column.name, types.get(column.kind, pa.string())) for column in COLUMNS])
    empty: list[tuple[object, ...]] = [()] * len(schema)
    columns = [
        pa.array(
            [json.dumps(v, ensure_ascii=False) if isinstance(v, dict) else v for v in values],
            item.type,
        )
        for item, values in zip(schema, zip(*rows, strict=True) if rows else empty, strict=True)
    ]
    table = pa.Table.from_arrays(columns, schema=schema)
    table_file(to, table.schema, table.to_batches(), said)


@alerts.command()
@click.pass_obj
def check(project: str | None) -> None:
    """Check alerts.yaml: rules against the tables they name, and where alerts go.

    Exits with 2 when a rule or a channel is not valid; the others work all the same.

    \b
    Example:
      meterhouse alerts check
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.alerts.rulebook import load_rulebook

    house = opened(project)
    book = load_rulebook(house.root, house.models())
    for line in _told(book):
        click.echo(line)
    _complain(book.problems)


@alerts.command()
@click.pass_obj
def run(project: str | None) -> None:
    """Look at the answers once, and deliver what is due.

    For projects without a running `meterhouse follow`, which does it by itself: after each
    `meterhouse batch`. Rules over figures of `follow` rest.

    \b
    Example:
      meterhouse batch && meterhouse alerts run
    """  # noqa: D301 - click wants the backspace itself
    house = opened(project)
    found = house.alerts()
    try:
        store = house.serving(house.models())
        outcome = found.finish(store, house.clock(), {}, wait_s=LONGEST_LOOK_S)
        arrived = found.deliver_now()
    finally:
        found.close()
    messages = "1 message" if arrived == 1 else f"{arrived:,} messages"
    click.echo(
        f"{outcome.raised:,} raised, {outcome.silent:,} silent, {outcome.cleared:,} cleared; "
        f"{messages} delivered"
    )
    _complain(outcome.problems)


def _complain(problems: Sequence[MeterhouseError]) -> None:
    """Name what is wrong with the file; it is its author's to mend."""
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    if problems:
        click.get_current_context().exit(2)


def _told(book: Rulebook) -> list[str]:
    from meterhouse.alerts.rule import MetricLimit

    rows = []
    for rule in book.rules:
        what = rule.what
        condition = what.text if isinstance(what, MetricLimit) else what.when.text
        table = what.metric if isinstance(what, MetricLimit) else what.table
        rows.append((rule.name, table, condition, ", ".join(rule.channels) or "nobody is told"))
    lines = [*aligned([("rule", "over", "when", "told"), *rows])] if rows else ["no rules"]
    for name, channel in (book.channels or {}).items():
        lines.append(f"{name}: {_place(channel)}")
    return lines


def _place(channel: Channel) -> str:
    from meterhouse.alerts.rule import CommandChannel, LogChannel

    if isinstance(channel, LogChannel):
        return f"file {channel.file}"
    if isinstance(channel, CommandChannel):
        return f"command {channel.command[0]}"
    # Without its path and query: an address may be a secret too.
    return f"webhook {channel.url.split('/')[2] if channel.url else '$' + channel.url_env}"
