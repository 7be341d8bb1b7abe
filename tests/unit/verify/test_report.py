"""The report: its verdict, and its form as JSON."""

from __future__ import annotations

import json

import pytest

from meterhouse.verify.report import Check, Report, Term


def report(*checks: Check) -> Report:
    term = Term("s", "records", landed="1", accepted="1", quarantined="0", duplicate="0")
    return Report((term,), checks, 3, "ab" * 32, 2, "full", 0)


def failed(*severities: str) -> Check:
    check = Check("log", covered=1, unit="entries")
    for severity in severities:
        check.fail(severity, "log entry is missing", file="log/000000000001.json", entry=1)  # type: ignore[arg-type]
    return check


@pytest.mark.parametrize(
    ("severities", "verdict"),
    [
        ((), "holds"),
        (("rebuildable",), "rebuildable"),
        (("broken",), "broken"),
        (("rebuildable", "broken"), "broken"),
    ],
)
def test_the_worst_finding_is_the_verdict(severities: tuple[str, ...], verdict: str) -> None:
    assert report(failed(*severities)).verdict == verdict


def test_the_report_is_plain_json_with_terms_checks_and_verdict() -> None:
    body = json.loads(json.dumps(report(failed("rebuildable")).to_json()))

    assert body["verdict"] == "rebuildable"
    assert (body["position"], body["published"], body["head"]) == (3, 2, "ab" * 32)
    assert body["terms"][0]["landed"] == "1"
    assert body["checks"][0]["findings"][0] == {
        "severity": "rebuildable",
        "what": "log entry is missing",
        "file": "log/000000000001.json",
        "entry": 1,
        "table": "",
        "expected": "",
        "found": "",
    }
    assert body["checks"][0]["holds"] is False


def test_a_comparison_keeps_both_sides_of_what_differs() -> None:
    check = Check("lake")

    assert check.expect(1, 1, "rows")
    assert not check.expect(1, 2, "rows", table="gold.x", severity="rebuildable")
    assert (check.findings[0].expected, check.findings[0].found) == ("1", "2")
