"""Lines of one shape are cut at once, and no line is taken for one that it is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from meterhouse.intake.contract import Column
from meterhouse.intake.lines import records
from meterhouse.intake.parse import Text, parse, parse_all
from meterhouse.intake.shapes import ShapedLines
from unit.intake.contracts_for_tests import contract, events

DECIMAL = pa.decimal128(38, 9)
SCHEMA = pa.schema([("id", pa.string()), ("n", DECIMAL), ("i", pa.int64()), ("b", pa.bool_())])
USUAL = b'{"id": "a-1", "n": 2.4547, "i": 2, "b": true}'
MANY = 20


def sure(*lines: bytes) -> list[bool]:
    """Return of which lines a reader is sure that has learned ``USUAL``."""
    reader = ShapedLines(SCHEMA)
    reader.read(records(b"\n".join([USUAL] * MANY), "jsonl", start_of_file=True))
    found = reader.read(records(b"\n".join(lines), "jsonl", start_of_file=True))[1]
    return [bool(flag) for flag in found]


def test_values_of_a_shape_are_read_in_their_types() -> None:
    lines = [
        USUAL,
        b'{"id": "", "n": -0.00000001, "i": -7, "b": false}',
        b'{"id": "\xc3\xa9", "n": 123456789012345678.123456789, "i": 1234567890123, "b": null}',
        b'{"id": "x", "n": null, "i": null, "b": true}',
    ]

    fields, certain = ShapedLines(SCHEMA).read(
        records(b"\n".join(lines * MANY), "jsonl", start_of_file=True)
    )

    assert certain.all()
    assert fields["id"].to_pylist()[:4] == ["a-1", "", "é", "x"]
    assert [None if n is None else format(n, "f") for n in fields["n"].to_pylist()[:4]] == [
        "2.454700000",
        "-0.000000010",
        "123456789012345678.123456789",
        None,
    ]
    assert fields["i"].to_pylist()[:4] == [2, -7, 1234567890123, None]
    assert fields["b"].to_pylist()[:4] == [True, False, None, True]
    for array in fields.values():
        array.validate(full=True)


def test_several_shapes_stand_among_each_other() -> None:
    other = b'{"i":3,"id":"b"}'
    quoted = USUAL.replace(b"2.4547", b'"2.5"')

    fields, certain = ShapedLines(SCHEMA).read(
        records(b"\n".join([USUAL, other, quoted] * MANY), "jsonl", start_of_file=True)
    )

    assert certain.all()
    assert fields["id"].to_pylist()[:3] == ["a-1", "b", "a-1"]
    assert [str(n) for n in fields["n"].to_pylist()[:3]] == ["2.454700000", "None", "2.500000000"]
    assert fields["i"].to_pylist()[:3] == [2, 3, 2]


@pytest.mark.parametrize(
    "line",
    [
        USUAL.replace(b"a-1", rb"a\u002d1"),
        USUAL.replace(b"a-1", b"a\x01"),
        USUAL.replace(b"a-1", b"\xff"),
        USUAL.replace(b"2.4547", b""),
        USUAL.replace(b"2.4547", b"02.5"),
        USUAL.replace(b"2.4547", b"2."),
        USUAL.replace(b"2.4547", b".5"),
        USUAL.replace(b"2.4547", b"-"),
        USUAL.replace(b"2.4547", b"+1"),
        USUAL.replace(b"2.4547", b"1 "),
        USUAL.replace(b"2.4547", b"1.2.3"),
        USUAL.replace(b"2.4547", b"1_000"),
        USUAL.replace(b"2.4547", b"nul"),
        USUAL.replace(b"2.4547", b"true"),
        USUAL.replace(b"2.4547", b"0.1234567891"),
        USUAL.replace(b"2.4547", b"1, "),
        USUAL.replace(b": 2,", b": 2.5,"),
        USUAL.replace(b"true", b"True"),
        USUAL.replace(b"true", b'"true"'),
        USUAL.replace(b'"n": ', b'"m": '),
        USUAL.replace(b'"n": ', b'"n" : '),
        USUAL.replace(b'"n": 2.4547, "i": 2', b'"i": 2, "n": 2.4547'),
        USUAL[:-1],
        USUAL + b" ",
        USUAL + USUAL,
        b" " + USUAL,
        b"[" + USUAL[1:],
        b'{"id": "a-1", "n": 2.4547, "i": 2, "b": "}',
    ],
)
def test_a_line_that_looks_otherwise_is_not_sure(line: bytes) -> None:
    assert sure(USUAL, line, USUAL) == [True, False, True]


def test_a_shape_with_a_field_twice_or_unknown_is_never_learned() -> None:
    for line in (b'{"i": 1, "i": 2}', b'{"i": 1, "new": 2}', b"{}", b'{"i": [1]}'):
        spans = records(b"\n".join([line] * MANY), "jsonl", start_of_file=True)

        assert not ShapedLines(SCHEMA).read(spans)[1].any()


def test_a_name_longer_than_the_margin_is_read_all_the_same() -> None:
    name = "n" * 300
    long = contract("jsonl", ["k"], [Column("k", "text", name)])
    data = b"\n".join([b'{"%b": "v"}' % name.encode()] * 100)

    assert parse(data, long).rows["k"].to_pylist() == ["v"] * 100


def test_ranges_parsed_together_are_as_if_each_were_parsed_alone() -> None:
    line = b'{"event_id": "%d", "timestamp": "2025-08-18T14:04:00Z", "value": %d.5}'
    texts = [
        Text(b"\xef\xbb\xbf" + b"\n".join(line % (n, n) for n in range(40))),
        Text(b"", first_line=7, start_of_file=False),
        Text(b"\n\nnonsense\r\n" + line % (1, 1) + b"\r\n", first_line=100, start_of_file=False),
        Text(b"\n".join(line % (n, n) for n in range(30)) + b"\n"),
    ]

    together = parse_all(texts, events())

    assert len(together) == len(texts)
    for parsed, text in zip(together, texts, strict=True):
        alone = parse(
            text.data, events(), first_line=text.first_line, start_of_file=text.start_of_file
        )
        assert parsed.rows.equals(alone.rows)
        assert parsed.records.equals(alone.records)
        assert (parsed.lines, parsed.blank) == (alone.lines, alone.blank)


def test_records_beyond_the_size_of_a_block_keep_their_order() -> None:
    filler = "x" * 2000
    data = b"".join(
        b'{"event_id": "%d", "unit": "%b"}\n' % (n, filler.encode()) for n in range(5000)
    )

    rows = parse(data, events()).rows

    assert rows["event_id"].to_pylist() == [str(n) for n in range(5000)]
    assert np.array_equal(rows["source_line"].to_numpy(), np.arange(1, 5001))
