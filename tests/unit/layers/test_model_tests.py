"""YAML examples of models: read exactly, and a mistake in one is pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.layers.model_tests import load_tests, run_tests
from meterhouse.ports import Engine
from unit.models.samples import DAILY, SOURCES, load, text

MODELS = load(gold_daily=text(DAILY, kind="mergeable"))
HOLDS = """costs_add_up:
  given:
    bronze.usage:
      - {event_id: e-1, org_id: o, cost_usd: 0.1}
      - {event_id: e-2, org_id: o, cost_usd: 0.2}
  expect:
    - {org_id: o, cost_usd: 0.3, event_count: 2}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = DuckDBEngine(128 << 20, 1, Path("spill-is-not-needed"))
    yield opened
    opened.close()


def problem(engine: Engine, folder: Path, yaml: str) -> str:
    (folder / "gold.daily.yaml").write_text(yaml)
    (outcome,) = run_tests(load_tests(folder), MODELS, SOURCES, engine)
    return outcome.problem


def test_numbers_are_read_as_text_so_a_tenth_is_a_tenth(engine: Engine, tmp_path: Path) -> None:
    assert problem(engine, tmp_path, HOLDS) == ""
    assert "cost_usd: 0.300000001" in problem(
        engine, tmp_path, HOLDS.replace("0.3,", "0.300000001,")
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bronze.usage", "bronze.usag", 'did you mean "bronze.usage"?'),
        ("cost_usd: 0.1", "cost_us: 0.1", 'did you mean "cost_usd"?'),
        ("cost_usd: 0.1", "cost_usd: lots", "'lots' in column \"cost_usd\""),
        ("cost_usd: 0.1", "cost_usd: 0.0000000001", 'in column "cost_usd"'),
        ("event_count: 2", "events: 2", 'names column "events"'),
        ("  expect:\n    - {org_id: o, cost_usd: 0.3, event_count: 2}", "  expect: []", "found 1"),
    ],
)
def test_a_mistake_in_an_example_is_pointed_at(
    engine: Engine, tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert said in problem(engine, tmp_path, HOLDS.replace(old, new))


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("costs: [", "not valid YAML"),
        ("- 1", "holds no tests"),
        ("costs: {given: {}}", "needs given: and expect:"),
        ("costs: {given: {bronze.usage: 3}, expect: []}", "needs lists of rows"),
        ("a: {given: {}, expect: []}\na: {given: {}, expect: []}", '"a" is there twice'),
    ],
)
def test_a_file_that_is_no_test_is_refused(tmp_path: Path, yaml: str, said: str) -> None:
    (tmp_path / "gold.daily.yaml").write_text(yaml)

    with pytest.raises(MeterhouseError, match=said):
        load_tests(tmp_path)


def test_tests_are_chosen_by_model_or_by_part_of_their_name(tmp_path: Path) -> None:
    (tmp_path / "gold.daily.yaml").write_text(HOLDS)

    assert [test.name for test in load_tests(tmp_path, "gold.daily")] == ["costs_add_up"]
    assert [test.name for test in load_tests(tmp_path, "add")] == ["costs_add_up"]
    with pytest.raises(UsageError, match="does not exist"):
        load_tests(tmp_path, "gold.dayly")
