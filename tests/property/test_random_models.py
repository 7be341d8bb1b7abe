"""What the linter lets pass follows the log: over models and rows that hypothesis makes up.

The linter proves that partial results add up, and which rows of a view change. A model that
it accepts and whose live rows are not the batch's would be a hole in the proof.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.intake.contracts import load_contract
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.models.graph import Models, models_of
from meterhouse.ports import Engine
from property.random_models import base, derived, view
from property.speed_cases import Entry, entries
from unit.layers.house import CATALOG, House
from unit.layers.live import live

CONTRACTS = {"usage_events": load_contract(CATALOG / "contracts/usage_events.yaml")}
SOURCES = bronze_schemas(CONTRACTS)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = DuckDBEngine(256 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("houses")
    return (folder / str(number) for number in itertools.count())


def accepted(texts: dict[str, str]) -> Models:
    """Return those of the models that the linter lets pass."""
    return models_of(
        {f"gold.{name}": (text, f"models/gold/{name}.sql") for name, text in texts.items()}, SOURCES
    )


@st.composite
def catalogs(draw: st.DrawFn) -> dict[str, str]:
    keys, measures, text = draw(base())
    texts = {"base": text, "total": draw(derived(keys, measures))}
    for number in range(draw(st.integers(1, 3))):
        texts[f"view_{number}"] = draw(view(keys))
    return texts


@settings(max_examples=40, deadline=None)
@given(catalogs(), entries(("usage_events",)), st.integers(0, 4), st.sampled_from([1, 4]))
def test_a_model_that_the_linter_lets_pass_follows_the_log(
    engine: Engine,
    root: Iterator[Path],
    texts: dict[str, str],
    log: list[Entry],
    published: int,
    rows: int,
) -> None:
    models = accepted(texts)
    assume("gold.base" in models and len(models.by_name) > 1)
    house = House(next(root), models, dict(CONTRACTS))
    house.engine = engine
    try:
        for source, judged in log:
            house.take(source, *judged)
        answers = live(house, group_rows=rows)
        if published:
            answers.publish(min(published, house.log.stamp().position))
        report = answers.follow()

        assert (report.stale, answers.served()) == ({}, answers.expected())
        answers.speed.close()
    finally:
        house.state.close()


def test_made_up_models_are_of_both_kinds() -> None:
    """Otherwise the test above would show nothing."""
    seen: dict[str, set[bool]] = {}

    @settings(max_examples=150, deadline=None, database=None)
    @given(catalogs())
    def look(texts: dict[str, str]) -> None:
        models = accepted(texts)
        for name in ["base", *(texts if "gold.base" in models else ())]:
            seen.setdefault(name.partition("_")[0], set()).add(f"gold.{name}" in models)

    look()

    both: Any = {True, False}
    assert seen == {"base": both, "total": both, "view": both}
