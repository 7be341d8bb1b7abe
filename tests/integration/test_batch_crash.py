"""A process that ends anywhere in a batch: what is published stays, the next batch finishes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from meterhouse.clock import system_clock
from meterhouse.lake.delta import Contents, DeltaTables
from meterhouse.ports import Blobs
from unit.layers.house import (
    House,
    contents_of,
    costs,
    event,
    few_contracts,
    filled,
    model_text,
    org,
    small_models,
)


class StoppedError(Exception):
    """The process ended here."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    contracts = few_contracts()
    house = House(tmp_path, small_models(contracts), contracts)
    yield house
    house.close()


@dataclass
class StoppingBlobs:
    """Blobs of a process that ends when it wants to write one name."""

    inner: Blobs
    name: str

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        if name == self.name:
            raise StoppedError
        self.inner.put(name, data, durable=durable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class StoppingLake(DeltaTables):
    """Delta tables of a process that ends after a number of commits."""

    commits = 0

    def commit(self, name: str, contents: Contents, *, published: int | None = None) -> int:
        if self.commits == 0:
            raise StoppedError
        self.commits -= 1
        return super().commit(name, contents, published=published)


class StoppingServing:
    """A serving store of a process that ends before or after a step."""

    def __init__(self, inner: Any, step: str) -> None:
        self.inner, self.step = inner, step

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        if self.step == "load" and table == "gold.tickets":
            raise StoppedError
        loaded: int = self.inner.load(epoch, table, rows)
        return loaded

    def publish(self, *arguments: Any, **named: Any) -> None:
        if self.step == "publish":
            raise StoppedError
        self.inner.publish(*arguments, **named)
        raise StoppedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def stopping(house: House, point: str) -> dict[str, Any]:
    """Return the parts of a batch that ends at ``point``."""
    if point.startswith("commit"):
        lake = StoppingLake(house.root / "lake", house.keep, system_clock)
        lake.commits = int(point.removeprefix("commit"))
        return {"lake": lake}
    if point in ("lake/published.json", "serving.pending"):
        return {"blobs": StoppingBlobs(house.blobs, point)}
    return {"serving": StoppingServing(house.serving, point)}


POINTS = (
    "commit0",
    "commit1",
    "commit3",
    "serving.pending",
    "lake/published.json",
    "load",
    "publish",
    "after publish",
)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_anywhere_is_finished_by_the_next_batch(house: House, point: str) -> None:
    filled(house).run()
    before = contents_of(house)
    house.take("usage_events", event(3), event(4, org_id="org-2"))
    house.take("customers_orgs", org(3))
    with pytest.raises(StoppedError):
        house.run(**stopping(house, point))
    if point not in ("publish", "after publish"):
        assert contents_of(house) == before

    report = house.run()

    assert report.changed
    assert costs(house) == {"org-1": (Decimal("0.2"), 2), "org-2": (Decimal("0.1"), 1)}
    assert house.serving.stamp() == house.published().stamp
    assert not house.run().changed
    for name, table in house.published().tables.items():
        assert not house.lake.ahead_of(name, table.version)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_of_a_full_recomputation_leaves_nothing_behind(house: House, point: str) -> None:
    filled(house).run()
    before = contents_of(house)
    with pytest.raises(StoppedError):
        house.run(full=True, **stopping(house, point))

    house.run()

    assert contents_of(house) == before
    assert not house.run().changed
    for name, table in house.published().tables.items():
        assert not house.lake.ahead_of(name, table.version)


def test_answers_never_stay_older_than_a_republished_model(house: House) -> None:
    filled(house).run()
    house.models = small_models(
        house.contracts, gold_tickets=model_text("tickets").replace("count(*)", "(count(*) + 10)")
    )
    with pytest.raises(StoppedError):
        house.run(serving=StoppingServing(house.serving, "publish"))

    house.run()

    rows = house.serving.rows("gold.tickets").read_all().to_pylist()
    assert rows == [{"org_id": "org-1", "ticket_count": 11}]
