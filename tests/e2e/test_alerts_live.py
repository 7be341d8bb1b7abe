"""Alerts beside the real ``follow``: raised once across restarts, batches and rebuilds."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from e2e.house import House
from meterhouse.clock import system_clock
from unit.log.house import event

MODELS = ("gold.usage_by_5min", "gold.finops_by_org_day")
RULES = """
deliver:
  log: {file: alerts.jsonl}
rules:
  costly: {table: gold.usage_by_5min, length: 5m, when: cost_usd > 50}
  budget: {table: gold.finops_by_org_day, key: [], when: sum(daily_cost_usd) > 100, max_age: 900d}
"""
NOW = system_clock()
"""The program, a process of its own, lives by the same clock."""
MODEL = "models/gold/finops_by_org_day.sql"


def told(house: House) -> list[tuple[str, int, bool]]:
    path = house.root / "alerts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [
        (line["rule"], one["occurrence"], one["late"]) for line in lines for one in line["alerts"]
    ]


def done(house: House, *arguments: str) -> str:
    process = house.program(*arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out + err


def charged(number: int, usd: str, ago: timedelta) -> str:
    when = (NOW - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    return event(number, cost_usd_increment=usd, timestamp=when)


def test_what_was_raised_is_raised_once(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    (house.root / "alerts.yaml").write_text(RULES)
    house.put("events_1.jsonl", charged(1, "60", timedelta(0)) + charged(2, "60", timedelta(400)))
    done(house, "follow", "--once")
    assert told(house) == [("costly", 1, False)]

    for commands in (
        [["follow", "--once"]],
        [["batch"], ["follow", "--once"]],
        [["rebuild"], ["follow", "--once"]],
    ):
        for command in commands:
            done(house, *command)
        assert told(house) == [("costly", 1, False)], commands

    house.edit(MODEL, "kind: mergeable", "kind: mergeable\n# Another text is another generation.")
    house.put("events_2.jsonl", charged(3, "60", timedelta(400)))
    done(house, "batch")
    done(house, "follow", "--once")

    # The late event took its old day over the budget; its window of last year is silent.
    assert told(house) == [("costly", 1, False), ("budget", 1, True)]
    listed = json.loads(house.cli("alerts", "--state", "all", "--format", "json").out)["rows"]
    assert sorted((row["rule"], row["state"], row["delivered"]) for row in listed) == [
        ("budget", "raised", "log"),
        ("costly", "raised", "log"),
        ("costly", "silent", None),
    ]
