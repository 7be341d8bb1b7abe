"""State after many small batches: how many files and bytes, what each batch costs.

    python bench/small_batches.py --batches 100 --events 360

Each round takes one small file of usage events that spans 60 days and publishes. Counts
files and bytes by part of the project, those that the publication names ("live") beside
all on disk: Delta keeps what older versions need for ``lake.keep``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import meterhouse
from meterhouse.lake.published import Published

PARTS = ("landing", "log", "judged", "index", "lake", "serving.db")


def deliveries(folder: Path, batches: int, events: int) -> Iterator[Path]:
    """Generate ``batches`` files of ``events`` events each, and yield them."""
    program = str(Path(sys.executable).with_name("meterhouse"))
    wanted = ["--events", str(batches * events), "--files", str(batches), "--days", "60"]
    command = [program, "synth", str(folder), "--orgs", "80", *wanted]
    subprocess.run(command, check=True, capture_output=True)
    yield from sorted((folder / "usage_events_stream").iterdir())


def on_disk(root: Path, part: str) -> tuple[int, int]:
    """Return files and bytes of one part of a project."""
    start = root / part
    paths = [start] if start.is_file() else [path for path in start.rglob("*") if path.is_file()]
    return len(paths), sum(path.stat().st_size for path in paths)


def live(published: Published, name: str) -> tuple[int, int]:
    """Return files and bytes that the publication names, data and Delta log; "" for all."""
    tables = [table for table in published.tables.values() if name in ("", table.name)]
    files = [file.size for table in tables for file in (*table.files, *table.log)]
    return len(files), sum(files)


def run(root: Path, delivery: Path, batches: int, events: int) -> dict[str, object]:
    """Ingest and publish file by file; return what there is then."""
    house = meterhouse.open(root)
    seconds = []
    for path in deliveries(delivery, batches, events):
        house.ingest(path)
        begun = time.process_time()
        house.batch()
        seconds.append(time.process_time() - begun)
    published = house.published()
    assert published is not None
    counts: dict[str, object] = {part: on_disk(root, part) for part in PARTS}
    counts["lake, live"] = live(published, "")
    for name in ("bronze.usage_events", "silver.usage_enriched"):
        counts[f"{name}, live"] = live(published, name)
        counts[f"{name}, on disk"] = on_disk(root / "lake", name.replace(".", "/"))
    tenth = max(1, len(seconds) // 10)
    counts["CPU s a batch, first tenth"] = round(sum(seconds[1 : tenth + 1]) / tenth, 3)
    counts["CPU s a batch, last tenth"] = round(sum(seconds[-tenth:]) / tenth, 3)
    return counts


def main() -> None:
    """Measure with the default ``lake.keep`` and with none; print both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--events", type=int, default=360)
    parser.add_argument("--keep", action="append", help="lake.keep: 7d and 0s when not given")
    given = parser.parse_args()
    program = str(Path(sys.executable).with_name("meterhouse"))
    for keep in given.keep or ["7d", "0s"]:
        os.environ["METERHOUSE_LAKE_KEEP"] = keep
        with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as folder:
            root = Path(folder) / "project"
            subprocess.run([program, "init", str(root)], check=True, capture_output=True)
            found = run(root, Path(folder) / "delivery", given.batches, given.events)
        print(f"lake.keep {keep}, {given.batches} batches of {given.events} events")
        for name, value in found.items():
            print(f"  {name:32} {json.dumps(value)}")


if __name__ == "__main__":
    main()
