"""Two small gold tables, and rules over them, for the tests of alerts."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from meterhouse.alerts.alerts import Alerts
from meterhouse.alerts.listing import listed
from meterhouse.alerts.raising import Outcome
from meterhouse.alerts.register import FILE_NAME, Alert, State
from meterhouse.alerts.rule import Rulebook
from meterhouse.alerts.rulebook import read_rulebook
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.models.finalize import arrow_schema
from meterhouse.models.graph import Models, models_of
from meterhouse.ports import LiveChange, LiveRows, LiveStore, Stamp
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.testing import FixedClock
from meterhouse.testing_serving import MemoryServing

BRONZE = pa.schema(
    [
        ("org_id", pa.string()),
        ("service", pa.string()),
        ("window_start", pa.timestamp("us", "UTC")),
        ("usage_date", pa.date32()),
        ("cost_usd", pa.decimal128(38, 9)),
    ]
)

WINDOWS = """/* ---
description: Cost by window.
owner: test@example.com
kind: mergeable
grain: [window_start, org_id, service]
columns:
  window_start: Start of the five minutes.
  org_id: Who.
  service: What.
  cost_usd: How much.
  event_count: Events.
serving: {partition_key: [org_id], clustering: [window_start DESC, service]}
--- */
SELECT
    event.window_start::TIMESTAMPTZ AS window_start,
    event.org_id::VARCHAR AS org_id,
    event.service::VARCHAR AS service,
    coalesce(sum(event.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM bronze.events AS event
GROUP BY event.window_start, event.org_id, event.service
"""

DAYS = """/* ---
description: Cost by day.
owner: test@example.com
kind: mergeable
grain: [org_id, usage_date]
columns:
  org_id: Who.
  usage_date: When.
  cost_usd: How much.
  event_count: Events.
serving: {partition_key: [org_id], clustering: [usage_date DESC]}
--- */
SELECT
    event.org_id::VARCHAR AS org_id,
    event.usage_date::DATE AS usage_date,
    coalesce(sum(event.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM bronze.events AS event
GROUP BY event.org_id, event.usage_date
"""

SPANS = """/* ---
description: Cost of ten minutes, every five; computed when it is read.
owner: test@example.com
kind: mergeable
grain: [window_start, org_id]
columns:
  window_start: Start of the ten minutes.
  org_id: Who.
  cost_usd: How much.
  event_count: Events.
stored: false
--- */
SELECT
    make_timestamptz(epoch_us(part.window_start) - shift.back)::TIMESTAMPTZ AS window_start,
    part.org_id::VARCHAR AS org_id,
    coalesce(sum(part.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    coalesce(sum(part.event_count), 0)::BIGINT AS event_count
FROM gold.windows AS part
CROSS JOIN unnest([0, 300000000]) AS shift(back)
GROUP BY make_timestamptz(epoch_us(part.window_start) - shift.back), part.org_id
"""


@cache
def models_() -> Models:
    """gold.windows (five minutes, organisation, service), gold.days, and the view gold.spans."""
    texts = {
        "gold.spans": (SPANS, "models/gold/spans.sql"),
        "gold.windows": (WINDOWS, "models/gold/windows.sql"),
        "gold.days": (DAYS, "models/gold/days.sql"),
    }
    found = models_of(texts, {"bronze.events": BRONZE})
    assert found.problems == ()
    return found


def rulebook(text: str) -> Rulebook:
    """Read ``text`` as the file alerts.yaml over these tables."""
    return read_rulebook(text, "alerts.yaml", models_())


START = datetime(2025, 9, 1, 12, tzinfo=UTC)
GOLD = ("gold.windows", "gold.days")


class Desk:
    """A project's folder with served answers, a clock, and the alerts over them.

    ``move`` adds charges as an entry of the log would; what is charged in a window of
    gold.windows is charged on its day in gold.days.
    """

    def __init__(
        self,
        root: Path,
        store: MemoryServing | SqliteServing,
        rules: str,
        aside: Callable[[], AbstractContextManager[LiveStore]] | None = None,
    ) -> None:
        self.root = root
        self.aside = aside
        self.store = store
        self.clock = FixedClock(START)
        self.engine = DuckDBEngine(2**28, 1, root / "spill")
        self.position = 0
        self.rules(rules)
        self.alerts = self.opened()

    def rules(self, text: str) -> None:
        """Write alerts.yaml, with another time than before."""
        path = self.root / "alerts.yaml"
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(text, "utf-8")
        os.utime(path, ns=(before + 1, before + 1))

    def opened(self) -> Alerts:
        """Open the alerts as a new process would."""
        environ = {"PATH": "/usr/bin:/bin", "PAGER": "s3cret"}
        chance = random.Random(1)
        return Alerts(
            self.root, models_, self.engine, self.clock, environ, chance, aside=self.aside
        )

    def restart(self) -> None:
        """End this process as ``kill -9`` does, and begin another."""
        self.alerts = self.opened()

    def stamp(self, position: int | None = None) -> Stamp:
        number = self.position if position is None else position
        return Stamp("house", 0, number, f"head-{number}" if number else "")

    def publish(
        self,
        rows: Mapping[str, list[dict[str, object]]] | None = None,
        models: str = "one",
        keep_from: Mapping[str, str] | None = None,
    ) -> None:
        """Publish an epoch at the position of now: ``rows``, else what is served."""
        epoch = f"epoch-{models}-{self.position}"
        for name in GOLD:
            schema = arrow_schema(models_()[name])
            if rows is not None:
                found = pa.Table.from_pylist(rows.get(name, []), schema)
            elif self.store.answers() is not None:
                found = self.store.rows(name).read_all()
            else:
                found = schema.empty_table()
            self.store.load(epoch, name, found.to_reader())
        details = {"models": models, "keep_from": keep_from or {}}
        self.store.publish(
            epoch, self.stamp(), ingest_ts=self.clock.now, details=json.dumps(details)
        )

    def move(self, *charges: tuple[str, str, str]) -> None:
        """Append an entry: (organisation, time as "2025-09-01T11:55", USD), negative to undo."""
        windows, days = [], []
        for org, when, usd in charges:
            start = datetime.fromisoformat(when).replace(tzinfo=UTC)
            count = -1 if usd.startswith("-") else 1
            row = {"org_id": org, "cost_usd": Decimal(usd), "event_count": count}
            windows.append(row | {"service": "compute", "window_start": start})
            days.append(row | {"usage_date": start.date()})
        before = self.stamp()
        self.position += 1
        tables = tuple(
            LiveRows(name, partials=pa.Table.from_pylist(rows, arrow_schema(models_()[name])))
            for name, rows in (("gold.windows", windows), ("gold.days", days))
        )
        change = LiveChange(before, self.stamp(), self.clock.now, tables, "{}")
        assert self.store.advance(change)

    def look(self, **metrics: str) -> Outcome:
        """Evaluate once, as ``follow`` does after each step."""
        found = self.alerts.evaluate(
            self.store, self.clock.now, {name: Decimal(value) for name, value in metrics.items()}
        )
        assert found.problems == [], found.problems
        return found

    def told(self) -> list[dict[str, Any]]:
        """Deliver, and return the lines of alerts.jsonl."""
        self.alerts.deliver_now()
        path = self.root / "alerts.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]

    def listed(self, *states: State) -> list[Alert]:
        """Return the alerts in ``states`` (all when none is named), the oldest first."""
        wanted = states or ("raised", "silent", "cleared")
        return listed(self.root / FILE_NAME, wanted)[::-1]
