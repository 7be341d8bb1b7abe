"""Sums and ratios of numbers that are kept as text."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.errors import ModelError
from meterhouse.formats import decimal_text
from meterhouse.models.finalize import finalize
from meterhouse.models.model import ModelColumn, Ratio
from meterhouse.serving.exact_text import fits, quotient, total, totals
from unit.serving.test_schema import model

RATE = (
    ModelColumn("up", "DECIMAL(38, 9)", "", ""),
    ModelColumn("down", "DECIMAL(38, 9)", "", ""),
    ModelColumn("rate", "DECIMAL(38, 6)", "", ""),
)
EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
UNITS = st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-(10**10), 10**10)
VALUES = UNITS.map(lambda units: Decimal(units).scaleb(-9, EXACT))
TEXTS = VALUES.map(decimal_text)


@given(left=TEXTS, right=TEXTS)
def test_a_total_is_the_exact_sum_in_plain_notation(left: str, right: str) -> None:
    assert total(left, right) == decimal_text(EXACT.add(Decimal(left), Decimal(right)))


@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
@settings(deadline=None)
def test_totals_of_a_column_are_those_of_its_rows(pairs: list[tuple[str, str]]) -> None:
    lefts, rights = [left for left, _ in pairs], [right for _, right in pairs]
    expected = [total(left, right) for left, right in pairs]

    if all(fits(value, 29) for value in expected):
        assert totals(lefts, rights, 9) == expected
    else:
        with pytest.raises(OverflowError):
            totals(lefts, rights, 9)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [("0", 0, True), ("-0.5", 0, True), ("9", 0, False), ("-123.4", 3, True), ("1234", 3, False)],
)
def test_digits_before_the_point_are_counted(value: str, digits: int, expected: bool) -> None:
    assert fits(value, digits) is expected


@given(up=VALUES, down=VALUES | st.just(Decimal(0)), times=st.sampled_from([1, 100]))
@settings(deadline=None)
def test_a_ratio_is_the_one_that_the_batch_computes(up: Decimal, down: Decimal, times: int) -> None:
    table = pa.table({"up": [up], "down": [down]}).cast(
        pa.schema([("up", pa.decimal128(38, 9)), ("down", pa.decimal128(38, 9))])
    )
    of = model("gold.rates", ratios={"rate": Ratio("up", "down", times)}, columns=RATE)

    try:
        found = quotient(decimal_text(up), decimal_text(down), times)
    except OverflowError:
        with pytest.raises(ModelError, match="more than 38 digits"):
            finalize(of, table)
        return

    [expected] = finalize(of, table)["rate"].to_pylist()
    assert found == (None if expected is None else decimal_text(expected))


def test_a_ratio_without_a_side_is_unknown() -> None:
    assert quotient(None, "1", 1) is None
    assert quotient(1, None, 1) is None
    assert quotient(1, 0, 1) is None


@pytest.mark.parametrize(
    ("up", "expected"), [(1, "0"), (3, "0.000002"), (-1, "0"), (5, "0.000002")]
)
def test_a_tie_goes_to_the_even_neighbour(up: int, expected: str) -> None:
    assert quotient(up, 2_000_000, 1) == expected
