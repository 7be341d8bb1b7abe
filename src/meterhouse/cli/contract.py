"""``meterhouse contract check`` and ``meterhouse contract infer``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from meterhouse.cli.opening import given_settings
from meterhouse.config import find_project, load_settings

__all__ = ["contract"]


@click.group()
def contract() -> None:
    """Check contracts; draft one from a file."""


@contract.command()
@click.pass_obj
@click.pass_context
def check(ctx: click.Context, option: str | None) -> None:
    """Check every contract of the project, and its SQL against the engine.

    Each mistake is named with file, line and column; exit 2 when there is one.

    \b
    Example:
      meterhouse contract check
    """  # noqa: D301 - click wants the backspace itself
    from tempfile import TemporaryDirectory

    from meterhouse.engines.duckdb import DuckDBEngine
    from meterhouse.intake.contract_check import check_contracts
    from meterhouse.intake.contracts import contract_files

    project = find_project(option, os.environ, Path.cwd())
    settings = load_settings(project, os.environ, given_settings())
    folder = project / "contracts"
    with TemporaryDirectory() as spill:
        engine = DuckDBEngine(settings.engine_memory, settings.engine_threads, Path(spill))
        mistakes = check_contracts(folder, engine)
        engine.close()
    for mistake in mistakes:
        click.echo(f"error: {mistake}", err=True)
    count = len(contract_files(folder))
    if mistakes:
        plural = "" if len(mistakes) == 1 else "s"
        click.echo(f"{len(mistakes)} mistake{plural} in {count} contracts", err=True)
        ctx.exit(2)
    click.echo(f"{count} contracts are valid")


@contract.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--source", required=True, metavar="NAME", help="Name of the source.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write it there, unless the file exists."
)
def infer(file: Path, source: str, output: Path | None) -> None:
    """Draft a contract from FILE, a delivery of yours (CSV or JSONL, also .gz and .zst).

    Types are guessed from the values, exactly. What they can't tell is a comment with
    DECIDE. When NAME is a shipped source, its contract is taken and your field names are
    put into it.

    \b
    Example:
      meterhouse contract infer deliveries/usage-2025-07.jsonl.gz --source usage_events
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.errors import UsageError
    from meterhouse.intake.infer import infer as draft

    text = draft(file, source)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError as error:
        raise UsageError(
            "file exists already; nothing was written",
            str(output),
            "choose another --output, or print the draft and merge by hand",
        ) from error
    click.echo(f"wrote {output}: {text.count('DECIDE')} places to decide", err=True)
