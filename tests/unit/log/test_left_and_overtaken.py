"""Work that is left in the middle, and work that another process overtakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterhouse.log.report import IngestReport
from unit.log.house import House, event


def test_work_that_is_left_in_the_middle_leaves_the_views_alone(tmp_path: Path) -> None:
    """Leaving may be the garbage collector's doing, in the middle of anything."""
    house = House(tmp_path / "project", piece_bytes=600)
    house.put("events_1.jsonl", "".join(event(number) for number in range(20)))
    steps = house.taking().steps(house.found().files, IngestReport())
    next(steps)
    next(steps)
    durable, applied = house.state.stamp(), house.apply.stamp()
    assert durable != applied

    steps.close()

    assert (house.state.stamp(), house.apply.stamp()) == (durable, applied)
    assert house.state.position == applied.position
    house.ingest()
    assert len(house.verdicts("usage_events", "event_id")) == 20


def test_a_cover_that_another_process_has_moved_on_does_not_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = House(tmp_path / "project")
    first.put("events_1.jsonl", event(1))
    first.ingest()
    second = first.again()
    second.apply.catch_up()
    first.put("events_2.jsonl", event(2))
    reload, between = first.state.reload, [True]

    def overtaken() -> None:
        # The cover is committed, and not read back yet.
        if between:
            between.clear()
            second.put("events_3.jsonl", event(3))
            second.apply._forget()
            second.state.reload()
            second.ingest()
        reload()

    monkeypatch.setattr(first.state, "reload", overtaken)

    first.ingest()

    further = second.state.stamp()
    assert not between
    assert first.apply.stamp() == first.again().state.stamp() == further == first.log.stamp()
    third = first.again()
    third.put("events_4.jsonl", event(4))
    third.ingest()
    assert [key for key, _ in third.verdicts("usage_events", "event_id")] == [
        "e-1",
        "e-2",
        "e-3",
        "e-4",
    ]
