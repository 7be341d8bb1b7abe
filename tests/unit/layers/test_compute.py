"""Compute, merge and audit over small tables: order, sums, what a failed audit says."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import ModelError
from meterhouse.layers.compute import compute, failed_audits, merge_sql, result
from meterhouse.models.model import Model
from meterhouse.ports import Engine
from unit.models.samples import DAILY, SOURCES, load, text

READER = """SELECT
    daily.org_id::VARCHAR AS org_id,
    daily.event_count::BIGINT AS event_count
FROM gold.daily AS daily
"""
AUDITS = "audits:\n  - unique: [org_id]\n  - same_total: {cost_usd: bronze.usage.cost_usd}\n"
MODELS = load(
    gold_daily=text(DAILY, kind="mergeable", more=AUDITS),
    gold_reader=text(READER),
    gold_least=text(
        DAILY.replace("coalesce(sum(event.cost_usd), 0)", "min(event.cost_usd)"), kind="mergeable"
    ),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = DuckDBEngine(128 << 20, 1, Path("spill-is-not-needed"))
    yield opened
    opened.close()


def usage(*costs: str) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"event_id": f"e-{number}", "org_id": "o", "cost_usd": Decimal(cost)}
            for number, cost in enumerate(costs)
        ],
        SOURCES["bronze.usage"],
    )


def daily(model: Model, *rows: tuple[str, str, int]) -> pa.Table:
    return pa.table(
        {
            "org_id": pa.array([org for org, _, _ in rows], pa.string()),
            "cost_usd": pa.array([Decimal(cost) for _, cost, _ in rows], pa.decimal128(38, 9)),
            "event_count": pa.array([count for _, _, count in rows], pa.int64()),
        }
    ).select(model.stored_columns)


def test_a_model_and_what_it_reads_are_computed(engine: Engine) -> None:
    with engine.session({"bronze.usage": usage("0.1", "0.2")}) as session:
        made = compute(session, MODELS, ["gold.reader"])

        assert list(made) == ["gold.daily", "gold.reader"]
        assert result(session, MODELS["gold.daily"]).to_pylist() == [
            {"org_id": "o", "cost_usd": Decimal("0.3"), "event_count": 2}
        ]


def test_a_table_that_is_present_is_taken_as_it_is(engine: Engine) -> None:
    given = daily(MODELS["gold.daily"], ("given", "1", 7))

    with engine.session({"gold.daily": given}) as session:
        made = compute(session, MODELS, ["gold.reader"], present=["gold.daily"])

        assert list(made) == ["gold.reader"]
        assert result(session, MODELS["gold.reader"])["org_id"].to_pylist() == ["given"]


def test_partial_results_add_up_and_a_key_without_rows_vanishes(engine: Engine) -> None:
    model = MODELS["gold.daily"]
    relations = {
        "old": daily(model, ("a", "0.1", 1), ("b", "5", 2)),
        "new": daily(model, ("a", "0.2", 1)),
        "replaced": daily(model, ("b", "5", 2)),
    }

    with engine.session(relations) as session:
        found = session.query(merge_sql(model, ["old", "new"], ["replaced"]))

    assert found.to_pylist() == [{"org_id": "a", "cost_usd": Decimal("0.3"), "event_count": 2}]


def test_a_minimum_merges_but_is_not_taken_back(engine: Engine) -> None:
    model = MODELS["gold.least"]
    relations = {"old": daily(model, ("a", "0.1", 1)), "new": daily(model, ("a", "-4", 1))}

    with engine.session(relations) as session:
        found = session.query(merge_sql(model, ["old", "new"]))

    assert found["cost_usd"].to_pylist() == [Decimal(-4)]
    with pytest.raises(ModelError, match="can't be taken back"):
        merge_sql(model, ["old"], ["new"])


def test_a_failed_audit_says_which_rows_and_what_happens(engine: Engine) -> None:
    model = MODELS["gold.daily"]
    twice = daily(model, ("a", "1", 1), ("a", "2", 1))

    with engine.session({"gold.daily": twice, "bronze.usage": usage("4")}) as session:
        unique, total = failed_audits(session, model)

    assert 'audit "unique(org_id)" of model "gold.daily" failed: org_id=a, times=2' in unique.what
    assert "found=3.000000000, expected=4.000000000" in total.what
    assert "nothing was published" in unique.fix


def test_audits_that_hold_say_nothing(engine: Engine) -> None:
    model = MODELS["gold.daily"]
    relations = {"gold.daily": daily(model, ("o", "0.3", 2)), "bronze.usage": usage("0.1", "0.2")}

    with engine.session(relations) as session:
        assert failed_audits(session, model) == []
