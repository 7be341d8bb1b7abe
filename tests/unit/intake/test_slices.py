"""Slices of a run of bytes are read as what they are, or not at all."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.intake.slices import MARGIN, Block, Places

TEXTS = st.one_of(
    st.from_regex(r"-?[0-9]{1,10}(\.[0-9]{0,10})?", fullmatch=True),
    st.text("0123456789.-+eE \x00/:é", max_size=20),
)


def block(texts: list[str]) -> tuple[Block, Places, Places]:
    """Return a block of ``texts`` with a letter between them, and where they are."""
    parts = [text.encode() for text in texts]
    sizes = np.array([len(part) for part in parts], np.int64)
    ends = np.cumsum(sizes + 1) - 1 + MARGIN
    return Block(memoryview(b"x".join(parts))), ends - sizes, ends


@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_what_is_surely_a_number_is_that_number_of_json(texts: list[str]) -> None:
    found, starts, ends = block(texts)
    units, sure = found.numbers(starts, ends)

    for text, unit, certain in zip(texts, units.tolist(), sure.tolist(), strict=True):
        if certain:
            assert Decimal(unit).scaleb(-9) == json.loads(
                text, parse_int=Decimal, parse_float=Decimal
            )


def test_usual_numbers_are_sure() -> None:
    usual = ["0", "-0", "7", "12345678", "-12345678.7654321", "0.0001", "10.0", "0.0000001"]

    found, starts, ends = block(usual)

    assert found.numbers(starts, ends)[1].all()


def test_slices_become_texts_in_order_with_nulls_where_told() -> None:
    found, starts, ends = block(["a", "", "é", "bcd"])

    assert found.texts(starts, ends).to_pylist() == ["a", "", "é", "bcd"]
    null = np.array([True, False, False, True])
    assert found.texts(starts, ends, null).to_pylist() == [None, "", "é", None]
    assert found.texts(starts[:0], ends[:0]).to_pylist() == []


def test_slices_are_compared_whole() -> None:
    found, starts, ends = block(["null", "xnull", "nul", "nulls"])

    assert found.are(b"null", starts, ends).tolist() == [True, False, False, False]
    assert found.holds(starts, b"nul").tolist() == [True, False, True, True]
