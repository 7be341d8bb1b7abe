"""The live answers are verified too, and lead back to their records as published ones do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from e2e.beside import LiveHouse
from e2e.test_one_position import FEW, OLD, first, second
from meterhouse.formats import text
from meterhouse.verify import Check

DAY = "gold.finops_by_org_day"
WINDOWS = "gold.usage_by_5min"


@pytest.fixture
def house(tmp_path: Path) -> LiveHouse:
    house = LiveHouse.new(tmp_path / "house", models=FEW)
    first(house)
    house.batch_of_inbox()
    second(house)
    house.live()
    return house


def live_check(house: LiveHouse) -> Check:
    return next(check for check in house.project.verify().checks if check.name == "live")


def changed_by_hand(house: LiveHouse, table: str, change: str) -> None:
    """Change the live rows of a table behind the product's back."""
    with closing(sqlite3.connect(house.root / "serving.db")) as connection, connection:
        connection.create_function("exact_text", 1, str)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        (live,) = [name for (name,) in names if name.startswith(f"{table}@") and "live" in name]
        assert connection.execute(change.format(f'"{live}"')).rowcount > 0


def test_live_rows_hold_before_and_after_a_batch(house: LiveHouse) -> None:
    before = house.project.verify()
    covered = live_check(house).covered
    house.batch()
    after = house.project.verify()

    assert before.verdict == after.verdict == "holds"
    assert covered > 0
    assert before.position > before.published
    assert live_check(house).covered == 0


def test_what_no_batch_has_published_yet_is_verified(tmp_path: Path) -> None:
    house = LiveHouse.new(tmp_path / "house", models=FEW)
    first(house)
    house.live()

    report = house.project.verify()

    assert report.verdict == "holds"
    assert report.published == 0
    assert live_check(house).covered > 0


@pytest.mark.parametrize("table", [DAY, WINDOWS])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE {} SET cost_usd = '1234.5'", "lack a row"),
        ("DELETE FROM {}", "lack a row"),
        ('UPDATE {} SET "@gone" = 1', "lack a row"),
    ],
)
def test_a_live_row_that_is_not_what_the_log_gives_is_found(
    house: LiveHouse, table: str, change: str, said: str
) -> None:
    column = "daily_cost_usd" if table == DAY else "cost_usd"
    changed_by_hand(house, table, change.replace("cost_usd", column))

    report = house.project.verify()
    found = [one for one in live_check(house).findings if one.table == table]

    assert report.verdict == "rebuildable"
    assert found
    assert any(said in one.what for one in found)
    house.project.rebuild()
    assert house.project.verify().verdict == "holds"


def test_a_live_row_leads_back_to_its_records(house: LiveHouse) -> None:
    for table in (DAY, "gold.revenue_by_org_month", "silver.usage_enriched"):
        rows = house.project.read(table).to_pylist()
        grain = house.project.models()[table].grain
        for row in rows[:: max(1, len(rows) // 4)]:
            found = house.project.explain(
                table, {name: text(row[name]) or "" for name in grain}, limit=100
            )
            assert found.row == row
            assert found.mismatches == ()


def test_what_is_held_since_the_batch_stands_beside_a_live_row(house: LiveHouse) -> None:
    event = house.project.sql(
        "SELECT org_id, event_date AS usage_date FROM silver.usage_enriched WHERE event_id = 'e-34'"
    ).to_pylist()[0]
    key = {name: text(value) or "" for name, value in event.items()}

    found = house.project.explain(DAY, key, limit=100)

    held = next(one for one in found.parts[0].beside if one.verdict == "quarantined")
    assert held.count > 0


def test_metered_and_invoiced_are_compared_as_they_stand_now(house: LiveHouse) -> None:
    before = house.project.reconcile().rows
    house.batch()

    assert before.equals(house.project.reconcile().rows)
    assert OLD[:7] in {str(row["month"])[:7] for row in before.to_pylist()}
