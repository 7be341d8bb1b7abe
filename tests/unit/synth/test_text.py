"""Numbers and ids as columns of text."""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest

from meterhouse.synth.text import eight, fraction, identifiers, plain, whole


def joined(*columns: np.ndarray) -> list[str]:
    return [b"".join(parts).decode() for parts in zip(*columns, strict=True)]


def test_whole_numbers_have_no_leading_zeros() -> None:
    numbers = [0, 7, 9_999, 10_000, 10_007, 12_340_000, 99_999_999]

    assert joined(*whole(np.array(numbers))) == [str(number) for number in numbers]


def test_decimals_have_no_trailing_zeros_but_one_digit() -> None:
    assert joined(fraction(np.array([0, 1, 10, 1200, 9999]))) == ["0", "0001", "001", "12", "9999"]


def test_eight_decimals_keep_the_zeros_between() -> None:
    numbers = np.array([0, 1, 10_000, 12_000_000, 12_000_340, 99_999_999])

    assert joined(*eight(numbers)) == ["0", "00000001", "0001", "12", "1200034", "99999999"]


@pytest.mark.parametrize(
    ("amount", "places", "text"),
    [
        (0, 4, "0"),
        (1, 4, "0.0001"),
        (-100, 4, "-0.01"),
        (12_345, 2, "123.45"),
        (120_000, 4, "12"),
        (10**27, 9, "1" + "0" * 18),
    ],
)
def test_amounts_are_plain_and_exact(amount: int, places: int, text: str) -> None:
    assert plain(amount, places) == text


def test_ids_are_scattered_and_never_alike() -> None:
    assert gcd(1_838_265_625, 36**6) == 1  # else places far apart would share an id
    ids = joined(*identifiers(np.arange(100_000), 7))

    assert len(set(ids)) == 100_000
    assert len({one[-6:] for one in ids}) == 100_000
    assert len({one[:3] for one in ids}) > 30_000
