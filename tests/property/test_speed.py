"""speed(B, S] over batch(0, B] is batch(0, S], cell by cell, however the log is cut (G1, G2).

For the shipped models and over versions too: invoices and tickets that are corrected,
masters that leave a snapshot and come back, days of the future, times before 1970.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.ports import Engine
from property.speed_cases import Entry, entries
from unit.layers.house import House, shipped_contracts, shipped_models
from unit.layers.live import live

CONTRACTS = shipped_contracts()
MODELS = shipped_models(CONTRACTS)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = DuckDBEngine(256 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("houses")
    return (folder / str(number) for number in itertools.count())


@settings(max_examples=12, deadline=None)
@given(
    entries(),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from([1, 3, 1000]),
    st.booleans(),
)
def test_live_answers_are_those_of_a_batch_over_everything(
    engine: Engine,
    root: Iterator[Path],
    log: list[Entry],
    published: int,
    stop: int,
    rows: int,
    again: bool,
) -> None:
    house = House(next(root), MODELS, dict(CONTRACTS))
    house.engine = engine
    try:
        for source, judged in log:
            house.take(source, *judged)
        head = house.log.stamp().position
        answers = live(house, group_rows=rows)
        if published:
            answers.publish(min(published, head))

        answers.follow(min(max(published, stop), head))
        if again:
            answers.speed.close()
            answers.speed = answers.fresh()
        answers.follow()

        found, expected = answers.served(), answers.expected()
        assert found == expected
        stored = answers.store.answers()
        assert stored is not None
        assert (stored.stamp.position, stored.details.get("stale", {})) == (head, {})
        answers.speed.close()
    finally:
        house.state.close()
