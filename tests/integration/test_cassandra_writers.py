"""Two writers at once, killed again and again: one replica comes of it, without ghosts."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.records import INVOICES, event
from integration.replicas import Replicated
from meterhouse.log.lock import held
from meterhouse.serving.cassandra.layout import CqlTable
from meterhouse.serving.cassandra.replica import Replica
from meterhouse.serving.cassandra.rows import Rows
from servers.cassandra import Node

MODELS = (
    "gold.cost_anomaly_mart",
    "gold.finops_by_org_day",
    "gold.revenue_by_org_month",
    "gold.usage_by_5min",
)
KILLS = 20
GONE = ("o-2", "2025-06-01")
"""Organisation and month of an invoice before its correction."""


def usage(first: int, last: int) -> str:
    """Events of many organisations and days."""
    return "".join(
        event(
            number,
            org_id=f"o-{number % 23}",
            timestamp=f"2025-07-{1 + number % 19:02d}T10:{number % 60:02d}:00Z",
        )
        for number in range(first, last + 1)
    )


def moved(org: str, month: str) -> str:
    return f"{INVOICES}i-1,{org},{month},10,,1,EUR,1.1\n"


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[LiveHouse]:
    """One project at three positions; the last one has forgotten what went before its batch."""
    folder = tmp_path_factory.mktemp("stages")
    house = LiveHouse.new(folder / "house", models=MODELS)

    def kept(name: str) -> LiveHouse:
        return LiveHouse(Path(shutil.copytree(house.root, folder / name)))

    house.put("events_1.jsonl", usage(1, 300))
    house.put("billing_monthly_1.csv", moved(*GONE))
    house.batch_of_inbox()
    first = kept("first")
    house.put("events_2.jsonl", usage(290, 400))
    house.put("billing_monthly_2.csv", moved("o-1", "2025-07-01"))
    house.live()
    second = kept("second")
    house.batch()
    house.put("events_3.jsonl", usage(395, 450))
    house.live()
    return [first, second, kept("third")]


@pytest.fixture(scope="module")
def truth(stages: list[LiveHouse], cassandra_node: Node) -> object:
    replica = Replicated(stages[-1], cassandra_node.settings())
    assert replica.cli("serving", "sync").code == 0
    return replica.contents()


class Late(Replica):
    """A replica whose writer is held up before it writes its first row."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def writer(self, table: CqlTable) -> Rows:
        self.meanwhile()
        self.meanwhile = lambda: None
        return super().writer(table)


@pytest.mark.parametrize("stage", [0, 1], ids=["with a row that went", "without it"])
def test_a_writer_that_was_held_up_leaves_no_row_of_before(
    stages: list[LiveHouse], cassandra_node: Node, truth: object, stage: int
) -> None:
    settings = cassandra_node.settings()
    older, newer = (Replicated(one, settings) for one in (stages[stage], stages[-1]))
    with older.both() as (kept, snapshot):
        late = Late(kept.session, kept.tables)
        late.meanwhile = lambda: newer.cli("serving", "sync")
        late.sync(snapshot)
    ghosts = newer.contents() != truth

    ran = newer.cli("serving", "sync")

    assert "(two writers wrote at once)" in ran.out
    assert ghosts == (stage == 0)
    assert newer.contents() == truth
    assert newer.cli("serving", "sync").out.startswith("nothing new")


def test_a_late_one_that_finds_another_one_further_writes_nothing(
    stages: list[LiveHouse], cassandra_node: Node, truth: object
) -> None:
    settings = cassandra_node.settings()
    older, newer = (Replicated(one, settings) for one in (stages[0], stages[-1]))

    class Beginning(Replica):
        def begin(self) -> str:
            newer.cli("serving", "sync")
            return super().begin()

    with older.both() as (kept, snapshot):
        late = Beginning(kept.session, kept.tables)
        late.in_log = lambda _: True
        report = late.sync(snapshot)

    assert (report.rows, report.gone) == (0, 0)
    assert newer.contents() == truth
    assert newer.cli("serving", "sync").out.startswith("nothing new")


def test_two_writers_killed_while_they_write_and_run_again(
    stages: list[LiveHouse],
    cassandra_node: Node,
    truth: object,
    record_property: Callable[[str, object], None],
) -> None:
    settings, chance = cassandra_node.settings(), random.Random(7)
    replicas = [Replicated(one, settings) for one in stages]
    killed = whole = 0
    for number in range(KILLS):
        if number % 5 == 0:
            replicas[0].cli("serving", "rebuild")
        pair = chance.sample(replicas, 2)
        running = [one.house.program(*one.arguments("serving", "sync")) for one in pair]
        until_writing(pair[0].house, running[0])
        time.sleep(chance.uniform(0, 0.8))
        killed += running[0].poll() is None
        running[0].kill()
        whole += running[1].wait(120) == 0
        for process in running:
            process.communicate()

    record_property("killed while it wrote", killed)
    record_property("the other one ended well", whole)
    assert killed > KILLS // 2
    assert whole > 0
    last = replicas[-1]
    while not (ran := last.cli("serving", "sync")).out.startswith("nothing new"):
        assert ran.code == 0, ran.err
    assert last.compared().agrees, last.compared().shown
    assert last.contents() == truth


def until_writing(house: LiveHouse, process: subprocess.Popen[str]) -> None:
    lock = house.root / ".locks" / "replica-cassandra.writing"
    end = time.monotonic() + 60
    while process.poll() is None and not held(lock):
        assert time.monotonic() < end
        time.sleep(0.002)
