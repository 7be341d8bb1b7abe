"""The replica in Cassandra: rows written and read, beside the driver alone; live delays; bytes.

    python bench/cassandra_replica.py --events 200000 --live-seconds 60

One local node of the project's own (``tools/servers/cassandra``), replication 1, consistency
ONE, ``commitlog_sync: batch``. "Driver alone" sends the same rows with the driver's own means:
its binding, its helper, no conversion and no retries of ours. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from live import PROGRAM, Follow, project, result, shares, start
from live_load import MARK_DAY, MARK_ORG, delays
from meterhouse.cli.replicas import opened_replica
from meterhouse.project import Project, open_project
from meterhouse.serving.cassandra.layout import CqlTable, quoted
from meterhouse.serving.cassandra.rows import Rows
from meterhouse.serving.cassandra.snapshot import CassandraSnapshot
from meterhouse.serving.cassandra.stamps import write_time
from meterhouse.serving.schema import Condition
from meterhouse.serving.snapshot import opened
from servers.cassandra import INSTALLED, SCRIPTS, Node, free_port, own_node

USAGE = "gold.org_daily_usage_by_service"
READS = 2000


@contextmanager
def replica(house: Project) -> Iterator[Any]:
    """Open the replica of what ``house`` serves."""
    details = house.answers.read(lambda snapshot: snapshot.served.details)
    with opened_replica(house, "cassandra", details) as found:
        yield found


def cpu_s() -> float:
    """Return the processor seconds of this process."""
    used = os.times()
    return used.user + used.system


def write_rates(house: Project) -> dict[str, Any]:
    """A whole synchronisation, and the same rows of one table by the driver alone."""
    with opened(house.root / "serving.db") as snapshot, replica(house) as kept:
        begun, used = time.monotonic(), cpu_s()
        report = kept.rebuild(snapshot)
        whole, whole_cpu = time.monotonic() - begun, cpu_s() - used
        rows = list(itertools.chain.from_iterable(snapshot.raw(snapshot.stored[USAGE], 5000)))
        table: CqlTable = kept.tables[USAGE][0]
        ours, bare = one_table(kept, table, rows, snapshot)
    return {
        "rows": report.rows,
        "rows_per_s": round(report.rows / whole),
        "rows_per_cpu_s": round(report.rows / whole_cpu),
        "one_table": {
            "rows": len(rows),
            "rows_per_s": round(len(rows) / ours),
            "driver_alone_rows_per_s": round(len(rows) / bare),
            "share_of_limit": round(bare / ours, 2),
        },
    }


def one_table(
    kept: Any, table: CqlTable, rows: Sequence[Any], snapshot: Any
) -> tuple[float, float]:
    """Return the seconds that we and the driver alone need for the rows of one table."""
    position = snapshot.served.stamp.position
    writer = Rows(kept.session, table)
    insert = kept.session.prepare(writer._insert)
    values: dict[tuple[Any, ...], list[list[Any]]] = defaultdict(list)
    for row in rows:
        bound = writer._bound(row)
        key = writer._key(bound)[: len(table.partition)]
        values[key].append([*bound, position, write_time(1, position)])
    ours, bare = [], []
    for _ in range(5):
        begun = time.monotonic()
        by_driver(kept.session.driver, insert, list(values.values()))
        bare.append(time.monotonic() - begun)
        begun = time.monotonic()
        writer.write(((row, position, False) for row in rows), 1)
        ours.append(time.monotonic() - begun)
    return sorted(ours)[2], sorted(bare)[2]


def by_driver(driver: Any, insert: Any, partitions: Sequence[Sequence[Sequence[Any]]]) -> None:
    """Write rows with nothing but the driver: bind, fifty of a partition together, 64 at once."""
    from cassandra.concurrent import execute_concurrent
    from cassandra.query import BatchStatement, BatchType

    batches = []
    for rows in partitions:
        for start_ in range(0, len(rows), 50):
            batch = BatchStatement(batch_type=BatchType.UNLOGGED)
            for row in rows[start_ : start_ + 50]:
                batch.add(insert.bind(row))
            batches.append((batch, ()))
    execute_concurrent(driver, batches, concurrency=64)


def read_delays(house: Project) -> dict[str, Any]:
    """A point and 31 days of one organisation, as questions read them and by the driver alone."""
    with replica(house) as kept:
        snapshot = CassandraSnapshot(kept.session)
        orgs = sorted(snapshot.distinct(USAGE, "org_id"))
        days = sorted(snapshot.distinct(USAGE, "usage_date"))
        columns = [column.name for column in snapshot.tables()[USAGE]]
        first, last = days[max(0, len(days) - 31)], days[-1]
        name = kept.tables[USAGE][0].name
        driver = kept.session.driver
        listed = ", ".join(map(quoted, columns))
        point = driver.prepare(
            f"SELECT {listed} FROM {name} WHERE org_id = ? AND usage_date = ? AND service = ?"
        )
        month = driver.prepare(
            f"SELECT {listed} FROM {name} WHERE org_id = ? AND usage_date >= ? AND usage_date <= ?"
        )

        def asked(conditions: Callable[[str], list[Condition]]) -> Callable[[str], int]:
            return lambda org: len(list(snapshot.scan(USAGE, columns, conditions(org))))

        ours_point = asked(
            lambda org: [
                Condition("org_id", "=", org),
                Condition("usage_date", "=", last.isoformat()),
                Condition("service", "=", "genai"),
            ]
        )
        ours_month = asked(
            lambda org: [
                Condition("org_id", "=", org),
                Condition("usage_date", ">=", first.isoformat()),
                Condition("usage_date", "<=", last.isoformat()),
            ]
        )
        found = {
            "point": (
                ours_point,
                lambda org: len(list(driver.execute(point, (org, last, "genai")))),
            ),
            "31 days": (
                ours_month,
                lambda org: len(list(driver.execute(month, (org, first, last)))),
            ),
        }
        return {
            what: {
                "ours": shares(timed(ours, orgs)),
                "driver_alone": shares(timed(bare, orgs)),
            }
            for what, (ours, bare) in found.items()
        }


def timed(action: Callable[[str], int], orgs: Sequence[str]) -> list[float]:
    """Return the seconds of each of many calls, one after another."""
    found = []
    for org in itertools.islice(itertools.cycle(orgs), READS):
        begun = time.monotonic()
        action(org)
        found.append(time.monotonic() - begun)
    return found


def live(house: Project, given: argparse.Namespace) -> dict[str, Any]:
    """From a producer's fsync to an answer from Cassandra, with ``follow`` replicating."""
    follow = Follow(house.root)
    follow.until(follow.live)
    time.sleep(10)
    path = house.root / "inbox" / "events_live.jsonl"
    producer = start("produce", path, given.rate, given.live_seconds, 2, 0.02)
    seen: list[tuple[float, int]] = []
    conditions = [
        Condition("org_id", "=", MARK_ORG),
        Condition("usage_date", "=", MARK_DAY),
    ]
    end = time.monotonic() + given.live_seconds + 10
    with replica(house) as kept:
        snapshot = CassandraSnapshot(kept.session)
        while time.monotonic() < end:
            counts = snapshot.scan(USAGE, ["event_count"], conditions)
            count = sum(int(found) for (found,) in counts)
            if not seen or count > seen[-1][1]:
                seen.append((time.monotonic(), count))
            time.sleep(0.002)
    made = result(producer)
    found = delays(made["synced"], seen)
    follow.stop()
    return {
        "events_per_s": round(made["events"] / made["late_s"]),
        "batches": len(made["synced"]),
        "never_seen": len(made["synced"]) - len(found),
        **shares(found),
    }


