"""Decimals go to the Data API as numbers with all their digits."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from meterhouse.serving.astra.exact_json import exact_json

NUMBERS = [
    "0",
    "0E-9",
    "-0.10",
    "1E-7",
    "-1E+999",
    "12345678901234567890.123456789012345678",
    "-99999999999999999999999999999.999999999",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_decimal_comes_back_digit_by_digit(number: str) -> None:
    found = json.loads(exact_json({"x": [Decimal(number)]}), parse_float=Decimal, parse_int=Decimal)

    assert str(found["x"][0]) == str(Decimal(number))


@pytest.mark.parametrize(
    "value", [None, True, 2**62, 'näme \x00 "quoted" ∀', {"a": {"b": []}}, [1, "two", None]]
)
def test_anything_else_is_json_as_always(value: object) -> None:
    assert json.loads(exact_json({"x": value})) == {"x": value}


def test_what_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        exact_json({"x": float("nan")})
    with pytest.raises(TypeError):
        exact_json({"x": object()})
