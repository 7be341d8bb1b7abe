"""A replica and a log that is not, or not yet, the one it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.records import event, events
from integration.replicas import Replicated
from servers.cassandra import Node

MODELS = ("gold.cost_anomaly_mart", "gold.finops_by_org_day")


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    """Published, and a backup of it beside it; then three entries more."""
    house = LiveHouse.new(tmp_path / "house", models=MODELS)
    house.put("events_1.jsonl", events(1, 9))
    house.batch_of_inbox()
    shutil.copytree(house.root, tmp_path / "backup")
    for number in range(10, 13):
        house.put(f"events_{number}.jsonl", event(number))
        house.live()
    return house


@pytest.fixture
def replica(house: LiveHouse, cassandra_node: Node) -> Replicated:
    replica = Replicated(house, cassandra_node.settings())
    assert replica.cli("serving", "sync").code == 0
    return replica


@pytest.fixture
def restored(house: LiveHouse, replica: Replicated, tmp_path: Path) -> Replicated:
    """The backup in the place of the project, and its replica as it was."""
    lost = tmp_path / "lost"
    house.root.rename(lost)
    shutil.copytree(tmp_path / "backup", house.root)
    return Replicated(LiveHouse(house.root), replica.settings)


def entries(replica: Replicated, first: int, last: int) -> None:
    assert isinstance(replica.house, LiveHouse)
    for number in range(first, last + 1):
        replica.house.put(f"events_other_{number}.jsonl", event(number, org_id="o-5"))
        replica.house.live()


@pytest.mark.parametrize("entries_more", [0, 2, 3, 4], ids="{} entries after the backup".format)
def test_a_replica_of_a_future_that_was_lost_is_refused_and_nothing_written(
    restored: Replicated, tmp_path: Path, entries_more: int
) -> None:
    future = Replicated(LiveHouse(tmp_path / "lost"), restored.settings)
    before = future.contents()
    entries(restored, 20, 19 + entries_more)

    for command in ("sync", "sync"):
        ran = restored.cli("serving", command)

        assert ran.code == 1
        assert "serving rebuild" in ran.err
        assert "Nothing was written" in ran.err
        said = "ahead of" if entries_more < 3 else "is not the one that the replica was made from"
        assert said in ran.err
    assert future.contents() == before
    assert future.cli("serving", "sync").out.startswith("nothing new")


@pytest.mark.parametrize("entries_more", [0, 5], ids="{} entries after the backup".format)
def test_who_goes_on_with_the_backup_makes_project_or_replica_anew(
    restored: Replicated, cassandra_node: Node, entries_more: int
) -> None:
    entries(restored, 20, 19 + entries_more)
    if entries_more:
        assert restored.cli("serving", "rebuild").code == 0
    else:
        assert restored.cli("rebuild", "--accept-loss").code == 0
        assert restored.cli("serving", "sync").code == 0

    assert restored.compared().agrees
    anew = Replicated(restored.house, cassandra_node.settings())
    assert anew.cli("serving", "sync").code == 0
    assert restored.contents() == anew.contents()
    entries(restored, 30, 31)
    assert "what changed written" in restored.cli("serving", "sync").out
    assert restored.compared().agrees


def test_a_replica_of_another_project_is_refused(replica: Replicated, tmp_path: Path) -> None:
    before = replica.contents()
    other = LiveHouse.new(tmp_path / "other", models=MODELS)
    other.put("events_1.jsonl", events(1, 99))
    other.batch_of_inbox()

    ran = Replicated(other, replica.settings).cli("serving", "sync")

    assert (ran.code, "of another project" in ran.err) == (1, True)
    assert replica.contents() == before


def test_answers_that_are_being_made_anew_wait_for_their_log(
    house: LiveHouse, replica: Replicated, tmp_path: Path
) -> None:
    """The log has it all; only the embedded store stands before the replica."""
    before = replica.contents()
    newest = (house.root / "serving.db").read_bytes()
    shutil.copy(tmp_path / "backup" / "serving.db", house.root / "serving.db")

    ran = replica.cli("serving", "sync")

    assert (ran.code, ran.out[:11]) == (0, "nothing new"), ran.err
    (house.root / "serving.db").write_bytes(newest)
    assert replica.contents() == before
    assert replica.compared().agrees
