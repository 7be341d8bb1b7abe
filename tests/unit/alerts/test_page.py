"""docs/alerts.md names every key of the file, and its examples are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from docs_pages.dictionary import shipped_models
from meterhouse.alerts.channels import signature
from meterhouse.alerts.rule import METRICS
from meterhouse.alerts.rulebook import CHANNEL_KEYS, METRIC_KEYS, TABLE_KEYS, read_rulebook
from meterhouse.scaffold import SHIPPED

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "alerts.md").read_text("utf-8")


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("Rules over tables", TABLE_KEYS),
        ("Rules over figures", (*METRIC_KEYS, *METRICS)),
        ("Channels", CHANNEL_KEYS),
    ],
)
def test_every_key_is_documented(heading: str, keys: tuple[str, ...]) -> None:
    named = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section(heading), re.M)))
    )

    assert named == set(keys)


def test_figures_are_told_as_the_program_means_them() -> None:
    for metric, meaning in METRICS.items():
        assert f"| `{metric}` | {meaning.rstrip('.').split(', ')[0]}" in PAGE


def test_the_example_is_valid() -> None:
    example = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0]

    book = read_rulebook(example, "alerts.yaml", shipped_models())

    assert book.problems == ()
    assert len(book.rules) == 3


def test_the_shipped_rules_are_valid_and_as_many_as_the_page_says() -> None:
    book = read_rulebook((SHIPPED / "alerts.yaml").read_text(), "alerts.yaml", shipped_models())

    assert book.problems == ()
    assert len(book.rules) == 5
    assert "five rules" in PAGE


def test_the_check_of_a_signature_works_as_it_stands() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)[0]
    names: dict[str, object] = {}
    exec(code, names)
    is_ours = names["is_ours"]
    assert callable(is_ours)
    body = json.dumps({"event": "raised"}).encode()
    header = signature(b"secret", 1000, body)

    assert is_ours(header, body, b"secret", 1299.0)
    assert not is_ours(header, body, b"secret", 1301.0)
    assert not is_ours(header, body + b" ", b"secret", 1000.0)
    assert not is_ours(header, body, b"other", 1000.0)
