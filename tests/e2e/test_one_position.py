"""One answer at one position: what `read`, `sql` and `query` see is what a batch comes to."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from e2e.beside import BATCH_ONLY, LiveHouse, answers, assert_as_batch, assert_equal
from e2e.records import INVOICES, TICKETS, event, events, invoice, org, orgs, ticket
from meterhouse.errors import BrokenPromiseError
from meterhouse.layers.batch import BatchReport
from meterhouse.models.graph import Models
from meterhouse.project import Project, open_project
from meterhouse.serving.sqlite import SqliteServing

FEW = (
    "gold.cost_anomaly_mart",
    "gold.finops_by_org_day",
    "gold.revenue_by_org_month",
    "gold.usage_sliding_15min",
    "silver.orgs",
    "silver.usage_enriched",
)
OLD = "2025-01-05T10:07:00Z"
"""An event of long before the windows that are kept in the serving store."""


def first(house: LiveHouse) -> None:
    house.put("events_1.jsonl", events(1, 30) + event(3, cost_usd_increment=9) + "garbage\n")
    house.put("events_old.jsonl", event(91, timestamp=OLD))
    house.put("customers_orgs_1.csv", orgs(*range(1, 11)))
    house.put("billing_monthly_1.csv", INVOICES + invoice("10") + invoice("7.5", 2))


def second(house: LiveHouse) -> None:
    """Late, doubled, conflicting and broken events; corrections; an organisation that went."""
    house.put(
        "events_2.jsonl",
        events(25, 40)
        + event(92, timestamp=OLD, cost_usd_increment=0.1)
        + event(93, timestamp="2025-01-05T10:55:00Z", org_id="o-9")
        + event(94, cost_usd_increment=-5)
        + event(4, region="eu-west"),
    )
    house.put("customers_orgs_2.csv", orgs(*range(3, 11)) + org(2, "Renamed"))
    house.put("billing_monthly_2.csv", INVOICES + invoice("20") + invoice("7.5", 2))


def third(house: LiveHouse) -> None:
    """A correction of a correction, and a first event of a day."""
    house.put("events_3.jsonl", event(95, timestamp="2025-07-04T00:00:00Z", service="genai"))
    house.put("billing_monthly_3.csv", INVOICES + invoice("10") + invoice("3", 3))
    house.put("customers_orgs_3.csv", orgs(*range(1, 11)))


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    return LiveHouse.new(tmp_path / "house", models=FEW)


def test_every_reader_sees_what_a_batch_over_the_same_log_comes_to(
    house: LiveHouse, tmp_path: Path
) -> None:
    first(house)
    house.live()
    assert_as_batch(house, tmp_path / "before any batch")
    house.batch()
    second(house)
    house.live()
    assert_as_batch(house, tmp_path / "second")
    third(house)
    house.live()
    assert_as_batch(house, tmp_path / "third")
    assert house.batch().compared
    assert_as_batch(house, tmp_path / "published")


def test_the_whole_catalog_follows(tmp_path: Path) -> None:
    house = LiveHouse.new(tmp_path / "house")
    first(house)
    house.batch_of_inbox()
    second(house)
    house.put("support_tickets_1.csv", TICKETS + ticket("") + ticket("2025-07-09", 2))
    house.put("events_4.jsonl", event(96, service="genai", genai_tokens=12))
    house.live()
    house.put("support_tickets_2.csv", TICKETS + ticket("2025-07-05"))
    house.live()

    assert_as_batch(house, tmp_path / "copy")
    assert len(house.batch().compared) == 10


def test_a_table_of_the_batch_says_where_it_stands(house: LiveHouse) -> None:
    first(house)
    report = house.batch_of_inbox()
    second(house)
    position = house.live()

    slow = house.cli("read", "gold.cost_anomaly_mart", "--limit", "1")
    both = house.cli("sql", "SELECT count(*) FROM gold.cost_anomaly_mart, gold.finops_by_org_day")
    live = house.cli("read", "bronze.usage_events", "--limit", "1")

    assert f"as of log position {report.position} " in slow.err
    assert "gold.cost_anomaly_mart does not follow live" in slow.err
    assert f"as of log position {report.position} " in both.err
    assert f"as of log position {position} " in live.err
    assert set(BATCH_ONLY) == {"gold.cost_anomaly_mart"}


def seen_by(project: Project, at: Any) -> dict[str, pa.Table]:
    with project._locked() as engine, at.session(engine, sorted(at.tables)) as session:
        return {
            name: session.query(f"SELECT * FROM {name} ORDER BY ALL") for name in sorted(at.tables)
        }


def test_who_looked_before_a_promotion_keeps_the_answer(house: LiveHouse) -> None:
    first(house)
    house.batch_of_inbox()
    second(house)
    house.live()
    project = house.project
    at = project.at_position("information_schema")
    before = seen_by(project, at)

    third(house)
    house.live()
    house.batch()
    house.put("events_5.jsonl", event(97))
    house.live()
    house.batch()

    after = seen_by(project, at)
    for name, rows in before.items():
        assert_equal(name, after[name], rows)


class Stopped(BaseException):
    """The process ended."""


@dataclass
class Ending:
    """The serving store of a process that ends before it puts the answers on an epoch."""

    inner: SqliteServing

    def publish(self, *_: Any, **__: Any) -> None:
        raise Stopped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class EndingProject(Project):
    """A project whose batch dies between the lake's publication and that of the answers."""

    def serving(self, models: Models) -> Any:
        return Ending(super().serving(models))


