"""Several rows of every table of the sample: the records behind them add up to each cell."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from e2e.house import House, once, rows_of
from e2e.test_explain import NOT_ADDED_UP, TABLES, key_of

pytestmark = pytest.mark.sample


@pytest.fixture(scope="module")
def house(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    def make(root: Path) -> Path:
        made = House.new(root)
        made.ingest(sample)
        made.batch()
        return root

    return House(once(tmp_path_factory, "explained", make))


@pytest.mark.parametrize("table", TABLES)
def test_the_records_add_up_to_each_cell(house: House, table: str) -> None:
    rows = house.project.read(table)
    for at in sorted({0, rows.num_rows // 3, rows.num_rows - 1}):
        row = rows_of(rows.slice(at, 1))[0]

        found = house.project.explain(table, key_of(house, table, row))

        assert found.row is not None
        assert (found.mismatches, len(found.parts)) == ((), 1)
        assert found.parts[0].count > 0
        assert bool(found.compared) == (table not in NOT_ADDED_UP)
        for name in found.compared:
            assert found.parts[0].sums[name] == Decimal(row[name] or 0)
