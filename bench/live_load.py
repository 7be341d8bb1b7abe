"""The load of ``bench/live.py``: a producer that syncs every batch, and a reader that waits.

Each batch ends with one event of the organisation ``org-mark`` on a day of its own, so that
a reader who sees n of them knows that the first n batches are in the answer.
"""

from __future__ import annotations

import bisect
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import meterhouse
from meterhouse.errors import UsageError

MARK_ORG, MARK_DAY = "org-mark", "2025-09-01"
DAYS = 28
SERVICES = ("compute", "storage", "network", "genai", "database")
REGIONS = ("us-east", "us-west", "eu-west", "ap-south")


def event(number: str, org: str, at: str, service: str, region: str, cents: int) -> str:
    """Return one line of usage: one request."""
    return (
        f'{{"event_id":"{number}","timestamp":"{at}","org_id":"{org}",'
        f'"resource_id":"r-{cents % 400}","service":"{service}","region":"{region}",'
        f'"metric":"requests","value":1,"unit":"count","cost_usd_increment":0.{cents:04d},'
        f'"schema_version":2}}\n'
    )


def lines(seed: int, moments: Iterable[float], late: float = 0.0) -> Iterator[str]:
    """Return an event for each moment (seconds since 1970), a share ``late`` weeks late.

    There are 80 organisations, 5 services and 4 regions.
    """
    chance = random.Random(seed)
    for number, moment in enumerate(moments):
        if chance.random() < late:
            moment -= chance.randrange(DAYS * 86400)
        yield event(
            f"e-{seed}-{number}",
            f"org-{chance.randrange(80)}",
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)),
            chance.choice(SERVICES),
            chance.choice(REGIONS),
            chance.randrange(1, 9999),
        )


def now_and_on() -> Iterator[float]:
    """Return the time, again and again."""
    while True:
        yield time.time()


def write_files(folder: Path, events: int, files: int, seed: int, days: float) -> int:
    """Write the last ``days``, in the order of time; return their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    begun, step = time.time() - days * 86400, days * 86400 / events
    source, size = lines(seed, (begun + step * number for number in range(events))), 0
    for index in range(files):
        text = "".join(next(source) for _ in range(events // files))
        (folder / f"events_{seed}_{index:05d}.jsonl").write_text(text)
        size += len(text)
    return size


def produce(path: Path, rate: int, seconds: float, seed: int, late: float) -> None:
    """Append ``rate`` events a second in 50 synced batches; print when each was synced."""
    source = lines(seed, now_and_on(), late)
    per_batch = max(rate // 50, 2)
    synced: list[float] = []
    begun = time.monotonic()
    with path.open("ab", buffering=0) as file:
        while (now := time.monotonic()) - begun < seconds:
            batch = [next(source) for _ in range(per_batch - 1)]
            mark = event(
                f"m-{seed}-{len(synced)}",
                MARK_ORG,
                f"{MARK_DAY}T12:00:00Z",
                "compute",
                "us-east",
                1,
            )
            file.write("".join([*batch, mark]).encode())
            os.fsync(file.fileno())
            synced.append(time.monotonic())
            pause = begun + len(synced) * per_batch / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
    json.dump(
        {"synced": synced, "events": len(synced) * per_batch, "late_s": now - begun}, sys.stdout
    )


def read(root: Path, seconds: float) -> None:
    """Ask for the marks until ``seconds`` pass; print when how many were first seen.

    Until the first one is there the question is refused, which says nothing of answers.
    """
    house = meterhouse.open(root)
    seen: list[tuple[float, int]] = []
    asked: list[float] = []
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        count = marks(house)
        now = time.monotonic()
        if count:
            asked.append(now - begun)
        if not seen or count > seen[-1][1]:
            seen.append((now, count))
        time.sleep(0.002)
    json.dump({"seen": seen, "asked": asked}, sys.stdout)


def marks(house: meterhouse.Project) -> int:
    """Return how many batches are in the answer."""
    try:
        answer = house.query("daily-cost", org=MARK_ORG, from_=MARK_DAY, to=MARK_DAY)
    except UsageError:
        return 0
    return sum(int(row["requests"]) for row in answer.table().to_pylist())


def delays(synced: list[float], seen: list[tuple[float, int]]) -> list[float]:
    """Return for each batch how long after its sync it was first seen; those never seen are not."""
    counts = [count for _, count in seen]
    found = []
    for number, when in enumerate(synced, 1):
        at = bisect.bisect_left(counts, number)
        if at < len(seen):
            found.append(seen[at][0] - when)
    return found


if __name__ == "__main__":
    what, path, *given = sys.argv[1:]
    if what == "produce":
        produce(Path(path), int(given[0]), float(given[1]), int(given[2]), float(given[3]))
    else:
        read(Path(path), float(given[0]))
