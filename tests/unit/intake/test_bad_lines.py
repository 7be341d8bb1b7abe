"""The matrix of bad and odd records: bytes in, problems and values out, on both paths."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pytest

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.parse import parse
from unit.intake.bad_lines import (
    CSV_ROWS,
    HEADER,
    LINES,
    MALFORMED,
    MALFORMED_LINES,
    OUT_OF_RANGE,
    ROW,
    UNREADABLE,
    UNREADABLE_TIMES,
    VALUES,
    at,
    cost,
)
from unit.intake.contracts_for_tests import events, invoices

Path = Literal["auto", "slow"]


@pytest.fixture(params=["auto", "slow"])
def path(request: pytest.FixtureRequest) -> Path:
    return request.param  # type: ignore[no-any-return]


def judged(line: bytes, path: Path) -> dict[str, Any]:
    """Parse a line between two good ones; return its row."""
    good = b'{"event_id": "%b", "value": 1.5}\n'
    parsed = parse(good % b"before" + line + b"\n" + good % b"after", events(), path=path)

    rows = parsed.rows.to_pylist()
    assert [row["event_id"] for row in rows[::2]] == ["before", "after"]
    assert [row["problems"] for row in rows[::2]] == [None, None]
    assert [row["source_line"] for row in rows] == [1, 2, 3]
    assert parsed.records[1].as_py() == line
    return dict(rows[1])


@pytest.mark.parametrize("name", MALFORMED_LINES)
def test_a_malformed_line_is_a_row_of_nothing_else(name: str, path: Path) -> None:
    row = judged(MALFORMED_LINES[name], path)

    assert row.pop("problems") == MALFORMED
    del row["source_line"], row["payload_hash"]
    assert set(row.values()) == {None}


@pytest.mark.parametrize("name", LINES)
def test_an_odd_line_is_judged_by_its_values(name: str, path: Path) -> None:
    line, problems, values = LINES[name]

    row = judged(line, path)

    assert row["problems"] == problems
    assert {column: row[column] for column in values} == values


@pytest.mark.parametrize("text", UNREADABLE_TIMES)
def test_a_time_that_is_none_is_unreadable(text: str, path: Path) -> None:
    row = judged(at(text), path)

    assert row["problems"] == UNREADABLE
    assert row["event_ts"] is None
    assert row["timestamp"] is not None
    assert row["unreadable"].startswith('{"timestamp":"')


def test_blank_lines_are_counted_and_are_no_records(path: Path) -> None:
    data = b'\n  \t\r\n{"event_id": "a"}\r\n\r\n{"event_id": "b"}\n \n'

    parsed = parse(data, events(), path=path, first_line=11)

    assert parsed.rows["event_id"].to_pylist() == ["a", "b"]
    assert parsed.rows["source_line"].to_pylist() == [13, 15]
    assert (parsed.lines, parsed.blank) == (6, 4)
    assert parsed.records.to_pylist() == [b'{"event_id": "a"}', b'{"event_id": "b"}']


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_how_the_last_line_ends_does_not_matter(ending: bytes, path: Path) -> None:
    parsed = parse(b'{"event_id": "a"}\r\n{"event_id": "b"}' + ending, events(), path=path)

    assert parsed.rows["event_id"].to_pylist() == ["a", "b"]
    assert parsed.lines == 2


def test_a_byte_order_mark_is_passed_over_at_the_start_of_a_file_only(path: Path) -> None:
    data = b'\xef\xbb\xbf{"event_id": "a"}\n'

    start = parse(data, events(), path=path)
    later = parse(data, events(), path=path, start_of_file=False)

    assert start.rows["event_id"].to_pylist() == ["a"]
    assert start.records.to_pylist() == [b'{"event_id": "a"}']
    assert later.rows["problems"].to_pylist() == [MALFORMED]


def test_decimals_beyond_the_scale_are_rounded_half_even_where_the_contract_says_so(
    path: Path,
) -> None:
    texts = ["0.30000000000000004", "0.0000000005", "0.0000000015", "1e-999999999", "0.5", "1e29"]
    data = b"\n".join(cost(text) for text in texts)

    rows = parse(data, events(round_decimals=True), path=path).rows

    rounded = ["rounded:cost_usd_increment"]
    assert rows["problems"].to_pylist() == [*[rounded] * 4, None, OUT_OF_RANGE]
    assert rows["cost_usd_increment"].to_pylist() == [
        Decimal("0.3"),
        Decimal(0),
        Decimal("0.000000002"),
        Decimal(0),
        Decimal("0.5"),
        None,
    ]


@pytest.mark.parametrize("name", CSV_ROWS)
def test_a_csv_row_is_judged_by_its_form_and_values(name: str, path: Path) -> None:
    row, changed = CSV_ROWS[name]

    parsed = parse(HEADER + b"\n" + ROW + row + ROW, invoices(), path=path)

    rows = parsed.rows.to_pylist()
    expected = VALUES | changed
    assert [{name: row[name] for name in VALUES} for row in rows[::2]] == [VALUES, VALUES]
    assert {name: rows[1][name] for name in expected} == expected
    assert rows[1]["source_line"] == 3
    assert parsed.records[1].as_py() == row.removesuffix(b"\n").removesuffix(b"\r")


def test_csv_columns_come_in_any_order_and_number(path: Path) -> None:
    data = b"tip,org,invoice_id,note\n1.0,o-1,i-1,\n,o-2,i-2,\n"

    rows = parse(data, invoices(), path=path).rows

    assert rows["org_id"].to_pylist() == ["o-1", "o-2"]
    assert rows["invoice_id"].to_pylist() == ["i-1", "i-2"]
    assert rows["subtotal"].to_pylist() == [None, None]
    assert rows["extra"].to_pylist() == ['{"tip":"1.0"}', None]


def test_a_csv_range_is_read_by_the_header_of_its_file(path: Path) -> None:
    data = b"\xef\xbb\xbforg,invoice_id\r\no-1,i-1\r\n"

    first = parse(data, invoices(), path=path)
    second = parse(
        b"o-2,i-2\r\norg,invoice_id\r\n",
        invoices(),
        path=path,
        header=first.header,
        first_line=3,
        start_of_file=False,
    )

    assert first.header == "org,invoice_id"
    assert second.rows["org_id"].to_pylist() == ["o-2", None]
    assert second.rows["problems"].to_pylist() == [None, MALFORMED]
    assert second.rows["source_line"].to_pylist() == [3, 4]


def test_a_csv_of_a_header_only_has_no_records(path: Path) -> None:
    parsed = parse(HEADER + b"\n", invoices(), path=path)

    assert parsed.rows.num_rows == 0
    assert (parsed.lines, parsed.blank, len(parsed.records)) == (1, 0, 0)


def test_blank_lines_of_csv_are_no_records(path: Path) -> None:
    parsed = parse(b"\n" + HEADER + b"\n\n" + ROW + b" \t\r\n" + ROW, invoices(), path=path)

    assert parsed.rows["source_line"].to_pylist() == [4, 6]
    assert (parsed.lines, parsed.blank) == (6, 3)


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"", "CSV file is empty"),
        (b"\n \n", "CSV file is empty"),
        (b"i-1,o-1,2025-06-01\n", 'CSV header lacks key column "invoice_id"'),
        (b"invoice_id,org,org\n", 'CSV header names column "org" twice'),
        (b"invoice_id,\xe9\n", "CSV header is not UTF-8"),
        (b'invoice_id,"org\n', "CSV header has broken quoting"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_source(
    header: bytes, what: str, path: Path
) -> None:
    with pytest.raises(SourceRefusedError, match=what) as caught:
        parse(header + b"i-1,o-1\n" if header.strip() else header, invoices(), path=path)

    assert caught.value.where
    assert "nothing was taken" in caught.value.fix


def test_rows_of_nothing_have_the_schema_too(path: Path) -> None:
    parsed = parse(b"", events(), path=path)

    assert parsed.rows.num_rows == 0
    assert parsed.records.type == pa.large_binary()
    assert parsed.rows.schema.field("cost_usd_increment").type == pa.decimal128(38, 9)
    assert parsed.rows.schema.field("event_ts").type == pa.timestamp("us", "UTC")
