"""Keys, bytes and payloads have hashes that say the same whenever the records do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from meterhouse.intake.contract import Column, ColumnType, Contract
from meterhouse.intake.identity import bytes_hash, key_hash, payload_hash
from meterhouse.intake.parse import parse
from unit.intake.contracts_for_tests import events, single


def hashes(*lines: bytes) -> list[int]:
    found: list[int] = parse(b"\n".join(lines), events()).rows["payload_hash"].to_pylist()
    return found


def test_a_text_key_is_the_first_half_of_its_sha256() -> None:
    found = key_hash(pa.table({"id": ["é", "b"]}), ("id",))

    digest = hashlib.sha256("é".encode()).digest()
    assert found.shape == (2, 2)
    assert found[0].tolist() == [
        int.from_bytes(digest[:8], "big"),
        int.from_bytes(digest[8:16], "big"),
    ]


def test_keys_of_several_columns_do_not_run_into_each_other() -> None:
    rows = pa.table({"a": ["x", "xy", None, ""], "b": ["yz", "z", "z", "z"]})

    found = key_hash(rows, ("a", "b"))

    assert len({tuple(pair) for pair in found.tolist()}) == 4


def test_numbers_in_keys_count_by_value() -> None:
    rows = pa.table({"n": pa.array([Decimal("1.500000000"), Decimal("1.5")], pa.decimal128(38, 9))})

    one, other = key_hash(rows, ("n",)).tolist()

    assert one == other


def test_a_key_hash_does_not_depend_on_chunks() -> None:
    whole = pa.table({"a": ["x", "y", "z"], "b": pa.array([1, 2, None])})
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])

    assert np.array_equal(key_hash(whole, ("a", "b")), key_hash(chunked, ("a", "b")))
    assert np.array_equal(key_hash(whole, ("a",)), key_hash(chunked, ("a",)))


def test_bytes_are_never_taken_for_a_key() -> None:
    records = pa.array([b"a", b"b", b"a"], pa.large_binary())

    found = bytes_hash(records, [0, 2, 1]).tolist()

    assert found[0] == found[1] != found[2]
    assert found[0] != key_hash(pa.table({"id": ["a"]}), ("id",)).tolist()[0]


SAME: list[tuple[bytes, bytes]] = [
    (b'{"event_id": "a", "value": 1}', b'{"value":1.0,"event_id":"a"}'),
    (b'{"value": 1}', b'{"value": "1.000"}'),
    (b'{"value": 1}', b'{"value": 10e-1}'),
    (b'{"value": 0}', b'{"value": -0}'),
    (b'{"value": 1, "unit": null}', b'{"value": 1}'),
    (b'{"event_id": "a"}', rb'{"event_id": "\u0061"}'),
    (b'{"new": {"b": 1, "a": [1.50]}}', b'{"new":{"a":[15e-1],"b":1.0,"c":null}}'),
    (b'{"new": null}', b"{}"),
    (b'{"value": true, "new": 1}', b'{"new": 1, "value": true}'),
    (b'{"value": 1e400}', b'{"value": 10e399}'),
    (b'{"value": 1e999999999999}', b'{"value": 1E999999999999}'),
]

DIFFERENT: list[tuple[bytes, bytes]] = [
    (b'{"value": 1}', b'{"value": -1}'),
    (b'{"value": 0}', b"{}"),
    (b'{"value": 1}', b'{"carbon_kg": 1}'),
    (b'{"unit": ""}', b"{}"),
    (b'{"org_id": "a", "unit": "b"}', b'{"org_id": "b", "unit": "a"}'),
    (b'{"unit": "a"}', b'{"unit": "a\\u0000"}'),
    (b'{"unit": "12345678"}', b'{"unit": "123456780"}'),
    (b'{"unit": "%b"}' % (b"x" * 70), b'{"unit": "%by"}' % (b"x" * 69)),
    (b'{"new": 1}', b'{"new": "1"}'),
    (b'{"new": 1}', b'{"new": 2}'),
    (b'{"new": [1, 2]}', b'{"new": [2, 1]}'),
    (b'{"new": [null]}', b'{"new": []}'),
    (b'{"value": true}', b'{"value": false}'),
    (b'{"timestamp": "2025-08-18T14:04:00Z"}', b'{"timestamp": "2025-08-18T14:04:00+00:00"}'),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_payload_is_the_same_however_it_is_written(one: bytes, other: bytes) -> None:
    assert len(set(hashes(one, other))) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_payload_has_another_hash(one: bytes, other: bytes) -> None:
    assert len(set(hashes(one, other))) == 2


def test_a_payload_hash_does_not_depend_on_the_rows_around_it() -> None:
    lines = [b'{"event_id": "%d", "unit": "u%d", "value": %d}' % (n, n % 7, n) for n in range(5000)]
    longer = [line.replace(b'"u', b'"' + b"long" * 20) for line in lines[:10]]

    together = hashes(*lines, *longer)

    assert len(set(together)) == 5010
    for row in (0, 1, 4999, 5000, 5009):
        assert hashes((lines + longer)[row]) == [together[row]]


def test_a_payload_hash_does_not_depend_on_slices_and_chunks() -> None:
    rows = parse(
        b"\n".join(b'{"event_id": "e%d", "value": %d}' % (n, n) for n in range(100)), events()
    ).rows
    chunked = pa.concat_tables([rows.slice(0, 33), rows.slice(33)])

    fields = {column.name: column.source for column in events().columns}
    assert payload_hash(chunked, (), fields).tolist() == rows["payload_hash"].to_pylist()
    again = payload_hash(rows.slice(50), (), fields)
    assert again.tolist() == rows["payload_hash"].to_pylist()[50:]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", [b'"a"', b'"b"', b"null"]),
        ("decimal", [b"1", b"1000000000", b"-1", b"null"]),
        ("integer", [b"1", b"-1", b"0", b"null"]),
        ("boolean", [b"true", b"false", b"null"]),
        ("date", [b'"2025-06-01"', b'"2025-06-02"', b"null"]),
        ("timestamp", [b'"2025-06-01T00:00:00Z"', b'"2025-06-01T00:00:01Z"', b"null"]),
        ("json", [b"1", b'"1"', b"[1]", b"null"]),
    ],
)
def test_values_of_each_type_are_told_apart(kind: Any, values: list[bytes]) -> None:
    data = b"\n".join(b'{"id": "a", "x": %b}' % value for value in values)

    assert len(set(parse(data, single(kind)).rows["payload_hash"].to_pylist())) == len(values)


def test_json_columns_count_by_value() -> None:
    data = b'{"id": "a", "x": {"b": 1, "a": 2}}\n{"id": "a", "x": {"a": 2.0, "b": 10e-1}}'

    rows = parse(data, single("json")).rows

    assert len(set(rows["payload_hash"].to_pylist())) == 1
    assert rows["x"].to_pylist() == ['{"a":2,"b":1}', '{"a":2.0,"b":10e-1}']


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", b'"red"'),
        ("text", b'"a text of more than sixty-four bytes, which is hashed in another way, see"'),
        ("decimal", b"12.50"),
        ("decimal", b"-1e3"),
        ("integer", b"7"),
        ("boolean", b"true"),
        ("boolean", b"false"),
        ("json", b'{"b": [1.0, null], "a": {}}'),
        ("text", b"null"),
        ("decimal", b'"no number"'),
    ],
)
def test_a_field_counts_the_same_before_and_after_it_is_declared(kind: str, value: bytes) -> None:
    line = b'{"event_id": "e1", "value": 2, "v": %b}' % value
    before, after = events(), with_column(events(), "v", kind)

    (undeclared,) = parse(line, before).rows["payload_hash"].to_pylist()
    (declared,) = parse(line, after).rows["payload_hash"].to_pylist()
    (renamed,) = (
        parse(line, with_column(events(), "other", kind, source="v"))
        .rows["payload_hash"]
        .to_pylist()
    )

    assert undeclared == declared == renamed


def test_undeclared_values_of_different_kinds_differ() -> None:
    values = [
        b'"1"',
        b"1",
        b"true",
        b"false",
        b"0",
        b'""',
        b"[1]",
        b'"[1]"',
        b"2",
        b"1e40",
        b"2e40",
    ]

    found = hashes(*(b'{"event_id": "e1", "v": %b}' % value for value in values))

    assert len(set(found)) == len(values)
    assert len(set(hashes(b'{"a": "x", "b": "y"}', b'{"a": "y", "b": "x"}'))) == 2


def test_a_number_is_the_same_in_an_integer_and_in_a_decimal_column() -> None:
    line = b'{"event_id": "e1", "v": 7}'

    one, other = (
        parse(line, with_column(events(), "v", kind)).rows["payload_hash"].to_pylist()
        for kind in ("integer", "decimal")
    )

    assert one == other


def test_undeclared_fields_count_also_where_a_column_is_fed_by_one_named_extra() -> None:
    contract = with_column(events(), "more", "text", source="extra")
    lines = [b'{"event_id": "e1", "extra": "x", "v": %d}' % number for number in range(2)]

    found = parse(b"\n".join(lines), contract).rows["payload_hash"].to_pylist()

    assert len(set(found)) == 2


def with_column(contract: Contract, name: str, kind: str, *, source: str = "") -> Contract:
    column = Column(name, cast(ColumnType, kind), source or name)
    return replace(contract, columns=(*contract.columns, column))


def test_an_empty_object_where_a_number_belongs_is_not_a_missing_number() -> None:
    odd, null, absent = hashes(
        b'{"event_id":"a","value":{}}', b'{"event_id":"a","value":null}', b'{"event_id":"a"}'
    )

    assert null == absent
    assert odd != null
