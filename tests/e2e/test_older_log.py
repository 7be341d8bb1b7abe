"""An older backup of the log is gone on with: one entry says so, and nothing lost wins again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from e2e.beside import LiveHouse, assert_as_batch
from e2e.house import DAILY
from e2e.replica_in_memory import MemoryReplica
from meterhouse import project as project_module
from meterhouse.errors import DamageError
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.ports import Stamp
from meterhouse.project import Project
from meterhouse.testing import FixedClock
from unit.log.house import event

NOON = datetime(2025, 7, 3, 12, tzinfo=UTC)
RULES = """
rules:
  budget: {table: gold.finops_by_org_day, key: [], when: sum(daily_cost_usd) > 5, max_age: 900d}
"""


class KilledError(Exception):
    """The process ends here."""


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    """Three entries published in two batches, two more answered."""
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


def generation(house: LiveHouse) -> int:
    published = house.project.published()
    assert published is not None
    return published.generation


def back_to(house: LiveHouse, position: int) -> None:
    """The log as a backup had it; views and deliveries as they are."""
    for path in sorted((house.root / "log").glob("*.json"))[position:]:
        path.unlink()


def accept(house: LiveHouse) -> str:
    ran = house.cli("rebuild", "--accept-loss")
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def killed_at(step: str, house: LiveHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept a loss, and end before that step."""

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(project_module if step == "rebuild_views" else Project, step, killed)
        with pytest.raises(KilledError):
            house.project.rebuild(accept_loss=True)


def test_the_entry_names_what_was_lost_and_all_views_are_of_the_new_fork(
    house: LiveHouse, tmp_path: Path
) -> None:
    lost = stamp(house)
    back_to(house, 3)

    said = accept(house)

    assert "goes on without what came after entry 3, up to 5: its new entry 4 says so" in said
    *_, before, fork = entries(house)
    assert (fork.position, fork.kind, fork.fork, before.fork) == (4, "fork", 1, 0)
    assert fork.time == before.time, "no data came with it"
    assert fork.details == {"lost": {"fork": 0, "generation": 1, "position": 5, "head": lost.head}}
    published = house.project.published()
    assert published is not None
    assert (published.stamp, published.generation) == (stamp(house), 2)
    assert house.project.query("daily-cost").as_of.position == 4
    assert any("may be of entries that were lost" in note for note in house.verified().notes)
    house.live()
    assert [entry.fork for entry in entries(house)] == [0, 0, 0, 1, 1]
    assert_as_batch(house, tmp_path / "copy")
    assert house.table(DAILY[0]).num_rows, "something is compared"
    house.verified()


def test_nothing_lost_is_no_fork(house: LiveHouse) -> None:
    before = entries(house)

    said = accept(house)

    assert entries(house) == before
    assert "goes on without" not in said


@pytest.mark.parametrize("step", ["rebuild_views", "_batch"], ids=["views", "lake"])
def test_who_is_interrupted_does_it_again_with_the_same_entry(
    house: LiveHouse, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    back_to(house, 3)
    killed_at(step, house, monkeypatch)
    first = entries(house)
    assert first[-1].kind == "fork"

    assert house.project.rebuild(accept_loss=True).fork is None, "the log says so already"

    assert entries(house) == first
    assert generation(house) == 2
    house.verified()


@pytest.mark.parametrize("told", ["by the lake set aside", "by the log"])
def test_a_rebuild_killed_in_the_middle_does_not_begin_to_count_generations_anew(
    house: LiveHouse, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    replica = MemoryReplica(house)
    replica.synced()
    if told == "by the log":
        back_to(house, 3)
    killed_at("_batch", house, monkeypatch)
    # As kill -9 leaves it: the lake set aside, and half of another one.
    (house.root / "lake").rename(house.root / "lake.old")
    (house.root / "lake").mkdir()
    if told == "by the log":
        shutil.rmtree(house.root / "lake.old")
    (house.root / "serving.db").unlink(missing_ok=True)

    assert house.cli("rebuild").code == 0

    assert generation(house) == 2
    house.live()
    assert replica.synced().whole
    assert replica.agrees()


def test_what_was_taken_after_an_interrupted_rebuild_stays_of_its_fork(
    house: LiveHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.batch()
    back_to(house, 2)
    killed_at("_batch", house, monkeypatch)
    house.ingest()
    before = entries(house)
    assert [entry.fork for entry in before] == [0, 0, 1, 1], "not yet where the lake stands"

    accept(house)

    assert entries(house) == before
    house.verified()


def test_a_backup_of_before_an_earlier_fork_gets_a_higher_one(
    house: LiveHouse, tmp_path: Path
) -> None:
    shutil.copytree(house.root / "log", tmp_path / "log")
    back_to(house, 3)
    accept(house)
    house.live()
    lost = stamp(house)
    assert lost.fork == 1

    shutil.rmtree(house.root / "log")
    shutil.copytree(tmp_path / "log", house.root / "log")
    back_to(house, 2)
    accept(house)

    fork = entries(house)[-1]
    assert (fork.kind, fork.position, fork.fork) == ("fork", 3, 2)
    assert fork.details["lost"] == {
        "fork": 1,
        "generation": 2,
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

    accept(house)

    fork = entries(house)[0]
    assert (fork.kind, fork.project, fork.fork, fork.previous) == ("fork", project, 1, "")
    house.live()
    house.batch()
    house.verified()
    assert tables.keys() == house.tables().keys()
    assert stamp(house).project == project


# Behind the lost future, at the very position where it stood, and past it.
@pytest.mark.parametrize(("kept", "more"), [(3, 0), (4, 0), (3, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("lake", [True, False], ids=["lake", "no lake"])
def test_rows_of_the_lost_future_do_not_win_in_a_replica(
    house: LiveHouse, kept: int, more: int, lake: bool
) -> None:
    replica = MemoryReplica(house)
    replica.synced()
    future = replica.contents()
    back_to(house, kept)
    for path in house.inbox.iterdir():
        path.unlink()
    if not lake:
        shutil.rmtree(house.root / "lake")

    accept(house)
    for number in range(more):
        house.put(f"events_new_{number}.jsonl", event(100 + number, org_id="o-9"))
        house.live()

    assert generation(house) == 2
    report = replica.synced()
    assert (report.whole, report.why) == (True, "the tables were restated")
    assert replica.agrees()
    assert replica.contents() != future
    house.put("events_last.jsonl", event(200, org_id="o-7"))
    house.live()
    assert not replica.synced().whole
    assert replica.agrees()


def test_where_nothing_tells_the_generation_a_replica_is_refused(house: LiveHouse) -> None:
    replica = MemoryReplica(house)
    replica.synced()
    future = replica.contents()
    back_to(house, 3)
    for path in house.inbox.iterdir():
        path.unlink()
    shutil.rmtree(house.root / "lake")
    (house.root / "serving.db").unlink()

    accept(house)

    assert generation(house) == 1
    with pytest.raises(DamageError, match="serving rebuild"):
        replica.synced()
    assert replica.contents() == future
    replica.rebuilt()
    assert replica.agrees()


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
    accept(house)
    assert look() == 0
    (house.inbox / "events_4.jsonl").unlink()
    house.put("events_5.jsonl", event(5, cost_usd_increment="50.00"))

    house.live()

    assert stamp(house).position == 5
    assert look() == 1, "it was cleared by the loss, and is raised again"
