"""How live is live: from a producer's fsync to another process's answer, and what it costs.

    python bench/live.py latency --rate 1000 --seconds 300 --history 1000000
    python bench/live.py latency --rate 1000 --seconds 120 --batch-every 20s
    python bench/live.py drain --events 5000000
    python bench/live.py recovery --rate 20000
    python bench/live.py growth --history 50000
    python bench/live.py backfill --events 2000000
    python bench/live.py memory --events 10000000

Producer, follower and reader are three processes; the reader is a long-lived Python program
that asks a question (``Project.query``) again and again. Each command prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import meterhouse
from live_load import delays, marks, write_files
from meterhouse.follow.standing import read_standing

LOAD = [sys.executable, str(Path(__file__).with_name("live_load.py"))]
PROGRAM = [sys.executable, "-m", "meterhouse"]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Follow:
    """A follower of one project."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.root = root
        self.log = (root.parent / "follow.log").open("a")
        command = [*PROGRAM, "--project", str(root), "follow", *arguments]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stderr=self.log)

    def cpu_s(self) -> float:
        """Processor seconds that it used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def memory_mb(self) -> int:
        """The most memory that it ever had; 0 when it has ended."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", text)
        return int(found[1]) // 1024 if found is not None else 0

    def until(self, true: Callable[[], bool], seconds: float = 3600) -> float:
        """Wait until ``true``; return how long that was since it began."""
        while not true():
            assert self.process.poll() is None, "the follower has ended: see follow.log"
            assert time.monotonic() - self.begun < seconds, "it takes too long"
            time.sleep(0.01)
        return time.monotonic() - self.begun

    def landed(self) -> int:
        """Records that it has taken, as it says itself once a second."""
        found = read_standing(self.root)
        return found.landed if found is not None and found.pid == self.process.pid else 0

    def live(self) -> bool:
        """Whether everything noticed is in the answers."""
        found = read_standing(self.root)
        mine = found is not None and found.pid == self.process.pid
        return mine and found.served == found.position and not found.lag_bytes

    def stop(self) -> None:
        """End it cleanly."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) == 0
        self.log.close()


def project(folder: Path, history: int, days: float = 28) -> Path:
    """Make a project with ``history`` events behind it, published."""
    root = folder / "project"
    run("init", str(root))
    (root / "inbox").mkdir(exist_ok=True)
    if history:
        write_files(folder / "history", history, max(history // 50_000, 1), 1, days)
        run("--project", str(root), "ingest", str(folder / "history"))
        run("--project", str(root), "batch")
        shutil.rmtree(folder / "history")
    return root


def run(*arguments: str) -> None:
    """Run the program to its end."""
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def children_cpu_s() -> float:
    """Return the processor seconds of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start(what: str, *arguments: object) -> subprocess.Popen[str]:
    """Start the producer or the reader."""
    command = [*LOAD, what, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> Any:
    """Wait for its end; return what it printed."""
    return json.loads(process.communicate()[0])


def shares(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the largest, in milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return {}
    places = {"p50": len(ordered) // 2, "p99": int(len(ordered) * 0.99), "max": len(ordered) - 1}
    return {f"{name}_ms": round(ordered[at] * 1000, 1) for name, at in places.items()}


def measure(root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Produce beside a follower that runs; return delays as a reader saw them."""
    reader = start("read", root, given.seconds + 5)
    time.sleep(1)
    live = root / "inbox" / "events_live.jsonl"
    producer = start("produce", live, given.rate, given.seconds, 2, given.late)
    made, saw = result(producer), result(reader)
    found = delays(made["synced"], saw["seen"])
    return {
        "events_per_s": round(made["events"] / made["late_s"]),
        "batches": len(made["synced"]),
        "never_seen": len(made["synced"]) - len(found),
        **shares(found),
        "question": shares(saw["asked"]),
    }


def latency(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Delays at one rate."""
    root = project(folder, given.history, given.days)
    follow = Follow(root, *(["--batch-every", given.batch_every] if given.batch_every else []))
    follow.until(follow.live)
    before = follow.cpu_s()
    found = measure(root, given)
    cpu = follow.cpu_s() - before
    more = {"history": given.history, "cpu_s": round(cpu, 1), "memory_mb": follow.memory_mb()}
    follow.stop()
    return {**found, **more}


def drain(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """A backlog from nothing: how fast, and on how much processor."""
    root = project(folder, 0)
    files = max(given.events // 100_000, 1)
    size = write_files(root / "inbox", given.events, files, 1, given.days)
    events = given.events // files * files
    before = children_cpu_s()
    follow = Follow(root, "--once")
    memory = 0
    while follow.process.poll() is None:
        memory = max(memory, follow.memory_mb())
        time.sleep(0.05)
    assert follow.process.returncode == 0, "the follower failed: see follow.log"
    wall = time.monotonic() - follow.begun
    cpu = children_cpu_s() - before
    return {
        "events": events,
        "days": given.days,
        "bytes": size,
        "wall_s": round(wall, 1),
        "events_per_s": round(events / wall),
        "events_per_cpu_s": round(events / cpu),
        "memory_mb": memory,
    }


def recovery(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Killed under load and started again: until the answers go on, until they are live."""
    root = project(folder, given.history, given.days)
    house = meterhouse.open(root)
    path = root / "inbox" / "events_live.jsonl"
    producer = start("produce", path, given.rate, 5 + 10 * given.kills, 2, given.late)
    found = []
    follow = Follow(root)
    for _ in range(given.kills):
        time.sleep(4)
        follow.process.kill()
        follow.process.wait()
        before = marks(house)
        time.sleep(1)
        follow = Follow(root)
        first = follow.until(lambda before=before: marks(house) > before)  # type: ignore[misc]
        found.append((first, follow.until(follow.live)))
    producer.communicate()
    follow.stop()
    return {
        "first_new_answer_s": [round(first, 2) for first, _ in found],
        "live_s": [round(live, 2) for _, live in found],
    }


def growth(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The same load with a history and with a hundred times that."""
    found = {}
    for history in (given.history, 100 * given.history):
        part = folder / str(history)
        part.mkdir()
        given.history = history
        found[str(history)] = latency(part, given)
    small, large = (one["p99_ms"] for one in found.values())
    return {**found, "ratio_of_p99": round(large / small, 2)}


def backfill(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """A year handed over while live events go on; and the same alone."""
    root = project(folder, 0)
    files = max(given.events // 100_000, 1)
    for seed in (5, 6):
        write_files(folder / f"history{seed}", given.events, files, seed, given.days)
    begun = time.monotonic()
    follow = Follow(root)
    follow.until(follow.live)
    begun = time.monotonic()
    run("--project", str(root), "ingest", str(folder / "history5"))
    alone = time.monotonic() - begun
    asking = subprocess.Popen(
        [*PROGRAM, "--project", str(root), "ingest", str(folder / "history6")],
        stdout=subprocess.DEVNULL,
    )
    begun = time.monotonic()
    ended: list[float] = []
    reader = start("read", root, given.seconds + 5)
    time.sleep(1)
    live = root / "inbox" / "events_live.jsonl"
    producer = start("produce", live, given.rate, given.seconds, 2, given.late)
    while asking.poll() is None:
        time.sleep(0.02)
    ended.append(time.monotonic())
    made, saw = result(producer), result(reader)
    during = [when for when in made["synced"] if when < ended[0]]
    found = delays(during, saw["seen"])
    beside = ended[0] - begun
    follow.stop()
    return {
        "alone_events_per_s": round(given.events / alone),
        "beside_events_per_s": round(given.events / beside),
        "share_of_speed": round(alone / beside, 2),
        "live_during": {"batches": len(during), **shares(found)},
        "live_all": shares(delays(made["synced"], saw["seen"])),
    }


def memory(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The most memory a follower ever had, after so many events."""
    root = project(folder, 0)
    follow = Follow(root)
    rest, seed = given.events, 10
    while rest > 0:
        write_files(root / "inbox", min(rest, 1_000_000), 10, seed, given.days)
        rest, seed = rest - 1_000_000, seed + 1
    follow.until(lambda: follow.landed() >= given.events and follow.live())
    found = {"events": given.events, "memory_mb": follow.memory_mb()}
    follow.stop()
    return found


COMMANDS = (latency, drain, recovery, growth, backfill, memory)


def main() -> None:
    """Measure one thing in a folder of its own; print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=[command.__name__ for command in COMMANDS])
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--history", type=int, default=0, help="events that are published before")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--late", type=float, default=0.02, help="share that is weeks late")
    parser.add_argument("--days", type=float, default=1, help="event time of what lies ready")
    parser.add_argument("--batch-every", default="", help="with batches beside it, as 20s")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; kept when given")
    given = parser.parse_args()
    command = next(one for one in COMMANDS if one.__name__ == given.what)
    if given.folder is not None:
        given.folder.mkdir(parents=True)
        print(json.dumps(command(given.folder, given), indent=1))
        return
    with tempfile.TemporaryDirectory(prefix="meterhouse-live-") as folder:
        print(json.dumps(command(Path(folder), given), indent=1))


if __name__ == "__main__":
    main()
