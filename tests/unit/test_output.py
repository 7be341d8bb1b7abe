"""Where answers go: checked before work is done, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.cli.output import Destination, print_answer, table_file
from meterhouse.errors import UsageError
from meterhouse.formats import Column, RowsChunk

COLUMNS = [Column("a", "text")]
AS_OF = {"as_of": {"log_position": 1}}


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        Destination("jsn", None)

    assert raised.value.fix == 'did you mean "json"?'


def test_binary_formats_need_a_file() -> None:
    with pytest.raises(UsageError, match="not for the screen"):
        Destination("parquet", None)


def test_a_file_in_a_folder_that_does_not_exist_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Destination("csv", tmp_path / "nowhere" / "a.csv")


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.json", "json"), ("a.PARQUET", "parquet"), ("a.jsonl", "jsonl"), ("a", "csv")],
)
def test_the_files_name_says_the_format_when_nothing_else_does(name: str, format_: str) -> None:
    assert Destination(None, Path(name)).format == format_
    assert Destination("table", Path(name)).format == "table"


def test_away_from_a_terminal_the_format_is_csv_and_words_go_to_standard_error(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    to = Destination(None, None)

    print_answer(to, COLUMNS, [RowsChunk(COLUMNS, [("é",)])], AS_OF, ["as of position 1"])

    said = capfdbinary.readouterr()
    assert said.out == "a\né\n".encode()
    assert said.err == b"as of position 1\n"


def test_json_holds_its_position_itself(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_answer(Destination("json", None), COLUMNS, [], AS_OF, ["as of position 1"])

    said = capfdbinary.readouterr()
    assert b'"log_position":1' in said.out
    assert said.err == b""


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "answer.csv"
    path.write_text("before")

    def breaking() -> Iterator[RowsChunk]:
        yield RowsChunk(COLUMNS, [("x",)])
        raise InterruptedError

    with pytest.raises(InterruptedError):
        print_answer(Destination(None, path), COLUMNS, breaking(), AS_OF, [])

    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["answer.csv"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_arrow_tables_are_written_with_their_types(tmp_path: Path, name: str) -> None:
    table = pa.table({"a": ["x"], "b": pa.array([1], pa.decimal128(38, 9))})

    table_file(Destination(None, tmp_path / name), table.schema, table.to_batches(), [])

    found = tmp_path / name
    read = pq.read_table(found) if name == "a.parquet" else pa.ipc.open_file(found).read_all()
    assert read.equals(table)
