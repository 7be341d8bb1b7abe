"""Looks at whole tables: in pieces, in groups, and where only the latest windows are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import meterhouse.alerts.evaluation
from meterhouse.alerts.evaluation import Group, look_at_all, window_end
from meterhouse.alerts.rule import TableQuery
from meterhouse.serving.schema import layouts
from meterhouse.testing_serving import MemoryServing
from unit.alerts.house import Desk, models_, rulebook

RULE = "rules:\n  costly: {{table: gold.windows, length: 5m, {0}}}\n"


def query(text: str) -> TableQuery:
    book = rulebook(RULE.format(text))
    assert book.problems == ()
    what = book.rules[0].what
    assert isinstance(what, TableQuery)
    return what


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path, MemoryServing(layouts(models_().by_name.values())), "")
    found.publish()
    for hour in range(4):
        found.move(*((f"org-{number}", f"2025-09-01T1{hour}:00", "10") for number in range(7)))
    yield found
    found.engine.close()


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_pieces_change_nothing(desk: Desk, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meterhouse.alerts.evaluation, "ROWS", rows)
    single = query("when: cost_usd >= 10, where: org_id <> 'org-3'")
    summed = query("when: sum(cost_usd) >= 40, key: [org_id]")

    found = look_at_all(desk.store, desk.engine, single, frozenset())
    groups = look_at_all(desk.store, desk.engine, replace(summed, window=""), frozenset())

    assert len(found.over) == 24
    assert found.touched is None
    assert len(groups.over) == 7


def test_what_a_store_of_latest_windows_does_not_hold_stays_as_it_is(desk: Desk) -> None:
    kept = replace(query("when: cost_usd > 10"), keeps_windows=True)
    key = '{"org_id":"org-1","service":"compute"}'
    held, old = Group(key, "2025-09-01T10:00:00Z"), Group(key, "2025-01-01T00:00:00Z")

    found = look_at_all(desk.store, desk.engine, kept, frozenset([held, old]))

    assert found.over == {}
    assert found.touched == {held}


def test_of_a_view_the_first_kept_day_is_not_looked_at(desk: Desk) -> None:
    """What a row of that day is made from may be gone in part."""
    text = "rules:\n  costly: {table: gold.spans, length: 10m, when: cost_usd >= 10}\n"
    spans = rulebook(text).rules[0].what
    assert isinstance(spans, TableQuery)
    desk.publish(keep_from={"gold.windows": "2025-08-31"})
    desk.move(("org-1", "2025-08-31T12:00", "30"), ("org-1", "2025-09-01T00:00", "30"))
    half = Group('{"org_id":"org-1"}', "2025-08-31T12:00:00Z")

    kept = look_at_all(desk.store, desk.engine, replace(spans, keeps_windows=True), frozenset())
    whole = look_at_all(desk.store, desk.engine, spans, frozenset([half]))

    assert min(group.window for group in kept.over) == "2025-09-01T00:00:00Z"
    assert half not in (kept.touched or ())
    assert half in whole.over


def test_ends_of_windows() -> None:
    times, days = (
        query("when: cost_usd > 10"),
        rulebook("rules:\n  a: {table: gold.days, when: cost_usd > 1}"),
    )
    day = days.rules[0].what
    assert isinstance(day, TableQuery)

    assert window_end(times, "2025-09-01T11:55:00Z") == datetime(2025, 9, 1, 12, tzinfo=UTC)
    assert window_end(day, "2025-09-01") == datetime(2025, 9, 2, tzinfo=UTC)
    assert window_end(day, "") is None
    last = window_end(day, "9999-12-31")
    assert last is not None
    assert last - datetime(9999, 12, 31, tzinfo=UTC) <= timedelta(days=1)
