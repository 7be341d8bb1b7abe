"""Progress of long work: one line on standard error, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

__all__ = ["progress"]


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show how much of ``total`` is done; yields what to call with each amount done.

    Where standard error is no terminal nothing is printed: logs and scripts stay clean.
    """
    if not sys.stderr.isatty() or total <= 0:
        yield lambda amount, name: None
        return
    shown = click.progressbar(
        range(total),
        label=label,
        file=sys.stderr,
        item_show_func=lambda item: str(item)[-40:] if isinstance(item, str) else "",
    )
    with shown as bar:
        yield lambda amount, name: bar.update(amount, name)  # type: ignore[arg-type]
