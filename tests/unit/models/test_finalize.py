"""Ratios in exact integers: 6 places, half-even, NULL over 0, whatever the size."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meterhouse.models.exact import decimals, units
from meterhouse.models.finalize import arrow_schema, finalize, stored_schema
from meterhouse.models.model import Model
from unit.models.samples import DAILY, load, text

MONEY = pa.decimal128(38, 9)
RATED = text(DAILY, kind="mergeable", columns="org_id price cost_usd event_count").replace(
    "--- */", "ratios: {price: 1000 * cost_usd / event_count}\n--- */"
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(gold_rated=RATED)["gold.rated"]


def rows(*pairs: tuple[str | None, int | None]) -> pa.Table:
    return pa.table(
        {
            "org_id": pa.array([str(number) for number in range(len(pairs))], pa.string()),
            "cost_usd": pa.array([one and Decimal(one) for one, _ in pairs], MONEY),
            "event_count": pa.array([count for _, count in pairs], pa.int64()),
        }
    )


def prices(model: Model, *pairs: tuple[str | None, int | None]) -> list[Decimal | None]:
    found: list[Decimal | None] = finalize(model, rows(*pairs))["price"].to_pylist()
    return found


def test_columns_come_in_the_order_of_the_header(model: Model) -> None:
    finished = finalize(model, rows(("1", 2)))

    assert finished.schema == arrow_schema(model)
    assert finished.column_names == ["org_id", "price", "cost_usd", "event_count"]
    assert stored_schema(model).names == ["org_id", "cost_usd", "event_count"]


@pytest.mark.parametrize(
    ("cost", "count", "expected"),
    [
        ("1", 3000, "0.333333"),
        ("2", 3000, "0.666667"),
        ("-2", 3000, "-0.666667"),
        ("0.000000001", 2, "0"),
        ("0.000000003", 2, "0.000002"),
        ("-0.000000001", 2, "0"),
        ("-0.000000003", 2, "-0.000002"),
        ("1", -3000, "-0.333333"),
        ("99999999999999999999.999999999", 1, "99999999999999999999999.999999"),
        ("0", 7, "0"),
    ],
)
def test_a_ratio_is_rounded_half_even(model: Model, cost: str, count: int, expected: str) -> None:
    assert prices(model, (cost, count)) == [Decimal(expected)]


def test_a_ratio_over_zero_or_null_is_null(model: Model) -> None:
    assert prices(model, ("1", 0), (None, 1), ("1", None), ("0", 0)) == [None] * 4


def test_an_empty_table_stays_empty(model: Model) -> None:
    assert finalize(model, rows()).num_rows == 0
    assert finalize(model, stored_schema(model).empty_table()).schema == arrow_schema(model)


def test_one_large_row_does_not_change_the_others(model: Model) -> None:
    large = ("12345678901234567890123456789.123456789", 10**18)

    assert prices(model, ("1", 3000), large)[0] == Decimal("0.333333")
    assert prices(model, ("1", 3000), large)[1] == Decimal("12345678901234.567890")


@settings(deadline=None)
@example(pairs=[(Decimal("10000000000000000000.000000001"), 1)])
@given(
    st.lists(
        st.tuples(
            st.decimals(Decimal("-1e20"), Decimal("1e20"), places=9),
            st.integers(-(10**6), 10**6),
        ),
        max_size=8,
    )
)
def test_ratios_equal_those_of_python_fractions(
    model: Model, pairs: list[tuple[Decimal, int]]
) -> None:
    expected = [
        None if not count else round(Fraction(cost) * 1000 / count * 10**6) for cost, count in pairs
    ]

    found = prices(model, *((str(cost), count) for cost, count in pairs))

    # 28 digits, what Decimal gives without a context, would round the answer once more.
    exact = Context(prec=60)
    assert [None if one is None else int(exact.scaleb(one, 6)) for one in found] == expected


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-(10**37), 10**37)))
def test_units_and_decimals_are_each_others_inverse(values: list[int | None]) -> None:
    exact = Context(prec=60, rounding=ROUND_HALF_EVEN)
    column = pa.array(
        [None if one is None else exact.scaleb(Decimal(one), -9) for one in values], MONEY
    )

    whole, null, scale = units(column)

    assert scale == 9
    assert [None if gone else int(one) for one, gone in zip(whole, null, strict=True)] == values
    assert decimals(whole, null, 9).equals(column)


def test_a_slice_of_a_column_is_read_from_its_own_start() -> None:
    column = pa.array([Decimal(1), None, Decimal(3), Decimal(4)], MONEY).slice(1, 2)

    whole, null, _ = units(column)

    assert list(whole) == [0, 3 * 10**9]
    assert list(null) == [True, False]
