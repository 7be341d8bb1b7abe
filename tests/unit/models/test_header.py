"""The YAML header of a model: what it must say, and how a mistake is pointed at."""

from __future__ import annotations

import pytest

from meterhouse.errors import ModelError
from meterhouse.models.header import read_header
from meterhouse.models.model import Ratio

HEADER = """/* ---
description: An example.
owner: test@example.com
kind: mergeable
grain: [org_id]
columns:
  org_id: Organisation.
  cost_usd: {unit: USD, doc: Cost.}
--- */
SELECT 1
"""


def refused(text: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_header(text, "gold.example", "models/gold/example.sql")
    return caught.value


def with_lines(*lines: str) -> str:
    return HEADER.replace("--- */", "\n".join((*lines, "--- */")))


def test_a_header_is_read_with_units_and_lines() -> None:
    header = read_header(HEADER, "gold.example", "models/gold/example.sql")

    assert header.columns["cost_usd"].unit == "USD"
    assert header.columns["cost_usd"].line == 8
    assert header.sql.splitlines()[9] == "SELECT 1"
    assert header.stored


def test_a_file_without_header_says_how_to_begin() -> None:
    error = refused("SELECT 1")

    assert error.where == "models/gold/example.sql:1"
    assert "/* ---" in error.fix


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (HEADER.replace("owner:", "ownr:"), 3, 'unknown field "ownr"'),
        (HEADER.replace("mergeable", "mergable"), 4, 'wrong "kind"'),
        (HEADER.replace("[org_id]", "org_id"), 5, 'wrong "grain"'),
        (HEADER.replace("org_id: Organisation.", "org_id: [1]"), 7, 'describes column "org_id"'),
        (HEADER.replace("grain: [org_id]", "grain: [org_id"), 6, "not valid YAML"),
        (with_lines("ratios: {rate: a + b}"), 9, 'wrong "ratios"'),
        (with_lines("audits: [{unique: org_id}]"), 9, 'wrong "audits"'),
        (with_lines("serving: {keys: [org_id]}"), 9, 'wrong "serving"'),
        (with_lines("stored: maybe"), 9, 'wrong "stored"'),
    ],
    ids=["field", "kind", "grain", "column", "yaml", "ratio", "audit", "serving", "stored"],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, what: str) -> None:
    error = refused(text)

    assert what in error.what
    assert error.where == f"models/gold/example.sql:{line}"
    assert error.fix


def test_an_unknown_field_names_the_nearest() -> None:
    assert refused(HEADER.replace("owner:", "ownr:")).fix == 'did you mean "owner"?'


def test_ratios_may_have_a_factor() -> None:
    header = read_header(
        with_lines("ratios: {rate: a / b, price: 1000 * cost_usd / tokens}"), "gold.example", "x"
    )

    assert header.ratios == {
        "rate": Ratio("a", "b"),
        "price": Ratio("cost_usd", "tokens", 1000),
    }


def test_audits_become_selects_of_the_rows_that_are_wrong() -> None:
    header = read_header(
        with_lines(
            "audits:",
            "  - unique: [org_id]",
            "  - same_total: {cost_usd: silver.usage.cost}",
            "  - none_negative: SELECT * FROM gold.example WHERE cost_usd < 0",
        ),
        "gold.example",
        "x",
    )

    assert [audit.name for audit in header.audits] == [
        "unique(org_id)",
        "same_total(cost_usd = silver.usage.cost)",
        "none_negative",
    ]
    assert all(audit.sql.startswith("SELECT") for audit in header.audits)
