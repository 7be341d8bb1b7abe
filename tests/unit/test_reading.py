"""Reading tables and running SQL over what is published, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import UsageError
from meterhouse.lake.published import Published, PublishedTable, StoredFile, encoded_schema
from meterhouse.layers.at_position import AtPosition
from meterhouse.layers.generation import Generation
from meterhouse.ports import Stamp
from meterhouse.reading import (
    Selection,
    grain_of,
    resolve,
    rows_of,
    rows_of_sql,
)

DAILY = "gold.daily"
SECRET = "the other file"


def table_of(name: str, schema: pa.Schema, *files: str) -> PublishedTable:
    stored = tuple(StoredFile(file, 1, 1, "hash") for file in files)
    return PublishedTable(name, 0, len(files), "model", encoded_schema(schema), (), stored, ())


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> AtPosition:
    root = tmp_path_factory.mktemp("lake")
    daily = pa.table(
        {
            "org_id": ["b", "a", "a", None],
            "usage_date": [date(2025, 8, 1), date(2025, 8, 2), date(2025, 8, 1), date(2025, 8, 1)],
            "cost_usd": pa.array(map(Decimal, ("1.5", "0.1", "0.2", "7")), pa.decimal128(38, 9)),
        }
    )
    pq.write_table(daily.slice(0, 2), root / "one.parquet")
    pq.write_table(daily.slice(2), root / "two.parquet")
    pq.write_table(pa.table({"word": [SECRET]}), root / "other.parquet")
    tables = [
        table_of(DAILY, daily.schema, "one.parquet", "two.parquet"),
        table_of("silver.orgs", daily.schema.remove(2)),
        table_of("silver.daily", daily.schema),
    ]
    published = Published(
        Stamp("p", 0, 3, "h"),
        datetime(2025, 9, 1, tzinfo=UTC),
        1,
        {table.name: table for table in tables},
        root=str(root),
    )
    return AtPosition(published, 3, published.ingest_ts, {}, {}, nothing_is_computed)


def nothing_is_computed() -> Generation:
    raise AssertionError("the answers stand where the lake does")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(256 << 20, 1, tmp_path, locked=True)
    yield engine
    engine.close()


def read(lake: AtPosition, engine: DuckDBEngine, **wanted: object) -> list[dict[str, object]]:
    selection = Selection(**wanted)  # type: ignore[arg-type]
    with rows_of(lake, engine, DAILY, ("org_id", "usage_date"), selection) as rows:
        return list(rows.read_all().to_pylist())


def run(lake: AtPosition, engine: DuckDBEngine, text: str) -> list[tuple[object, ...]]:
    with rows_of_sql(lake, engine, text) as rows:
        return [tuple(row.values()) for row in rows.read_all().to_pylist()]


def test_rows_come_sorted_by_the_grain_with_null_last(
    lake: AtPosition, engine: DuckDBEngine
) -> None:
    found = read(lake, engine)

    assert [(row["org_id"], row["cost_usd"]) for row in found] == [
        ("a", Decimal("0.2")),
        ("a", Decimal("0.1")),
        ("b", Decimal("1.5")),
        (None, Decimal(7)),
    ]


def test_columns_condition_and_limit_choose_a_part(lake: AtPosition, engine: DuckDBEngine) -> None:
    found = read(lake, engine, columns=("cost_usd",), where="org_id = 'a' -- of note", limit=1)

    assert found == [{"cost_usd": Decimal("0.2")}]


def test_a_limit_below_zero_is_refused(lake: AtPosition, engine: DuckDBEngine) -> None:
    with pytest.raises(UsageError, match="limit can't be -1"):
        read(lake, engine, limit=-1)


def test_a_condition_may_ask_another_table(lake: AtPosition, engine: DuckDBEngine) -> None:
    assert read(lake, engine, where="org_id IN (SELECT org_id FROM silver.orgs)") == []


@pytest.mark.parametrize(
    "where",
    [
        "1 = 1) OR (1 = 1",
        "1 = 1 ORDER BY 1",
        "1 = 1 GROUP BY ALL",
        "1 = 1; DROP VIEW gold.daily",
        "1 = 1 UNION SELECT 1",
        "1 = 1, 2 = 2",
        "1 = 1) -- ",
        "1 = 1 /*",
        "selec select",
        "",
    ],
)
def test_a_condition_is_one_expression(lake: AtPosition, engine: DuckDBEngine, where: str) -> None:
    if not where:
        assert len(read(lake, engine, where=where)) == 4
        return
    with pytest.raises(UsageError, match="condition"):
        read(lake, engine, where=where)


def test_unknown_columns_name_the_nearest(lake: AtPosition, engine: DuckDBEngine) -> None:
    for wanted in ({"columns": ("cost",)}, {"where": "cost > 1"}):
        with pytest.raises(UsageError) as raised:
            read(lake, engine, **wanted)
        assert raised.value.fix == 'did you mean "cost_usd"?'


def test_the_layer_may_be_left_out_where_that_is_clear(lake: AtPosition) -> None:
    assert resolve(lake, "orgs") == "silver.orgs"
    assert resolve(lake, " Gold.Daily ") == "gold.daily"
    with pytest.raises(UsageError, match=r"could be gold\.daily and silver\.daily"):
        resolve(lake, "daily")
    with pytest.raises(UsageError, match=r'"silver\.org"') as raised:
        resolve(lake, "silver.org")
    assert raised.value.fix == 'did you mean "silver.orgs"?'


def test_the_grain_is_that_of_the_model_else_all_columns(lake: AtPosition, tmp_path: Path) -> None:
    header = "/* ---\ndescription: d\nowner: o\nkind: view\ngrain: [org_id, gone]\n"
    header += "columns: {org_id: Organisation.}\n"
    (tmp_path / "models" / "gold").mkdir(parents=True)
    model = tmp_path / "models" / "gold" / "daily.sql"

    assert grain_of(lake, tmp_path, DAILY) == ("org_id", "usage_date", "cost_usd")
    model.write_text("SELECT 1")
    assert grain_of(lake, tmp_path, DAILY) == ("org_id", "usage_date", "cost_usd")
    model.write_text(f"{header}--- */ SELECT 1")
    assert grain_of(lake, tmp_path, DAILY) == ("org_id",)


def test_sql_reads_every_table_at_once(lake: AtPosition, engine: DuckDBEngine) -> None:
    text = "SELECT org_id, sum(cost_usd) FROM Gold.Daily GROUP BY 1 ORDER BY 1 NULLS LAST"

    assert run(lake, engine, text) == [
        ("a", Decimal("0.3")),
        ("b", Decimal("1.5")),
        (None, Decimal(7)),
    ]
    joined = "FROM gold.daily AS d LEFT JOIN silver.orgs AS o USING (org_id) SELECT count(*)"
    assert run(lake, engine, joined) == [(4,)]


def test_the_catalog_lists_every_table(lake: AtPosition, engine: DuckDBEngine) -> None:
    text = (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'silver' ORDER BY 1"
    )

    assert run(lake, engine, text) == [("daily",), ("orgs",)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 1; SELECT 2", "2 statements"),
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("SELEC 1", "not SQL"),
        ("SELECT '", "not SQL"),
        ("CREATE TABLE t AS SELECT 1", "CREATE, not SELECT"),
        ("COPY (SELECT 1) TO '/dev/null'", "COPY, not SELECT"),
        ("ATTACH ':memory:' AS x", "ATTACH, not SELECT"),
        ("SET threads = 1", "not SELECT"),
        ("INSTALL httpfs", "not SELECT"),
        ("PRAGMA version", "not SELECT"),
    ],
)
def test_anything_but_one_select_is_refused(
    lake: AtPosition, engine: DuckDBEngine, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        run(lake, engine, text)


@pytest.mark.parametrize(
    "source",
    [
        "read_parquet('{root}/other.parquet')",
        "'{root}/other.parquet'",
        "read_text('/etc/hostname')",
        "read_csv('/etc/passwd')",
        "glob('/*')",
        "'https://example.com/a.parquet'",
    ],
)
def test_files_and_network_are_out_of_reach(
    lake: AtPosition, engine: DuckDBEngine, source: str
) -> None:
    with pytest.raises(UsageError, match="reaches no files") as raised:
        run(lake, engine, f"SELECT * FROM {source.format(root=lake.published.root)}")

    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("FROM gold.dayly", 'table "gold.dayly"', 'did you mean "gold.daily"?'),
        ("FROM orgs", 'table "orgs"', "write its layer too: silver.orgs"),
        ("FROM silver.orgz", 'orgz" does not exist', 'did you mean "silver.orgs"?'),
        ("FROM daily", 'table "daily" could be', "write its layer too"),
        ("SELECT cost_us FROM gold.daily", 'column "cost_us"', 'did you mean "cost_usd"?'),
        ("SELECT d.org FROM gold.daily AS d", 'column "org"', 'did you mean "org_id"?'),
        ("SELECT lower(1, 2)", "SQL can't be run", "correct the SQL"),
        ("SELECT org_id::INTEGER FROM gold.daily", "Could not convert", "correct the SQL"),
    ],
)
def test_a_mistake_is_told_with_the_nearest_name(
    lake: AtPosition, engine: DuckDBEngine, text: str, what: str, fix: str
) -> None:
    with pytest.raises(UsageError) as raised:
        run(lake, engine, text)

    assert what in raised.value.what
    assert raised.value.fix == fix
