"""The serving store by itself: live writes, readers beside a writer, a batch beside both.

    python bench/serving_store.py [--orgs 300] [--seconds 10]

Wall times mean something on an idle machine only; CPU times are given beside them. The epoch
holds 60 days of 8 services and 100 windows for each organisation.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from meterhouse.ports import LiveChange, LiveRows, Stamp
from meterhouse.serving.queries import ask
from meterhouse.serving.reader import Reader
from meterhouse.serving.schema import Layout
from meterhouse.serving.sqlite import SqliteServing

DAILY, WINDOWS = "gold.org_daily_usage_by_service", "gold.usage_by_5min"
MONEY = pa.decimal128(38, 9)
SUMS = ("daily_cost_usd", "requests", "cpu_hours", "storage_gb_hours", "genai_tokens", "carbon_kg")
COUNTS = ("event_count", "requests_reported_count", "cpu_hours_reported_count")
COUNTS += ("storage_gb_hours_reported_count", "genai_reported_count", "carbon_reported_count")
KEYS = {DAILY: ("org_id", "usage_date", "service"), WINDOWS: ("org_id", "service", "window_start")}
KEY_TYPES = {"usage_date": pa.date32(), "window_start": pa.timestamp("us", "UTC")}
MERGED = {DAILY: (SUMS, COUNTS), WINDOWS: (("cost_usd",), ("event_count",))}
SERVICES = ("analytics", "cdn", "compute", "database", "genai", "network", "queue", "storage")
DAYS, SPANS = 60, 100
FIRST = datetime(2025, 7, 1, tzinfo=UTC)


def layout(table: str) -> Layout:
    merge = dict.fromkeys([*MERGED[table][0], *MERGED[table][1]], "sum")
    falling = frozenset({"usage_date", "window_start"} & set(KEYS[table]))
    return Layout(KEYS[table], falling, merge, count_column="event_count")


LAYOUTS = {table: layout(table) for table in KEYS}


def table_of(table: str, keys: Sequence[tuple[Any, ...]], draw: random.Random) -> pa.Table:
    sums, counts = MERGED[table]
    columns = {name: [key[n] for key in keys] for n, name in enumerate(KEYS[table])}
    for name in sums:
        columns[name] = [Decimal(draw.randrange(10**9)).scaleb(-6) for _ in keys]
    for name in counts:
        columns[name] = [draw.randrange(1, 50) for _ in keys]
    types = KEY_TYPES | dict.fromkeys(sums, MONEY) | dict.fromkeys(counts, pa.int64())
    return pa.table({name: pa.array(it, types.get(name)) for name, it in columns.items()})


def key(table: str, draw: random.Random, orgs: int) -> tuple[Any, ...]:
    org, service = f"org_{draw.randrange(orgs):05}", draw.choice(SERVICES)
    if table == DAILY:
        return org, date(2025, 7, 1) + timedelta(days=draw.randrange(DAYS)), service
    return org, service, FIRST + timedelta(minutes=5 * draw.randrange(SPANS))


def epoch_tables(orgs: int) -> dict[str, pa.Table]:
    draw, names = random.Random(1), [f"org_{number:05}" for number in range(orgs)]
    days = [date(2025, 7, 1) + timedelta(days=number) for number in range(DAYS)]
    spans = [FIRST + timedelta(minutes=5 * number) for number in range(SPANS)]
    keys = {
        DAILY: [(org, day, service) for org in names for day in days for service in SERVICES],
        WINDOWS: [(org, service, at) for org in names for service in SERVICES for at in spans],
    }
    return {table: table_of(table, rows, draw) for table, rows in keys.items()}


def stamp(position: int) -> Stamp:
    return Stamp("bench", 0, position, f"{position:x}")


def publish(store: SqliteServing, tables: dict[str, pa.Table], name: str, position: int) -> None:
    for table, rows in tables.items():
        store.load(name, table, rows.to_reader())
    store.publish(name, stamp(position), ingest_ts=FIRST, details='{"models": "m"}')


def partials(draw: random.Random, orgs: int, daily: int, windows: int) -> tuple[LiveRows, ...]:
    found = []
    for table, count in ((DAILY, daily), (WINDOWS, windows)):
        keys = sorted({key(table, draw, orgs) for _ in range(count)})
        if keys:
            found.append(LiveRows(table, partials=table_of(table, keys, draw)))
    return tuple(found)


@dataclass
class Times:
    """How long something took, again and again, in seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, work: Callable[[], object]) -> None:
        """Do ``work`` once."""
        wall, cpu = time.perf_counter(), time.thread_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.thread_time() - cpu)

    def line(self) -> str:
        """Return the percentiles as one line."""
        parts = []
        for name, values in (("wall", sorted(self.wall)), ("CPU", sorted(self.cpu))):
            at = [values[int(share * (len(values) - 1))] * 1000 for share in (0.5, 0.99, 1)]
            parts.append(f"{name} p50 {at[0]:.2f} p99 {at[1]:.2f} max {at[2]:.2f} ms")
        return f"{len(self.wall):,} times: {'; '.join(parts)}"


