"""Files of the lake after many small batches: few that are live, none that nobody needs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

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
