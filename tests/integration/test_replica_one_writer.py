"""One process of a project at a time writes to a replica; the others wait, and hear signals."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.following import until
from e2e.records import event
from e2e.test_one_position import FEW, first
from integration.data_api_replicas import STORE, InApi, replica_of
from integration.replicas import configured, until_replicated
from meterhouse.config import FORMS
from meterhouse.follow.keeping import read_replica
from meterhouse.log.lock import one_writer
from servers.cassandra import Node
from servers.data_api import StandIn, stand_in

ALL = {
    "sync": ("serving", "sync", *STORE),
    "rebuild": ("serving", "rebuild", *STORE),
    "batch": ("batch",),
    "follow --once": ("follow", "--once"),
}
"""Every command that writes to a replica and ends by itself."""


@pytest.fixture(scope="module")
def api(cassandra_node: Node) -> Iterator[StandIn]:
    with stand_in(cassandra_node) as found:
        yield found


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    made = configured(tmp_path / "house", {"serving.replicas": "astra"}, FEW)
    first(made)
    made.batch_of_inbox()
    return made


@pytest.fixture
def mine(house: LiveHouse, api: StandIn) -> InApi:
    return replica_of(house, api, FORMS[0])


def lock(house: LiveHouse, which: str = ".writing") -> Path:
    return house.root / ".locks" / f"replica-astra{which}"


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out + err


@contextmanager
def kept(mine: InApi) -> Iterator[subprocess.Popen[str]]:
    """A keeper of the replica, as ``follow`` starts it."""
    process = mine.program("serving", "sync", "--follow", *STORE)
    try:
        yield process
    finally:
        process.terminate()
        ended(process)


def test_who_comes_second_waits_and_asks_for_nothing(
    house: LiveHouse, mine: InApi, api: StandIn
) -> None:
    with one_writer(lock(house)):
        before = len(api.rows.seen)
        running = {name: mine.program(*words) for name, words in ALL.items()}
        time.sleep(4)
        assert {name: one.poll() for name, one in running.items()} == dict.fromkeys(ALL)
        with kept(mine):
            until(lambda: read_replica(house.root, "astra") is not None, "the keeper waits, too")
            time.sleep(1)
            assert len(api.rows.seen) == before

    said = {name: ended(process) for name, process in running.items()}
    assert "warning" not in "".join(said.values())
    assert mine.compared().agrees
    assert "nothing new" in mine.serving("sync").out


@pytest.mark.parametrize("which", ["", ".writing"], ids=["another keeper", "another writer"])
def test_a_keeper_that_waits_ends_when_it_is_told_to(
    house: LiveHouse, mine: InApi, which: str
) -> None:
    with one_writer(lock(house, which)):
        waiting = mine.program("serving", "sync", "--follow", *STORE)
        time.sleep(3)
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        ended(waiting)

    assert time.monotonic() - begun < 5


def test_a_keeper_that_waited_for_a_newer_writer_goes_on_from_there(
    house: LiveHouse, mine: InApi
) -> None:
    """It looks where the answers stand when it is its turn, not when it begins to wait."""
    with kept(mine):
        until_replicated(house, "astra")
        with one_writer(lock(house)):
            house.put("events_8.jsonl", event(98))
            house.live()
            time.sleep(1)
            name = "models/gold/finops_by_org_day.sql"
            house.edit(name, "daily.org_id::VARCHAR", "concat(daily.org_id, '!')::VARCHAR")
            house.edit(name, "BY daily.org_id", "BY concat(daily.org_id, '!')")
            house.batch()
            with mine.both() as (replica, snapshot):
                before, report = replica.position(), replica.rebuild(snapshot)
                after = replica.position()
        house.put("events_9.jsonl", event(99))
        house.live()
        until_replicated(house, "astra")
        standing = read_replica(house.root, "astra")

    assert before is not None
    assert after is not None
    assert (report.why, after.generation > before.generation) == ("made anew", True)
    assert standing is not None
    assert standing.failure is None
    assert mine.compared().agrees
