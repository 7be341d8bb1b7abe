"""Every adapter of the Engine port keeps the same guarantees."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.engines import parquet
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.engines.parquet import partition_folder
from meterhouse.errors import EnvironmentFailureError, SqlError
from meterhouse.ports import Engine, ParquetFiles, Session

ODD = ["plain", "a/b", "é" * 64, "a=b", "%", " s p ", "..", "", "C:\\x", "~", "q'uo\"te", "a?*[b"]
SPENT = pa.table(
    {
        "org_id": pa.array(["o-1", "o-2", None]),
        "cost_usd": pa.array(
            [Decimal("0.1"), Decimal("-123456789012345678.000000001"), None],
            pa.decimal128(38, 9),
        ),
        "day": pa.array([date(2025, 7, 3), date(1, 1, 1), None]),
        "moment": pa.array(
            [datetime(2025, 7, 3, 4, 5, 6, 7, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")
        ),
        "raw": pa.array([b"\x00\xff", b"", None]),
        "billable": pa.array([True, False, None]),
        "count": pa.array([1, -(2**63), None], pa.int64()),
        "tags": pa.array([["a", None], [], None], pa.list_(pa.string())),
    }
)


@pytest.fixture(scope="session", params=["duckdb"])
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    adapter = DuckDBEngine(256 << 20, 2, tmp_path_factory.mktemp("spill"))
    yield adapter
    adapter.close()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with engine.session({"bronze.spent": SPENT}) as opened:
        yield opened


def test_values_and_types_pass_through_unchanged(session: Session) -> None:
    rows = session.query("SELECT * FROM bronze.spent")

    assert rows.schema.types == SPENT.schema.types
    assert rows.to_pylist() == SPENT.to_pylist()


def test_parquet_files_and_tables_are_the_same_relation(engine: Engine, tmp_path: Path) -> None:
    paths = (str(tmp_path / "it's [1].parquet"), str(tmp_path / "b?*.parquet"))
    pq.write_table(SPENT.slice(0, 1), paths[0])
    pq.write_table(SPENT.slice(1), paths[1])
    files = ParquetFiles(paths, SPENT.select(["day", "cost_usd"]).schema)

    with engine.session({"judged": files}) as session:
        rows = session.query("SELECT * FROM judged ORDER BY day DESC NULLS LAST")

    assert rows.column_names == ["day", "cost_usd"]
    assert rows.to_pylist() == SPENT.select(["day", "cost_usd"]).to_pylist()


def test_no_files_are_an_empty_relation(engine: Engine) -> None:
    with engine.session({"bronze.none": ParquetFiles((), SPENT.schema)}) as session:
        rows = session.query("SELECT * FROM bronze.none")

    assert rows.num_rows == 0
    assert rows.schema.types == SPENT.schema.types


def test_times_are_utc_whatever_the_zone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Argentina/Buenos_Aires")

    with engine.session({"spent": SPENT}) as session:
        rows = session.query(
            "SELECT moment::DATE AS day, moment::VARCHAR AS text FROM spent LIMIT 1"
        )
        streamed = session.stream("SELECT moment::VARCHAR AS text FROM spent LIMIT 1").read_all()

    assert rows.to_pylist() == [{"day": date(2025, 7, 3), "text": "2025-07-03 04:05:06.000007+00"}]
    assert streamed["text"].to_pylist() == ["2025-07-03 04:05:06.000007+00"]


def test_a_view_can_read_a_view_and_be_replaced(session: Session) -> None:
    session.view("silver.a", "SELECT org_id FROM bronze.spent")
    session.view("silver.b", "SELECT count(*) AS n FROM silver.a")
    session.view("silver.b", "SELECT count(org_id) AS n FROM silver.a")

    assert session.query("SELECT n FROM silver.b").to_pylist() == [{"n": 2}]


def test_sessions_do_not_see_each_other(engine: Engine) -> None:
    one, other = pa.table({"a": [1]}), pa.table({"a": [2]})

    with engine.session({"bronze.x": one}) as first, engine.session({"bronze.x": other}) as second:
        first.view("v", "SELECT a FROM bronze.x")
        second.view("v", "SELECT a FROM bronze.x")

        assert first.query("SELECT a FROM v").to_pylist() == [{"a": 1}]
        assert second.query("SELECT a FROM v").to_pylist() == [{"a": 2}]


def test_queries_run_while_streams_are_open(session: Session) -> None:
    first = session.stream("SELECT range AS n FROM range(200000)")
    head = first.read_next_batch().num_rows
    second = session.stream("SELECT org_id FROM bronze.spent")

    assert session.query("SELECT count(*) AS n FROM bronze.spent").to_pylist() == [{"n": 3}]
    assert second.read_all().num_rows == 3
    assert head + sum(batch.num_rows for batch in first) == 200000


def test_refused_sql_is_an_error_that_callers_can_translate(session: Session) -> None:
    with pytest.raises(SqlError, match="cost_eur"):
        session.query("SELECT cost_eur FROM bronze.spent")
    with pytest.raises(SqlError):
        session.view("v", "SELECT FROM WHERE")
    assert session.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_what_fails_late_is_translated_too_and_leaves_no_file(
    session: Session, tmp_path: Path
) -> None:
    sql = (
        "SELECT CASE WHEN n > 900000 THEN error('too late') ELSE 'x' END AS a"
        " FROM range(1000000) AS t(n)"
    )

    with pytest.raises(SqlError, match="too late"):
        session.stream(sql).read_all()
    with pytest.raises(SqlError, match="too late"):
        session.write(sql, str(tmp_path), name="part")
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_file_that_is_gone_is_an_environment_failure(engine: Engine, tmp_path: Path) -> None:
    files = ParquetFiles((str(tmp_path / "gone.parquet"),), SPENT.schema)

    with (
        pytest.raises(EnvironmentFailureError),
        engine.session({"judged": files}) as session,
    ):
        session.query("SELECT * FROM judged")


@pytest.mark.parametrize("partition_by", [(), ("service",), ("day", "service")])
def test_written_rows_are_read_back(
    session: Session, tmp_path: Path, partition_by: tuple[str, ...]
) -> None:
    values = ", ".join("('" + value.replace("'", "''") + "')" for value in ODD)
    session.view("odd", f"SELECT * FROM (VALUES {values}, (NULL)) AS given(service)")
    sql = (
        "SELECT service, DATE '2025-07-01' + (n % 2)::INTEGER AS day, n,"
        " MAP {coalesce(service, '-'): [n::VARCHAR]} AS tags FROM odd, range(10) AS counted(n)"
        " WHERE service IS NOT NULL OR n < 9"
    )

    files = session.write(sql, str(tmp_path / "table"), name="part", partition_by=partition_by)

    expected = session.query(f"SELECT * FROM ({sql}) WHERE service IS NOT NULL")
    written = [(file, pq.read_table(tmp_path / "table" / file.path)) for file in files]
    rows = [row for _, table in written for row in table.to_pylist()]
    assert sum(file.rows for file in files) == len(rows) == expected.num_rows + 9
    assert sorted(map(repr, expected.to_pylist())) == sorted(
        repr(row) for row in rows if row["service"] is not None
    )
    for file, table in written:
        assert file.size == (tmp_path / "table" / file.path).stat().st_size
        for column in partition_by:
            text = [None if value is None else str(value) for value in table[column].to_pylist()]
            assert set(text) == {file.partition.get(column)}
        assert (file.minimum["n"], file.maximum["n"]) == (
            str(min(table["n"].to_pylist())),
            str(max(table["n"].to_pylist())),
        )


def test_rows_are_written_in_the_order_given(session: Session, tmp_path: Path) -> None:
    sql = "SELECT n, n % 3 AS third FROM range(1000) AS t(n) ORDER BY n DESC"

    files = session.write(sql, str(tmp_path), name="part", partition_by=["third"])

    for file in files:
        numbers = pq.read_table(tmp_path / file.path)["n"].to_pylist()
        assert numbers == sorted(numbers, reverse=True)


def test_no_rows_are_no_files(session: Session, tmp_path: Path) -> None:
    assert session.write("SELECT 1 AS a WHERE false", str(tmp_path / "new"), name="part") == []


def test_more_partitions_than_open_files_are_written_all_the_same(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "OPEN_FILES", 3)
    sql = "SELECT n, n % 7 AS seventh FROM range(700) AS t(n) ORDER BY n DESC"

    files = session.write(sql, str(tmp_path), name="part", partition_by=["seventh"])

    assert len(files) == len(list(tmp_path.rglob("*.parquet"))) == 7
    for file in files:
        numbers = pq.read_table(tmp_path / file.path)["n"].to_pylist()
        assert numbers == [
            n for n in reversed(range(700)) if str(n % 7) == file.partition["seventh"]
        ]


def test_small_chunks_write_the_same_files(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "CHUNK_BYTES", 1)
    sql = "SELECT n, n % 2 AS half FROM range(200000) AS t(n)"

    files = session.write(sql, str(tmp_path), name="part", partition_by=["half"])

    assert sorted(file.path for file in files) == [
        "half=0/part-00000.parquet",
        "half=1/part-00000.parquet",
    ]
    assert [file.rows for file in files] == [100000, 100000]


def test_text_that_repeats_is_written_as_it_was(session: Session, tmp_path: Path) -> None:
    sql = (
        "SELECT n, n % 2 AS half, CASE WHEN n % 5 > 0 THEN 'few' || (n % 5) END AS few, "
        "'many' || (n % 3000) AS many FROM range(40000) AS t(n)"
    )

    files = session.write(sql, str(tmp_path), name="part", partition_by=["half"])

    written = pa.concat_tables(pq.read_table(tmp_path / file.path) for file in files)
    assert {field.type for field in written.schema if field.name in ("few", "many")} == {
        pa.string()
    }
    assert written.sort_by("n").to_pylist() == session.query(f"{sql} ORDER BY n").to_pylist()


def test_files_are_closed_before_their_row_groups_fill_the_memory(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "CHUNK_BYTES", 1)
    monkeypatch.setattr(parquet, "OPEN_ROW_GROUPS", 3)
    sql = "SELECT n, n % 2 AS half FROM range(400000) AS t(n)"

    files = session.write(sql, str(tmp_path), name="part", partition_by=["half"])

    assert len(files) > 2
    for half in ("0", "1"):
        mine = sorted(file.path for file in files if file.partition["half"] == half)
        numbers = [n for path in mine for n in pq.read_table(tmp_path / path)["n"].to_pylist()]
        assert numbers == list(range(int(half), 400000, 2))


def test_different_partition_values_never_share_a_folder() -> None:
    values = [None, "__HIVE_DEFAULT_PARTITION__", "é" * 64, "é" * 63 + "è", *ODD]

    folders = [partition_folder("service", value) for value in values]

    assert len({folder.lower() for folder in folders}) == len(set(values))
    assert all(len(folder) < 255 and "/" not in folder for folder in folders)


def test_a_locked_session_reads_its_files_and_nothing_else(tmp_path: Path) -> None:
    pq.write_table(SPENT, tmp_path / "mine.parquet")
    pq.write_table(SPENT, tmp_path / "other.parquet")
    files = ParquetFiles((str(tmp_path / "mine.parquet"),), SPENT.schema)
    engine = DuckDBEngine(256 << 20, 2, tmp_path / "spill", locked=True)

    with engine.session({"gold.spent": files}) as session:
        assert session.query("SELECT * FROM gold.spent").num_rows == 3
        assert session.stream("SELECT * FROM gold.spent").read_all().num_rows == 3
        for sql in (
            f"SELECT * FROM read_parquet('{tmp_path}/other.parquet')",
            f"SELECT * FROM read_text('{tmp_path}/other.parquet')",
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            "SET enable_external_access = true",
            "SET memory_limit = '100GB'",
            f"ATTACH '{tmp_path}/new.db'",
            "INSTALL httpfs",
        ):
            with pytest.raises((SqlError, EnvironmentFailureError)):
                session.query(sql)

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "mine.parquet",
        "other.parquet",
    ]


def test_rows_in_place_of_others_are_seen_by_a_planned_statement(session: Session) -> None:
    more = pa.concat_tables([SPENT.slice(0, 2)] * 40_000)
    session.replace("gold.part", SPENT.slice(0, 1))
    session.view("gold.daily", "SELECT org_id, sum(cost_usd) AS cost_usd FROM gold.part GROUP BY 1")
    sql = "SELECT org_id, cost_usd, count(*) OVER () AS keys FROM gold.daily ORDER BY org_id"

    found = []
    for rows in (SPENT.slice(0, 1), SPENT, SPENT.slice(0, 0), more, SPENT.slice(1, 1)):
        session.replace("gold.part", rows)
        found.append(session.query(sql, again=True)["org_id"].to_pylist())

    assert found == [["o-1"], ["o-1", "o-2", None], [], ["o-1", "o-2"], ["o-2"]]
    session.replace("gold.part", SPENT)
    assert session.query("SELECT * FROM gold.part", again=True).to_pylist() == SPENT.to_pylist()


def test_rows_of_other_columns_take_the_place_too(session: Session) -> None:
    sql = "SELECT * FROM bronze.spent ORDER BY ALL"
    before = session.query(sql, again=True).column_names

    session.replace("bronze.spent", pa.table({"org_id": ["x"], "more": [1]}))

    assert before == SPENT.column_names
    assert session.query(sql, again=True).to_pylist() == [{"org_id": "x", "more": 1}]
    session.view("bronze.spent", "SELECT 'v' AS org_id")
    assert session.query(sql, again=True).to_pylist() == [{"org_id": "v"}]


def test_a_statement_that_can_not_be_planned_says_why(session: Session) -> None:
    with pytest.raises(SqlError, match="nobody"):
        session.query("SELECT nobody FROM bronze.spent", again=True)

    assert session.query("SELECT 1 AS one", again=True).to_pylist() == [{"one": 1}]


def test_a_question_asked_again_is_about_the_rows_of_then(engine: Engine) -> None:
    sql = "SELECT sum(n)::BIGINT AS total FROM numbers WHERE n > 1"
    answers = [
        engine.ask(sql, {"numbers": pa.table({"n": pa.array(rows, pa.int64())})})
        for rows in ([1, 2, 3], [], [5], [7, 8])
    ]
    other = engine.ask(sql, {"numbers": pa.table({"n": pa.array(["4"]).cast(pa.int32())})})

    assert [rows["total"].to_pylist() for rows in answers] == [[5], [None], [5], [15]]
    assert other["total"].to_pylist() == [4]


def test_questions_of_many_kinds_at_once_have_their_own_answers(engine: Engine) -> None:
    def ask(number: int) -> int:
        rows = pa.table({f"n{number % 40}": pa.array([number], pa.int64())})
        return int(engine.ask(f"SELECT n{number % 40} AS n FROM t", {"t": rows})["n"][0].as_py())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(400))) == list(range(400))


def test_a_question_that_fails_can_be_asked_again(engine: Engine) -> None:
    sql = "SELECT CASE WHEN n = 0 THEN error('none') ELSE 'some' END AS said FROM t"
    rows = pa.table({"n": pa.array([0], pa.int64())})

    with pytest.raises(SqlError):
        engine.ask("SELECT missing FROM t", {"t": rows})
    for _ in range(2):
        with pytest.raises(SqlError, match="none"):
            engine.ask(sql, {"t": rows})
    assert engine.ask(sql, {"t": pa.table({"n": pa.array([3], pa.int64())})}).num_rows == 1
