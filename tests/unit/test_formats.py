"""How values are printed: once defined, and the same from Arrow."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest

from meterhouse.arrow_text import ArrowChunk, chunks_of, columns_of, rows_chunk
from meterhouse.errors import UsageError
from meterhouse.formats import (
    TEXT_FORMATS,
    Chunk,
    Column,
    RowsChunk,
    decimal_text,
    native,
    text,
    timestamp_text,
    write,
)

EXTRAS: Mapping[str, object] = {"as_of": {"log_position": 7}}
WHEN = datetime(2025, 8, 31, 10, 0, 5, tzinfo=UTC)


def printed(name: str, chunk: Chunk, columns: list[Column]) -> str:
    out = io.BytesIO()
    write(out, name, columns, [chunk], EXTRAS)
    return out.getvalue().decode()


def rows(*values: tuple[object, ...], **kinds: str) -> tuple[RowsChunk, list[Column]]:
    columns = [Column(name, kind) for name, kind in kinds.items()]  # type: ignore[arg-type]
    return RowsChunk(columns, values), columns


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0E-9", "0"),
        ("-0.000000000", "0"),
        ("1.500000000", "1.5"),
        ("100.000000000", "100"),
        ("100", "100"),
        ("1E+2", "100"),
        ("-1E-9", "-0.000000001"),
        ("12345678901234567890123456789.123456789", "12345678901234567890123456789.123456789"),
    ],
)
def test_decimals_are_plain(value: str, shown: str) -> None:
    assert decimal_text(Decimal(value)) == shown


def test_times_are_utc_with_a_fraction_only_where_there_is_one() -> None:
    west = WHEN.astimezone(timezone(timedelta(hours=-3)))

    assert timestamp_text(west) == "2025-08-31T10:00:05Z"
    assert timestamp_text(WHEN.replace(microsecond=500)) == "2025-08-31T10:00:05.000500Z"
    assert timestamp_text(WHEN.replace(tzinfo=None)) == "2025-08-31T10:00:05Z"


def test_csv_quotes_only_what_needs_it() -> None:
    chunk, columns = rows(
        ("a,b", Decimal("1.50"), True, None),
        ('say "hi"', Decimal(0), False, ""),
        ("é\r\n", None, None, "x"),
        **{"na,me": "text", "cost": "decimal", "flag": "boolean", "note": "text"},
    )

    shown = printed("csv", chunk, columns)

    assert shown == (
        '"na,me",cost,flag,note\n"a,b",1.5,true,\n"say ""hi""",0,false,""\n"é\r\n",,,x\n'
    )
    assert len(list(csv.reader(io.StringIO(shown, newline="")))) == 4


def test_a_row_of_one_null_is_still_a_line_with_something_on_it() -> None:
    chunk, columns = rows((None,), ("",), a="text")

    assert printed("csv", chunk, columns) == 'a\n""\n""\n'


def test_json_is_one_object_with_decimals_as_text() -> None:
    chunk, columns = rows(
        ("é\n", Decimal("0.10"), date(2025, 8, 31), WHEN, 2**70, ["a", None], b"\xff"),
        (None, None, None, None, None, None, None),
        **dict.fromkeys("abcdefg", "text"),
    )

    body = json.loads(printed("json", chunk, columns))

    assert body["columns"] == [*"abcdefg"]
    assert list(body["rows"][0].values()) == [
        "é\n",
        "0.1",
        "2025-08-31",
        "2025-08-31T10:00:05Z",
        2**70,
        ["a", None],
        "/w==",
    ]
    assert set(body["rows"][1].values()) == {None}
    assert body["as_of"] == {"log_position": 7}


def test_json_without_rows_is_an_empty_list() -> None:
    chunk, columns = rows(a="text")

    assert json.loads(printed("json", chunk, columns))["rows"] == []
    assert printed("jsonl", chunk, columns) == ""


def test_maps_are_objects_and_lists_are_json_text_in_csv() -> None:
    value = {"env": ["prod", None], "cost": [Decimal("1.0")]}

    assert native(value) == {"env": ["prod", None], "cost": ["1"]}
    assert text(value) == '{"env":["prod",null],"cost":["1"]}'


def test_json_has_no_word_for_nan() -> None:
    assert [native(value) for value in (float("nan"), float("inf"), 0.1)] == ["nan", "inf", 0.1]


def test_two_columns_of_one_name_are_refused_where_one_would_hide() -> None:
    columns = [Column("a", "text"), Column("a", "text")]
    chunk = RowsChunk(columns, [("x", "y")])

    assert printed("csv", chunk, columns) == "a,a\nx,y\n"
    with pytest.raises(UsageError, match='two columns are named "a"'):
        printed("json", chunk, columns)


