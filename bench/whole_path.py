"""What the whole path costs: ingest and batch, beside a script that only computes one mart.

    python bench/whole_path.py --events 1000000 --events 10000000

Each step is a process of its own; CPU seconds (user + system, all threads) and peak memory
are those of the operating system's accounting of it. The hand-written script reads the same
files with DuckDB's JSON reader into doubles: no log, no verdicts, no exactness, no lake.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HAND_WRITTEN = """
import duckdb, sys
connection = duckdb.connect()
connection.execute("SET threads = 2")
rows = connection.execute(
    "SELECT org_id, CAST(timestamp AS DATE) AS usage_date, service, "
    "sum(cost_usd_increment) AS daily_cost_usd, count(*) AS event_count "
    "FROM (SELECT DISTINCT ON (event_id) * FROM read_json('" + sys.argv[1] + "', "
    "format = 'newline_delimited', ignore_errors = true, columns = {event_id: 'VARCHAR', "
    "timestamp: 'TIMESTAMP', org_id: 'VARCHAR', service: 'VARCHAR', "
    "cost_usd_increment: 'DOUBLE'})) GROUP BY ALL"
).fetchall()
print(len(rows))
"""


@dataclass(frozen=True)
class Cost:
    """One process, as the operating system accounts for it."""

    step: str
    events: int
    cpu_s: float
    wall_s: float
    peak_mb: float


def measured(step: str, events: int, command: list[str], folder: Path) -> Cost:
    """Run ``command`` and return what it cost; what it prints is shown when it fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{command} failed:\n{said.read().decode(errors='replace')}")
    wall = time.monotonic() - started
    return Cost(step, events, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def run(events: int, folder: Path, verify: bool) -> list[Cost]:
    """Generate, ingest, batch; return the cost of each step."""
    program = str(Path(sys.executable).with_name("meterhouse"))
    delivery, project = folder / "delivery", folder / "project"
    generate = [
        program,
        "synth",
        str(delivery),
        "--events",
        str(events),
        "--orgs",
        "400",
        "--days",
        "60",
        "--duplicates",
        "0.02",
        "--poison",
        "0.001",
        "--conflicts",
        "0",
    ]
    subprocess.run(generate, check=True, capture_output=True)
    (delivery / "truth.json").unlink()
    subprocess.run([program, "init", str(project)], check=True, capture_output=True)
    costs = [
        measured("ingest", events, [program, "ingest", str(delivery)], project),
        measured("batch", events, [program, "batch"], project),
    ]
    if verify:
        costs.append(measured("verify", events, [program, "verify"], project))
    pattern = str(delivery / "usage_events_stream" / "*.jsonl")
    alone = [sys.executable, "-c", HAND_WRITTEN, pattern]
    costs.append(measured("hand-written mart", events, alone, folder))
    return costs


def main() -> None:
    """Measure and print a table; ``--json`` for the figures alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, action="append")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: list[Cost] = []
    for events in given.events or [1_000_000]:
        with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as folder:
            found += run(events, Path(folder), given.verify)
    if given.json:
        print(json.dumps([vars(cost) for cost in found], indent=2))
        return
    print(
        f"{'events':>12}  {'step':18} {'CPU s':>8} {'CPU s / M':>10} {'wall s':>8} {'peak MB':>8}"
    )
    for cost in found:
        per_million = cost.cpu_s / cost.events * 1e6
        print(
            f"{cost.events:>12,}  {cost.step:18} {cost.cpu_s:>8.2f} {per_million:>10.2f} "
            f"{cost.wall_s:>8.2f} {cost.peak_mb:>8.0f}"
        )


if __name__ == "__main__":
    main()
