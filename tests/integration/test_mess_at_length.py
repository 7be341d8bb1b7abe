"""Mess changes nothing, at length: the sample twice, a call for each file, many seeds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from e2e.house import House, assert_ledger, assert_oracle, assert_same, delivery
from e2e.mess import Mess, Terms, assert_explained, mess, played, terms
from meterhouse.synth import Options, generate
from oracle import Oracle


@pytest.fixture(scope="session")
def sample_terms(sample_house: House) -> Terms:
    return terms(sample_house)


@pytest.mark.sample
def test_the_whole_sample_twice_with_masters_last_gives_the_same_tables(
    sample_house: House, sample_terms: Terms, sample: Path, tmp_path: Path
) -> None:
    files = delivery(sample)
    events = [file for file in files if file[0].endswith(".jsonl")]
    masters = [file for file in files if file[0].endswith(".csv")]
    again = [(f"again/{name}", data) for name, data in files]
    extra = Counter(
        usage_events=43_200,
        customers_orgs=80,
        users=800,
        resources=400,
        billing_monthly=240,
        support_tickets=1000,
        marketing_touches=1500,
        nps_surveys=92,
    )
    copies = [line for _, data in events for line in data.splitlines()]
    messed = Mess([events, masters, again], extra, copies)

    house = played(tmp_path / "house", messed)

    assert_same(house.tables(), sample_house.tables())
    assert_explained(house, sample_terms, messed)


@pytest.mark.sample
@pytest.mark.parametrize("masters", ["before", "between", "after"])
def test_the_sample_in_a_call_for_each_file_gives_the_same_tables(
    sample_house: House, sample_terms: Terms, sample: Path, tmp_path: Path, masters: str
) -> None:
    files = delivery(sample)
    csvs = [file for file in files if file[0].endswith(".csv")]
    events = [file for file in files if not file[0].endswith(".csv")]
    half = len(events) // 2
    order = {
        "before": csvs + events,
        "between": events[:half] + csvs + events[half:],
        "after": events + csvs,
    }[masters]

    house = played(tmp_path / "house", Mess([[file] for file in order]), batches=[40, 90])

    assert_same(house.tables(), sample_house.tables())
    assert terms(house) == sample_terms


@pytest.mark.parametrize("seed", range(100, 116))
def test_where_records_compete_the_order_of_the_log_decides(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    options = Options(
        events=random.randint(1, 4000),
        orgs=random.randint(1, 30),
        days=random.randint(1, 90),
        seed=seed,
        duplicates=random.random() / 5,
        poison=random.random() / 5,
        conflicts=random.random() / 5,
        drift=random.random() < 0.5,
        files=random.randint(1, 9),
    )
    generate(tmp_path / "delivery", options)
    calls = random.choice((0, 1, 2, 7))
    messed = mess(delivery(tmp_path / "delivery"), seed, calls=calls, doubled=random.random())
    batches = [number for number in range(len(messed.calls)) if random.random() < 0.3]

    house = played(tmp_path / "house", messed, batches=batches)

    oracle = Oracle(messed.arrived())
    assert_oracle(house, oracle)
    assert_ledger(house, oracle)
    tables = house.tables(layers=("bronze", "silver", "gold"))
    house.batch(full=True)
    assert_same(house.tables(layers=("bronze", "silver", "gold")), tables)
