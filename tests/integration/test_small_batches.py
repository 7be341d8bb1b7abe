"""Files of the lake after many small batches: few that are live, none that nobody needs."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from meterhouse.clock import system_clock
from meterhouse.lake.delta import DeltaTables
from meterhouse.testing import FixedClock
from unit.layers.house import House, costs, event, few_contracts, files_of, small_models


def test_many_small_batches_leave_few_live_files(tmp_path: Path) -> None:
    contracts = few_contracts()
    house = House(tmp_path, small_models(contracts), contracts, keep=timedelta(0))
    for number in range(40):
        house.take("usage_events", event(number, service=f"s{number % 2}"))
        house.run()

    live = {name: len(table.files) for name, table in house.published().tables.items()}
    assert live["bronze.usage_events"] <= 18
    assert live["silver.enriched"] <= 9
    assert live["gold.costs"] == 1
    assert costs(house) == {"org-1": (Decimal("4"), 40)}
    assert len(house.read("bronze.usage_events")) == 40
    assert len(files_of(house)) < 40 * 5
    house.close()


def test_with_late_data_in_every_batch_the_lake_stays_as_small_as_what_is_kept(
    tmp_path: Path,
) -> None:
    """Three days, a batch each hour that touches every partition; six hours are kept."""
    contracts = few_contracts()
    clock = FixedClock(system_clock() - timedelta(days=3))
    house = House(tmp_path, small_models(contracts), contracts)
    house.lake = DeltaTables(tmp_path / "lake", timedelta(hours=6), clock)
    seen: set[str] = set()
    added: list[int] = []
    for number in range(72):
        clock.now += timedelta(hours=1)
        times = [datetime(2025, 7, 1 + day, 10, tzinfo=UTC) for day in range(5)]
        house.take(
            "usage_events",
            *(event(5 * number + time.day, event_ts=time) for time in times),
        )
        house.run()
        new = [path for path in files_of(house) if path not in seen]
        for path in new:
            os.utime(tmp_path / "lake" / path, (clock.now.timestamp(),) * 2)
        seen.update(new)
        added.append(len(new))

    published = house.published()
    assert len(house.read("bronze.usage_events")) == 72 * 5
    live = sum(len(table.files) + len(table.log) for table in published.tables.values())
    assert live < 130
    # A checkpoint, and with it the cleaning, comes every tenth version.
    assert len(files_of(house)) <= live + sum(added[-16:])
    assert len(seen) > 5 * live
    house.close()