def nodetool(node: Node, jmx: int, *words: str) -> None:
    """Run one of the server's own commands."""
    home = INSTALLED / "cassandra"
    jars = ":".join(map(str, (home / "lib").glob("*.jar")))
    options = [f"@{SCRIPTS / 'jvm17.options'}", f"-Dcassandra.logdir={node.run}"]
    main_class = "org.apache.cassandra.tools.NodeTool"
    java = ["java", *options, f"-Duser.home={node.run}", "-cp", jars, main_class]
    subprocess.run([*java, "-p", str(jmx), *words], check=True, capture_output=True)


def bytes_per_row(house: Project, node: Node, jmx: int) -> dict[str, Any]:
    """What the rows take on disk once memtables are flushed, table by table."""
    with replica(house) as kept, opened(house.root / "serving.db") as snapshot:
        rows = {
            table.name: sum(len(part) for part in snapshot.raw(snapshot.stored[model], 5000))
            for model, tables in kept.tables.items()
            if model in snapshot.stored
            for table in tables
        }
        keyspace = kept.session.driver.keyspace
    nodetool(node, jmx, "flush", keyspace)
    found: dict[str, Any] = {}
    for folder in sorted(node.run.glob(f"data/{keyspace}/*")):
        name = folder.name.rpartition("-")[0]
        size = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
        if rows.get(name):
            found[name] = {"rows": rows[name], "bytes_per_row": round(size / rows[name], 1)}
    return found


def main() -> None:
    """Measure in a folder of its own, on a node of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--days", type=float, default=40)
    parser.add_argument("--rate", type=int, default=1000, help="events a second, live")
    parser.add_argument("--live-seconds", type=float, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meterhouse-cassandra-") as name:
        folder = Path(name)
        root = project(folder, given.events, given.days)
        jmx = free_port()
        with own_node(folder / "node", "--jmx", str(jmx)) as node:
            settings: Mapping[str, str] = {**node.settings(), "serving.replicas": "cassandra"}
            write_settings(root, settings)
            house = open_project(root)
            found = {"write": write_rates(house), "read": read_delays(house)}
            found["bytes"] = bytes_per_row(house, node, jmx)
            found["live"] = live(house, given)
    print(json.dumps(found, indent=1))


def write_settings(root: Path, settings: Mapping[str, str]) -> None:
    """Put settings into the project's file, where a follower's own processes find them."""
    text = (root / "meterhouse.toml").read_text("utf-8")
    for name, value in settings.items():
        section, _, key = name.partition(".")
        shown = value if value.isdecimal() else f'["{value}"]' if key in LISTS else f'"{value}"'
        head = f"[{section}]\n"
        assert head in text
        text = text.replace(head, f"{head}{key} = {shown}\n", 1)
    (root / "meterhouse.toml").write_text(text, "utf-8")


LISTS = ("hosts", "replicas")

if __name__ == "__main__":
    assert subprocess.run([*PROGRAM, "--version"], check=False).returncode == 0
    main()
