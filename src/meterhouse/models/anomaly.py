"""Cost anomalies: three tests of each org-day against its service, in exact integers.

z = (x - mean) / population standard deviation > 3; modified z = 0.6745 (x - median) / MAD
> 3.5 (Iglewicz and Hoaglin, 1993); x > 99th percentile by linear interpolation (Hyndman
and Fan, 1996, definition 7). Upper side only. Each test is a comparison of integers: a
root is taken with ``isqrt``, so no score depends on a rounding before the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.models.exact import Integers, decimals, units

__all__ = ["with_anomalies"]

VALUE, WITHIN = "daily_cost_usd", "service"
MICRO = 10**6


def with_anomalies(table: pa.Table) -> pa.Table:
    """Return the rows with at least one flag, and their scores.

    Grain in and out: org_id, usage_date, service; ``daily_cost_usd`` in USD. Adds
    z_score and mad_score (6 places; NULL where the deviation is 0), p99_usd (of the
    service, 9 places), flag_zscore, flag_mad, flag_p99 and anomaly_score, the number of
    flags. A NULL cost takes no part. Row order is kept.
    """
    table = table.filter(pc.is_valid(table[VALUE])).combine_chunks()
    values, _, scale = units(table[VALUE])
    found: list[tuple[int, Scores]] = []
    for rows in _groups(table):
        profile = _profile(values[rows], 10 ** (9 - scale))
        limit = min(profile.over)
        found += [
            (int(row), profile.scores(int(values[row]))) for row in rows[values[rows] > limit]
        ]
    found.sort(key=lambda item: item[0])
    kept = table.take(pa.array([row for row, _ in found], pa.int64()))
    return _appended(kept, [scores for _, scores in found])


def _groups(table: pa.Table) -> Iterator[Integers]:
    """Yield, for each service, the numbers of its rows."""
    encoded = pc.dictionary_encode(table[WITHIN], null_encoding="encode")
    codes = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    indices = codes.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(indices, kind="stable")
    cuts = np.flatnonzero(np.diff(indices[order])) + 1
    yield from (part for part in np.split(order, cuts) if len(part))


@dataclass(frozen=True, slots=True)
class Scores:
    """One row's scores; in units of the last place of their columns."""

    z: int | None
    mad: int | None
    p99: int
    flags: tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True)
class Profile:
    """What the costs of one service look like, in integers."""

    count: int
    total: int
    spread: int
    """count² × variance."""
    median2: int
    """2 × median."""
    mad4: int
    """4 × median absolute deviation."""
    p99: int
    """99th percentile in 1e-9 USD, rounded half-even."""
    over: tuple[int, int, int]
    """A cost above over[i] breaks test i; costs are integers, so this is exact."""

    def scores(self, value: int) -> Scores:
        """Return the scores of one cost."""
        above = self.count * value - self.total
        return Scores(
            z=_over_root(above * MICRO, self.spread) if self.spread else None,
            mad=(
                _half_even(6745 * 2 * (2 * value - self.median2) * MICRO, 10_000 * self.mad4)
                if self.mad4
                else None
            ),
            p99=self.p99,
            flags=(
                bool(self.spread) and value > self.over[0],
                bool(self.mad4) and value > self.over[1],
                value > self.over[2],
            ),
        )


def _profile(values: Integers, to_nano: int) -> Profile:
    count = len(values)
    ordered = np.sort(values)
    numbers = ordered.tolist()
    total = sum(numbers)
    spread = count * sum(number * number for number in numbers) - total * total
    median2 = _middle2(ordered)
    if max(abs(numbers[0]), abs(numbers[-1])) >= 2**60:
        ordered = ordered.astype(object)
    mad4 = _middle2(np.sort(np.abs(ordered * 2 - median2)))
    low, part = divmod(99 * (count - 1), 100)
    high = min(low + 1, count - 1)
    p99_100 = 100 * numbers[low] + part * (numbers[high] - numbers[low])
    never = numbers[-1]
    return Profile(
        count=count,
        total=total,
        spread=spread,
        median2=median2,
        mad4=mad4,
        p99=_half_even(p99_100 * to_nano, 100),
        over=(
            (isqrt(9 * spread) + total) // count if spread else never,
            # 6745 · 2 · (2x - median2) > 35000 · mad4
            (35_000 * mad4 // 13_490 + median2) // 2 if mad4 else never,
            p99_100 // 100,
        ),
    )


def _middle2(ordered: Integers) -> int:
    """Return twice the median of sorted integers."""
    half = len(ordered) // 2
    upper = int(ordered[half])
    return 2 * upper if len(ordered) % 2 else upper + int(ordered[half - 1])


def _half_even(up: int, down: int) -> int:
    """Return up ÷ down (down > 0) rounded half-even."""
    whole, rest = divmod(up, down)
    return whole + (2 * rest > down or (2 * rest == down and whole % 2))


def _over_root(up: int, square: int) -> int:
    """Return up ÷ √square rounded half-even; the root may be irrational."""
    size = isqrt(up * up // square)
    twice = (2 * size + 1) ** 2 * square
    exact = 4 * up * up
    size += exact > twice or (exact == twice and size % 2)
    return -size if up < 0 else size


def _appended(kept: pa.Table, scores: list[Scores]) -> pa.Table:
    z = [one.z for one in scores]
    mad = [one.mad for one in scores]
    for name, column, scale in (
        ("z_score", z, 6),
        ("mad_score", mad, 6),
        ("p99_usd", [one.p99 for one in scores], 9),
    ):
        null = np.array([value is None for value in column], bool)
        whole = np.array([value or 0 for value in column], object)
        kept = kept.append_column(name, decimals(whole, null, scale))
    for place, name in enumerate(("flag_zscore", "flag_mad", "flag_p99")):
        kept = kept.append_column(name, pa.array([one.flags[place] for one in scores], pa.bool_()))
    total = pa.array([sum(one.flags) for one in scores], pa.int64())
    return kept.append_column("anomaly_score", total)
