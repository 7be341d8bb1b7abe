"""The state of a project on one screen, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.generated import generated
from e2e.house import House
from unit.log.house import event

MODELS = ("silver.usage_enriched",)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return generated(tmp_path_factory)


def test_json_holds_sources_positions_lag_and_sizes(house: House) -> None:
    ran = house.cli("status", "--format", "json")

    body = json.loads(ran.out)
    truth = json.loads((house.root.parent / "delivery" / "truth.json").read_text())
    assert (ran.code, ran.err) == (0, "")
    assert (body["lag_entries"], body["published"]) == (0, body["position"])
    assert house.cli("verify", "--quick", "--expect", body["anchor"]).code == 0
    found = {source["source"]: source for source in body["sources"]}
    for source, expected in truth["sources"].items():
        for term, count in expected["records"].items():
            assert found[source][term] == count, (source, term)
    assert found["usage_events"]["files"] == len(truth["files"])
    assert {"landing", "log", "judged", "index", "lake", "serving.db"} <= set(body["sizes"])
    assert all(size["files"] and size["bytes"] for size in body["sizes"].values())


def test_the_screen_names_every_source_and_fits(house: House) -> None:
    out = house.cli("status").out

    for source in house.project.contracts:
        assert source in out
    assert "up to date" in out
    assert len(out.splitlines()) <= 50


def test_drift_and_unknown_keys_are_counted(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    house.put(
        "events_1.jsonl",
        event(1)
        + event(2, service="Quantum", new_field=1, schema_version=9)
        + event(3, metric="watts", new_field={"a": 2}, other=None)
        + event(4, timestamp="2199-01-01T00:00:00Z"),
    )
    house.ingest()
    house.batch()

    body = json.loads(house.cli("status", "--format", "json").out)
    drift = {item["source"]: item for item in body["drift"]}["usage_events"]

    assert drift["undeclared"]["new_field"] == 2
    assert drift["unknown_values"]["service"] == {"quantum": 1}
    assert drift["unknown_values"]["metric"] == {"watts": 1}
    assert drift["unknown_values"]["schema_version"] == {"9": 1}
    assert drift["flags"] == {"in_future": 1}
    assert body["unknown_keys"] == {"events": 4, "of_unknown_org": 4, "of_unknown_resource": 4}
    out = house.cli("status").out
    assert "undeclared fields, kept in extra: new_field (2)" in out
    assert "events of unknown organisations: 4" in out


def test_what_is_not_published_yet_is_told(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    assert "log        empty" in house.cli("status").out
    house.ingest(house.put("events_1.jsonl", event(1)))
    assert "nothing yet: run `meterhouse batch`" in house.cli("status").out
    house.batch()
    house.ingest(house.put("events_2.jsonl", event(2)))

    assert "1 entry behind" in house.cli("status").out
    assert json.loads(house.cli("status", "--format", "json").out)["lag_entries"] == 1


def test_a_damaged_log_is_told_with_what_to_do(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=MODELS)
    house.ingest(house.put("events_1.jsonl", event(1)))
    (house.root / "log" / "000000000001.json").write_bytes(b"{}")

    ran = house.cli("status")

    assert ran.code == 1
    assert "log/000000000001.json" in ran.err
    assert "fix:" in ran.err
