"""f(a ++ b) = merge(f(a), f(b)): what batch and speed layer both rest on (G1).

For every shipped mergeable model, over rows that hypothesis makes up; for facts that are
versions also f(a - r + b) = merge(f(a), f(b)) - f(r). A model over another mergeable one is
linear: run over what is merged into the table below, it gives what is merged into its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meterhouse
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.intake.contracts import load_contracts
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.layers.compute import compute, difference_sql, merge_sql, stored_sql
from meterhouse.models.finalize import arrow_schema, finalize
from meterhouse.models.graph import load_models
from meterhouse.models.model import Model
from meterhouse.ports import Engine, Relation

CATALOG = Path(meterhouse.__file__).parent / "catalog"
SOURCES = bronze_schemas(load_contracts(CATALOG / "contracts"))
MODELS = load_models(CATALOG / "models", SOURCES)
MERGEABLE = [MODELS[name] for name in MODELS.order if MODELS[name].kind == "mergeable"]
DERIVED = [one for one in MERGEABLE if MODELS[one.fact].kind == "mergeable"]
VERSIONED = [one for one in MERGEABLE if MODELS.base_fact(one.name).endswith("_current")]
ROUNDS = settings(max_examples=10, deadline=None)

VALUES: dict[str, list[Any]] = {
    "VARCHAR": ["compute", "genai", "requests", "cpu_hours", "low", "", None],
    "BIGINT": [0, 1, -24, 48, None],
    "BOOLEAN": [True, False, None],
    "DATE": [date(2025, 7, 31), date(2025, 8, 1), None],
    "TIMESTAMPTZ": [
        datetime(2025, 7, 31, 23, 59, 59, 999999, UTC),
        datetime(2025, 7, 31, 23, 55, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 50, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        None,
    ],
    "DECIMAL(38, 9)": [
        Decimal(text)
        for text in ("0.1", "0.2", "-0.01", "0.000000001", "999999999999999999.999999999", "0")
    ]
    + [None],
}
KEYS: dict[str, list[Any]] = {
    "VARCHAR": ["a", "b"],
    "DATE": [date(2025, 7, 31), date(2025, 8, 1)],
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = DuckDBEngine(256 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


def facts_of(model: Model) -> Model:
    """Return the model of the rows that are added up, through what is merged in between."""
    below = MODELS[model.fact]
    return facts_of(below) if below.kind == "mergeable" else below


def facts(model: Model) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of the model's fact table, few keys so that they meet."""
    fact = facts_of(model)
    grouping = {"org_id", "event_date", "month", "currency", "touch_date", "survey_date", "channel"}
    return st.lists(
        st.fixed_dictionaries(
            {
                column.name: st.sampled_from(
                    (KEYS if column.name in grouping else VALUES).get(column.type, [None])
                )
                for column in fact.columns
            }
        ),
        max_size=12,
    )


def partials(engine: Engine, model: Model, *lists: list[dict[str, Any]]) -> list[pa.Table]:
    """Run the model over each list of facts on its own, as batch and speed layer do."""
    fact = facts_of(model)
    schema = arrow_schema(fact)
    relations: dict[str, Relation] = {
        f"rows_{number}": pa.Table.from_pylist(rows, schema) for number, rows in enumerate(lists)
    }
    found = []
    with engine.session(relations) as session:
        for name in relations:
            session.view(fact.name, f"SELECT * FROM {name}")
            compute(session, MODELS, [model.name], present=[fact.name])
            found.append(session.query(stored_sql(model)))
    return found


def merged(
    engine: Engine, model: Model, parts: list[pa.Table], removed: list[pa.Table]
) -> pa.Table:
    relations: dict[str, Relation] = {f"part_{n}": part for n, part in enumerate(parts)}
    taken: dict[str, Relation] = {f"removed_{n}": part for n, part in enumerate(removed)}
    with engine.session({**relations, **taken}) as session:
        return session.query(merge_sql(model, list(relations), list(taken)))


def finished(model: Model, rows: pa.Table) -> pa.Table:
    found = finalize(model, rows)
    return found.sort_by([(column, "ascending") for column in model.grain])


@pytest.mark.parametrize("model", MERGEABLE, ids=lambda model: model.name)
def test_partial_results_add_up_wherever_the_rows_are_split(engine: Engine, model: Model) -> None:
    @ROUNDS
    @given(facts(model), st.integers(0, 12), st.integers(0, 12))
    def law(rows: list[dict[str, Any]], first: int, second: int) -> None:
        low, high = sorted((first, second))

        whole, *parts = partials(engine, model, rows, rows[:low], rows[low:high], rows[high:])

        found = merged(engine, model, parts, [])
        assert finished(model, found).equals(finished(model, whole))

    law()


@pytest.mark.parametrize("model", MERGEABLE, ids=lambda model: model.name)
def test_the_order_of_parts_and_of_merges_does_not_matter(engine: Engine, model: Model) -> None:
    @ROUNDS
    @given(facts(model), facts(model), facts(model))
    def law(
        first: list[dict[str, Any]], second: list[dict[str, Any]], third: list[dict[str, Any]]
    ) -> None:
        a, b, c = partials(engine, model, first, second, third)

        left = merged(engine, model, [merged(engine, model, [a, b], []), c], [])
        right = merged(engine, model, [c, merged(engine, model, [b, a], [])], [])

        assert finished(model, left).equals(finished(model, right))

    law()


@pytest.mark.parametrize("model", VERSIONED, ids=lambda model: model.name)
def test_a_version_that_is_replaced_is_taken_back(engine: Engine, model: Model) -> None:
    @ROUNDS
    @given(facts(model), facts(model), st.integers(0, 12))
    def law(before: list[dict[str, Any]], new: list[dict[str, Any]], kept: int) -> None:
        whole, old, added, replaced = partials(
            engine, model, [*before[:kept], *new], before, new, before[kept:]
        )

        found = merged(engine, model, [old, added], [replaced])

        assert finished(model, found).equals(finished(model, whole))

    law()


@pytest.mark.parametrize("model", DERIVED, ids=lambda model: model.name)
def test_what_is_merged_into_a_table_gives_what_is_merged_into_one_over_it(
    engine: Engine, model: Model
) -> None:
    below = MODELS[model.fact]

    @ROUNDS
    @given(facts(model), facts(model), st.integers(0, 12))
    def law(before: list[dict[str, Any]], new: list[dict[str, Any]], kept: int) -> None:
        after = [*before[:kept], *new]
        whole, old = partials(engine, model, after, before)
        added, gone = partials(engine, below, new, before[kept:])
        names = {"gold.added": added, "gold.gone": gone}

        with engine.session(names) as session:
            session.view(below.name, difference_sql(below, ["gold.added"], ["gold.gone"]))
            change = session.query(model.sql)

        found = merged(engine, model, [old, change], [])
        assert finished(model, found).equals(finished(model, whole))

    law()
