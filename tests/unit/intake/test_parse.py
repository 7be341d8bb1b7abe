"""A range as a whole: order, blocks, odd records among usual ones."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from meterhouse.intake.lines import records
from meterhouse.intake.parse import parse, rows_schema
from unit.intake.contracts_for_tests import events, invoices, single

ODD = [
    b"garbage",
    b'{"event_id": "odd", "new": 1}',
    b'{"event_id": "odd", "value": "7"}',
    b'{"event_id": "odd", "timestamp": "2025-02-30T00:00:00Z"}',
    b'{"event_id": "odd", "value": 1, "value": 2}',
    b'{"event_id": "odd", "unit": "\xff"}',
]


def usual(number: int) -> bytes:
    return (
        b'{"event_id": "e-%d", "timestamp": "2025-08-18T14:%02d:%02dZ", "org_id": "org-%d",'
        b' "value": %d.25, "unit": "hours", "cost_usd_increment": 0.1}'
        % (number, number // 60 % 60, number % 60, number % 7, number)
    )


@pytest.mark.parametrize("share", [0.0, 0.002, 0.2, 1.0])
def test_rows_come_in_the_order_of_the_lines_however_many_are_odd(share: float) -> None:
    chance = random.Random(7)
    lines = [
        chance.choice(ODD) if chance.random() < share else usual(number) for number in range(3000)
    ]

    parsed = parse(b"\n".join(lines), events(), first_line=5)
    slow = parse(b"\n".join(lines), events(), first_line=5, path="slow")

    assert parsed.rows["source_line"].to_pylist() == list(range(5, 3005))
    assert parsed.records.to_pylist() == lines
    assert parsed.rows.equals(slow.rows)
    for row, line in enumerate(lines):
        if line not in ODD:
            assert parsed.rows["event_id"][row].as_py() == f"e-{row}"


def test_a_range_of_many_blocks_is_one_table() -> None:
    lines = [usual(number) for number in range(40_000)]
    lines[20_000] = b'{"value": 1, "value": 2}'

    rows = parse(b"\n".join(lines), events()).rows

    assert rows.schema == rows_schema(events())
    assert rows["problems"].null_count == 39_999
    assert rows["problems"][20_000].as_py() == ["malformed"]
    assert rows["value_num"][39_999].as_py() == Decimal("39999.25")


def test_the_bytes_of_some_records_are_those_of_all() -> None:
    parsed = parse(b"a\r\n\nb\nc", events())

    assert parsed.raw([2, 0]).to_pylist() == [b"c", b"a"]
    assert parsed.raw([]).to_pylist() == []
    assert parsed.records.to_pylist() == [b"a", b"b", b"c"]


def test_ten_and_twenty_cents_are_thirty() -> None:
    data = b'{"cost_usd_increment": 0.1}\n{"cost_usd_increment": 0.2}'

    costs = parse(data, events()).rows["cost_usd_increment"].to_pylist()

    assert sum(costs) == Decimal("0.3")


def test_values_of_boolean_date_and_json_columns_come_in_bulk_and_alone() -> None:
    for kind, given, value in (
        ("boolean", b"true", True),
        ("boolean", b'"TRUE"', True),
        ("json", b'{"a": 1}', '{"a":1}'),
        ("json", b'"a"', '"a"'),
        ("integer", b'"7"', 7),
    ):
        data = b'{"id": "a", "x": %b}\n' % given
        for path in ("auto", "slow"):
            rows = parse(data * 3, single(kind), path=path).rows  # type: ignore[arg-type]
            assert rows["x"].to_pylist() == [value] * 3, (kind, given, path)


def test_a_wide_range_of_csv_with_a_stray_quote_loses_one_row() -> None:
    rows = [b"i-%d,o-1,2025-06-01,%d.5,True,1,,\n" % (number, number) for number in range(5000)]
    rows[2500] = b'5" pipe,o-1,2025-06-01,1,True,1,,\n'
    rows[3500] = b'i-3500,"o-1,2025-06-01,1,True,1,,\n'
    data = b"invoice_id,org,month,subtotal,paid,items,issued_at,tags\n" + b"".join(rows)

    parsed = parse(data, invoices())

    assert parsed.rows.num_rows == 5000
    assert parsed.rows["problems"].null_count == 4998
    assert len(records(data, "csv", start_of_file=True)) == 5001
