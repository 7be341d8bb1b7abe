"""Arguments of the questions, from a command line and from Python."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from meterhouse.errors import UsageError
from meterhouse.serving.arguments import OPTIONS, arguments


def test_text_and_values_mean_the_same() -> None:
    spoken = {"from": "2025-08-01", "to": "2025-08-02", "days": "3", "as-of": "2025-08-31"}
    typed = {"from_": date(2025, 8, 1), "to": date(2025, 8, 2), "days": 3}
    typed |= {"as_of": date(2025, 8, 31)}

    assert arguments("q", [*OPTIONS], spoken) == arguments("q", [*OPTIONS], typed)


def test_none_counts_as_not_given() -> None:
    assert arguments("q", (), {"org": None}) == arguments("q", (), {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "2025-8-1"),
        ("from", "2025-02-30"),
        ("from", "yesterday"),
        ("from", "20250801"),
        ("to", "٢٠٢٥-08-01"),
        ("to", ""),
        ("as_of", datetime(2025, 8, 1, tzinfo=UTC)),
        ("days", "0"),
        ("days", "-1"),
        ("days", "1.5"),
        ("days", True),
        ("days", "1_0"),
        ("limit", "99999999"),
        ("by", "week"),
        ("org", " "),
        ("org", 7),
    ],
)
def test_an_unreadable_value_says_the_form(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=r"can't be") as raised:
        arguments("q", [*OPTIONS], {name: value})

    assert raised.value.fix.startswith("write ")


def test_days_that_run_backwards_are_refused() -> None:
    with pytest.raises(UsageError, match="is after"):
        arguments("q", [*OPTIONS], {"from": "2025-08-02", "to": "2025-08-01"})


def test_an_option_of_another_question_names_those_it_takes() -> None:
    with pytest.raises(UsageError, match='"daily-cost" has no --limit') as raised:
        arguments("daily-cost", ("org", "from"), {"limit": "3"})

    assert raised.value.fix == "it takes --org, --from"


def test_bytes_that_are_not_utf8_are_a_name_nobody_has() -> None:
    assert arguments("q", ["org"], {"org": "a\udcff"}).org == "a\\udcff"


def test_a_service_is_normalised_as_gold_is() -> None:
    assert arguments("q", ["service"], {"service": " GenAI\u0130 "}).service == "genai\u0130"
