"""Killed at any moment, the same command finishes the work: the same tables, the ledger holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from e2e.house import House, assert_same, once
from e2e.mortality import (
    MODELS,
    KilledError,
    Tables,
    assert_answers,
    assert_whole,
    killed,
    mortal,
    new_house,
    put_second,
)
from meterhouse.errors import MeterhouseError
from meterhouse.lake.delta import DeltaTables
from meterhouse.serving.sqlite import SqliteServing


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the first delivery published and the second one in its log."""

    def make(root: Path) -> Path:
        house = new_house(root)
        house.ingest()
        house.batch()
        put_second(house)
        house.ingest()
        return root

    return once(tmp_path_factory, "waiting", make)


@pytest.fixture
def house(waiting: Path, tmp_path: Path) -> House:
    """A copy of it, to be hurt."""
    return House(shutil.copytree(waiting, tmp_path / "house"))


@pytest.fixture(scope="session")
def undisturbed(waiting: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Tables]:
    """The tables after the first and after the second delivery, without a crash."""

    def make(root: Path) -> list[Tables]:
        house = House(shutil.copytree(waiting, root))
        first = house.tables()
        house.batch()
        house.verified()
        return [first, house.tables()]

    return once(tmp_path_factory, "undisturbed", make)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("changes", [1, 2, 4, 7])
def test_ingest_that_dies_at_a_change_is_finished_by_the_next(
    tmp_path: Path, undisturbed: list[Tables], changes: int, after: bool
) -> None:
    house = new_house(tmp_path / "house")

    with pytest.raises(KilledError):
        mortal(house, changes, after=after).ingest(house.inbox)
    house.ingest()
    house.batch()

    assert_same(house.tables(), undisturbed[0])
    house.verified()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ingest_that_dies_at_every_other_change_gets_there_in_the_end(
    tmp_path: Path, undisturbed: list[Tables], after: bool
) -> None:
    house = new_house(tmp_path / "house")
    deaths = 0
    for _ in range(100):
        try:
            mortal(house, 3, after=after).ingest(house.inbox)
        except KilledError:
            deaths += 1
            continue
        break
    house.batch()

    assert deaths > 3
    assert_same(house.tables(), undisturbed[0])
    house.verified()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("changes", [1, 2, 3])
def test_batch_that_dies_at_a_change_is_finished_by_the_next(
    house: House, undisturbed: list[Tables], changes: int, after: bool
) -> None:
    with pytest.raises(KilledError):
        mortal(house, changes, after=after).batch()
    assert_whole(house, undisturbed)
    house.batch()

    assert_same(house.tables(), undisturbed[1])
    assert_answers(house, undisturbed[1])
    house.verified()


@pytest.mark.parametrize(
    ("place", "method", "calls"),
    [
        (DeltaTables, "commit", 1),
        (DeltaTables, "commit", 4),
        (SqliteServing, "load", 1),
        (SqliteServing, "publish", 0),
        (DeltaTables, "tidy", 0),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_batch_that_dies_while_publishing_is_finished_by_the_next(
    house: House,
    undisturbed: list[Tables],
    monkeypatch: pytest.MonkeyPatch,
    place: type,
    method: str,
    calls: int,
) -> None:
    left = [calls]
    real = getattr(place, method)

    def dying(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(place, method, dying)
        try:
            house.project.batch()
        except KilledError:
            left[0] = -1
    assert left[0] < 0, f"{method} was not called often enough"
    assert_whole(house, undisturbed)
    house.batch()

    assert_same(house.tables(), undisturbed[1])
    assert_answers(house, undisturbed[1])
    house.verified()


def test_ingest_killed_at_random_is_finished_by_the_next(
    tmp_path: Path, undisturbed: list[Tables]
) -> None:
    house, random = new_house(tmp_path / "house"), Random(1)

    kills = [
        killed(
            house,
            "ingest",
            str(house.inbox),
            ticks=random.randint(1, 12),
            delay=random.random() / 50,
        )
        for _ in range(4)
    ]
    ran = house.cli("ingest", str(house.inbox))
    house.batch()

    assert any(kills)
    assert ran.code == 0, ran.err
    assert_same(house.tables(), undisturbed[0])
    house.verified()


def test_batch_killed_at_random_is_finished_by_the_next(
    house: House, undisturbed: list[Tables]
) -> None:
    random, kills = Random(2), []
    for _ in range(5):
        kills.append(
            killed(house, "batch", ticks=random.randint(1, 25), delay=random.random() / 50)
        )
        assert_whole(house, undisturbed)
    ran = house.cli("batch")

    assert any(kills)
    assert ran.code == 0, ran.err
    assert_same(house.tables(), undisturbed[1])
    assert_answers(house, undisturbed[1])
    house.verified()


def test_processes_at_a_time_do_the_work_once(tmp_path: Path, undisturbed: list[Tables]) -> None:
    house = new_house(tmp_path / "house")

    running = [house.program("ingest", str(house.inbox)) for _ in range(2)]
    running += [house.program("batch") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in running]

    assert [process.returncode for process in running] == [0, 0, 0, 0], said
    house.batch()
    assert_same(house.tables(), undisturbed[0])
    ledger = house.ledger()["usage_events"]
    assert ledger["landed"] == 142
    assert house.ingest().taken == 0


def test_a_batch_of_an_empty_project_says_so(tmp_path: Path) -> None:
    house = House.new(tmp_path / "house", models=MODELS)

    ran, query = house.cli("batch"), house.cli("query", "daily-cost")

    assert ran.code == 0
    assert query.code == 2
    assert "batch" in query.err
    with pytest.raises(MeterhouseError, match="nothing was published"):
        house.project.read("gold.finops_by_org_day")
