"""Whatever is repeated, reordered, killed or written twice at once: one replica comes of it."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.records import INVOICES, TICKETS, event, events, invoice, ticket
from e2e.test_one_position import first, second, third
from integration.replicas import Replicated
from servers.cassandra import Node, run_cqlsh

MODELS = (
    "gold.cost_anomaly_mart",
    "gold.finops_by_org_day",
    "gold.revenue_by_org_month",
    "gold.tickets_by_org_date",
    "gold.usage_by_5min",
)
KILLS = 20
TOO_LATE = 9_000_000_000_000_000_000
"""A write timestamp above every one of ours."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[LiveHouse]:
    """One project as it was at several moments: live, published, corrected, restated."""
    folder = tmp_path_factory.mktemp("stages")
    house = LiveHouse.new(folder / "house", models=MODELS)
    kept: list[LiveHouse] = []

    def keep() -> None:
        kept.append(LiveHouse(Path(shutil.copytree(house.root, folder / f"{len(kept)}"))))

    first(house)
    house.put("support_tickets_1.csv", TICKETS + ticket("") + ticket("2025-07-09", 2))
    house.live()
    keep()
    house.batch()
    keep()
    second(house)
    house.live()
    keep()
    third(house)
    house.put("support_tickets_2.csv", TICKETS + ticket("2025-07-05"))
    house.live()
    keep()
    house.batch()
    keep()
    house.put("events_9.jsonl", event(99, cost_usd_increment=3))
    house.live()
    keep()
    return kept


@pytest.fixture
def node(cassandra_node: Node) -> Node:
    return cassandra_node


def replicated(house: LiveHouse, settings: dict[str, str]) -> Replicated:
    return Replicated(house, settings)


def synced(house: LiveHouse, settings: dict[str, str]) -> Replicated:
    replica = Replicated(house, settings)
    ran = replica.cli("serving", "sync")
    assert ran.code == 0, ran.err
    return replica


@pytest.fixture(scope="module")
def truth(stages: list[LiveHouse], cassandra_node: Node) -> object:
    """What a replica holds that was written once, at the end."""
    return synced(stages[-1], cassandra_node.settings()).contents()


def test_from_stage_to_stage_and_each_twice(
    stages: list[LiveHouse], node: Node, truth: object
) -> None:
    settings = node.settings()
    for stage in stages:
        replica = synced(stage, settings)
        again = replica.cli("serving", "sync")
        assert again.out.startswith("nothing new")
        assert replica.compared().agrees

    assert replica.contents() == truth


def test_an_older_state_is_refused_and_writes_nothing(
    stages: list[LiveHouse], node: Node, truth: object
) -> None:
    settings = node.settings()
    replica = synced(stages[-1], settings)

    for stage in stages[:-1]:
        ran = Replicated(stage, settings).cli("serving", "sync")
        assert ran.code == 1
        assert "ahead of" in ran.err
        assert "serving rebuild" in ran.err

    assert replica.contents() == truth


@pytest.mark.parametrize("seed", range(3))
def test_writes_in_any_order_come_to_the_same(
    stages: list[LiveHouse], node: Node, truth: object, seed: int
) -> None:
    """As writers would that don't know of each other: nobody looks at the position first."""
    settings = node.settings()
    synced(stages[0], settings)
    order = [*stages, *stages]
    random.Random(seed).shuffle(order)
    for stage in order:
        with Replicated(stage, settings).both() as (replica, snapshot):
            replica._whole(snapshot, replica._target(snapshot), "out of turn")

    with Replicated(stages[-1], settings).both() as (replica, snapshot):
        # Rows that were gone by the end were deleted by the last state, wherever its turn was.
        replica.stand(replica._target(snapshot))
    last = Replicated(stages[-1], settings)
    assert last.compared().agrees, last.compared().shown
    assert last.contents() == truth


def test_killed_anywhere_and_run_again(stages: list[LiveHouse], node: Node, truth: object) -> None:
    settings = node.settings()
    chance = random.Random(1)
    whole = synced(stages[-1], settings)
    half = Replicated(stages[2], settings)
    begun = time.monotonic()
    assert whole.cli("serving", "rebuild").code == 0
    took = time.monotonic() - begun
    killed = 0
    for number in range(10 * KILLS):
        stage = half if number % 4 == 3 else whole
        command = "rebuild" if number % 4 else "sync"  # the latter on what another one left
        process = stage.house.program(*stage.arguments("serving", command))
        time.sleep(chance.uniform(0.1, 1) * took)
        killed += process.poll() is None
        process.kill()
        process.communicate()
        if killed == KILLS:
            break

    assert killed == KILLS
    assert whole.cli("serving", "sync").code == 0
    assert whole.compared().agrees, whole.compared().shown
    assert whole.contents() == truth


