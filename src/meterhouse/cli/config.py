"""``meterhouse config``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from meterhouse.cli.opening import given_settings
from meterhouse.config import find_project, load_settings

__all__ = ["config"]


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print it.",
)
@click.pass_obj
def config(option: str | None, form: str) -> None:
    """Show every setting: its value, and where that came from.

    The file meterhouse.toml, then the environment, then options: the last one wins.

    \b
    Example:
      METERHOUSE_ENGINE_THREADS=4 meterhouse config
    """  # noqa: D301 - click wants the backspace itself
    project = find_project(option, os.environ, Path.cwd())
    origins = load_settings(project, os.environ, given_settings()).origins
    if form == "json":
        settings = [
            {
                "name": origin.setting.name,
                "value": origin.text,
                "from": origin.place,
                "default": origin.place == "default",
                "variable": origin.setting.variable,
                "meaning": origin.setting.doc,
            }
            for origin in origins
        ]
        click.echo(json.dumps({"project": str(project), "settings": settings}, indent=2))
        return
    click.echo(f"project {project}\n")
    widths = [
        max(len(origin.setting.name) for origin in origins),
        max(len(origin.text) for origin in origins),
    ]
    for origin in origins:
        click.echo(
            f"{origin.setting.name:<{widths[0]}}  {origin.text:<{widths[1]}}  {origin.place}"
        )
