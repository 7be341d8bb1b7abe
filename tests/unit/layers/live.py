"""A speed layer over a hand-written project, and what it must equal: all computed at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.lake.published import Published
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    bronze_schemas,
    current_name,
    current_sql,
    quarantine_sql,
    removed_sql,
)
from meterhouse.layers.compute import compute, result
from meterhouse.layers.entries import Entries
from meterhouse.layers.generation import Generation, pin
from meterhouse.layers.speed import LiveServing, Speed, SpeedReport
from meterhouse.log.chain import Log
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Engine, Relation, Stamp
from meterhouse.serving.schema import layouts
from meterhouse.testing_serving import MemoryServing
from unit.layers.house import House

Rows = list[dict[str, Any]]
TAKEN = datetime(2025, 9, 1, tzinfo=UTC)


@dataclass
class Live:
    """The parts that a speed layer is made of, and the store it feeds."""

    blobs: Blobs
    log: Log
    state: State
    engine: Engine
    store: LiveServing
    generation: Generation
    group_rows: int = 65_536
    lake: Callable[[], Published | None] = lambda: None
    speed: Speed = field(init=False)

    def __post_init__(self) -> None:
        self.speed = self.fresh()
        self._epochs = count(1)

    def fresh(self) -> Speed:
        """Return what a new process would have."""
        return Speed(
            self.blobs,
            self.log,
            self.state,
            self.engine,
            self.store,
            lambda: pin(self.blobs, self.generation.models, self.generation.contracts),
            lambda: self.lake(),
            self.group_rows,
        )

    def stamp(self, position: int) -> Stamp:
        return self.log.stamp(self.log.read(position)) if position else Stamp("", 0, 0, "")

    def follow(self, upto: int | None = None) -> SpeedReport:
        """Bring the answers to the head, or to a position."""
        return self.speed.catch_up(self.state.stamp() if upto is None else self.stamp(upto))

    def publish(
        self,
        position: int,
        generation: Generation | None = None,
        keep_from: Mapping[str, str] | None = None,
    ) -> None:
        """Publish an epoch as a batch would: all up to ``position``, without old windows."""
        self.generation = generation or self.generation
        generation, keep_from = self.generation, keep_from or {}
        epoch = f"epoch-{next(self._epochs)}"
        found = tables(generation, self.blobs, self.state, self.engine, position)
        for name, rows in found.items():
            if name in keep_from:
                keep = generation.models[name].keep
                first = pa.scalar(
                    datetime.fromisoformat(keep_from[name]), rows.schema.field(keep).type
                )
                rows = rows.filter(pc.greater_equal(rows[keep], first))
            self.store.load(epoch, name, rows.to_reader())
        details = {"models": generation.sha256, "keep_from": dict(keep_from), "latest_day": {}}
        self.store.publish(
            epoch, self.stamp(position), ingest_ts=TAKEN, details=json.dumps(details)
        )

    def served(self) -> dict[str, Rows]:
        """Return what readers see of every live table, in the order of the grain."""
        return {
            name: in_order(self.store.rows(name).read_all(), self.generation, name)
            for name, model in self.generation.models.by_name.items()
            if model.live
        }

    def expected(self, position: int | None = None) -> dict[str, Rows]:
        """Return what a batch over everything up to ``position`` has."""
        upto = self.state.stamp().position if position is None else position
        found = tables(self.generation, self.blobs, self.state, self.engine, upto)
        return {name: in_order(rows, self.generation, name) for name, rows in found.items()}


def live(house: House, store: Any = None, **changed: Any) -> Live:
    """Return a speed layer over ``house`` and its models."""
    generation = pin(house.blobs, house.models, house.contracts)
    store = store or MemoryServing(layouts(house.models.by_name.values()))
    return Live(house.blobs, house.log, house.state, house.engine, store, generation, **changed)


def in_order(rows: pa.Table, generation: Generation, table: str) -> Rows:
    grain = generation.models[table].grain
    found: Rows = rows.to_pylist()
    return sorted(found, key=lambda row: [(row[name] is None, row[name]) for name in grain])


def tables(
    generation: Generation, blobs: Blobs, state: State, engine: Engine, upto: int
) -> dict[str, pa.Table]:
    """Return every live table computed from all judged rows of entries up to ``upto``."""
    contracts, models = generation.contracts, generation.models
    wanted = [name for name in models.order if models[name].live]
    schemas = bronze_schemas(contracts)
    relations: dict[str, Relation] = {}
    views: dict[str, list[str]] = {name: [] for name in schemas}
    entries = Entries(blobs, state)
    for source, contract in contracts.items():
        for number, judged in enumerate(entries.of(source, 0, upto, 1 << 40)):
            name = f"judged_{source}_{number}"
            relations[name] = judged
            views[contract.table].append(accepted_sql(contract, name, judged.column_names))
            views[contract.quarantine].append(quarantine_sql(contract, name, judged.column_names))
            if contract.mode != "append":
                views[REMOVED_KEYS].append(removed_sql(contract, name))
    current = {current_name(one): one for one in contracts.values() if one.mode != "append"}
    for name, schema in schemas.items():
        if name not in current and not views[name]:
            relations[name] = schema.empty_table()
    with engine.session(relations) as session:
        for name, parts in views.items():
            if parts:
                session.view(name, " UNION ALL ".join(parts))
        for name, contract in current.items():
            session.view(name, current_sql(contract))
        compute(session, models, wanted)
        return {name: result(session, models[name]) for name in wanted}
