"""What a batch changes in a replica beside the rows that entries touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.records import event, events
from e2e.test_one_position import FEW, OLD
from integration.replicas import Replicated
from servers.cassandra import Node

JULY_4 = "2025-07-04T11:00:00Z"
MAY_29 = "2025-05-29T12:00:00Z"
"""In a window that is kept up to a batch with events of July 3, and given up with July 4."""


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    """Published once, with a window that the next day drives out."""
    house = LiveHouse.new(tmp_path / "house", models=FEW)
    house.put("events_1.jsonl", events(1, 9) + event(10, timestamp=MAY_29))
    house.batch_of_inbox()
    return house


def copied(house: LiveHouse, folder: Path) -> LiveHouse:
    return LiveHouse(Path(shutil.copytree(house.root, folder)))


def synced(house: LiveHouse, settings: dict[str, str]) -> Replicated:
    replica = Replicated(house, settings)
    ran = replica.cli("serving", "sync")
    assert ran.code == 0, ran.err
    return replica


def assert_as_new(replica: Replicated, node: Node) -> None:
    """Every table holds what one that is written at once holds, and nothing is left to do."""
    found = replica.compared()
    assert found.agrees, found.shown
    assert replica.contents() == synced(replica.house, node.settings()).contents()
    assert replica.cli("serving", "sync").out.startswith("nothing new")


@pytest.mark.parametrize("cost", [1000, 0.01], ids=["larger", "smaller"])
def test_what_only_a_batch_computes_wins_over_what_was_written_at_a_later_position(
    house: LiveHouse, cassandra_node: Node, cost: float
) -> None:
    settings = cassandra_node.settings()
    house.put("events_2.jsonl", event(20, cost_usd_increment=cost))
    house.live()
    replica = synced(house, settings)
    before = replica.contents()["cost_anomalies_by_org_day"]

    house.batch()
    synced(house, settings)

    assert replica.contents()["cost_anomalies_by_org_day"] != before
    assert_as_new(replica, cassandra_node)


def test_windows_that_a_batch_gives_up_go_though_they_were_written_later(
    house: LiveHouse, cassandra_node: Node, tmp_path: Path
) -> None:
    """A batch runs beside live entries: it is published for a position before the answers'."""
    settings = cassandra_node.settings()
    house.put("events_2.jsonl", event(20, timestamp=JULY_4))
    house.live()
    promoted = copied(house, tmp_path / "promoted")
    house.put("events_3.jsonl", event(21, timestamp=JULY_4, org_id="o-2"))
    house.live()
    before = synced(house, settings).contents()["usage_by_5min"]
    promoted.batch()
    promoted.put("events_3.jsonl", event(21, timestamp=JULY_4, org_id="o-2"))
    promoted.live()

    replica = synced(promoted, settings)

    after = replica.contents()["usage_by_5min"]
    assert {row for row in before if row not in after}
    assert_as_new(replica, cassandra_node)


def test_a_late_window_goes_with_the_batch_that_takes_it_in(
    house: LiveHouse, cassandra_node: Node
) -> None:
    """The embedded store holds it between its entry and the next batch only."""
    settings = cassandra_node.settings()
    replica = synced(house, settings)
    few = len(replica.contents()["usage_by_5min"])
    house.put("events_2.jsonl", event(20, timestamp=OLD))
    house.live()
    synced(house, settings)
    assert len(replica.contents()["usage_by_5min"]) > few

    house.batch()
    ran = replica.cli("serving", "sync")

    assert "what changed written" in ran.out
    assert len(replica.contents()["usage_by_5min"]) == few
    assert_as_new(replica, cassandra_node)


def test_a_late_window_that_was_there_when_all_was_written_goes_as_well(
    house: LiveHouse, cassandra_node: Node
) -> None:
    settings = cassandra_node.settings()
    house.put("events_2.jsonl", event(20, timestamp=OLD))
    house.live()
    replica = synced(house, settings)

    house.batch()
    synced(house, settings)

    assert_as_new(replica, cassandra_node)


def test_a_model_that_comes_without_a_new_entry_gets_its_table_once(
    house: LiveHouse, cassandra_node: Node
) -> None:
    settings = cassandra_node.settings()
    replica = synced(house, settings)
    text = (house.root / "models/gold/finops_by_org_day.sql").read_text()
    for name in ("a_costs", "zz_costs_under_a_longer_name"):
        (house.root / f"models/gold/{name}.sql").write_text(text.replace("finops_by_org_day", name))
        house.batch()

        ran = replica.cli("serving", "sync")

        assert "every row written" in ran.out
        assert len(replica.contents()[name]) == 2
        assert_as_new(replica, cassandra_node)


def test_a_model_that_goes_and_comes_back_has_no_rows_of_before(
    house: LiveHouse, cassandra_node: Node
) -> None:
    settings = cassandra_node.settings()
    replica = synced(house, settings)
    path = house.root / "models/gold/finops_by_org_day.sql"
    text = path.read_text()
    path.unlink()
    house.put("events_2.jsonl", event(20, org_id="o-7"))
    house.batch_of_inbox()
    synced(house, settings)
    assert "finops_by_org_day" not in replica.contents()

    path.write_text(text)
    house.batch()
    synced(house, settings)

    assert_as_new(replica, cassandra_node)


def test_a_table_that_was_dropped_is_filled_again(house: LiveHouse, cassandra_node: Node) -> None:
    settings = cassandra_node.settings()
    replica = synced(house, settings)
    with replica.both() as (kept, _):
        kept.session.run("DROP TABLE finops_by_org_day")

    ran = replica.cli("serving", "sync")

    assert "(it was empty)" in ran.out
    assert_as_new(replica, cassandra_node)
