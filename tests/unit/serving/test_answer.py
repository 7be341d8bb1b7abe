"""Up to where in the log an answer stands, also when a table was left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meterhouse.serving.answer import AsOf

TAKEN = datetime(2025, 9, 1, 12, tzinfo=UTC)
NOW = TAKEN + timedelta(minutes=10)
PUBLISHED = AsOf.at(17, TAKEN, NOW)
DETAILS = {
    "stale": {"gold.costs": 16, "gold.older": 9},
    "stale_ingest_ts": {
        "gold.costs": "2025-09-01T11:00:00+00:00",
        "gold.older": "2025-08-31T12:00:00+00:00",
    },
}


def test_an_answer_from_fresh_tables_stands_for_the_publication() -> None:
    assert AsOf.of_tables(PUBLISHED, ["gold.tickets"], DETAILS, NOW) == PUBLISHED
    assert AsOf.of_tables(PUBLISHED, ["gold.costs"], {}, NOW) == PUBLISHED


def test_an_answer_from_a_table_left_behind_stands_for_that_tables_position() -> None:
    found = AsOf.of_tables(PUBLISHED, ["gold.costs", "gold.tickets"], DETAILS, NOW)

    assert found.position == 16
    assert found.age_s == 70 * 60
    assert found.body()["stale"] == ["gold.costs"]
    assert "gold.costs is older than the last batch" in found.sentence()


def test_the_oldest_table_of_an_answer_decides() -> None:
    found = AsOf.of_tables(PUBLISHED, ["gold.costs", "gold.older"], DETAILS, NOW)

    assert (found.position, found.stale) == (9, ("gold.costs", "gold.older"))


def test_a_batch_only_table_stands_where_the_last_batch_stood() -> None:
    behind = {"gold.anomalies": (12, TAKEN - timedelta(hours=1))}

    found = PUBLISHED.behind(["gold.anomalies", "gold.tickets"], behind, NOW)

    assert (found.position, found.age_s) == (12, 70 * 60)
    assert found.body()["batch_only"] == ["gold.anomalies"]
    assert found.sentence().endswith("the last batch: gold.anomalies does not follow live")
    assert PUBLISHED.behind(["gold.tickets"], behind, NOW) == PUBLISHED


def test_a_table_that_is_both_stale_and_batch_only_stands_where_it_is_oldest() -> None:
    stale = AsOf.of_tables(PUBLISHED, ["gold.older"], DETAILS, NOW)

    found = stale.behind(["gold.older"], {"gold.older": (12, TAKEN)}, NOW)

    assert (found.position, found.stale, found.batch_only) == (9, stale.stale, ("gold.older",))
