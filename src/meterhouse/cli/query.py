"""``meterhouse query``: the six questions, from the serving store alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from meterhouse.cli.opening import given_settings
from meterhouse.cli.output import Destination, output_options, print_answer, table_file
from meterhouse.clock import system_clock
from meterhouse.config import STORES, find_project, load_settings
from meterhouse.formats import RowsChunk
from meterhouse.serving.answer import Answer
from meterhouse.serving.arguments import arguments
from meterhouse.serving.queries import QUESTIONS, ask, question
from meterhouse.serving.snapshot import read

__all__ = ["query"]

_HELP = "\n".join(f"  {item.name:16} {item.summary}" for item in QUESTIONS.values())


@click.command(epilog=f"\b\nQuestions:\n{_HELP}")
@click.argument("name", metavar="NAME")
@click.option("--org", metavar="ORG", help="Only this organisation.")
@click.option("--service", metavar="SERVICE", help="Only this service.")
@click.option("--severity", metavar="NAME", help="Tickets of this severity, instead of critical.")
@click.option("--from", "from_", metavar="DAY", help="First day (or month's first day), inclusive.")
@click.option("--to", metavar="DAY", help="Last day (or month's first day), inclusive.")
@click.option("--days", metavar="N", help="How many days, the last one included.")
@click.option("--as-of", metavar="DAY", help="The last day looked at; else the latest day known.")
@click.option("--limit", metavar="N", help="Only the first N services of each organisation.")
@click.option("--by", metavar="PERIOD", help="day (usual) or month.")
@click.option(
    "--store",
    type=click.Choice(["sqlite", *STORES]),
    default="sqlite",
    help="Where to ask: the embedded store (usual), or a replica of it.",
)
@output_options
@click.pass_obj
def query(
    project: str | None,
    /,
    name: str,
    store: str,
    format_: str | None,
    output: Path | None,
    **given: str | None,
) -> None:
    """Answer question NAME; each takes some of the options.

    The answer is that of the last `meterhouse batch`, and says how old it is.

    \b
    Examples:
      meterhouse query top-services --org org_0001 --days 30
      meterhouse query genai-usage --by month --format json
    """  # noqa: D301 - click wants the backspace itself
    arguments(name, question(name).options, given)
    to = Destination(format_, output)
    root = find_project(project, os.environ, Path.cwd())
    if store in STORES:
        answer = _from_replica(root, store, name, given)
    else:
        answer = read(
            root / "serving.db", lambda snapshot: ask(snapshot, name, given, system_clock())
        )
    if to.binary:
        _write_file(answer, to)
        return
    chunk = RowsChunk(answer.columns, answer.rows)
    print_answer(to, answer.columns, [chunk], answer.extras(), answer.sentences())


def _from_replica(root: Path, store: str, name: str, given: Mapping[str, str | None]) -> Answer:
    from meterhouse.serving.astra import opened_snapshot as in_astra
    from meterhouse.serving.cassandra import opened_snapshot as in_cassandra

    opened = in_astra if store == "astra" else in_cassandra
    settings = load_settings(root, os.environ, given_settings())
    with opened(settings, os.environ) as snapshot:
        return ask(snapshot, name, given, system_clock())


def _write_file(answer: Answer, to: Destination) -> None:
    table = answer.table()
    table_file(to, table.schema, table.to_batches(), answer.sentences())
