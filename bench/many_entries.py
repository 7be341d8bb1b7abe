"""A log of many small entries: what it costs with 1,000 behind, and with 1,000,000.

    python bench/many_entries.py build PROJECT --entries 1000000
    python bench/many_entries.py measure PROJECT
    python bench/many_entries.py compare --small 1000 --large 1000000
    python bench/many_entries.py day PROJECT

``build`` makes a project of one tiny event an entry, one a second: landed, judged, chained,
sealed and packed by the product's own parts, a thousand entries at a time and without an
fsync for each; all but the newest 900 are published. ``measure`` opens it, asks it, appends
to it and lets it recover, and counts what that takes of a store of objects. ``compare``
does both for two sizes, in turns, and prints the ratios. ``day`` makes an hour of entries and
four batches in a copy, and says what a day of it costs in files, bytes and operations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

import meterhouse
from meterhouse.intake.index import Keys, place_of
from meterhouse.intake.judge import Judged, Piece
from meterhouse.intake.lines import split, tree_root
from meterhouse.layers.speed import Speed
from meterhouse.log.apply import Apply, taken_of
from meterhouse.log.chain import Log
from meterhouse.log.commit import Committer
from meterhouse.log.entry import Entry, Input
from meterhouse.log.group import Group, parse_range
from meterhouse.log.growth import Growth
from meterhouse.log.judged import judged_bytes
from meterhouse.log.landing import Landing, parse_landed
from meterhouse.log.ranges import Range
from meterhouse.log.sealing import Sealing
from meterhouse.log.segments import SPAN
from meterhouse.log.state import Counted, JudgedFile, State, Taken
from meterhouse.ports import Blobs
from meterhouse.project import Project, open_project
from meterhouse.sources.files import discover
from meterhouse.storage.folder import FolderBlobs

SOURCE = "usage_events"
START = datetime(2025, 7, 1, tzinfo=UTC)
DAY = {"from_": "2025-07-01", "to": "2025-07-01"}
UNPUBLISHED = 900
"""Entries since the last batch: a quarter of an hour at one a second."""
PAGE = 1000
"""Names that one listing call of an object store returns."""
PARTS = ("landing", "log", "judged", "index", "lake", "serving.db")


def line(number: int) -> bytes:
    """Return the event of entry ``number``: one a second."""
    body = {
        "event_id": f"e-{number:012d}",
        "timestamp": (START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "org_id": f"org-{number % 7}",
        "resource_id": f"res-{number % 50}",
        "service": ("compute", "storage", "database", "networking")[number % 4],
        "region": "us-east",
        "metric": "requests",
        "value": 1,
        "unit": "count",
        "cost_usd_increment": 0.25,
        "schema_version": 1,
    }
    return json.dumps(body).encode() + b"\n"


class Hasty:
    """Small files stay in memory until they are sealed; nothing is synced."""

    def __init__(self, root: Path) -> None:
        self._disk = FolderBlobs(root)
        self._memory: dict[str, bytes] = {}

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Keep ``data`` unless ``name`` is there."""
        if name in self._memory:
            return False
        self.put(name, data)
        return True

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Keep ``data``."""
        if _small(name):
            self._memory[name] = data
        else:
            self._disk.put(name, data, durable=False)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes."""
        if name in self._memory:
            return self._memory[name][lo:hi]
        if _small(name):
            raise FileNotFoundError(name)
        return self._disk.read(name, lo, hi)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield names."""
        mine = [name for name in self._memory if name.startswith(f"{prefix}/") and name > after]
        yield from sorted([*mine, *self._disk.list(prefix, after=after)])

    def delete(self, name: str) -> None:
        """Remove ``name``."""
        if self._memory.pop(name, None) is None:
            self._disk.delete(name)

    def uri(self, name: str) -> str:
        """Return where it lies."""
        return self._disk.uri(name)

    def flush(self) -> None:
        """Write what is left."""
        for name, data in self._memory.items():
            self._disk.put(name, data, durable=False)
        self._memory.clear()


def _small(name: str) -> bool:
    return name.startswith(("log/0", f"landing/{SOURCE}/"))


class Counting:
    """Counts operations, as an object store would charge for them."""

    def __init__(self, blobs: Blobs) -> None:
        self.counts: Counter[str] = Counter()
        self._blobs = blobs

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Keep ``data`` unless ``name`` is there."""
        self.counts["put"] += 1
        return self._blobs.put_if_absent(name, data)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Keep ``data``."""
        self.counts["put"] += 1
        self._blobs.put(name, data, durable=durable)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes."""
        try:
            data = self._blobs.read(name, lo, hi)
        except FileNotFoundError:
            self.counts["get, not there"] += 1
            raise
        self.counts["get"] += 1
        return data

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield names."""
        for number, name in enumerate(self._blobs.list(prefix, after=after)):
            if number % PAGE == 0:
                self.counts["list"] += 1
            yield name

    def delete(self, name: str) -> None:
        """Remove ``name``."""
        self.counts["delete"] += 1
        self._blobs.delete(name)

    def uri(self, name: str) -> str:
        """Return where it lies."""
        return self._blobs.uri(name)


class Bulk(Apply):
    """Applies the entries of a range at once."""

    def take_range(
        self, entries: Sequence[Entry], table: pa.Table, keys: Keys, taken: Sequence[Taken]
    ) -> None:
        """Apply ``entries``, whose judged rows lie in one joined file."""
        data = judged_bytes(table)
        first, last = entries[0].position, entries[-1].position
        digest = hashlib.sha256(data).hexdigest()
        file = JudgedFile(last, SOURCE, table.num_rows, len(data), digest, first)
        self._blobs.put(file.path, data)
        self._index(SOURCE, "keys").add(keys)
        counted = [Counted(SOURCE, one.position, one.ingest_ts, one.counts) for one in entries]
        self._state.stage([*taken, file, *counted])
        self._at = self._log.stamp(entries[-1])
        self.checkpoint()


class Builder:
    """Makes the log of a project, and the views of ingest."""

    def __init__(self, house: Project) -> None:
        self.blobs = Hasty(house.root)
        self.log = Log(self.blobs)
        self.state = State.open(house.root / "index" / "state.db")
        self.apply = Bulk(
            self.blobs, self.log, self.state, house.engine, index_folder=house.root / "index"
        )
        self.contract = house.contracts[SOURCE]
        self.sealing = Sealing(self.blobs, self.log)
        self._landing = Landing(self.blobs)
        self._number = 0
        self._hi: dict[str, int] = {}
        self._lines: dict[str, int] = {}

    def clock(self) -> datetime:
        """Return the virtual time: one second an entry."""
        return START + timedelta(days=60, seconds=self._number)

    def range(self, count: int) -> None:
        """Append the next ``count`` events, an entry each, judged at once."""
        stamp, head = self.log.stamp(), self.log.head()
        assert head is not None
        items = self._next(count)
        time = self.clock()
        parsed = parse_landed(items, self.contract)
        pieces = [
            Piece(item.file, one, False, False)
            for (item, _), one in zip(items, parsed, strict=True)
        ]
        judged = self.apply.judge(
            SOURCE, pieces, self.contract, position=stamp.position + 1, ingest_ts=time
        )
        assert judged.counts["accepted"] == count, judged.counts
        entries, previous = [], stamp.head
        for number, (item, data) in enumerate(items):
            entry = replace(
                head,
                position=stamp.position + 1 + number,
                previous=previous,
                ingest_ts=time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                object=self._landing.land(SOURCE, data),
                inputs=(item,),
            )
            assert self.log.append(entry)
            entries.append(entry)
            previous = self.log.stamp(entry).head
        positions = np.arange(stamp.position + 1, stamp.position + 1 + count)
        self.apply.take_range(
            entries,
            _spread(judged, positions),
            _keys(judged, positions),
            [
                taken_of(entry, item, ends_newline=True, versioned=False)
                for entry, (item, _) in zip(entries, items, strict=True)
            ],
        )

    def _next(self, count: int) -> list[tuple[Input, bytes]]:
        found = []
        for _ in range(count):
            self._number += 1
            data = line(self._number)
            file = f"inbox/events-{self._number // 86400:04d}.jsonl"
            lo = self._hi.get(file, 0)
            number = self._lines.get(file, 0) + 1
            root = tree_root(data, split(data))
            item = Input(file, lo, lo + len(data), number, 1, 1, 0, root, 0, len(data))
            self._hi[file], self._lines[file] = lo + len(data), number
            found.append((item, data))
        return found


def _spread(judged: Judged, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Table:
    """Return the rows as those of one entry each."""
    table = judged.table
    for name, values in (
        ("log_position", positions),
        ("row_number", np.zeros(len(positions), np.int64)),
    ):
        at = table.schema.get_field_index(name)
        column = pa.array(values).cast(table.schema.field(name).type)
        table = table.set_column(at, table.schema.field(name), column)
    return table.combine_chunks()


def _keys(judged: Judged, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Keys:
    changes = judged.key_changes
    rows = (changes.place & np.uint64(0xFFFFFFFF)).astype(np.int64)
    place = positions[rows].astype(np.uint64) << np.uint64(32)
    assert place_of(int(positions[0]), np.zeros(1, np.int64))[0] == place.min()
    return Keys(changes.ids, changes.payload, place)


class Live:
    """What ``meterhouse follow`` does for each line, without its loop."""

    def __init__(
        self, house: Project, log: Log, state: State, apply: Apply, blobs: Blobs, name: str
    ) -> None:
        self.path = house.root / "inbox" / name
        self.path.touch()
        self.apply, self.state = apply, state
        self._contract = house.contracts[SOURCE]
        committer = Committer(blobs, log, state, apply, house.clock, lambda: "many")
        found = discover([self.path], house.contracts, SOURCE, project=house.root)
        self._growth = Growth(found.files[0], state)
        self._group = Group(committer, self._contract, 1 << 20, self._committed)

    def append(self, data: bytes) -> None:
        """Write ``data`` to the file that is followed, and take it."""
        with self.path.open("ab") as file:
            file.write(data)
        for part in self._growth.ranges(1 << 20, tail=False):
            assert isinstance(part, Range)
            self._group.add(part, parse_range(part, self._contract))
        self._group.commit()

    def _committed(self, entries: Sequence[Entry], ranges: Sequence[Range]) -> None:
        for part in ranges:
            self._growth.took(part)


def build(root: Path, entries: int) -> None:
    """Make the project at ``root``."""
    program = str(Path(sys.executable).with_name("meterhouse"))
    subprocess.run([program, "init", str(root)], check=True, capture_output=True)
    for path in (root / "contracts").glob("*.yaml"):
        if path.stem != SOURCE:
            path.unlink()
    reduced(root)
    house = meterhouse.open(root)
    builder = Builder(house)
    then = open_project(root, clock=builder.clock)
    live = Live(then, builder.log, builder.state, builder.apply, builder.blobs, "first.jsonl")
    live.append(line(0))
    published = entries - UNPUBLISHED
    begun = time.monotonic()
    while (position := builder.log.stamp().position) < published:
        last = min(SPAN.of(position + 1)[1], published)
        builder.range(last - position)
        for _ in builder.sealing.steps():
            pass
        if last % 100_000 == 0:
            print(f"  {last:,} entries after {time.monotonic() - begun:.0f} s", file=sys.stderr)
    builder.state.note("joined", published // SPAN.entries * SPAN.entries)
    builder.state.note("published", published)
    builder.blobs.flush()
    builder.state.close()
    house.batch()
    with opened(house, house.blobs) as now:
        for number in range(entries - published):
            now.live.append(line(entries + number))
            for _ in now.sealing.steps():
                pass
        now.apply.checkpoint()
        now.speed.catch_up(now.apply.stamp())


def reduced(root: Path) -> None:
    """Leave only what is made of events alone."""
    (root / "alerts.yaml").unlink()
    for path in (root / "models").rglob("*.sql"):
        if path.stem not in ("usage", "org_daily_usage_by_service", "usage_by_5min"):
            path.unlink()
    for path in (root / "models" / "tests").glob("*"):
        path.unlink()


@dataclass
class Opened:
    """The parts of a running follower."""

    log: Log
    state: State
    apply: Apply
    speed: Speed
    live: Live
    sealing: Sealing


@contextmanager
def opened(house: Project, blobs: Blobs) -> Iterator[Opened]:
    """Open a project as ``meterhouse follow`` does."""
    log = Log(blobs)
    state = State.open(house.root / "index" / "state.db")
    apply = Apply(blobs, log, state, house.engine, index_folder=house.root / "index")
    apply.catch_up()
    speed = house._speed(log, state)
    live = Live(house, log, state, apply, blobs, "live.jsonl")
    try:
        yield Opened(log, state, apply, speed, live, Sealing(blobs, log))
    finally:
        speed.close()
        state.close()


def timed(action: Callable[[], object], times: int) -> dict[str, float]:
    """Run ``action`` so often; return medians in milliseconds, and the slowest."""
    wall, cpu = [], []
    for _ in range(times):
        began, began_cpu = time.perf_counter(), time.process_time()
        action()
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - began_cpu))
    return {
        "wall ms": round(statistics.median(wall), 2),
        "CPU ms": round(statistics.median(cpu), 2),
        "slowest ms": round(max(wall), 1),
    }


def measure(root: Path, *, entries: int) -> dict[str, object]:
    """Return what it costs to open, ask, follow and recover."""
    house = meterhouse.open(root)
    found: dict[str, object] = {"entries behind": house.head}
    blobs = Counting(house.blobs)

    def open_all() -> None:
        with opened(house, blobs) as now:
            now.apply.judge  # noqa: B018

    found["open"] = timed(open_all, 15)
    found["answer"] = timed(lambda: house.query("daily-cost", org="org-1", **DAY), 50)
    found["read"] = timed(lambda: house.read("gold.org_daily_usage_by_service", limit=1), 9)
    found["status"] = timed(house.status, 3)
    number = 10_000_000 + house.head
    with opened(house, blobs) as now:
        now.speed.catch_up(now.apply.stamp())

        def follow() -> None:
            nonlocal number
            number += 1
            now.live.append(line(number))
            now.speed.catch_up(now.apply.stamp())

        timed(follow, 20)
        blobs.counts.clear()
        found["follow an entry"] = timed(follow, entries)
        found["operations an entry"] = {
            name: round(count / entries, 2) for name, count in sorted(blobs.counts.items())
        }
    blobs.counts.clear()
    open_all()
    found["operations to open"] = dict(sorted(blobs.counts.items()))
    found["recover"] = _middle([recovered(root, house) for _ in range(5)])
    found["follow again"] = _middle([followed_again(root, house) for _ in range(3)])
    return found


def crash(root: Path) -> None:
    """Take eight entries, the last ones not even applied to the answers, and die."""
    house = meterhouse.open(root)
    with opened(house, house.blobs) as now:
        for number in range(8):
            now.live.append(line(20_000_000 + 10 * house.head + number))
            if number < 4:
                now.speed.catch_up(now.apply.stamp())
        os.kill(os.getpid(), signal.SIGKILL)


def recovered(root: Path, house: Project) -> dict[str, float]:
    """Return what it costs to go on after a kill: eight entries are not in the views."""
    died = subprocess.run([sys.executable, __file__, "crash", str(root)], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()

    def recover() -> None:
        with opened(house, house.blobs) as now:
            now.speed.catch_up(now.apply.stamp())

    took = timed(recover, 1)
    assert house.query("daily-cost", org="org-1", **DAY).as_of.position == house.head
    return took


def followed_again(root: Path, house: Project) -> dict[str, float]:
    """Kill ``meterhouse follow`` with no notice; return the time until a new one is live.

    From the start of the program to an answer that counts a line written in between.
    """
    path = root / "inbox" / "events-again.jsonl"
    command = [str(Path(sys.executable).with_name("meterhouse")), "follow", str(path)]
    environment = {**os.environ, "METERHOUSE_PROJECT": str(root)}
    took, cpu = 0.0, 0.0
    for _ in range(2):
        with path.open("ab") as file:
            file.write(line(30_000_000 + 10 * house.head))
        before, begun = house.head, time.perf_counter()
        follower = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while house.query("daily-cost", org="org-1", **DAY).as_of.position <= before:
            assert follower.poll() is None
            time.sleep(0.002)
        took = 1000 * (time.perf_counter() - begun)
        follower.send_signal(signal.SIGKILL)
        used = os.wait4(follower.pid, 0)[2]
        cpu = 1000 * (used.ru_utime + used.ru_stime)
        follower.returncode = -signal.SIGKILL
    return {"wall ms": round(took, 1), "CPU ms": round(cpu, 1), "slowest ms": round(took, 1)}


def _middle(found: list[dict[str, float]]) -> dict[str, float]:
    middle = {unit: statistics.median(one[unit] for one in found) for unit in found[0]}
    return {**middle, "slowest ms": max(one["slowest ms"] for one in found)}


def day(root: Path, entries: int) -> dict[str, object]:
    """Return what a day of one entry a second leaves and asks of a store, from a part of it.

    With a batch each quarter of an hour, sealing and joining included. What the engine reads
    of tables is not counted: it opens files by itself.
    """
    with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as aside:
        copy = Path(aside) / "project"
        shutil.copytree(root, copy)
        house = meterhouse.open(copy)
        blobs = house.blobs = Counting(house.blobs)
        start, number = 40_000_000 + 10 * house.head, 0
        house.batch()
        before = sizes(copy)
        blobs.counts.clear()
        while number < entries:
            with opened(house, blobs) as now:
                for _ in range(UNPUBLISHED):
                    number += 1
                    now.live.append(line(start + number))
                    now.speed.catch_up(now.apply.stamp())
                    for _ in now.sealing.steps():
                        pass
                    if number % 16 == 0:
                        now.apply.checkpoint()
                now.apply.checkpoint()
            house.batch()
        after = sizes(copy)
    scale = 86_400 / number
    return {
        "entries": number,
        "operations a day": {
            name: round(count * scale) for name, count in sorted(blobs.counts.items())
        },
        "more files and bytes after these entries": {
            part: [after[part][0] - before[part][0], after[part][1] - before[part][1]]
            for part in PARTS
        },
    }


def sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Return files and bytes by part."""
    found = {}
    for part in PARTS:
        start = root / part
        paths = [start] if start.is_file() else [one for one in start.rglob("*") if one.is_file()]
        found[part] = len(paths), sum(path.stat().st_size for path in paths)
    return found


