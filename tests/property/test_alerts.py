"""Whatever happens between two looks: an alert for each time something went over, no more."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.serving.schema import layouts
from meterhouse.testing_serving import MemoryServing
from unit.alerts.house import Desk, models_

RULES = """
rules:
  costly: {table: gold.windows, length: 5m, when: cost_usd > 50}
  busy: {table: gold.days, key: [], when: sum(cost_usd) >= 100 AND count(*) > 1}
"""
WINDOWS = ("2025-09-01T11:50", "2025-09-01T11:55", "2025-07-01T00:00")

charge = st.tuples(
    st.just("charge"),
    st.sampled_from(["org-1", "org-2"]),
    st.sampled_from(WINDOWS),
    st.sampled_from(["10", "45", "50.000000001", "-10", "-45", "-50.000000001"]),
)
step = charge | st.sampled_from(["look", "restart", "batch", "unseen batch", "generation"])


class Model:
    """What must be in the register: occurrences and what is open, by what the store holds."""

    def __init__(self) -> None:
        self.occurrences: dict[tuple[str, str, str], int] = {}
        self.open: set[tuple[str, str, str]] = set()

    def look(self, desk: Desk) -> None:
        over = set()
        for row in desk.store.rows("gold.windows").read_all().to_pylist():
            if row["cost_usd"] > 50:
                key = {"org_id": row["org_id"], "service": row["service"]}
                start = f"{row['window_start']:%Y-%m-%dT%H:%M:%SZ}"
                over.add(("costly", json.dumps(key, separators=(",", ":")), start))
        days: dict[str, list[object]] = {}
        for row in desk.store.rows("gold.days").read_all().to_pylist():
            days.setdefault(row["usage_date"].isoformat(), []).append(row["cost_usd"])
        for day, costs in days.items():
            if sum(costs) >= 100 and len(costs) > 1:  # type: ignore[call-overload]
                over.add(("busy", "{}", day))
        for one in over - self.open:
            self.occurrences[one] = self.occurrences.get(one, 0) + 1
        self.open = over


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(step, max_size=25))
def test_the_register_holds_what_went_over(steps: list[str | tuple[str, str, str, str]]) -> None:
    root = Path(tempfile.mkdtemp(prefix="meterhouse-alerts-"))
    desk = Desk(root, MemoryServing(layouts(models_().by_name.values())), RULES)
    desk.publish()
    model, generation = Model(), 0
    for one in [*steps, "look"]:
        if isinstance(one, tuple):
            desk.move((one[1], one[2], one[3]))
        elif one == "restart":
            desk.restart()
        elif one == "batch":
            desk.publish(models=str(generation))
        elif one == "unseen batch":
            desk.restart()
            desk.publish(models=str(generation))
        elif one == "generation":
            generation += 1
            desk.publish(models=str(generation))
        else:
            desk.look()
            model.look(desk)

    found = desk.listed()
    assert {
        (one.rule, one.group.key, one.group.window) for one in found if one.state != "cleared"
    } == model.open
    counted: dict[tuple[str, str, str], int] = {}
    for alert in found:
        name = (alert.rule, alert.group.key, alert.group.window)
        counted[name] = max(counted.get(name, 0), alert.occurrence)
    assert counted == model.occurrences
    assert len(found) == sum(model.occurrences.values())
    assert len({alert.idempotency_key for alert in found}) == len(found)
    desk.alerts.close()
    desk.engine.close()
    shutil.rmtree(root)
