"""Cost anomalies by service, in integers of 1e-9: no root is taken before it must be."""

from __future__ import annotations

import math
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

Row = dict[str, Any]
NANO = 10**9


def cost_anomalies(daily: list[Row]) -> list[Row]:
    """Return the org-days that a test finds too dear, scores to 6 places."""
    by_service: defaultdict[str, list[Row]] = defaultdict(list)
    for row in daily:
        by_service[row["service"]].append(row)
    return [row for rows in by_service.values() for row in _of_service(rows)]


def _of_service(rows: list[Row]) -> list[Row]:
    costs = [int(row["daily_cost_usd"].scaleb(9)) for row in rows]
    count, ordered = len(costs), sorted(costs)
    mean = Fraction(sum(costs), count)
    variance = Fraction(sum(cost * cost for cost in costs), count) - mean * mean
    median = middle(ordered)
    mad = middle(sorted(abs(cost - median) for cost in costs))
    p99 = percentile(ordered, 99)
    found = []
    for row, cost in zip(rows, costs, strict=True):
        above = cost - mean
        flag_zscore = variance > 0 and above > 0 and above * above > 9 * variance
        mad_score = Fraction(6745, 10000) * (cost - median) / mad if mad else None
        flag_mad = mad_score is not None and mad_score > Fraction(7, 2)
        flag_p99 = cost > p99
        if not (flag_zscore or flag_mad or flag_p99):
            continue
        found.append(
            {
                "org_id": row["org_id"],
                "usage_date": row["usage_date"],
                "service": row["service"],
                "daily_cost_usd": row["daily_cost_usd"],
                "z_score": root_places(above, variance) if variance else None,
                "mad_score": None if mad_score is None else places(mad_score, 6),
                "p99_usd": places(p99 / NANO, 9),
                "flag_zscore": flag_zscore,
                "flag_mad": flag_mad,
                "flag_p99": flag_p99,
                "anomaly_score": flag_zscore + flag_mad + flag_p99,
            }
        )
    return found


def middle(ordered: list[Any]) -> Fraction:
    """Return the median of sorted numbers."""
    half = len(ordered) // 2
    if len(ordered) % 2:
        return Fraction(ordered[half])
    return Fraction(ordered[half - 1] + ordered[half]) / 2


def percentile(ordered: list[int], percent: int) -> Fraction:
    """Return the percentile of sorted numbers, by linear interpolation."""
    place = Fraction(percent * (len(ordered) - 1), 100)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def places(value: Fraction, digits: int) -> Decimal:
    """Return ``value`` rounded half-even to ``digits`` places."""
    return Decimal(round(value * 10**digits)).scaleb(-digits)


def root_places(above: Fraction, variance: Fraction) -> Decimal:
    """Return above / sqrt(variance), half-even to 6 places, exactly."""
    square = above * above / variance * 10**12
    whole = math.isqrt(square.numerator // square.denominator)
    half = Fraction(2 * whole + 1, 2)
    if square > half * half or (square == half * half and whole % 2):
        whole += 1
    return Decimal(whole if above >= 0 else -whole).scaleb(-6)
