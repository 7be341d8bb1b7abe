"""A contract file that is not valid is reported, and stops nothing but its own source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.house import DAILY, House
from e2e.records import event, events, orgs
from meterhouse.errors import ContractError
from meterhouse.layers.batch import BatchReport

MODELS = ["silver.orgs", "silver.usage_enriched", *DAILY]
OWN = "contracts/customers_orgs.yaml"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House.new(tmp_path / "house", models=MODELS)


def spoil(house: House) -> str:
    """Leave the contract of organisations as an author may, in the middle of an edit."""
    path = house.root / OWN
    text = path.read_text()
    path.write_text(text + "\nrules: [\n")
    return text


def batch(house: House) -> BatchReport:
    """Publish; nothing but the contract is a problem."""
    report = house.project.batch()
    [problem] = report.problems
    assert OWN in problem.where
    return report


def owners(house: House) -> list[tuple[str, bool]]:
    rows = house.rows("silver.usage_enriched")
    return [(row["event_id"], row["org_known"]) for row in rows]


def test_what_its_source_delivered_is_published_on_by_the_text_in_the_log(house: House) -> None:
    house.put("customers_orgs.csv", orgs(1))
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.batch()
    text = spoil(house)
    house.put("events_2.jsonl", event(2))
    house.project.ingest(house.inbox)

    assert batch(house).changed
    assert owners(house) == [("e-1", True), ("e-2", True)]
    house.verified()

    for full in (False, True):
        assert not house.project.batch(full=full).dropped
    assert house.project.rebuild().problems
    assert owners(house) == [("e-1", True), ("e-2", True)]
    house.verified()

    (house.root / OWN).write_text(text)
    assert house.batch().dropped == ()


def test_what_delivered_nothing_yet_stays_the_empty_table_it_was(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.batch()
    spoil(house)
    house.put("events_2.jsonl", event(2))
    house.project.ingest(house.inbox)

    assert batch(house).dropped == ()
    assert_empty(house)

    [problem] = house.project.rebuild().problems
    assert OWN in problem.where
    assert_empty(house)
    house.verified()


def assert_empty(house: House) -> None:
    assert house.rows("bronze.customers_orgs") == []
    assert house.rows("silver.orgs") == []
    assert owners(house) == [("e-1", False), ("e-2", False)]


def test_whose_it_is_need_not_be_told_by_what_is_left_of_the_file(house: House) -> None:
    (house.root / OWN).rename(house.root / "contracts" / "orgs_v2.yaml")
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.batch()
    (house.root / "contracts" / "orgs_v2.yaml").write_text("source: [")
    house.put("events_2.jsonl", event(2))
    house.project.ingest(house.inbox)

    report = house.project.batch()

    assert (len(report.problems), report.dropped) == (1, ())
    assert_empty(house)


def test_where_the_former_text_is_lost_too_the_file_has_to_be_mended_first(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.batch()
    text = spoil(house)
    for path in (house.root / "generations").iterdir():
        path.unlink()
    house.put("events_2.jsonl", event(2))
    house.project.ingest(house.inbox)

    with pytest.raises(ContractError, match="YAML"):
        house.project.batch()

    (house.root / OWN).write_text(text)
    assert house.batch().dropped == ()
    assert_empty(house)


def test_a_table_is_not_taken_over_by_another_source_meanwhile(house: House) -> None:
    house.put("customers_orgs.csv", orgs(1))
    house.ingest()
    text = spoil(house)
    other = text.replace("source: customers_orgs", "source: partners").replace(
        "customers_orgs*.csv", "partners*.csv"
    )
    assert other.count("partners") >= 2
    (house.root / "contracts" / "partners.yaml").write_text(other)
    house.put("partners.csv", orgs(2))

    [stopped] = [
        error for error in house.project.ingest(house.inbox).errors if "table" in error.what
    ]
    assert 'is that of source "customers_orgs"' in stopped.what
    assert batch(house).changed
    assert [row["org_id"] for row in house.rows("bronze.customers_orgs")] == ["o-1"]
    house.verified()


def test_two_files_for_one_table_are_one_problem(house: House) -> None:
    copy = house.root / "contracts" / "copy.yaml"
    copy.write_text((house.root / OWN).read_text())
    house.put("events_1.jsonl", event(1))
    taken = house.project.ingest(house.inbox)

    assert len(taken.problems) == 1
    [problem, *_] = house.project.batch().problems

    assert "two contracts" in problem.what
    assert house.cli("status").out.count("invalid    ") == 1


def test_nothing_that_is_held_can_be_exported_before_the_first_batch(house: House) -> None:
    house.put("customers_orgs.csv", orgs(1))
    house.ingest()
    spoil(house)

    ran = house.cli("quarantine", "export", "--source", "customers_orgs")

    assert (ran.code, len(ran.out.splitlines())) == (0, 1), ran.err


def test_before_the_first_batch_all_that_does_not_read_it_is_published(house: House) -> None:
    text = spoil(house)
    house.put("events_1.jsonl", events(1, 3))
    house.project.ingest(house.inbox)

    report = house.project.batch()

    about = {problem.where.partition(":")[0] for problem in report.problems}
    assert str(house.root / OWN) in about
    assert {path for path in about if path.endswith(".sql")} == {
        str(house.root / "models" / "silver" / name) for name in ("orgs.sql", "usage_enriched.sql")
    }
    assert [row["event_count"] for row in house.rows("gold.finops_by_org_day")] == [3]
    house.verified()

    (house.root / OWN).write_text(text)
    house.batch()
    assert len(owners(house)) == 3


def test_it_is_on_the_screen_and_every_other_command_answers(house: House) -> None:
    house.put("customers_orgs.csv", orgs(1))
    house.put("events_1.jsonl", event(1) + event(2, unit=None))
    house.ingest()
    spoil(house)

    ran = house.cli("batch")
    assert (ran.code, "published log position" in ran.out) == (0, True)
    assert f"{OWN}:" in ran.err
    assert f"invalid    {house.root / OWN}:" in house.cli("status").out
    [said] = json.loads(house.cli("status", "--format", "json").out)["invalid_contracts"]
    assert said["code"] == "contract"
    for command in (
        ("read", "silver.orgs"),
        ("query", "daily-cost"),
        ("quarantine",),
        ("quarantine", "export", "--source", "usage_events"),
        ("explain", "silver.usage_enriched", "event_id=e-1"),
        ("verify",),
        ("alerts",),
        ("serving", "ddl"),
    ):
        ran = house.cli(*command)
        assert ran.code == 0, (command, ran.err)
