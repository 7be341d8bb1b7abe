"""A batch while the answers follow the log: compared with them, promoted over them, killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from integration.test_batch_crash import StoppedError, stopping
from meterhouse.errors import BrokenPromiseError, MeterhouseError
from meterhouse.serving.schema import layouts
from meterhouse.serving.sqlite import SqliteServing
from unit.layers.house import House, event, few_contracts, filled, model_text, org, small_models
from unit.layers.live import Live, live


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    contracts = few_contracts()
    models = small_models(contracts)
    serving = SqliteServing(tmp_path / "serving.db", layouts(models.by_name.values()))
    house = House(tmp_path, models, contracts, serving=serving)
    yield house
    house.close()


@pytest.fixture
def answers(house: House) -> Live:
    """Live answers over a published lake, some entries after it."""
    filled(house).run()
    answers = live(house, house.serving, lake=house.published)
    house.take("usage_events", event(3), event(4, org_id="org-2"))
    house.take("customers_orgs", org(3))
    answers.follow()
    return answers


class Beside:
    """A serving store that lets something else happen when a step is taken."""

    def __init__(self, inner: Any, step: str, happens: Callable[[], object]) -> None:
        self._inner, self._step, self._happens = inner, step, happens

    def __getattr__(self, name: str) -> Any:
        if name == self._step:
            self._step = ""
            self._happens()
        return getattr(self._inner, name)


def stopped() -> None:
    raise StoppedError


BEFORE = ("freeze", "answers", "frozen", "load", "publish")
"""Calls of the serving store before which the process may end."""
POINTS = ("commit0", "commit1", "serving.pending", "lake/published.json", "after publish")


def ends_at(house: House, point: str) -> dict[str, Any]:
    if point in BEFORE:
        return {"serving": Beside(house.serving, point, stopped)}
    return stopping(house, point)


@pytest.mark.parametrize("point", [*BEFORE, *POINTS])
def test_the_answers_go_on_whatever_becomes_of_a_batch(
    house: House, answers: Live, point: str
) -> None:
    with pytest.raises(StoppedError):
        house.run(**ends_at(house, point))

    assert answers.served() == answers.expected()
    house.take("usage_events", event(5))
    answers.follow()
    assert answers.served() == answers.expected()
    house.take("usage_events", event(6, org_id="org-2"), event(7))
    answers.follow()
    report = house.run()
    assert report.position == house.state.stamp().position
    assert answers.served() == answers.expected()
    assert house.serving.epoch() == house.published().stamp
    assert not house.run().changed


def test_what_was_computed_is_held_against_the_answers(house: House, answers: Live) -> None:
    report = house.run()

    assert dict(report.compared) == {"gold.costs": 2, "gold.org_costs": 2}
    assert answers.served() == answers.expected()


def test_a_row_that_differs_keeps_the_last_epoch_and_is_named(house: House, answers: Live) -> None:
    before, stamp = house.published(), house.serving.stamp()
    with sqlite3.connect(house.root / "serving.db") as connection:
        (name,) = connection.execute("SELECT live FROM tables WHERE name = 'gold.costs'").fetchone()
        connection.execute(f"UPDATE \"{name}\" SET cost_usd = '9' WHERE org_id = 'org-2'")

    with pytest.raises(BrokenPromiseError) as found:
        house.run()

    assert "gold.costs at (org_id=org-2," in found.value.what
    assert "org-1" not in found.value.what
    assert "meterhouse rebuild" in found.value.fix
    assert (house.published(), house.serving.stamp()) == (before, stamp)
    house.take("usage_events", event(5))
    answers.follow()
    with pytest.raises(BrokenPromiseError):
        house.run()


def test_answers_that_have_not_come_so_far_are_not_compared(house: House, answers: Live) -> None:
    house.take("usage_events", event(5))

    report = house.run()

    assert not report.compared
    assert house.serving.stamp().position == report.position
    assert answers.served() == answers.expected()


@pytest.mark.parametrize("step", [*BEFORE[1:], "publish"])
def test_entries_that_come_meanwhile_stay_in_the_answers(
    house: House, answers: Live, step: str
) -> None:
    here = house.state.stamp().position

    def more() -> None:
        # An old key, a new key, and a key that only the lake has.
        house.take("usage_events", event(5), event(6, org_id="org-3"))
        answers.follow()
        house.take("usage_events", event(7, org_id="org-2"))
        answers.follow()

    report = house.run(serving=Beside(house.serving, step, more))

    assert report.position == here
    assert report.compared["gold.costs"] == 2
    assert house.serving.stamp().position == here + 2
    assert answers.served() == answers.expected()
    assert house.run().compared["gold.costs"] == 3
    assert answers.served() == answers.expected()


def test_answers_ahead_of_the_log_that_was_applied_pull_the_batch_along(
    house: House, answers: Live
) -> None:
    behind = house.state.stamp().position

    def more(position: int) -> None:
        if not position:
            house.take("usage_events", event(5))
            answers.follow()
        house.state.reload()

    # What the batch saw of the log first is older than the answers are by now.
    report = house.run(cover=more)

    assert report.position == behind + 1
    assert report.compared["gold.costs"] == 2


def test_another_generation_takes_the_answers_back_until_they_catch_up(
    house: House, answers: Live
) -> None:
    here = house.state.stamp().position
    text = model_text("tickets").replace("count(*)", "(count(*) + 10)")
    house.models = small_models(house.contracts, gold_tickets=text)

    def more() -> None:
        house.take("usage_events", event(5))
        answers.follow()

    report = house.run(serving=Beside(house.serving, "load", more))

    assert (report.position, report.generation, dict(report.compared)) == (here, 2, {})
    assert house.serving.stamp().position == here
    answers.follow()
    rows = house.serving.rows("gold.costs").read_all().to_pylist()
    assert {row["org_id"]: row["cost_usd"] for row in rows}["org-1"] == Decimal("0.3")


def test_a_batch_takes_the_texts_of_where_it_goes(house: House, answers: Live) -> None:
    asked: list[int] = []

    def texts(upto: int) -> Any:
        asked.append(upto)
        return house.contracts, house.models, house.serving

    report = house.run(contracts={}, texts=texts)

    assert asked == [report.position]
    assert report.compared["gold.costs"] == 2


def test_a_store_that_refuses_stops_the_batch_before_anything_is_published(
    house: House, answers: Live
) -> None:
    before = house.published()

    def refuse() -> None:
        raise MeterhouseError("the disk is full", "serving.db", "make room")

    with pytest.raises(MeterhouseError, match="the disk is full"):
        house.run(serving=Beside(house.serving, "load", refuse))

    assert house.published() == before
    assert answers.served() == answers.expected()


def test_rows_of_the_epoch_alone_are_not_taken_for_changed(house: House) -> None:
    filled(house).run()
    live(house, house.serving, lake=house.published).follow()
    house.take("customers_orgs", org(9))
    live(house, house.serving, lake=house.published).follow()

    assert set(house.run().compared.values()) == {0}
    assert isinstance(house.serving.rows("gold.costs").read_all(), pa.Table)
