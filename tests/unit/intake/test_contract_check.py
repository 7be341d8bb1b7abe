"""`contract check`: the engine binds every expression, and each refusal points into the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import MeterhouseError
from meterhouse.intake.contract_check import check_contracts
from meterhouse.intake.infer import SHIPPED_CONTRACTS

USAGE = (SHIPPED_CONTRACTS / "usage_events.yaml").read_text("utf-8")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(2**28, 1, tmp_path_factory.mktemp("spill"))
    yield engine
    engine.close()


def mistakes(
    folder: Path, engine: DuckDBEngine, old: str = "", new: str = ""
) -> list[MeterhouseError]:
    assert old in USAGE
    (folder / "usage_events.yaml").write_text(USAGE.replace(old, new, 1), "utf-8")
    return check_contracts(folder, engine)


def place_of(folder: Path, text: str) -> str:
    lines = (folder / "usage_events.yaml").read_text("utf-8").splitlines()
    line = next(number for number, line in enumerate(lines, 1) if text in line)
    return f"{folder / 'usage_events.yaml'}:{line}:{lines[line - 1].index(text) + 1}"


def test_the_shipped_contracts_are_valid(engine: DuckDBEngine) -> None:
    assert check_contracts(SHIPPED_CONTRACTS, engine) == []


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("cost_usd_increment >= -0.01", "cost_usd_increment + 1", "boolean is needed"),
        ("event_ts <= ingest_ts", "event_ts <= org_id", "Cannot compare values"),
        ("event_ts <= ingest_ts", "unit AND org_id = 'x'", "Could not convert string"),
        ("event_ts <= ingest_ts", "org_id > 5", "Cannot compare values"),
        ("event_ts <= ingest_ts", "schema_version * schema_version > 1", "verflow"),
        ("event_ts <= ingest_ts", "no_such_function(event_ts)", "no_such_function"),
        (
            "CAST(event_ts AS DATE)",
            "CAST(event_ts AS TIMESTAMPTZ)",
            "timestamp, where date is needed",
        ),
    ],
)
def test_an_expression_that_the_engine_refuses_is_named_with_its_place(
    old: str, new: str, what: str, tmp_path: Path, engine: DuckDBEngine
) -> None:
    found = mistakes(tmp_path, engine, old, new)

    assert len(found) == 1
    assert what in found[0].what
    assert found[0].where == place_of(tmp_path, new)


def test_a_repair_must_give_the_type_of_its_column(tmp_path: Path, engine: DuckDBEngine) -> None:
    condition = "value_num IS NULL OR (unit IS NOT NULL AND unit <> '')"
    old = f"    holds: {condition}\n    severity: quarantine"
    new = "    holds: unit <> ''\n    severity: repair\n    repair: {unit: value_num}"

    found = mistakes(tmp_path, engine, old, new)

    assert [error.what for error in found] == [
        "expression is of type decimal, where text is needed"
    ]
    assert found[0].where == place_of(tmp_path, "value_num}")


def test_every_mistake_of_every_file_is_reported_in_one_go(
    tmp_path: Path, engine: DuckDBEngine
) -> None:
    (tmp_path / "broken.yaml").write_text("sorce: x\n")
    two = USAGE.replace("unit <> '')", "org_id)").replace("event_ts <= ingest_ts", "event_ts")
    (tmp_path / "usage_events.yaml").write_text(two, "utf-8")

    found = check_contracts(tmp_path, engine)

    assert [Path(error.where.split(":")[0]).name for error in found] == [
        "broken.yaml",
        "usage_events.yaml",
        "usage_events.yaml",
    ]


def test_two_contracts_for_one_table_or_the_same_files_are_reported(
    tmp_path: Path, engine: DuckDBEngine
) -> None:
    renamed = USAGE.replace("source: usage_events", "source: other").replace(
        "bronze.usage_events", "bronze.other"
    )
    (tmp_path / "a.yaml").write_text(renamed, "utf-8")
    same_table = mistakes(tmp_path, engine)
    (tmp_path / "a.yaml").write_text(renamed.replace("bronze.quarantine_usage", "bronze.held"))
    same_files = mistakes(tmp_path, engine)

    assert [error.what for error in same_table] == [
        'two contracts are for the same table "bronze.quarantine_usage"'
    ]
    assert 'patterns "events*.jsonl" and "events*.jsonl"' in same_files[0].what


def test_a_folder_without_contracts_is_a_mistake(tmp_path: Path, engine: DuckDBEngine) -> None:
    assert [error.what for error in check_contracts(tmp_path, engine)] == ["there are no contracts"]


def test_contracts_with_other_column_names_bind_too(tmp_path: Path, engine: DuckDBEngine) -> None:
    shutil.copy(SHIPPED_CONTRACTS / "users.yaml", tmp_path)
    old = "event_id: {type: text,"

    assert mistakes(tmp_path, engine, old, f'{old} from: "Ereignis-Nr. (größte)",') == []
