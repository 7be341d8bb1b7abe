"""``meterhouse log``."""

from __future__ import annotations

import click

from meterhouse.cli.opening import opened

__all__ = ["log"]


@click.group()
def log() -> None:
    """Look after the log: entries sealed by the thousand, landed objects packed."""


@log.command()
@click.pass_obj
def seal(option: str | None) -> None:
    """Seal all entries that are due at once.

    `ingest` and `follow` do this by themselves, a little at a time. Changes nothing that the
    log says: every entry keeps its bytes and its hash. Safe to repeat and to interrupt.

    \b
    Example:
      meterhouse log seal
    """  # noqa: D301 - click wants the backspace itself
    done = opened(option).seal(
        waiting=lambda: click.echo("waiting for another sealer, or a backup, to end", err=True)
    )
    if not done.upto:
        click.echo("nothing to seal: a range of 1,000 entries is sealed 256 entries later")
        return
    click.echo(
        f"{done.segments:,} segments and {done.packs:,} packs made; "
        f"entries 1 to {done.upto:,} are sealed"
    )
