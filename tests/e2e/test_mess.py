"""Mess changes nothing: however the same records arrive, silver and gold are the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from e2e.house import House, assert_ledger, assert_oracle, assert_same, delivery, once
from e2e.mess import Mess, Terms, assert_explained, mess, played, terms
from meterhouse.synth import Options, generate
from oracle import Oracle

CALM = Options(
    events=900, orgs=8, days=20, seed=5, duplicates=0.02, poison=0.06, conflicts=0, files=5
)
"""Without two payloads of one id: then no order of arrival matters at all."""


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """A generated delivery in which no two records compete."""

    def make(folder: Path) -> list[tuple[str, bytes]]:
        generate(folder, CALM)
        return delivery(folder)

    return once(tmp_path_factory, "calm", make)


@pytest.fixture(scope="session")
def tidy(calm: list[tuple[str, bytes]], tmp_path_factory: pytest.TempPathFactory) -> House:
    """The same, delivered as it was made, in one call."""

    def make(root: Path) -> Path:
        house = played(root, Mess([calm]))
        assert_oracle(house, Oracle(calm))
        return root

    return House(once(tmp_path_factory, "tidy", make))


@pytest.fixture(scope="session")
def tidy_terms(tidy: House, tmp_path_factory: pytest.TempPathFactory) -> Terms:
    return once(tmp_path_factory, "tidy-terms", lambda folder: terms(tidy))


@pytest.fixture(scope="session")
def sample_terms(sample_house: House, tmp_path_factory: pytest.TempPathFactory) -> Terms:
    return once(tmp_path_factory, "sample-terms", lambda folder: terms(sample_house))


@pytest.mark.parametrize(
    ("seed", "calls", "masters"),
    [(1, 1, "between"), (2, 7, "before"), (3, 7, "after"), (4, 0, "between")],
    ids=["one call", "masters before", "masters after", "a call for each file"],
)
def test_generated_records_in_disorder_give_the_same_tables(
    tidy: House,
    tidy_terms: Terms,
    calm: list[tuple[str, bytes]],
    tmp_path: Path,
    seed: int,
    calls: int,
    masters: str,
) -> None:
    messed = mess(calm, seed, calls=calls, masters=masters)
    assert messed.extra["usage_events"] > 40

    house = played(tmp_path / "house", messed, batches=[seed])

    assert_same(house.tables(), tidy.tables())
    assert_explained(house, tidy_terms, messed)


@pytest.mark.parametrize("seed", range(3))
def test_where_records_compete_the_order_of_the_log_decides(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    options = Options(
        events=700,
        orgs=random.randint(1, 12),
        days=random.randint(1, 40),
        seed=seed,
        duplicates=0.05,
        poison=0.1,
        conflicts=0.05,
        drift=True,
        files=4,
    )
    generate(tmp_path / "delivery", options)
    calls = random.choice((1, 3, 7))
    messed = mess(delivery(tmp_path / "delivery"), seed, calls=calls, doubled=0.3)

    house = played(tmp_path / "house", messed, batches=random.sample(range(calls), k=calls // 3))

    oracle = Oracle(messed.arrived())
    assert_oracle(house, oracle)
    assert_ledger(house, oracle)


def as_delivered(table: pa.Table) -> Counter[Any]:
    files, lines = (table[name].to_pylist() for name in ("source_file", "source_line"))
    return Counter(zip(files, lines, strict=True))


def test_bronze_holds_every_accepted_record_once_whatever_came_twice(
    calm: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    messed = mess(calm, 9, calls=3, doubled=1.0)

    house = played(tmp_path / "house", messed, batches=[0, 1], models=["gold.finops_by_org_day"])

    ids = house.table("bronze.usage_events")["event_id"].to_pylist()
    assert len(ids) == len(set(ids))
    places = as_delivered(house.table("bronze.usage_events"))
    assert max(places.values()) == 1
    assert not places.keys() & as_delivered(house.table("bronze.quarantine_usage")).keys()


def test_a_copy_of_garbage_is_unreadable_money_too_whichever_way_it_is_verified(
    tmp_path: Path,
) -> None:
    house = House.new(tmp_path / "house", models=["gold.finops_by_org_day"])
    house.put("events_1.jsonl", "garbage\ngarbage\n{}\n{}\n")
    house.ingest()

    found = [
        next(term for term in report.terms if term.measure == "cost_usd_increment USD").unreadable
        for report in (house.project.verify(), house.project.verify(quick=True))
    ]

    assert found == ["2", "2"]
    assert house.ledger()["usage_events"]["duplicate"] == 2


@pytest.mark.sample
def test_the_sample_cut_shuffled_and_redelivered_in_seven_calls_gives_the_same_tables(
    sample_house: House, sample_terms: Terms, sample: Path, tmp_path: Path
) -> None:
    messed = mess(delivery(sample), 7, calls=7)
    assert messed.extra["usage_events"] >= 2160

    house = played(tmp_path / "house", messed, batches=[3])

    assert_same(house.tables(), sample_house.tables())
    assert_explained(house, sample_terms, messed)
