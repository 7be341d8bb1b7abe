"""Values are read exactly, and in bulk only where that is sure to give the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from meterhouse.intake.contract import ColumnType
from meterhouse.intake.jsontext import Number
from meterhouse.intake.values import ARROW_TYPES, exact, exact_array, vectorised

DECIMALS: list[tuple[Any, str | None, str | None]] = [
    ("0.1", "0.1", None),
    ("-12.340", "-12.34", None),
    ("123456789012345678.123456789", "123456789012345678.123456789", None),
    ("1e-9", "0.000000001", None),
    ("1000000000000000000e-18", "1", None),
    ("0.00000000000000000001e20", "1", None),
    ("1e28", "1e28", "number_out_of_range"),
    ("1e29", None, "number_out_of_range"),
    ("1e-10", None, "number_out_of_range"),
    ("1e" + "9" * 5000, None, "number_out_of_range"),
    ("0e" + "9" * 5000, "0", None),
    ("\v12\f", "12", None),
    ("5.", "5", None),
    ("--5", None, "wrong_type"),
    ("1e", None, "wrong_type"),
    ("1e+", None, "wrong_type"),
    ("1 2", None, "wrong_type"),
    ("\u00a01", None, "wrong_type"),
    (True, None, "wrong_type"),
    ({}, None, "wrong_type"),
    (None, None, None),
]


@pytest.mark.parametrize(("text", "value", "problem"), DECIMALS)
def test_a_decimal_is_read_from_its_text(text: Any, value: str | None, problem: str | None) -> None:
    read, found = exact("decimal")(text)

    column = exact_array("decimal", [read]).to_pylist()
    assert column == [None if value is None else Decimal(value)]
    assert found == problem


@pytest.mark.parametrize(
    ("text", "unscaled", "problem"),
    [
        ("1.0000000005", 1_000_000_000, "rounded"),
        ("1.0000000015", 1_000_000_002, "rounded"),
        ("1.00000000050000001", 1_000_000_001, "rounded"),
        ("-1.00000000051", -1_000_000_001, "rounded"),
        ("0.9999999999", 1_000_000_000, "rounded"),
        ("4e-10", 0, "rounded"),
        ("5e-10", 0, "rounded"),
        ("6e-10", 1, "rounded"),
        ("9e-11", 0, "rounded"),
        ("999999999999999999.9999999999", 10**27, "number_out_of_range"),
        ("99999999999999999999999999999.9999999999", None, "number_out_of_range"),
        ("1.5", 1_500_000_000, None),
    ],
)
def test_rounding_is_half_even_and_said(text: str, unscaled: int | None, problem: str) -> None:
    assert exact("decimal", rounding=True)(Number(text)) == (unscaled, problem)


@pytest.mark.parametrize(
    ("kind", "given", "value", "problem"),
    [
        ("integer", "12.0", 12, None),
        ("integer", "1.2e1", 12, None),
        ("integer", "12.5", None, "wrong_type"),
        ("integer", "-9223372036854775808", -(2**63), None),
        ("integer", "-9223372036854775809", None, "number_out_of_range"),
        ("integer", "1e99999999999", None, "number_out_of_range"),
        ("integer", "1e-99999999999", None, "wrong_type"),
        ("boolean", "tRue", True, None),
        ("boolean", False, False, None),
        ("boolean", Number("1"), None, "wrong_type"),
        ("boolean", "", None, "wrong_type"),
        ("date", "2024-02-29", 19782, None),
        ("date", "0001-01-01", -719162, None),
        ("date", "2025-02-29", None, "unreadable"),
        ("date", "2025-06", None, "unreadable"),
        ("date", "", None, None),
        ("date", Number("20250601"), None, "wrong_type"),
        ("timestamp", "1970-01-01T00:00:00.000001Z", 1, None),
        ("timestamp", "1969-12-31T23:59:59.999999Z", -1, None),
        ("timestamp", "1970-01-01T02+02", 0, None),
        ("timestamp", "1970-01-01T00:00:01,5-0000", 1_500_000, None),
        ("timestamp", "1970-01-01T0000", None, "unreadable"),
        ("timestamp", "19700101T00:00", None, "unreadable"),
        ("timestamp", [], None, "wrong_type"),
        ("text", Number("1"), None, "wrong_type"),
        ("json", {"b": Number("1.0"), "a": None}, '{"a":null,"b":1.0}', None),
    ],
)
def test_other_values_are_read_strictly(
    kind: ColumnType, given: Any, value: Any, problem: str | None
) -> None:
    assert exact(kind)(given) == (value, problem)


TEXTS: dict[ColumnType, list[str | None]] = {
    "text": ["", "a", None],
    "decimal": ["1.5", "-0", "8.9e-05", "9e-9", "1.2345e-5", "1.23456e-5", "1e5", "", " 1", None],
    "integer": ["7", "-0", "999999999999999999", "1000000000000000000", "1.0", "", None],
    "boolean": ["True", "false", "TRUE", "tRUE", "1", "", None],
    "date": ["2025-06-01", "2025-02-28", "2024-02-29", "1899-12-31", "2025-6-1", "", None],
    "json": ["{}", "", None],
    "timestamp": [
        "2025-08-18T14:04:00Z",
        "2025-08-18T14:04:00",
        "2025-08-18 14:04:00.123456789+05:30",
        "2025-02-30T14:04:00Z",
        "2025-08-18T24:04:00Z",
        "2025-08-18",
        "",
        None,
    ],
}


@pytest.mark.parametrize("kind", list(ARROW_TYPES))
def test_what_bulk_reading_is_sure_of_is_what_exact_reading_says(kind: ColumnType) -> None:
    texts = TEXTS[kind]
    column, sure = vectorised(kind, pa.array(texts, pa.string()))

    read = exact(kind, json_text=True)
    expected = exact_array(
        kind, [read(text or None if kind != "text" else text)[0] for text in texts]
    )
    assert column.type == ARROW_TYPES[kind]
    for row, text in enumerate(texts):
        if sure is None or sure[row]:
            assert column[row] == expected[row], text


@pytest.mark.parametrize(
    ("odd", "sure"),
    [
        ("2025-02-28T14:04:00Z", True),
        ("2025-02-30T14:04:00Z", False),
        ("2025-08-18T25:04:00Z", False),
        ("2125-08-18T14:04:00Z", False),
        ("2025-08-18X14:04:00Z", False),
    ],
)
def test_times_of_the_usual_form_are_checked_too(odd: str, sure: bool) -> None:
    column, decided = vectorised("timestamp", pa.array(["2025-08-18T14:04:00Z", odd]))

    assert (decided is None or bool(decided[1])) == sure
    assert column[1].is_valid == sure
