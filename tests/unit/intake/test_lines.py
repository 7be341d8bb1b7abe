"""Lines and records of a range: where they lie, their hash-tree root, where a range can end."""

from __future__ import annotations

import hashlib

import pytest

from meterhouse.intake.jsontext import MAX_RECORD_BYTES
from meterhouse.intake.lines import complete_prefix, records, split, tree_root


@pytest.mark.parametrize(
    ("data", "offsets"),
    [
        (b"", [0]),
        (b"\n", [0, 1]),
        (b"a", [0, 1]),
        (b"a\n", [0, 2]),
        (b"a\n\nbc", [0, 2, 3, 5]),
        (b"a\r\nb\rc\n", [0, 3, 7]),
    ],
)
def test_a_line_ends_with_its_newline_or_with_the_data(data: bytes, offsets: list[int]) -> None:
    assert split(data).tolist() == offsets


def test_lines_are_found_across_the_chunks_that_are_looked_at() -> None:
    data = (b"x" * 99 + b"\n") * 30_000

    assert split(data).tolist() == list(range(0, len(data) + 1, 100))


def test_the_root_is_over_the_hashes_of_runs_of_256_lines() -> None:
    lines = [b"line %d\n" % number for number in range(600)]
    data = b"".join(lines)
    leaves = [hashlib.sha256(b"".join(lines[lo : lo + 256])).digest() for lo in (0, 256, 512)]

    assert tree_root(data, split(data)) == hashlib.sha256(b"".join(leaves)).hexdigest()


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert tree_root(b"", split(b"")) == hashlib.sha256(b"").hexdigest()


def test_records_keep_their_bytes_and_their_lines() -> None:
    found = records(b" a \r\n\n\t\nb\r\r\nc", "jsonl", start_of_file=True)

    assert found.bodies().to_pylist() == [b" a ", b"b\r", b"c"]
    assert [found.body(index) for index in range(3)] == found.bodies().to_pylist()
    assert found.lines.tolist() == [0, 3, 4]
    assert (found.physical, found.blank) == (5, 2)


def test_a_byte_order_mark_alone_on_a_line_is_a_blank_line() -> None:
    found = records(b"\xef\xbb\xbf\na\n", "jsonl", start_of_file=True)

    assert (found.bodies().to_pylist(), found.blank) == ([b"a"], 1)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b'a,"b\nc"\nd\n', [b'a,"b\nc"', b"d"]),
        (b'"a""\n""b"\nc\n', [b'"a""\n""b"', b"c"]),
        (b'""\n"\n"\n', [b'""', b'"\n"']),
        (b'5" pipe\nb\n', [b'5" pipe', b"b"]),
        (b'"a"b"\nc,"d\ne"\n', [b'"a"b"', b'c,"d\ne"']),
        (b'a,"b\nc\nd', [b'a,"b', b"c", b"d"]),
        (b'a,"b"x,"c\nd"\n', [b'a,"b"x,"c\nd"']),
        (b'"a\r\nb"\r\nc', [b'"a\r\nb"', b"c"]),
    ],
)
def test_a_csv_row_ends_where_no_quoted_field_is_open(data: bytes, rows: list[bytes]) -> None:
    assert records(data, "csv", start_of_file=True).bodies().to_pylist() == rows


def test_a_quote_open_for_longer_than_a_record_costs_its_line_only() -> None:
    filler = b"x" * (MAX_RECORD_BYTES // 250) + b"\n"
    data = b'a,"b\n' + filler * 300 + b'"c"\nd\n'

    found = records(data, "csv", start_of_file=True)

    assert len(found) == 303
    assert (found.body(0), found.body(301), found.body(302)) == (b'a,"b', b'"c"', b"d")
    assert complete_prefix(data, "csv") == len(data)


@pytest.mark.parametrize(
    ("data", "prefix"),
    [
        (b"", 0),
        (b'{"a":1}\n', 8),
        (b'{"a":1}\n{"a"', 8),
        (b'{"a":1}\n{"a":2}', 15),
        (b'{"a":1}\n{"a":2} ', 16),
        (b'{"a":1}\n[1]', 8),
        (b'{"a":1}\n  ', 8),
        (b'{"a":1', 0),
        (b'\xef\xbb\xbf{"a":1}', 10),
    ],
)
def test_a_range_of_jsonl_ends_after_a_newline_or_a_complete_object(
    data: bytes, prefix: int
) -> None:
    assert complete_prefix(data, "jsonl") == prefix


@pytest.mark.parametrize(
    ("data", "prefix"),
    [
        (b"", 0),
        (b"a,b", 0),
        (b"a,b\nc", 4),
        (b'a,"b\n', 0),
        (b'a\nb,"c\nd', 2),
        (b'a\nb,"c\nd"', 2),
        (b'a\nb,"c\nd"\n', 10),
        (b'a\n5" b\nc\n', 9),
        (b'a\n"b"c\n"d\n', 7),
        (b'\xef\xbb\xbf"a\n', 0),
        (b'a\n"b""\n', 2),
        (b'a\n"b"""\n', 8),
        (b'a\nb""c"\n', 8),
        (b'"a""', 0),
    ],
)
def test_a_range_of_csv_ends_after_a_newline_outside_quotes(data: bytes, prefix: int) -> None:
    assert complete_prefix(data, "csv") == prefix


def test_csv_cut_at_complete_prefixes_has_the_same_rows() -> None:
    data = b'h,i\n"a\n""b",1\nx"y,2\n"c"d,"\n",3\n\n"e\n",4\n'
    whole = records(data, "csv", start_of_file=True).bodies().to_pylist()

    for size in range(len(data) + 1):
        cut = complete_prefix(data[:size], "csv")
        parts = [
            records(part, "csv", start_of_file=False).bodies().to_pylist()
            for part in (data[:cut], data[cut:])
        ]
        assert parts[0] + parts[1] == whole
