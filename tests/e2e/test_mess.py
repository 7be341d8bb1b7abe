"""Mess changes nothing: however the same records arrive, silver and gold are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from e2e.house import House, assert_ledger, assert_oracle, assert_same, delivery, once, plain
from e2e.mess import Mess, mess
from meterhouse.synth import Options, generate
from meterhouse.verify import Term
from oracle import Oracle, records
from oracle.sources import SOURCES

Terms = dict[tuple[str, str], Term]

CALM = Options(
    events=900, orgs=8, days=20, seed=5, duplicates=0.02, poison=0.06, conflicts=0, files=5
)
"""Without two payloads of one id: then no order of arrival matters at all."""


def played(root: Path, calls: Mess, *, batches: Sequence[int] = ()) -> House:
    """A project that took the delivery call by call, published after some and at the end."""
    house = House.new(root)
    for number, files in enumerate(calls.calls):
        folder = house.inbox / f"{number:03}"
        for name, data in files:
            house.put(f"{number:03}/{name}", data)
        house.ingest(folder)
        if number in batches:
            house.batch()
    house.batch()
    return house


def cost(lines: Sequence[bytes]) -> Decimal:
    """What the readable amounts of event lines add up to."""
    found, _ = records.read(SOURCES["usage_events"], "copies", b"\n".join(lines))
    return sum((one.row.get("cost_usd_increment") or Decimal(0) for one in found), Decimal(0))


def assert_explained(house: House, before: Terms, messed: Mess) -> None:
    """Every record that came once more is a duplicate, to the cent; nothing else moved."""
    after = terms(house)
    assert set(after) == set(before)
    for source, measure in before:
        if measure != "records":
            continue
        was, now = before[source, measure], after[source, measure]
        extra = messed.extra[source]
        assert (now.accepted, now.quarantined) == (was.accepted, was.quarantined), source
        assert (now.current, now.superseded) == (was.current, was.superseded), source
        assert int(now.landed) == int(was.landed) + extra, source
        assert int(now.duplicate) == int(was.duplicate) + extra, source
    was, now = (one["usage_events", "cost_usd_increment USD"] for one in (before, after))
    added = cost(messed.copies)
    assert (now.accepted, now.quarantined) == (was.accepted, was.quarantined)
    assert now.landed == plain(Decimal(was.landed) + added)
    assert now.duplicate == plain(Decimal(was.duplicate) + added)


def terms(house: House) -> Terms:
    """The proven ledger: (source, measure) → its terms."""
    return {(term.source, term.measure): term for term in house.verified().terms}


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


@pytest.mark.parametrize("seed", range(4))
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

    house = played(tmp_path / "house", messed, batches=[0, 1])

    ids = house.table("bronze.usage_events")["event_id"].to_pylist()
    assert len(ids) == len(set(ids))
    places = as_delivered(house.table("bronze.usage_events"))
    assert max(places.values()) == 1
    assert not places.keys() & as_delivered(house.table("bronze.quarantine_usage")).keys()


@pytest.mark.sample
def test_the_sample_cut_shuffled_and_redelivered_in_seven_calls_gives_the_same_tables(
    sample_house: House, sample_terms: Terms, sample: Path, tmp_path: Path
) -> None:
    messed = mess(delivery(sample), 7, calls=7)
    assert messed.extra["usage_events"] >= 2160

    house = played(tmp_path / "house", messed, batches=[3])

    assert_same(house.tables(), sample_house.tables())
    assert_explained(house, sample_terms, messed)


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
