"""``meterhouse watch``: the newest of what is served, drawn anew while it changes."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meterhouse.cli.frame import Scene, frame
from meterhouse.clock import system_clock
from meterhouse.config import find_project
from meterhouse.errors import UsageError

if TYPE_CHECKING:
    from meterhouse.analysis.latest import Latest
    from meterhouse.serving.reader import Reader

__all__ = ["watch"]

SHARE: Final = 5
"""Looking takes at most one part in so many of the time: it is the follower's machine too."""
WINDOWS: Final = 60
"""Windows that are looked up; as many are drawn as there is room for."""


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.pass_obj
def watch(project: str | None, once: bool, interval: float) -> None:
    """Show cost per service, the newest windows and how far behind they are, live.

    What is drawn is one position of the answers. It ends with q or Ctrl-C.

    \b
    Example:
      meterhouse watch --once
    """  # noqa: D301 - click wants the backspace itself
    if not once and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise UsageError("watch needs a terminal to draw on", "", "print one frame: add --once")

    from meterhouse.serving.reader import Reader

    root = find_project(project, os.environ, Path.cwd())
    reader = Reader(root / "serving.db")
    if once:
        click.echo("\n".join(frame(_scene(root, reader), *_size(), colour=False)))
        return
    with _screen():
        _draw_until_quit(root, reader, interval)


def _draw_until_quit(root: Path, reader: Reader, interval: float) -> None:
    colour = not os.environ.get("NO_COLOR")
    while True:
        begun = time.monotonic()
        scene = _scene(root, reader)
        taken = time.monotonic() - begun
        lines = frame(scene, *_size(), colour=colour)
        # Home, each line with what is left of the old one wiped, then the rest of the screen.
        sys.stdout.write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")
        sys.stdout.flush()
        if _quit_within(max(interval - taken, taken * (SHARE - 1))):
            return


def _scene(root: Path, reader: Reader) -> Scene:
    from meterhouse.alerts.listing import listed
    from meterhouse.alerts.register import FILE_NAME
    from meterhouse.follow.standing import read_standing

    return Scene(
        name=root.name,
        now=system_clock(),
        latest=_latest(reader),
        standing=read_standing(root),
        alerts=listed(root / FILE_NAME, ["raised"]),
    )


def _latest(reader: Reader) -> Latest | None:
    """Return what is newest; None while nothing is published."""
    from meterhouse.analysis.latest import latest

    try:
        return reader.read(lambda snapshot: latest(snapshot, WINDOWS))
    except UsageError:
        return None


def _size() -> tuple[int, int]:
    found = shutil.get_terminal_size((80, 24))
    return found.columns, found.lines


@contextmanager
def _screen() -> Iterator[None]:
    """Take the terminal's other screen, without cursor or echo; give everything back."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        tty.setcbreak(stdin)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _quit_within(seconds: float) -> bool:
    """Wait; return True when q (or the end of the input) came."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
            return True
    return False
