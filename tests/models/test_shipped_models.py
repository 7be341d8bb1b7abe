"""The shipped catalog: it lints, it binds, and its YAML examples hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import meterhouse
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.intake.contracts import load_contracts
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.layers.model_check import check_models
from meterhouse.layers.model_tests import ModelTest, load_tests, run_test
from meterhouse.models.graph import load_models
from meterhouse.ports import Engine

CATALOG = Path(meterhouse.__file__).parent / "catalog"
TESTS = load_tests(CATALOG / "models" / "tests")
SOURCES = bronze_schemas(load_contracts(CATALOG / "contracts"))
MODELS = load_models(CATALOG / "models", SOURCES)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = DuckDBEngine(256 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.title)
def test_an_example_of_a_model_holds(test: ModelTest, engine: Engine) -> None:
    assert run_test(test, MODELS, SOURCES, engine) == ""


def test_every_model_lints_and_binds(engine: Engine) -> None:
    assert [str(one) for one in check_models(MODELS, SOURCES, engine)] == []


def test_every_model_has_an_example() -> None:
    assert set(MODELS.order) - {test.model for test in TESTS} == set()


def test_every_gold_model_says_how_it_is_asked() -> None:
    gold = [MODELS[name] for name in MODELS.order if MODELS[name].served]

    assert all(set(model.partition_key) <= set(model.grain) for model in gold)
    assert all(model.partition_key for model in gold)


def test_every_gold_table_but_the_anomalies_is_live() -> None:
    gold = [MODELS[name] for name in MODELS.order if MODELS[name].served]

    assert MODELS.on_read == ("gold.usage_sliding_15min",)
    assert [model.name for model in gold if not model.live] == ["gold.cost_anomaly_mart"]
    assert {model.name: model.live_by for model in gold if model.live_by} == {
        "gold.revenue_by_org_month": ("org_id", "month"),
        "gold.nps_by_org": ("org_id",),
    }


def test_window_tables_keep_their_latest_rows_in_serving() -> None:
    kept = {name: MODELS[name].keep for name in MODELS.order if MODELS[name].keep}

    assert kept == {"gold.usage_by_5min": "window_start"}


def test_money_is_never_a_double(engine: Engine) -> None:
    types = {column.type for name in MODELS.order for column in MODELS[name].columns}

    assert types <= {
        "VARCHAR",
        "BIGINT",
        "BOOLEAN",
        "DATE",
        "TIMESTAMPTZ",
        "DECIMAL(38, 9)",
        "DECIMAL(38, 6)",
        "VARCHAR[]",
        "MAP(VARCHAR, VARCHAR[])",
    }


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (
            "gold.org_daily_usage_by_service",
            "org_id usage_date service daily_cost_usd requests cpu_hours storage_gb_hours "
            "genai_tokens carbon_kg event_count requests_reported_count cpu_hours_reported_count "
            "storage_gb_hours_reported_count genai_reported_count carbon_reported_count",
        ),
        (
            "gold.genai_tokens_by_org_date",
            "org_id usage_date total_tokens genai_cost_usd event_count cost_per_1k_tokens_usd",
        ),
        (
            "gold.usage_by_5min",
            "window_start org_id service region cost_usd event_count genai_tokens "
            "genai_reported_count",
        ),
        (
            "gold.usage_sliding_15min",
            "window_start org_id service region cost_usd event_count genai_tokens "
            "genai_reported_count",
        ),
        (
            "gold.revenue_by_org_month",
            "org_id month subtotal_usd credits_usd taxes_usd total_cost_usd invoice_count "
            "currencies",
        ),
        (
            "gold.tickets_by_org_date",
            "org_id ticket_date severity ticket_count sla_breached_count resolved_count "
            "open_count csat_sum csat_count resolution_hours_sum sla_breach_rate csat_avg "
            "avg_resolution_hours",
        ),
        (
            "gold.nps_by_org",
            "org_id survey_count scored_count last_survey_date last_nps_score avg_nps_score "
            "nps_class",
        ),
        (
            "gold.marketing_by_channel_month",
            "channel campaign month touch_count clicked_count converted_count click_rate "
            "conversion_rate",
        ),
        (
            "gold.cost_anomaly_mart",
            "org_id usage_date service daily_cost_usd z_score mad_score p99_usd flag_zscore "
            "flag_mad flag_p99 anomaly_score",
        ),
    ],
)
def test_a_table_has_the_columns_that_users_know(table: str, columns: str) -> None:
    names = [column.name for column in MODELS[table].columns]

    assert set(columns.split()) <= set(names)


def test_a_model_of_the_user_is_checked_with_file_and_line(engine: Engine, tmp_path: Path) -> None:
    for layer in ("silver", "gold"):
        (tmp_path / layer).mkdir()
    model = tmp_path / "gold" / "mine.sql"
    model.write_text(
        "/* ---\ndescription: Mine.\nowner: me@example.com\nkind: view\ngrain: [org_id]\n"
        "batch_only: An example.\ncolumns:\n  org_id: Organisation.\n--- */\n"
        "SELECT\n    regexp_extract(event.org_id, 1, 2, 3)::VARCHAR AS org_id\n"
        "FROM bronze.usage_events AS event\n"
    )

    (found,) = check_models(load_models(tmp_path, SOURCES), SOURCES, engine)

    assert found.where == f"{model}:11"
    assert "regexp_extract" in found.what


def test_an_example_that_does_not_hold_names_the_rows(engine: Engine) -> None:
    test = ModelTest(
        "gold.finops_by_org_day",
        "wrong",
        {
            "gold.org_daily_usage_by_service": [
                {"org_id": "a", "usage_date": "2025-07-01", "daily_cost_usd": "0.1"}
            ]
        },
        [{"org_id": "a", "daily_cost_usd": "0.2"}],
        "wrong.yaml",
    )

    assert run_test(test, MODELS, SOURCES, engine).splitlines() == [
        "expected, not found: org_id: a, daily_cost_usd: 0.200000000",
        "found, not expected: org_id: a, daily_cost_usd: 0.100000000",
    ]


def test_a_file_beside_the_layers_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gold").mkdir()
    (tmp_path / "mine.sql").write_text("SELECT 1")
    (tmp_path / "gold" / "My Mart.sql").write_text("SELECT 1")

    found = load_models(tmp_path, SOURCES).problems

    assert [one.what for one in found] == [
        'file "gold/My Mart.sql" is not a model',
        'file "mine.sql" is not a model',
    ]


def test_bronze_holds_what_models_read() -> None:
    assert set(MODELS.sources(MODELS.order)) <= set(SOURCES)
    assert all(isinstance(schema, pa.Schema) for schema in SOURCES.values())
