"""``meterhouse test``: the given/expect examples of the project's models."""

from __future__ import annotations

import os
from pathlib import Path

import click

from meterhouse.cli.opening import given_settings
from meterhouse.config import load_settings

__all__ = ["test"]


@click.command()
@click.argument("name", required=False)
@click.pass_obj
@click.pass_context
def test(ctx: click.Context, option: str | None, name: str | None) -> None:
    """Run the given/expect tests in models/tests, or those of NAME (a model, part of a test).

    Each runs on tables of its own; the project's data is not read. Exit 1 when one fails.

    \b
    Example:
      meterhouse test gold.revenue_by_org_month
    """  # noqa: D301 - click wants the backspace itself
    from tempfile import TemporaryDirectory

    from meterhouse.cli.models import loaded
    from meterhouse.engines.duckdb import DuckDBEngine
    from meterhouse.layers.model_tests import load_tests, run_tests

    project, models, sources = loaded(option)
    tests = load_tests(project / "models" / "tests", name)
    settings = load_settings(project, os.environ, given_settings())
    with TemporaryDirectory() as spill:
        engine = DuckDBEngine(settings.engine_memory, settings.engine_threads, Path(spill))
        outcomes = run_tests(tests, models, sources, engine)
        engine.close()
    failed = [outcome for outcome in outcomes if outcome.problem]
    for outcome in failed:
        click.echo(f"failed: {outcome.test.title}")
        click.echo("".join(f"    {line}\n" for line in outcome.problem.splitlines()), nl=False)
    click.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if failed:
        ctx.exit(1)
