"""Anomaly scores against the same definitions in fractions, and at their edges."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.models.anomaly import with_anomalies


def table(costs: dict[str, list[str]]) -> pa.Table:
    flat = [(service, cost) for service, found in costs.items() for cost in found]
    return pa.table(
        {
            "org_id": pa.array([f"org-{number}" for number in range(len(flat))], pa.string()),
            "service": pa.array([service for service, _ in flat], pa.string()),
            "daily_cost_usd": pa.array([Decimal(cost) for _, cost in flat], pa.decimal128(38, 9)),
        }
    )


def test_an_empty_table_gives_no_rows_but_all_columns() -> None:
    found = with_anomalies(table({}))

    assert found.num_rows == 0
    assert found.column_names[-1] == "anomaly_score"


def test_services_are_judged_apart_and_rows_keep_their_order() -> None:
    quiet = ["1", "2", "3", "4"]

    found = with_anomalies(table({"b": [*quiet, "900"], "a": [*quiet, "800"]}))

    assert found["service"].to_pylist() == ["b", "a"]
    assert found["daily_cost_usd"].to_pylist() == [Decimal(900), Decimal(800)]


def test_exactly_three_deviations_is_no_flag() -> None:
    # Nine zeros and one cost x: mean x/10, deviation 3x/10, so z is exactly 3.
    found = with_anomalies(table({"a": ["0"] * 9 + ["10"]})).to_pylist()

    assert found[0]["z_score"] == Decimal(3)
    assert not found[0]["flag_zscore"]
    assert found[0]["mad_score"] is None
    assert not found[0]["flag_mad"]
    assert found[0]["p99_usd"] == Decimal("9.1")
    assert found[0]["anomaly_score"] == 1


@pytest.mark.parametrize("scale", ["0.000000001", "1", "100000000000000000"])
def test_scores_do_not_depend_on_the_size_of_the_amounts(scale: str) -> None:
    costs = [str(Decimal(cost) * Decimal(scale)) for cost in (1, 2, 3, 4, 90)]

    (row,) = with_anomalies(table({"a": costs})).to_pylist()

    assert row["z_score"] == Decimal("1.999184")
    assert row["mad_score"] == Decimal("58.6815")


@settings(deadline=None)
@given(st.lists(st.integers(-(10**6), 10**20), min_size=1, max_size=40))
def test_flags_and_scores_equal_those_of_fractions(nanos: list[int]) -> None:
    costs = [str(Decimal(one) * Decimal("0.000000001")) for one in nanos]

    found = {row["org_id"]: row for row in with_anomalies(table({"a": costs})).to_pylist()}

    for number, nano in enumerate(nanos):
        z, mad, p99 = flags(nanos, nano)
        row = found.get(f"org-{number}")
        assert (row is not None) == (z or mad or p99)
        if row is not None:
            assert (row["flag_zscore"], row["flag_mad"], row["flag_p99"]) == (z, mad, p99)
            assert row["anomaly_score"] == z + mad + p99
            assert_root(row["z_score"], nanos, nano)


def flags(nanos: list[int], nano: int) -> tuple[bool, bool, bool]:
    mean, variance = moments(nanos)
    median = middle([Fraction(one) for one in nanos])
    deviation = middle([abs(one - median) for one in nanos])
    place = Fraction(99 * (len(nanos) - 1), 100)
    ordered = sorted(nanos)
    below = ordered[math.floor(place)]
    above = ordered[min(math.floor(place) + 1, len(nanos) - 1)]
    p99 = below + (place - math.floor(place)) * (above - below)
    return (
        variance > 0 and nano > mean and (nano - mean) ** 2 > 9 * variance,
        deviation > 0 and Fraction(6745, 10_000) * (nano - median) / deviation > Fraction(7, 2),
        nano > p99,
    )


def moments(nanos: list[int]) -> tuple[Fraction, Fraction]:
    mean = Fraction(sum(nanos), len(nanos))
    return mean, Fraction(sum(one * one for one in nanos), len(nanos)) - mean * mean


def middle(values: list[Fraction]) -> Fraction:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def assert_root(score: Decimal | None, nanos: list[int], nano: int) -> None:
    """The score is within half a millionth of the true, irrational one."""
    mean, variance = moments(nanos)
    if score is None:
        assert variance == 0
        return
    half = Fraction(1, 2_000_000)
    low, high = Fraction(score) - half, Fraction(score) + half
    above = nano - mean
    signed = above * abs(above) / variance
    assert low * abs(low) <= signed <= high * abs(high)
