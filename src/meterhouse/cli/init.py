"""``meterhouse init``."""

from __future__ import annotations

from pathlib import Path

import click

from meterhouse import scaffold

__all__ = ["init"]


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Make a project in DIR (the current folder when it is left out).

    Writes the settings, the shipped contracts and models, and an inbox. What is in that
    folder is what runs: change it as you like. Nothing that exists is written over.

    \b
    Example:
      meterhouse init usage && cd usage
    """  # noqa: D301 - click wants the backspace itself
    made = scaffold.init(directory)
    click.echo(f"made a project in {directory}")
    for name in made:
        click.echo(f"  {name:<18} {MEANING.get(name, '')}".rstrip())
    click.echo("\nnext:")
    if directory != Path():
        click.echo(f"  cd {directory}")
    for command, meaning in NEXT:
        click.echo(f"  {command:<46} {meaning}")


MEANING = {
    "meterhouse.toml": "settings, each with its default",
    "alerts.yaml": "what is worth an alert, and who is told",
    "contracts/": "what each source delivers, and its rules",
    "models/silver/": "cleaned tables, one SQL file each",
    "models/gold/": "tables for questions, one SQL file each",
    "models/tests/": "given/expect tests of the models",
    "inbox/": "put deliveries here, or name them",
    ".gitignore": "keeps data out of version control",
}
NEXT = (
    ("meterhouse contract infer FILE --source NAME", "draft a contract from a delivery"),
    ("meterhouse ingest PATH…", "take files in, each record judged"),
    ("meterhouse batch", "publish tables and answers"),
    ("meterhouse query daily-cost", "ask the first of six questions"),
    ("meterhouse verify", "prove that nothing is missing"),
)
