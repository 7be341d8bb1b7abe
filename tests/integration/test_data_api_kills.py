"""Killed anywhere while it writes through the Data API, and run again: one replica comes of it.

Nothing there orders writes but the order in which they come; docs/astra.md says how two
writers are kept apart. A writer that was killed is one that never ends.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.following import until
from e2e.records import INVOICES, TICKETS, event, ticket
from integration.data_api_replicas import STORE, InApi, replica_of
from integration.test_cassandra_writers import moved, usage
from meterhouse.config import FORMS
from meterhouse.log.lock import held
from meterhouse.serving.queries import QUESTIONS
from servers.cassandra import Node
from servers.data_api import StandIn, stand_in

KILLS = 20
WRITES = {"insertOne", "insertMany", "deleteOne", "deleteMany", "findOneAndReplace"}


@pytest.fixture(scope="module")
def api(cassandra_node: Node) -> Iterator[StandIn]:
    with stand_in(cassandra_node) as found:
        yield found


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[LiveHouse]:
    """One project at two moments: rows of the first are gone, moved and corrected in the second."""
    folder = tmp_path_factory.mktemp("stages")
    house = LiveHouse.new(folder / "house")
    house.put("events_1.jsonl", usage(1, 100))
    house.put("billing_monthly_1.csv", moved("o-2", "2025-06-01"))
    house.put("support_tickets_1.csv", TICKETS + ticket("") + ticket("2025-07-09", 2))
    house.batch_of_inbox()
    older = LiveHouse(Path(shutil.copytree(house.root, folder / "older")))
    house.put("events_2.jsonl", usage(95, 140) + event(500, service="genai", genai_tokens=9))
    house.put("billing_monthly_2.csv", moved("o-1", "2025-07-01"))
    house.batch_of_inbox()
    house.put("events_3.jsonl", usage(135, 150))
    house.put("billing_monthly_3.csv", INVOICES + "i-2,o-3,2025-07-01,7,,1,EUR,1.1\n")
    house.live()
    return [older, house]


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def truth(stages: list[LiveHouse], api: StandIn, form: str) -> object:
    """What a replica holds that was written once, at the end."""
    replica = replica_of(stages[-1], api, form)
    assert replica.serving("sync").code == 0
    return everything(replica)


def everything(replica: InApi) -> object:
    """Every row of every table, the organisations that are listed, and every answer."""
    with replica.both() as (_, snapshot):
        stands = snapshot.served.stamp.position
    with replica.answers() as found:
        assert found.served.stamp.position == stands
    answers = {name: replica.cli("query", name, *STORE, "--format", "csv") for name in QUESTIONS}
    assert {name: ran.code for name, ran in answers.items()} == dict.fromkeys(QUESTIONS, 0)
    return replica.contents(), {name: ran.out for name, ran in answers.items()}


def begun(replica: InApi, house: LiveHouse, command: str) -> subprocess.Popen[str]:
    """Start the command; return once it is about to write."""
    process = InApi(house, replica.settings, replica.environ).program("serving", command, *STORE)
    lock = house.root / ".locks" / "replica-astra.writing"
    until(lambda: process.poll() is not None or held(lock), "it begins to write")
    return process


def written(api: StandIn) -> int:
    return sum(name in WRITES for name in api.rows.seen)


@pytest.mark.parametrize("command", ["sync", "rebuild"])
def test_killed_anywhere_and_run_again(
    stages: list[LiveHouse],
    api: StandIn,
    form: str,
    truth: object,
    command: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Twenty that were hit, most of them between two of their writes."""
    older, newer = stages
    chance = random.Random(f"{form} {command}")
    replica = replica_of(older, api, form)
    started = replica.serving("sync")
    assert started.code == 0, started.err
    replica = InApi(newer, replica.settings, replica.environ)
    process = begun(replica, newer, command)
    clock = time.monotonic()
    assert process.wait(120) == 0
    process.communicate()
    took = time.monotonic() - clock

    killed = between = 0
    for number in range(10 * KILLS):
        # An older state of the same project may write it anew; the newer one goes on from there.
        house = older if command == "rebuild" and number % 4 == 3 else newer
        if command == "sync" and number % 5 == 0:
            assert InApi(older, replica.settings, replica.environ).serving("rebuild").code == 0
        before = written(api)
        process = begun(replica, house, command)
        time.sleep(chance.uniform(0, 1) * took)
        hit = process.poll() is None
        process.kill()
        process.communicate()
        killed += hit
        between += hit and written(api) > before
        if killed == KILLS:
            break
    again = replica.serving("sync")

    record_property("a whole one took, s", round(took, 2))
    record_property("killed after its first write", between)
    assert (killed, between > KILLS // 3) == (KILLS, True)
    assert again.code == 0, again.err
    found = replica.compared()
    assert found.agrees, found.shown
    assert everything(replica) == truth
    assert replica.serving("sync").out.startswith("nothing new")
