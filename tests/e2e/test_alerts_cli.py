"""``meterhouse alerts`` lists what was raised and checks the rules of a project."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from e2e.house import House
from meterhouse.testing import FixedClock
from unit.log.house import event

MODELS = ("gold.usage_by_5min", "gold.finops_by_org_day")
NOW = datetime(2025, 7, 3, 13, tzinfo=UTC)
RULES = """
deliver:
  log: {file: alerts.jsonl}
  pager: {webhook: "https://pager.example.com/secret/path", secret_env: PAGER}
rules:
  costly: {table: gold.usage_by_5min, length: 5m, when: cost_usd > 5, deliver: [log]}
  budget: {table: gold.finops_by_org_day, key: [], when: sum(daily_cost_usd) > 5, deliver: []}
"""


@pytest.fixture
def house(tmp_path: Path) -> House:
    """One day of which one window is over the limit, looked at after a batch."""
    house = House.new(tmp_path / "project", models=MODELS, clock=FixedClock(NOW))
    house.put(
        "events_1.jsonl",
        event(1, cost_usd_increment="5.25", timestamp="2025-07-03T12:01:00Z")
        + event(2, cost_usd_increment="4.75", timestamp="2025-07-03T12:06:00Z"),
    )
    house.ingest()
    house.batch()
    (house.root / "alerts.yaml").write_text(RULES)
    project = house.project
    alerts = project.alerts()
    outcome = alerts.finish(project.serving(project.models()), NOW, {}, wait_s=60)
    assert (outcome.raised, outcome.problems) == (2, [])
    alerts.deliver_now()
    alerts.close()
    return house


def test_run_looks_once_and_delivers(house: House) -> None:
    (house.root / "alerts.yaml").write_text(
        RULES.replace("when: cost_usd > 5", "when: cost_usd > 4")
    )

    first, again = house.cli("alerts", "run"), house.cli("alerts", "run")

    assert (first.code, first.err) == (0, "")
    # By the clock of the command line the day is long over.
    assert first.out == "0 raised, 1 silent, 0 cleared; 0 messages delivered\n"
    assert again.out == "0 raised, 0 silent, 0 cleared; 0 messages delivered\n"


def test_csv_has_a_line_for_each_alert(house: House) -> None:
    ran = house.cli("alerts")

    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert (ran.code, ran.err) == (0, "2 alerts\n")
    assert [(row["rule"], row["state"], row["window"], row["delivered"]) for row in rows] == [
        ("budget", "raised", "2025-07-03", ""),
        ("costly", "raised", "2025-07-03T12:00:00Z", "log"),
    ]
    assert json.loads(rows[0]["values"]) == {"sum(daily_cost_usd)": "10"}
    assert json.loads(rows[1]["key"])["service"] == "compute"
    assert rows[1]["late_by_s"] == str(55 * 60)


def test_other_formats_states_and_rules(house: House, tmp_path: Path) -> None:
    body = json.loads(house.cli("alerts", "--rule", "costly", "--format", "json").out)
    house.cli("alerts", "--output", str(tmp_path / "alerts.parquet"), "--format", "parquet")
    table = pq.read_table(tmp_path / "alerts.parquet").to_pylist()

    assert [row["values"] for row in body["rows"]] == [{"cost_usd": "5.25"}]
    assert [row["rule"] for row in table] == ["budget", "costly"]
    assert json.loads(table[1]["values"]) == {"cost_usd": "5.25"}
    assert house.cli("alerts", "--state", "cleared").err == "0 alerts\n"
    assert house.cli("alerts", "--state", "all", "--format", "table").code == 0
    ran = house.cli("alerts", "--state", "opened")
    assert ran.code == 2
    assert 'did you mean "open"?' in ran.err


def test_listing_writes_nothing(house: House) -> None:
    before = sorted(path.name for path in house.root.iterdir())

    house.cli("alerts")

    assert sorted(path.name for path in house.root.iterdir()) == before


def test_what_was_told_is_in_the_file(house: House) -> None:
    told = [json.loads(line) for line in (house.root / "alerts.jsonl").read_text().splitlines()]

    assert [(one["rule"], one["alerts"][0]["values"]) for one in told] == [
        ("costly", {"cost_usd": "5.25"})
    ]


def test_check_shows_rules_and_places_without_secrets(house: House) -> None:
    ran = house.cli("alerts", "check")

    assert (ran.code, ran.err) == (0, "")
    assert "costly  gold.usage_by_5min      cost_usd > 5             log" in ran.out
    assert "budget  gold.finops_by_org_day  sum(daily_cost_usd) > 5  nobody is told" in ran.out
    assert "pager: webhook pager.example.com\n" in ran.out
    assert "secret" not in ran.out


def test_check_names_mistakes_and_exits_with_2(house: House) -> None:
    (house.root / "alerts.yaml").write_text(RULES + "  bad: {table: gold.usage_by_5mn, when: a}\n")

    ran = house.cli("alerts", "check")

    assert ran.code == 2
    assert "costly" in ran.out
    assert "where: alerts.yaml:8:16" in ran.err
    assert 'did you mean "gold.usage_by_5min"?' in ran.err


def test_the_shipped_rules_are_valid(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project")

    ran = house.cli("alerts", "check")

    assert (ran.code, ran.err) == (0, "")
    assert house.cli("alerts").err == "0 alerts\n"