def die_between(house: LiveHouse) -> None:
    found = house.project
    with pytest.raises(Stopped):
        EndingProject(found.root, found.settings, found.clock).batch()


@pytest.mark.parametrize("ahead", [False, True], ids=["there", "ahead"])
def test_between_lake_and_answers_nobody_sees_a_mix(
    house: LiveHouse, tmp_path: Path, ahead: bool
) -> None:
    first(house)
    house.batch_of_inbox()
    second(house)
    house.live()
    die_between(house)
    if ahead:
        third(house)
        house.live()

    assert_as_batch(house, tmp_path / "copy")
    published, served = house.project.published(), house.project.query("daily-cost").as_of
    assert published is not None
    assert (served.position > published.stamp.position) is ahead


def test_another_generation_is_seen_as_the_lake_has_it_until_the_switch(house: LiveHouse) -> None:
    first(house)
    house.batch_of_inbox()
    second(house)
    position = house.live()
    name = "models/gold/finops_by_org_day.sql"
    house.edit(name, "daily.org_id::VARCHAR", "concat(daily.org_id, '!')::VARCHAR")
    house.edit(name, "BY daily.org_id", "BY concat(daily.org_id, '!')")
    die_between(house)
    third(house)
    house.live()

    rows = house.rows("gold.finops_by_org_day")
    assert {row["org_id"] for row in rows} == {"o-1!", "o-9!"}
    assert house.project.at_position("x").position == position


def test_rows_that_differ_stop_the_batch_with_exit_1(house: LiveHouse) -> None:
    first(house)
    house.batch_of_inbox()
    second(house)
    house.live()
    damage(house, "gold.finops_by_org_day", "daily_cost_usd")

    done = house.cli("batch")

    assert done.code == 1
    assert "gold.finops_by_org_day at (org_id=o-1, usage_date=" in done.err
    assert "nothing was published" in done.err
    with pytest.raises(BrokenPromiseError):
        house.project.batch()
    mended: BatchReport = house.project.rebuild()
    assert mended.changed
    house.verified()


def damage(house: LiveHouse, table: str, column: str) -> None:
    """Change one live row behind everybody's back."""
    with sqlite3.connect(house.root / "serving.db") as connection:
        query = f"SELECT live FROM tables WHERE name = '{table}' AND visible"
        (name,) = connection.execute(query).fetchone()
        connection.execute(f"UPDATE \"{name}\" SET {column} = '777'")


def test_python_asks_one_position_of_all(house: LiveHouse) -> None:
    first(house)
    house.live()
    project = house.project

    total = project.sql("SELECT sum(daily_cost_usd) AS usd FROM gold.org_daily_usage_by_service")
    asked = answers(project)["daily-cost"]

    assert total["usd"].to_pylist() == [Decimal("7.75")]
    assert asked.as_of.position == project.at_position("x").position
    assert open_project(house.root).status().position == asked.as_of.position