def advance(store: SqliteServing, rows: tuple[LiveRows, ...]) -> None:
    at = store.stamp()
    assert at is not None
    change = LiveChange(at, stamp(at.position + 1), FIRST, rows, "{}")
    assert store.advance(change)


def write_all_the_time(path: Path, orgs: int, size: int, ended: Any) -> None:
    draw, store = random.Random(2), SqliteServing(path, LAYOUTS)
    groups = [partials(draw, orgs, size, size) for _ in range(10)]
    while not ended.is_set():
        advance(store, groups[draw.randrange(10)])
    store.close()


def batch_all_the_time(path: Path, orgs: int, ended: Any) -> None:
    tables, number = epoch_tables(orgs), 0
    store = SqliteServing(path, LAYOUTS)
    while not ended.is_set():
        number += 1
        publish(store, tables, f"epoch {number}", store.freeze(0))


def beside(work: Callable[..., None], *arguments: Any) -> Any:
    ended = multiprocessing.Event()
    process = multiprocessing.Process(target=work, args=(*arguments, ended))
    process.start()
    return ended, process


def read_for(path: Path, orgs: int, seconds: float, days: int) -> Times:
    draw, reader, times = random.Random(3), Reader(path), Times()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        given = {
            "org": f"org_{draw.randrange(orgs):05}",
            "service": draw.choice(SERVICES),
            "from": "2025-07-02",
            "to": str(date(2025, 7, 1) + timedelta(days=days)),
        }
        times.measure(
            lambda: reader.read(lambda seen: ask(seen, "daily-cost", given, FIRST))  # noqa: B023
        )
    reader.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orgs", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, draw = Path(folder) / "serving.db", random.Random(4)
        store = SqliteServing(path, LAYOUTS)
        publish(store, epoch_tables(options.orgs), "first", 1)
        for daily, windows in ((3, 3), (5_000, 0), (0, 5_000)):
            times = Times()
            for _ in range(20):
                group = partials(draw, options.orgs, daily, windows)
                times.measure(lambda: advance(store, group))  # noqa: B023
            print(f"advance, {daily} daily and {windows} window rows, {times.line()}")
        for size in (3, 2_500):
            ended, process = beside(write_all_the_time, path, options.orgs, size)
            for days in (1, 31):
                times = read_for(path, options.orgs, options.seconds, days)
                print(f"question of {days} days, a writer of {2 * size} rows, {times.line()}")
            ended.set()
            process.join()
        ended, process = beside(batch_all_the_time, path, options.orgs)
        times, group = Times(), partials(draw, options.orgs, 3, 3)
        until = time.monotonic() + 2 * options.seconds
        while time.monotonic() < until:
            times.measure(lambda: advance(store, group))
            time.sleep(0.01)
        print(f"advance, 6 rows, beside batches that follow on each other, {times.line()}")
        ended.set()
        process.join()
        store.close()


if __name__ == "__main__":
    main()