@pytest.fixture
def house(stages: list[LiveHouse], tmp_path: Path) -> LiveHouse:
    return LiveHouse(Path(shutil.copytree(stages[-1].root, tmp_path / "house")))


def test_a_restatement_that_changes_keys_leaves_no_ghosts(house: LiveHouse, node: Node) -> None:
    settings = node.settings()
    replica = synced(house, settings)
    before = replica.contents()["finops_by_org_day"]
    name = "models/gold/finops_by_org_day.sql"
    house.edit(name, "daily.org_id::VARCHAR", "concat(daily.org_id, '!')::VARCHAR")
    house.edit(name, "BY daily.org_id", "BY concat(daily.org_id, '!')")
    house.batch()

    synced(house, settings)

    after = replica.contents()["finops_by_org_day"]
    assert len(after) == len(before)
    assert all(dict(row)["org_id"].endswith("!") for row in after)
    assert replica.compared().agrees
    assert replica.contents() == synced(house, node.settings()).contents()


def test_a_model_that_leaves_rows_out_takes_them_away(house: LiveHouse, node: Node) -> None:
    settings = node.settings()
    replica = synced(house, settings)
    house.put("events_late.jsonl", events(200, 203, org_id="o-77"))
    house.batch_of_inbox()
    synced(house, settings)
    assert any(dict(row)["org_id"] == "o-77" for row in replica.contents()["finops_by_org_day"])
    name = "models/gold/finops_by_org_day.sql"
    house.edit(name, "AS daily\n", "AS daily\nWHERE daily.org_id <> 'o-77'\n")
    total = "  - same_total: {daily_cost_usd: gold.org_daily_usage_by_service.daily_cost_usd}\n"
    house.edit(name, total, "")
    house.batch()

    ran = replica.cli("serving", "sync")

    assert (ran.code, "deleted" in ran.out) == (0, True)
    rows = replica.contents()["finops_by_org_day"]
    assert not [row for row in rows if dict(row)["org_id"] == "o-77"]
    assert replica.compared().agrees


def test_a_rebuilt_project_goes_on_with_its_replica(house: LiveHouse, node: Node) -> None:
    settings = node.settings()
    replica = synced(house, settings)
    published = house.project.published()
    assert published is not None
    house.project.rebuild()

    again = house.project.published()
    assert again is not None
    assert again.generation == published.generation + 1
    synced(house, settings)

    assert replica.compared().agrees


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_an_edit_by_hand_is_without_effect_or_found_and_mended(
    stages: list[LiveHouse], node: Node, truth: object, home: Path
) -> None:
    settings = node.settings()
    replica = synced(stages[-1], settings)
    keyspace = settings["cassandra.keyspace"]
    key = "org_id = 'o-1' AND usage_date = '2025-07-03'"
    table = f"{keyspace}.finops_by_org_day"

    run_cqlsh(node, "-e", f"UPDATE {table} SET daily_cost_usd = 1 WHERE {key};", home=home)
    run_cqlsh(node, "-e", f"DELETE FROM {table} WHERE {key};", home=home)
    assert replica.cli("serving", "compare").code == 0
    assert replica.contents() == truth

    for harm, told in (
        (f"UPDATE {table} USING TIMESTAMP {TOO_LATE} SET daily_cost_usd = 1 WHERE {key};", "1, sh"),
        (f"DELETE FROM {table} USING TIMESTAMP {TOO_LATE} WHERE {key};", "a row is missing"),
        (
            f"INSERT INTO {table} (org_id, usage_date, daily_cost_usd) VALUES "
            f"('ghost', '2025-07-03', 1) USING TIMESTAMP {TOO_LATE};",
            "a row too many",
        ),
    ):
        run_cqlsh(node, "-e", harm, home=home)
        found = replica.cli("serving", "compare")
        assert (found.code, told in found.out) == (1, True), found.out
        assert "finops_by_org_day" in found.out
        assert replica.cli("serving", "rebuild").code == 0
        assert replica.cli("serving", "compare").code == 0

    assert replica.contents() == truth


def test_corrections_arrive_as_they_are(node: Node, tmp_path: Path) -> None:
    house = LiveHouse.new(tmp_path / "house", models=MODELS)
    settings = node.settings()
    house.put("billing_monthly_1.csv", INVOICES + invoice("10"))
    house.put("events_1.jsonl", events(1, 3))
    house.batch_of_inbox()
    for number, amount in enumerate(("12.5", "10", "0.01"), 2):
        house.put(f"billing_monthly_{number}.csv", INVOICES + invoice(amount))
        house.live()
        replica = synced(house, settings)

        assert replica.compared().agrees
        assert replica.cli("query", "monthly-revenue", "--store", "cassandra").out == (
            replica.cli("query", "monthly-revenue").out
        )
