"""Three nodes that hold every row three times: one may die, two may not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.beside import LiveHouse
from e2e.following import append, followed, until, until_answered
from e2e.records import event, events
from e2e.test_one_position import FEW
from integration.replicas import Replicated, configured, until_replicated
from servers.cassandra import Node, own_cluster

CENTRE = "east"
REQUEST = {"value": 1, "metric": "requests"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with own_cluster(tmp_path_factory.mktemp("cluster"), dc=CENTRE) as found:
        yield found


@pytest.fixture(scope="module")
def replica(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    settings = {
        **nodes[0].settings(),
        "cassandra.hosts": ",".join(node.address for node in nodes),
        "cassandra.local_dc": CENTRE,
        "cassandra.consistency": "LOCAL_QUORUM",
        "cassandra.replication": f"network:{CENTRE}=3",
    }
    house = configured(tmp_path_factory.mktemp("nodes") / "house", settings, FEW)
    house.put("events_0.jsonl", events(1, 30, **REQUEST))
    house.batch_of_inbox()
    replica = Replicated(house, {})
    ran = replica.cli("serving", "sync")
    assert ran.code == 0, ran.err
    return replica


def asked(replica: Replicated) -> str:
    ran = replica.cli("query", "daily-cost", "--store", "cassandra", "--format", "csv")
    assert ran.code == 0, ran.err
    return ran.out


def test_one_of_three_dies_while_rows_arrive_and_nobody_sees_an_error(
    nodes: list[Node], replica: Replicated, record_property: Callable[[str, object], None]
) -> None:
    house, over = replica.house, threading.Event()
    assert isinstance(house, LiveHouse)
    path = house.inbox / "events_1.jsonl"
    problems: list[str] = []
    answers: list[str] = []

    def ask() -> None:
        while not over.is_set():
            ran = replica.cli("query", "daily-cost", "--store", "cassandra", "--format", "csv")
            answers.append(ran.out)
            problems.extend([ran.err] if ran.code else [])
            over.wait(0.5)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        with followed(house) as follow:
            for number in range(100, 160):
                append(path, event(number, org_id=f"o-{number % 7}", **REQUEST))
                if number == 120:
                    nodes[2].kill()
                time.sleep(0.1)
            until_answered(house, 90)
            until_replicated(house)
            assert not follow.said("replica_failed")
            assert not follow.said("replica_stopped")
    finally:
        over.set()
        asking.join()

    assert problems == []
    assert len(answers) > 5
    record_property("answers asked for", len(answers))
    assert asked(replica) == replica.cli("query", "daily-cost", "--format", "csv").out

    compared = replica.cli("serving", "compare")
    assert compared.code == 0, compared.out


def test_one_gone_no_rebuild_two_gone_a_clear_error_and_all_back_every_row(
    nodes: list[Node], replica: Replicated
) -> None:
    """TRUNCATE has to reach all nodes. Any worker may run this, after the test above or not."""
    before = asked(replica)
    nodes[2].kill()
    ran = replica.cli("serving", "rebuild")
    assert ran.code == 3, ran.err
    assert "takes every node, and 127.0.0.3 is away" in ran.err
    assert asked(replica) == before

    nodes[1].kill()
    lonely = Replicated(replica.house, {"cassandra.timeout": "2s"})
    ran = lonely.cli("query", "daily-cost", "--store", "cassandra")
    assert (ran.code, "can't be reached" in ran.err) == (3, True), ran.err
    assert lonely.cli("query", "daily-cost").code == 0

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(node.start) for node in nodes[1:]]:
            done.result()
    every = Replicated(replica.house, {"cassandra.consistency": "ALL"})
    until(lambda: every.cli("serving", "compare").code == 0, "all three nodes agree")
    assert replica.cli("serving", "rebuild").code == 0
    assert replica.compared().agrees
