"""``meterhouse follow``: keep the answers live."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterhouse.cli.columns import printable
from meterhouse.cli.ingest import exit_code
from meterhouse.cli.opening import given_settings, opened
from meterhouse.cli.replicas import sync_replicas
from meterhouse.config import read_duration

if TYPE_CHECKING:
    from meterhouse.project import Project

__all__ = ["follow"]


class _Duration(click.ParamType[float]):
    """A length of time, as 15m; in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        try:
            return read_duration(value).total_seconds()
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Address(click.ParamType[tuple[str, int]]):
    """A port, or host:port; the host is this machine's own when none is named."""

    name = "address"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return host and port."""
        host, _, port = str(value).rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            self.fail(f'"{value}" is no port; write 9100, or 0.0.0.0:9100', param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


@click.command()
@click.argument("paths", metavar="[PATH]…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Take what there is, then end.")
@click.option("--wait", is_flag=True, help="Wait while another follow runs; else it is an error.")
@click.option("--poll", is_flag=True, help="Look every second; do not rely on notices.")
@click.option(
    "--interval",
    type=_Duration(),
    default="10s",
    show_default=True,
    metavar="TIME",
    help="Between two lines about how it goes; 0s: none.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object a line.",
)
@click.option(
    "--metrics",
    type=_Address(),
    metavar="[HOST:]PORT",
    help="Serve figures for Prometheus; on this machine only, unless HOST says otherwise.",
)
@click.option(
    "--batch-every",
    type=_Duration(),
    default="0s",
    metavar="TIME",
    help="Publish the lake every so often, as `meterhouse batch` does.",
)
@click.pass_context
def follow(
    ctx: click.Context,
    paths: Sequence[Path],
    *,
    once: bool,
    wait: bool,
    poll: bool,
    interval: float,
    log_format: str,
    metrics: tuple[str, int] | None,
    batch_every: float,
) -> None:
    """Follow folders: what is delivered is in the answers within a second.

    Without PATH the folders of the setting ingest.folders are followed. Files that grow
    are taken as they grow; other deliveries when they are complete. A source that can't be
    taken is parked with its reason while others go on, and goes on by itself once it is
    mended. SIGTERM and Ctrl-C end it cleanly; after a crash the same command goes on.

    \b
    Examples:
      meterhouse follow
      meterhouse follow /var/log/metering --batch-every 15m --metrics 9100
      meterhouse follow --once
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.follow.metrics import Metrics
    from meterhouse.follow.say import Say

    house = opened(ctx.obj)
    say = Say(_line, house.clock, "json" if log_format == "json" else "text")
    exporter = Metrics(*metrics) if metrics is not None else None
    if exporter is not None and metrics is not None:
        address = f"http://{metrics[0]}:{exporter.port}/metrics"
        say.info("metrics", f"metrics at {address}", address=address)
    try:
        not_taken = house.follow(
            *paths,
            say=say,
            once=once,
            wait=wait,
            poll=poll,
            interval=interval,
            exporter=exporter,
            batch_every=batch_every,
            batch_command=_command(house.root, "batch"),
            replicas={} if once else _replicas(house),
            waiting=lambda what: say.info("waiting", f"waiting for {what} to end", on=what),
        )
    finally:
        if exporter is not None:
            exporter.close()
    if once:
        sync_replicas(house)
    ctx.exit(exit_code(not_taken) if once else 0)


def _line(text: str) -> None:
    click.echo(printable(text), err=True)


def _replicas(house: Project) -> dict[str, list[str]]:
    words = ("serving", "sync", "--follow", "--parent", str(os.getpid()), "--store")
    return {store: _command(house.root, *words, store) for store in house.settings.serving_replicas}


def _command(root: Path, *words: str) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in given_settings().items()]
    return [sys.executable, "-m", "meterhouse", "--project", str(root), *settings, *words]