def compare(small: int, large: int, rounds: int, entries: int, folder: Path) -> None:
    """Build both, measure them in turns, print figures and ratios."""
    roots = {size: folder / f"{size}" for size in (small, large)}
    for size, root in roots.items():
        if not root.exists():
            build(root, size)
        print(f"{size:,} entries:", json.dumps(sizes(root)))
    runs: dict[int, list[dict[str, dict[str, float]]]] = {small: [], large: []}
    for _ in range(rounds):
        for size, root in roots.items():
            command = [sys.executable, __file__, "measure", str(root), "--follow", str(entries)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[size].append(json.loads(done.stdout))
    names = ("open", "answer", "read", "status", "follow an entry", "recover", "follow again")
    for name in names:
        for unit in ("CPU ms", "wall ms"):
            values = {
                size: statistics.median(run[name][unit] for run in found)
                for size, found in runs.items()
            }
            ratio = values[large] / values[small]
            print(f"{name:16} {unit}: {values[small]:8.2f} {values[large]:8.2f}  {ratio:.2f}")
    for name in ("operations an entry", "operations to open"):
        for size, found in runs.items():
            print(f"{name}, {size:,}: {json.dumps(found[-1][name])}")


def main() -> None:
    """Build, measure or compare."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("build")
    made.add_argument("root", type=Path)
    made.add_argument("--entries", type=int, default=1_000_000)
    measured = commands.add_parser("measure")
    measured.add_argument("root", type=Path)
    measured.add_argument("--follow", type=int, default=200)
    commands.add_parser("crash").add_argument("root", type=Path)
    lived = commands.add_parser("day")
    lived.add_argument("root", type=Path)
    lived.add_argument("--entries", type=int, default=3600)
    compared = commands.add_parser("compare")
    compared.add_argument("--small", type=int, default=1000)
    compared.add_argument("--large", type=int, default=1_000_000)
    compared.add_argument("--rounds", type=int, default=5)
    compared.add_argument("--follow", type=int, default=200)
    compared.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.command == "build":
        build(given.root, given.entries)
    elif given.command == "measure":
        print(json.dumps(measure(given.root, entries=given.follow)))
    elif given.command == "crash":
        crash(given.root)
    elif given.command == "day":
        print(json.dumps(day(given.root, given.entries), indent=1))
    else:
        with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as aside:
            folder = given.folder or Path(aside)
            compare(given.small, given.large, given.rounds, given.follow, folder)


if __name__ == "__main__":
    main()
