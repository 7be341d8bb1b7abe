"""``meterhouse demo``: everything once, on a small delivery made for it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse.errors import UsageError

if TYPE_CHECKING:
    from meterhouse.project import Project

__all__ = ["demo"]

_ROWS = 6
_QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("daily-cost", {}),
    ("top-services", {"limit": 3}),
    ("ticket-sla", {}),
    ("monthly-revenue", {}),
    ("genai-usage", {"by": "month"}),
    ("anomalies", {}),
)


@click.command()
@click.argument("folder", metavar="[DIR]", default="meterhouse-demo", type=click.Path())
def demo(folder: str) -> int:
    """Generate a small, lifelike delivery in DIR, run everything on it, show the answers.

    The delivery is dirty on purpose: late, doubled, broken and conflicting lines, and
    corrections. Running it again finds everything done already.
    """
    from meterhouse.cli.verify import print_ledger
    from meterhouse.project import open_project
    from meterhouse.scaffold import init

    root, started = Path(folder).absolute(), time.monotonic()
    delivery, project = root / "delivery", root / "project"
    _title(f"a delivery: meterhouse synth {folder}/delivery")
    _deliver(delivery, f"{folder}/delivery")
    if not (project / "meterhouse.toml").exists():
        init(project)
    house = open_project(project)
    _title(f"into the log: meterhouse ingest {folder}/delivery")
    _ingest(house, delivery)
    _title("published: meterhouse batch")
    report = house.batch()
    rows = sum(made.rows for made in report.tables)
    click.echo(
        f"{len(report.tables)} tables, {rows:,} rows, at log position {report.position:,}"
        if report.changed
        else f"nothing new: log position {report.position:,} is published already"
    )
    for name, arguments in _QUESTIONS:
        _question(house, name, arguments)
    _held(house)
    _explained(house)
    _title("the ledger: meterhouse verify")
    ledger = house.verify()
    print_ledger(ledger)
    _next(folder, time.monotonic() - started)
    return 0 if ledger.verdict == "holds" else 1


def _deliver(delivery: Path, shown: str) -> None:
    """Generate the delivery, unless an earlier run did."""
    import shutil

    from meterhouse.synth import Options, generate

    truth = delivery / "truth.json"
    if not truth.exists():
        # What an interrupted run leaves has a name of its own, and is never anybody else's.
        part = delivery.with_name(".delivery.part")
        shutil.rmtree(part, ignore_errors=True)
        generate(part, Options(events=20_000, orgs=40, files=40, drift=True))
        try:
            part.rename(delivery)
        except OSError as error:
            shutil.rmtree(part)
            raise UsageError(
                f'folder "{shown}" is not empty; nothing was written into it',
                str(delivery),
                "name another folder: meterhouse demo DIR",
            ) from error
    planted = json.loads(truth.read_text("utf-8"))
    counted = planted["sources"]["usage_events"]["records"]
    click.echo(
        f"{counted['landed']:,} usage events in {len(planted['files']):,} files, and seven "
        f"other sources; what was planted, and what must come of it, is in {shown}/truth.json"
    )


def _title(text: str) -> None:
    click.echo(f"\n── {text} " + "─" * max(0, 78 - len(text)))


def _ingest(house: Project, delivery: Path) -> None:
    from meterhouse.cli.columns import aligned

    report = house.ingest(delivery)
    terms = ("landed", "accepted", "quarantined", "duplicate")
    rows = [
        (name, *(f"{source.counts.get(term, 0):,}" for term in terms))
        for name, source in sorted(report.sources.items())
        if source.entries
    ]
    if not rows:
        click.echo("already done")
        return
    for line in aligned([("source", *terms), *rows], right=(1, 2, 3, 4)):
        click.echo(line)


def _question(house: Project, name: str, arguments: dict[str, Any]) -> None:
    from meterhouse.cli.columns import aligned
    from meterhouse.formats import text

    options = "".join(f" --{key.rstrip('_')} {value}" for key, value in arguments.items())
    _title(f"meterhouse query {name}{options}")
    answer = house.query(name, **arguments)
    rows = [tuple(text(value) or "" for value in row) for row in answer.rows[:_ROWS]]
    right = [
        number
        for number, column in enumerate(answer.columns)
        if column.kind in ("decimal", "integer")
    ]
    for line in aligned([tuple(column.name for column in answer.columns), *rows], right=right):
        click.echo(line)
    if len(answer.rows) > _ROWS:
        click.echo(f"… {len(answer.rows) - _ROWS:,} more rows")
    for sentence in answer.sentences():
        click.echo(sentence)


def _held(house: Project) -> None:
    from meterhouse.cli.quarantine import print_held

    _title("held, with reasons: meterhouse quarantine")
    print_held(house.quarantine())


def _explained(house: Project) -> None:
    """Explain a row that has something held or doubled beside it, if there is one."""
    from meterhouse.cli.explain import print_explained
    from meterhouse.formats import text

    table = "gold.org_daily_usage_by_service"
    key = _interesting(house, table)
    words = " ".join(f"{name}={text(value)}" for name, value in key.items())
    _title("where a number comes from")
    click.echo(f"$ meterhouse explain {table} {words} --limit 3\n")
    print_explained(
        house.explain(table, {name: text(value) or "" for name, value in key.items()}, limit=3)
    )


def _interesting(house: Project, table: str) -> dict[str, Any]:
    found = house.sql(
        "SELECT usage.org_id, usage.usage_date, usage.service, count(*) AS held "
        f"FROM {table} AS usage JOIN bronze.quarantine_usage AS held "
        "ON held.org_id = usage.org_id AND held.service = usage.service "
        "AND CAST(held.event_ts AS DATE) = usage.usage_date "
        "GROUP BY 1, 2, 3 ORDER BY held DESC, 1, 2, 3 LIMIT 1"
    )
    if not found.num_rows:
        found = house.read(table, limit=1)
    row: dict[str, Any] = found.select(["org_id", "usage_date", "service"]).to_pylist()[0]
    return row


def _next(folder: str, seconds: float) -> None:
    _title("next")
    click.echo(
        f"all of it took {seconds:.0f} s. Try, in {folder}/project:\n\n"
        "  meterhouse query top-services --days 30 --format csv\n"
        '  meterhouse sql "SELECT service, sum(daily_cost_usd) AS usd '
        'FROM gold.org_daily_usage_by_service GROUP BY service"\n'
        "  meterhouse quarantine show --limit 3\n"
        "  meterhouse reconcile\n"
        "  meterhouse models graph\n"
        "  meterhouse status\n\n"
        "and with your own delivery: meterhouse init DIR && cd DIR && meterhouse ingest PATH && "
        "meterhouse batch"
    )
