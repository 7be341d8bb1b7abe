"""An older backup of the log is gone on with: one entry says so, and nothing lost wins again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.beside import LiveHouse, assert_as_batch
from e2e.house import DAILY
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.ports import Stamp
from meterhouse.testing import FixedClock
from unit.log.house import event

NOON = datetime(2025, 7, 3, 12, tzinfo=UTC)
RULES = """
rules:
  budget: {table: gold.finops_by_org_day, key: [], when: sum(daily_cost_usd) > 5, max_age: 900d}
"""


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    """Three entries published, two more answered."""
    house = LiveHouse.new(tmp_path / "project", models=DAILY, clock=FixedClock(NOON))
    (house.root / "alerts.yaml").write_text(RULES)
    for number in (1, 2):
        house.put(f"events_{number}.jsonl", event(number))
        house.batch_of_inbox()
    for number in (3, 4):
        house.put(f"events_{number}.jsonl", event(number, cost_usd_increment="3.00"))
        house.live()
    assert stamp(house).position == 5
    return house


def stamp(house: LiveHouse) -> Stamp:
    return Log(house.project.blobs).stamp()


def entries(house: LiveHouse) -> list[Entry]:
    return list(Log(house.project.blobs).entries())


def back_to(house: LiveHouse, position: int) -> None:
    """The log as a backup had it; views and deliveries as they are."""
    for path in sorted((house.root / "log").glob("*.json"))[position:]:
        path.unlink()


def test_the_entry_names_what_was_lost_and_all_views_are_of_the_new_fork(
    house: LiveHouse, tmp_path: Path
) -> None:
    lost = stamp(house)
    back_to(house, 3)

    ran = house.cli("rebuild", "--accept-loss")

    assert (ran.code, ran.err) == (0, "")
    assert "entry 4 of the log says that it goes on without what it had up to entry 5" in ran.out
    *_, before, fork = entries(house)
    assert (fork.position, fork.kind, fork.fork, before.fork) == (4, "fork", 1, 0)
    assert fork.details == {"lost": {"fork": 0, "position": 5, "head": lost.head}}
    published = house.project.published()
    assert published is not None
    assert published.stamp == stamp(house)
    assert house.project.query("daily-cost").as_of.position == 4
    house.verified()
    house.live()
    assert [entry.fork for entry in entries(house)] == [0, 0, 0, 1, 1]
    assert_as_batch(house, tmp_path / "copy")
    assert house.table(DAILY[0]).num_rows, "something is compared"
    house.verified()


def test_a_view_of_the_lost_future_is_not_this_logs_however_far_it_grows(
    house: LiveHouse, tmp_path: Path
) -> None:
    shutil.copytree(house.root / "index", tmp_path / "index")
    shutil.copytree(house.root / "lake", tmp_path / "lake")
    back_to(house, 3)
    assert house.cli("rebuild", "--accept-loss").code == 0
    for number in range(5, 10):
        house.put(f"events_{number}.jsonl", event(number))
        house.ingest()

    shutil.rmtree(house.root / "index")
    shutil.copytree(tmp_path / "index", house.root / "index")

    ran = house.cli("batch")
    assert ran.code == 1
    assert "is not the one that" in ran.err


def test_who_is_interrupted_does_it_again_with_the_same_entry(house: LiveHouse) -> None:
    back_to(house, 3)
    house.edit(f"models/gold/{DAILY[0].partition('.')[2]}.sql", "SELECT", "SELECT oh,")

    # The entry is in the log, and then the rebuild ends before it has published anything.
    house.cli("rebuild", "--accept-loss")
    first = entries(house)
    house.edit(f"models/gold/{DAILY[0].partition('.')[2]}.sql", "SELECT oh,", "SELECT")
    assert house.cli("rebuild", "--accept-loss").code == 0

    assert first[-1].kind == "fork"
    assert entries(house) == first
    house.verified()


def test_nothing_lost_is_no_fork(house: LiveHouse) -> None:
    before = entries(house)

    ran = house.cli("rebuild", "--accept-loss")

    assert (ran.code, entries(house)) == (0, before)
    assert "goes on without" not in ran.out


def test_a_backup_of_before_an_earlier_fork_gets_a_higher_one(
    house: LiveHouse, tmp_path: Path
) -> None:
    shutil.copytree(house.root / "log", tmp_path / "log")
    back_to(house, 3)
    assert house.cli("rebuild", "--accept-loss").code == 0
    house.live()
    lost = stamp(house)
    assert lost.fork == 1

    shutil.rmtree(house.root / "log")
    shutil.copytree(tmp_path / "log", house.root / "log")
    back_to(house, 2)
    assert house.cli("rebuild", "--accept-loss").code == 0

    fork = entries(house)[-1]
    assert (fork.kind, fork.position, fork.fork) == ("fork", 3, 2)
    assert fork.details["lost"] == {
        "fork": 1,
        "position": lost.position,
        "head": lost.head,
    }
    house.live()
    house.batch()
    house.verified()


def test_a_log_that_lost_all_goes_on_as_the_same_project(house: LiveHouse) -> None:
    project = stamp(house).project
    tables = house.tables()
    back_to(house, 0)

    assert house.cli("rebuild", "--accept-loss").code == 0

    fork = entries(house)[0]
    assert (fork.kind, fork.project, fork.fork, fork.previous) == ("fork", project, 1, "")
    house.live()
    house.batch()
    house.verified()
    assert tables.keys() == house.tables().keys()
    assert stamp(house).project == project


def test_a_clock_that_is_behind_the_backup_does_not_run_its_time_backwards(
    house: LiveHouse,
) -> None:
    back_to(house, 3)
    early = replace(house, clock=FixedClock(NOON - timedelta(days=1)))

    early.project.rebuild(accept_loss=True)

    assert entries(house)[-1].time == entries(house)[-2].time
    house.verified()


def test_alerts_look_on_from_where_the_older_log_ends(house: LiveHouse) -> None:
    """Who remembers having looked at entry 5 does not wait for the new log to get there."""

    def look() -> int:
        alerts = house.project.alerts()
        project = house.project
        done = alerts.finish(project.serving(project.models()), NOON, {}, wait_s=60)
        alerts.close()
        assert done.problems == []
        return done.raised

    (house.inbox / "events_3.jsonl").unlink()
    assert look() == 1
    back_to(house, 3)
    assert house.cli("rebuild", "--accept-loss").code == 0
    assert look() == 0
    (house.inbox / "events_4.jsonl").unlink()
    house.put("events_5.jsonl", event(5, cost_usd_increment="50.00"))

    house.live()

    assert stamp(house).position == 5
    assert look() == 1, "it was cleared by the loss, and is raised again"
