"""The lake when a batch runs each quarter of an hour, for a month, with late data all the time.

    python bench/many_batches.py --days 30 --every 15

Virtual time passes by the clock that is handed in, and ends now: deltalake itself goes by the
machine's clock, so what is there at the end is what a real month leaves. Each batch takes one
event of each of the last 30 days, so every partition of those is touched by every batch. Prints
files and bytes day by day: what the publication names ("live"), and all on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from many_entries import SOURCE, reduced, sizes
from meterhouse.clock import system_clock
from meterhouse.project import Project, open_project

LATE_DAYS = 30


class Passing:
    """A clock that is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the virtual time."""
        return self.now


def events(number: int, now: datetime) -> bytes:
    """Return one event of each of the last days; of one service, which is a partition a day."""
    lines = []
    for days in range(LATE_DAYS):
        body = {
            "event_id": f"e-{number:06d}-{days:02d}",
            "timestamp": (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "org_id": f"org-{(number + days) % 7}",
            "resource_id": f"res-{days}",
            "service": "compute",
            "region": "us-east",
            "metric": "requests",
            "value": 1,
            "unit": "count",
            "cost_usd_increment": 0.25,
            "schema_version": 1,
        }
        lines.append(json.dumps(body).encode() + b"\n")
    return b"".join(lines)


def aged(root: Path, now: datetime, seen: set[Path]) -> None:
    """Give new files of the lake their virtual age: cleaning goes by that."""
    for path in (root / "lake").rglob("*"):
        if path not in seen and path.is_file():
            os.utime(path, (now.timestamp(), now.timestamp()))
            seen.add(path)


def live(house: Project) -> tuple[int, int]:
    """Return files and bytes that the publication names, data and Delta log."""
    published = house.published()
    assert published is not None
    found = [one.size for table in published.tables.values() for one in (*table.files, *table.log)]
    return len(found), sum(found)


def lake_sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Return files and bytes of each table: data, commits, checkpoints."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted((root / "lake").glob("*/*/**/*.*")):
        if path.is_file():
            kind = ("".join(path.suffixes) if "_delta_log" in path.parts else "data").strip(".")
            name = f"{'.'.join(path.relative_to(root / 'lake').parts[:2])} {kind}"
            files, size = found.get(name, (0, 0))
            found[name] = files + 1, size + path.stat().st_size
    return found


def run(root: Path, days: float, every: timedelta, keep: str) -> Iterator[dict[str, object]]:
    """Ingest and publish so often; yield what there is after each virtual day."""
    clock = Passing(system_clock() - timedelta(days=days))
    house = open_project(root, clock=clock, options={"lake.keep": keep})
    path = root / "inbox" / "events.jsonl"
    path.parent.mkdir(exist_ok=True)
    seconds: list[float] = []
    seen: set[Path] = set()
    batches = int(timedelta(days=days) / every)
    a_day = int(timedelta(days=1) / every)
    for number in range(1, batches + 1):
        clock.now += every
        with path.open("ab") as file:
            file.write(events(number, clock.now))
        house.ingest(path, source=SOURCE)
        begun = time.process_time()
        house.batch()
        seconds.append(time.process_time() - begun)
        aged(root, clock.now, seen)
        if number % a_day == 0 or number == batches:
            parts = sizes(root)
            published = live(house)
            yield {
                "batches": number,
                "live files": published[0],
                "live MB": _mb(published[1]),
                "lake files": parts["lake"][0],
                "lake MB": _mb(parts["lake"][1]),
                "other files": sum(files for name, (files, _) in parts.items() if name != "lake"),
                "CPU s a batch": round(statistics.mean(seconds[-a_day:]), 3),
            }
    rows = house.sql(f"SELECT count(*) AS n FROM bronze.{SOURCE}")
    assert rows.to_pylist() == [{"n": batches * LATE_DAYS}], rows


def _mb(size: int) -> float:
    return round(size / 1e6, 1)


def main() -> None:
    """Measure, a line for each virtual day."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--every", type=int, default=15, help="minutes between two batches")
    parser.add_argument("--keep", default="7d", help="lake.keep")
    given = parser.parse_args()
    program = str(Path(sys.executable).with_name("meterhouse"))
    print(f"lake.keep {given.keep}, a batch every {given.every} minutes")
    with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as folder:
        root = Path(folder) / "project"
        subprocess.run([program, "init", str(root)], check=True, capture_output=True)
        for path in (root / "contracts").glob("*.yaml"):
            if path.stem != SOURCE:
                path.unlink()
        reduced(root)
        for found in run(root, given.days, timedelta(minutes=given.every), given.keep):
            print(json.dumps(found), flush=True)
        for name, (files, size) in {**sizes(root), **lake_sizes(root)}.items():
            print(f"  {name:40} {files:8,} files {_mb(size):8} MB")


if __name__ == "__main__":
    main()
