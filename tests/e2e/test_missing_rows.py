"""Judged rows that are missing are never passed over: a reader is told, or sees all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.beside import LiveHouse, assert_as_batch
from e2e.records import event, events
from meterhouse.errors import EnvironmentFailureError


@pytest.mark.parametrize("published", [True, False])
def test_a_reader_refuses_rows_that_a_rebuild_has_deleted(tmp_path: Path, published: bool) -> None:
    house = LiveHouse.new(
        tmp_path / "house",
        models=("gold.finops_by_org_day", "silver.orgs", "silver.usage_enriched"),
    )
    house.put("events_1.jsonl", events(1, 9))
    house.live()
    if published:
        house.batch()
    house.put("events_2.jsonl", event(10))
    position = house.live()
    gold = house.project.read("gold.finops_by_org_day")
    # What a rebuild does first, and what is left when it is killed then.
    for path in house.root.glob("judged/*/*.parquet"):
        path.unlink()

    for read in (
        lambda: house.project.read("silver.usage_enriched"),
        lambda: house.project.sql("SELECT count(*) FROM bronze.usage_events"),
    ):
        with pytest.raises(EnvironmentFailureError, match="judged rows of log entry") as refused:
            read()
        assert "rebuild" in refused.value.fix
    assert house.project.read("gold.finops_by_org_day").equals(gold)

    house.project.rebuild()
    assert house.project.at_position("bronze.usage_events").position == position
    assert_as_batch(house, tmp_path / "copy")


def test_a_reader_refuses_live_rows_without_the_lake_that_they_lie_over(tmp_path: Path) -> None:
    house = LiveHouse.new(tmp_path / "house", models=("gold.finops_by_org_day",))
    house.put("events_1.jsonl", events(1, 9))
    house.ingest()
    house.batch()
    house.put("events_2.jsonl", event(10))
    house.live()
    # A rebuild sets it aside, and may be killed before it is made anew.
    (house.root / "lake").rename(house.root / "lake.old")

    with pytest.raises(EnvironmentFailureError, match="the lake does not hold what is served"):
        house.project.read("gold.finops_by_org_day")

    house.project.rebuild()
    assert_as_batch(house, tmp_path / "copy")
