"""Which lines of JSONL are read in bulk, and that a refused bulk is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from meterhouse.intake.contract import Column
from meterhouse.intake.jsonl import EXACT, JsonlRows
from meterhouse.intake.lines import records
from unit.intake.contracts_for_tests import contract, events

USUAL = (
    b'{"event_id": "evt_1", "timestamp": "2025-08-18T14:04:00Z", "org_id": "org_1",'
    b' "resource_id": "res_1", "service": "genai", "region": "sa-east", "metric": "cpu_hours",'
    b' "value": 2.4547, "unit": null, "cost_usd_increment": 0.3494, "schema_version": 2,'
    b' "carbon_kg": 8.9e-05, "genai_tokens": 347}'
)


def classes(*lines: bytes) -> list[int]:
    spans = records(b"\n".join(lines), "jsonl", start_of_file=True)
    found: list[int] = JsonlRows(events()).classes(spans).tolist()
    return found


@pytest.mark.parametrize(
    "line",
    [
        USUAL,
        USUAL.replace(b": ", b":").replace(b", ", b","),
        USUAL.replace(b"evt_1", rb"\u00e9\n"),
        USUAL.replace(b"evt_1", "é".encode()),
        USUAL.replace(b"2.4547", b'"2.4547"'),
        USUAL.replace(b"2.4547", b'" -2 "'),
        USUAL + b"\r",
        b"{}",
    ],
)
def test_usual_lines_are_read_in_bulk(line: bytes) -> None:
    assert EXACT not in classes(line)


@pytest.mark.parametrize(
    "line",
    [
        USUAL.replace(b"service", b"new"),
        USUAL.replace(b"2.4547", b"1e400"),
        USUAL.replace(b"2.4547", b"true"),
        USUAL.replace(b"2.4547", b"1234567890123456789"),
        USUAL.replace(b"2.4547", b"0.1234567891"),
        USUAL.replace(b'"sa-east"', b"[]"),
        USUAL.replace(b"sa-east", b"\xff"),
        USUAL.replace(b"sa-east", rb"\ud800"),
        USUAL.replace(b"sa-east", b"\t"),
        USUAL + USUAL,
        USUAL[:-1],
    ],
)
def test_a_line_that_is_not_sure_is_read_alone(line: bytes) -> None:
    assert classes(USUAL, line, USUAL) == [1, EXACT, 1]


def test_a_key_given_twice_refuses_the_bulk_it_is_in() -> None:
    line = USUAL.replace(b"{", b'{"value": 1, ')
    reader = JsonlRows(events())
    spans = records(USUAL + b"\n" + line, "jsonl", start_of_file=True)

    assert reader.classes(spans).tolist() == [1, 1]
    assert reader.fields(spans, reader.classes(spans)) is None
    assert reader.fields(spans, np.array([1, EXACT], np.uint8)) is not None


def test_a_field_that_feeds_columns_of_unlike_types_is_never_read_in_bulk() -> None:
    both = contract(
        "jsonl",
        ["a"],
        [Column("a", "text", "a"), Column("n", "decimal", "x"), Column("t", "text", "x")],
    )
    spans = records(
        b'{"a": "1"}\n{"a": "1", "x": 1}\n{"a": "1", "x": "1"}', "jsonl", start_of_file=True
    )

    assert JsonlRows(both).classes(spans).tolist() == [1, EXACT, EXACT]


def test_names_of_fields_are_taken_literally() -> None:
    odd = contract("jsonl", ["k"], [Column("k", "text", "a.b|c é")])
    lines = ['{"a.b|c é": "1"}', '{"aXb|c é": "1"}', '{"c é": "1"}', '{"a.b": "1"}']
    spans = records("\n".join(lines).encode(), "jsonl", start_of_file=True)

    assert JsonlRows(odd).classes(spans).tolist() == [1, EXACT, EXACT, EXACT]
