"""Writes one delivery: eight sources, corrections, and the truth about them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from meterhouse.errors import UsageError
from meterhouse.synth.events import blocks
from meterhouse.synth.masters import Masters, make_masters
from meterhouse.synth.options import Options
from meterhouse.synth.planting import Planter
from meterhouse.synth.poison import FLAWS
from meterhouse.synth.text import plain
from meterhouse.synth.truth import Truth
from meterhouse.synth.world import SERVICES, World, make_world

__all__ = ["EVENTS_FOLDER", "TRUTH_FILE", "generate"]

EVENTS_FOLDER = "usage_events_stream"
TRUTH_FILE = "truth.json"
GZIP_LEVEL = 3

Progress = Callable[[int], None]


def generate(directory: Path, options: Options, progress: Progress | None = None) -> Truth:
    """Write a delivery below ``directory`` and return what must come of it.

    Files sorted by path are in order of arrival. Memory does not grow with the number
    of events, but for sixteen bytes per planted copy or flaw. ``progress`` is told how
    many lines of events are written.

    Raises:
        UsageError: ``directory`` holds something already; nothing was written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(
            f'folder "{directory}" is not empty; nothing was written',
            str(directory),
            "name a new folder: an older delivery would mix with this one",
        )
    world = make_world(options)
    planter = Planter(world)
    events = directory / EVENTS_FOLDER
    events.mkdir(parents=True)
    names = _write_events(events, world, planter, progress or (lambda lines: None))
    masters = make_masters(world, planter.by_org_month, planter.months)
    for made in masters.files:
        (directory / made.name).write_bytes(made.data)
    truth = Truth(
        _document(world, planter, masters, names),
        planter.planted,
        tuple(flaw.name for flaw in FLAWS),
        tuple(_ends(options)),
    )
    truth.write(directory / TRUTH_FILE)
    return truth


def _ends(options: Options) -> list[int]:
    """Return the place of the stream after each file."""
    count = options.file_count
    return [options.events * (number + 1) // count for number in range(count)]


def _write_events(folder: Path, world: World, planter: Planter, progress: Progress) -> list[str]:
    """Write the stream, cut into files at places that don't depend on its blocks."""
    suffix = world.options.format
    ends = _ends(world.options)
    names = [f"events_part_{number:05d}.{suffix}" for number in range(len(ends))]
    waiting = _lines(world, planter, progress)
    lines: list[bytes] = []
    first = start = 0
    for name, end in zip(names, ends, strict=True):
        with _opened(folder / name) as file:
            while start < end:
                if start == first + len(lines):
                    first, lines = start, next(waiting)
                taken = lines[start - first : end - first]
                file.write(b"\n".join(taken) + b"\n")
                start += len(taken)
    return names


def _lines(world: World, planter: Planter, progress: Progress) -> Iterator[list[bytes]]:
    written = 0
    for number, block in enumerate(blocks(world)):
        yield planter.plant(block, number)
        written += len(block.lines)
        progress(written)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open for writing; compressed bytes carry neither time nor name."""
    with path.open("wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        packed = gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0)
        with packed:
            yield packed  # type: ignore[misc]


def _document(world: World, planter: Planter, masters: Masters, names: list[str]) -> dict[str, Any]:
    """Return truth.json without its long lists."""
    sources = {"usage_events": planter.tally.as_text()}
    sources |= {name: tally.as_text() for name, tally in sorted(masters.tallies.items())}
    return {
        "options": world.options.as_text(),
        "files": [f"{EVENTS_FOLDER}/{name}" for name in names],
        "sources": sources,
        "late_events": planter.late,
        "accepted_cost_usd": {
            "by_service": {
                name: plain(int(cost), 4)
                for name, cost in zip(SERVICES, planter.by_service, strict=True)
            },
            "by_day": {
                day.isoformat(): plain(int(cost), 4)
                for day, cost in zip(world.days, planter.by_day, strict=True)
            },
        },
        "incidents": [
            {
                "org_id": world.orgs[world.resources[item.resource].org].id,
                "service": world.resources[item.resource].service,
                "usage_date": world.days[item.day].isoformat(),
                "cost_usd": plain(3 * item.cost, 4),
                "flag_zscore": True,
                "flag_mad": True,
                "flag_p99": True,
            }
            for item in world.incidents
        ],
        "churn": [
            {"org_id": org.id, "no_usage_from": world.days[org.churn_day].isoformat()}
            for org in world.orgs
            if org.churn_day is not None and org.churn_day < len(world.days)
        ],
        "corrections": masters.corrections,
    }
