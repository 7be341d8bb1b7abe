"""Commands that fail in ways no command of the product may."""

from __future__ import annotations

import click

from meterhouse.errors import SqlError

__all__ = ["bug", "exhausted", "interrupted", "statement"]


@click.command()
def bug() -> None:
    """Fail as a bug does."""
    raise RuntimeError("a thing that can't be")


@click.command()
def statement() -> None:
    """Fail as SQL of ours does."""
    raise SqlError("syntax error", "LINE 1")


@click.command()
def exhausted() -> None:
    """Fail as a machine without memory does."""
    raise MemoryError


@click.command()
def interrupted() -> None:
    """Fail as Ctrl-C does."""
    raise KeyboardInterrupt
