"""``meterhouse catalog diff`` and ``meterhouse catalog update``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from meterhouse.config import find_project

__all__ = ["catalog"]

MEANING = {
    "added": "new in the shipped catalog",
    "updated": "newer shipped, not changed by you",
    "removed": "no longer shipped, not changed by you",
    "merged": "changed on both sides, in different places",
    "conflict": "changed on both sides in one place: yours stays, shipped is beside it (.new)",
    "yours": "changed or added by you, nothing newer shipped",
    "kept": "no longer shipped, but changed by you: yours stays",
    "deleted by you": "shipped, but you deleted it",
    "open": "a .new file waits beside it: settle it and delete it",
}


@click.group()
def catalog() -> None:
    """Bring shipped contracts and models up to date."""


@catalog.command()
@click.option("--names", is_flag=True, help="Only the files, not their lines.")
@click.pass_obj
def diff(option: str | None, names: bool) -> None:
    """Show how the project's contracts and models differ from the shipped ones.

    The word before each file says what `meterhouse catalog update` would do with it.

    \b
    Example:
      meterhouse catalog diff --names
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.scaffold import catalog_diff

    differences = catalog_diff(find_project(option, os.environ, Path.cwd()))
    if not differences:
        click.echo("the project's catalog is the shipped one")
    for difference in differences:
        state = difference.state
        click.echo(f"{state:<14}  {difference.path}  ({MEANING[state]})")
        if not names and difference.diff:
            click.echo(difference.diff + "\n")


@catalog.command()
@click.pass_obj
def update(option: str | None) -> None:
    """Bring newer shipped contracts and models into the project, by three-way merge.

    Your own changes stay. Where both sides changed the same lines, your file is left as it
    is and the shipped one is put beside it with the ending .new. Safe to repeat.

    \b
    Example:
      meterhouse catalog update && meterhouse contract check && meterhouse test
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.scaffold import catalog_update

    differences = catalog_update(find_project(option, os.environ, Path.cwd()))
    changed = [d for d in differences if d.state in ("added", "updated", "removed", "merged")]
    for difference in differences:
        state = difference.state
        click.echo(f"{state:<14}  {difference.path}  ({MEANING[state]})")
    conflicts = sum(difference.state in ("conflict", "open") for difference in differences)
    files = "1 file" if len(changed) == 1 else f"{len(changed)} files"
    click.echo(f"{files} changed, {conflicts} to settle by hand")