def test_a_terminal_sees_aligned_columns_and_no_control_characters() -> None:
    chunk, columns = rows(
        ("\x1b[2J", Decimal("1.5")), ("表", Decimal(10)), (None, None), name="text", cost="decimal"
    )

    assert printed("table", chunk, columns) == (
        "name     cost\n───────  ────\n\\x1b[2J   1.5\n表         10\n\n"
    )


def test_a_long_table_keeps_the_widths_of_its_beginning() -> None:
    columns = [Column("a", "text"), Column("b", "integer")]
    many = RowsChunk(columns, [("x", 1)] * 1000 + [("longer than before", 2)])

    lines = printed("table", many, columns).splitlines()

    assert len(lines) == 1003
    assert lines[-1] == "longer than before  2"


def test_arrow_prints_what_the_definition_prints() -> None:
    batch = every_kind()
    columns = list(columns_of(batch.schema))

    for name in TEXT_FORMATS:
        slow = printed(name, rows_chunk(columns, batch), columns)
        assert printed(name, ArrowChunk(batch), columns) == slow


def every_kind() -> pa.RecordBatch:
    tags = pa.map_(pa.string(), pa.list_(pa.string()))
    decimals = [Decimal("0"), Decimal("-1E-9"), None, Decimal("7.25")]
    moments = [datetime(1, 1, 1, 0, 0, 0, 1, UTC), WHEN, None, datetime(1969, 12, 31, tzinfo=UTC)]
    columns: dict[str, pa.Array] = {
        "text": pa.array(["", 'é\x01\\ ,"\n', None, "\u2028\x7f"]),
        "view": pa.array(["a", None, "b", "c"], pa.string_view()),
        "large": pa.array(["a", None, "b", "c"], pa.large_string()),
        "words": pa.array(["a", None, "b", '"']).dictionary_encode(),
        "cost": pa.array(decimals, pa.decimal128(38, 9)),
        "rate": pa.array(decimals, pa.decimal128(38, 9)).slice(0),
        "huge": pa.array([0, 100, None, -(10**37)], pa.decimal128(38, 0)),
        "count": pa.array([0, -1, None, 2**63 - 1]),
        "flag": pa.array([True, False, None, True]),
        "day": pa.array([date.min, date.max, None, date(1969, 12, 31)]),
        "at": pa.array(moments, pa.timestamp("us", "UTC")),
        "there": pa.array([WHEN, WHEN, None, WHEN], pa.timestamp("us", "America/New_York")),
        "seconds": pa.array([0, 1, None, -1], pa.timestamp("s", "UTC")),
        "tags": pa.array([[("a", ["b", None])], [], None, [("k", None)]], tags),
        "listed": pa.array([[Decimal("1.50")], [None], None, []], pa.list_(pa.decimal128(9, 2))),
        "pair": pa.array([{"a": 1, "b": date(2025, 1, 1)}, {"a": None, "b": None}, None, None]),
        "raw": pa.array([b"\xff", b"", None, b"x"]),
        "real": pa.array([0.1, float("nan"), None, 1e300]),
        "clock": pa.array([time(1, 2, 3), None, None, time(0)], pa.time64("us")),
    }
    return pa.record_batch(columns)


def test_slices_of_a_batch_print_their_own_rows() -> None:
    batch = pa.record_batch({"a": ["x", "y", "z"], "b": [Decimal(1), None, Decimal(3)]})

    assert ArrowChunk(batch.slice(1, 2)).csv() == b"y,\nz,3\n"


def test_wide_batches_are_cut_into_pieces_that_fit_memory() -> None:
    batch = pa.record_batch({"a": ["x" * (9 << 20) for _ in range(8)]})

    pieces = list(chunks_of([batch, batch.slice(0, 0)]))

    assert sum(piece.batch.num_rows for piece in pieces) == 8
    assert max(piece.batch.num_rows for piece in pieces) < 8


@pytest.mark.parametrize("name", TEXT_FORMATS)
@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
        pa.array([2**63 - 1], pa.int64()).cast(pa.timestamp("us", "UTC")),
        pa.array([2**62], pa.int64()).cast(pa.timestamp("s")),
        pa.array([[2**31 - 1]], pa.list_(pa.int32())).cast(pa.list_(pa.date32())),
    ],
    ids=["infinite day", "infinite time", "far seconds", "nested"],
)
def test_a_day_that_has_no_printed_form_is_the_users_mistake(name: str, values: pa.Array) -> None:
    batch = pa.record_batch({"a": values})

    with pytest.raises(UsageError, match="no printed form"):
        printed(name, ArrowChunk(batch), list(columns_of(batch.schema)))
