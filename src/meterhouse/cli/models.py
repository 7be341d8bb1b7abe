"""``meterhouse models``: list, explain, draw and check the models of a project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterhouse.cli.opening import given_settings
from meterhouse.config import find_project, load_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.models.graph import Models
    from meterhouse.models.model import Model

__all__ = ["loaded", "models"]


def loaded(option: str | None) -> tuple[Path, Models, Mapping[str, pa.Schema]]:
    """Return the project, its models, and the bronze tables they may read."""
    from meterhouse.intake.contracts import load_contracts
    from meterhouse.layers.bronze import bronze_schemas
    from meterhouse.models.graph import load_models

    project = find_project(option, os.environ, Path.cwd())
    sources = bronze_schemas(load_contracts(project / "contracts"))
    return project, load_models(project / "models", sources), sources


@click.group(invoke_without_command=True)
@click.pass_obj
@click.pass_context
def models(ctx: click.Context, option: str | None) -> None:
    """List, explain, lint and draw the models.

    Without a command: every model with its kind, its grain and what it is. A model is
    one SQL file below models/silver or models/gold; adding a file adds a table.

    \b
    Example:
      meterhouse models
    """  # noqa: D301 - click wants the backspace itself
    if ctx.invoked_subcommand is not None:
        return
    _, found, _ = loaded(option)
    width = max((len(name) for name in found.order), default=0)
    for name in sorted(found.order, key=lambda one: (one.startswith("gold."), one)):
        model = found[name]
        click.echo(f"{name:{width}}  {model.kind:9}  {', '.join(model.grain)}")
        click.echo(f"{'':{width}}  {model.description}")
    for problem in found.problems:
        click.echo(f"error: {problem}", err=True)
    if found.problems:
        ctx.exit(2)


@models.command()
@click.argument("name")
@click.pass_obj
def show(option: str | None, name: str) -> None:
    """Explain model NAME: what it is, its columns, what it reads and feeds, its SQL.

    \b
    Example:
      meterhouse models show gold.revenue_by_org_month
    """  # noqa: D301 - click wants the backspace itself
    _, found, _ = loaded(option)
    model = _valid(found, name)
    click.echo(f"{model.name}: {model.description}\n")
    for label, value in _facts(found, model).items():
        if value:
            click.echo(f"{label:10} {value}")
    click.echo("\ncolumns")
    width = max(len(column.name) for column in model.columns)
    kinds = max(len(column.type) for column in model.columns)
    for column in model.columns:
        unit = f" [{column.unit}]" if column.unit else ""
        click.echo(f"  {column.name:{width}}  {column.type:{kinds}}  {column.doc}{unit}")
    for name_, ratio in model.ratios.items():
        factor = f"{ratio.times} * " if ratio.times != 1 else ""
        click.echo(
            f"\n{name_} = {factor}{ratio.numerator} / {ratio.denominator}, after the merge, "
            "6 places, half-even"
        )
    click.echo(f"\n{model.sql.strip()}")


def _unstored(model: Model) -> str:
    if model.stored:
        return ""
    return f"no, {'computed when it is read' if model.on_read else 'a step that others share'}"


def _valid(found: Models, name: str) -> Model:
    for problem in found.problems:
        if f'model "{name}"' in problem.what:
            raise problem
    return found[name]


def _facts(found: Models, model: Model) -> dict[str, str]:
    return {
        "kind": model.kind + (f", facts are {model.fact}" if model.fact else ""),
        "grain": ", ".join(model.grain),
        "reads": ", ".join(model.depends_on),
        "feeds": ", ".join(name for name in found.order if model.name in found[name].depends_on),
        "serving": " ".join([*model.partition_key, *model.clustering]),
        "stored": _unstored(model),
        "batch only": model.batch_only,
        "audits": ", ".join(audit.name for audit in model.audits),
        "owner": model.owner,
        "file": model.path,
    }


@models.command()
@click.argument("names", nargs=-1)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
    help="Mermaid for documents, DOT for Graphviz.",
)
@click.pass_obj
def graph(option: str | None, names: tuple[str, ...], format_: str) -> None:
    """Draw what reads what, for NAMES and all they need, or for every model.

    \b
    Example:
      meterhouse models graph gold.cost_anomaly_mart --format dot | dot -Tsvg > lineage.svg
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.models.lineage import dot, mermaid

    _, found, _ = loaded(option)
    wanted = [_valid(found, name).name for name in names]
    click.echo((dot if format_ == "dot" else mermaid)(found, wanted), nl=False)


@models.command()
@click.pass_obj
@click.pass_context
def lint(ctx: click.Context, option: str | None) -> None:
    """Check every model: its header, its SQL, its audits, and all of it against the engine.

    Nothing is read or computed. Each mistake is named with file and line; exit 2 when
    there is one.

    \b
    Example:
      meterhouse models lint
    """  # noqa: D301 - click wants the backspace itself
    from tempfile import TemporaryDirectory

    from meterhouse.engines.duckdb import DuckDBEngine
    from meterhouse.layers.model_check import check_models

    project, found, sources = loaded(option)
    settings = load_settings(project, os.environ, given_settings())
    with TemporaryDirectory() as spill:
        engine = DuckDBEngine(settings.engine_memory, settings.engine_threads, Path(spill))
        mistakes = check_models(found, sources, engine)
        engine.close()
    for mistake in mistakes:
        click.echo(f"error: {mistake}", err=True)
    if mistakes:
        plural = "" if len(mistakes) == 1 else "s"
        click.echo(f"{len(mistakes)} mistake{plural} in the models", err=True)
        ctx.exit(2)
    click.echo(f"{len(found.order)} models are valid")
