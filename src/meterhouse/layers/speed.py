"""The speed layer: live answers follow the log entry by entry, by the very SQL of the batch.

For each group of entries the pinned models run over the group's accepted rows; the partial
results are merged into the serving store in the transaction that advances its position (G1,
G4). Nothing is kept here that could not be lost: a new process goes on from where the
store stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from meterhouse.errors import DamageError, EnvironmentFailureError, MeterhouseError, ModelError
from meterhouse.lake.published import Published
from meterhouse.layers.bases import Lake, base_rows, older
from meterhouse.layers.entries import Group
from meterhouse.layers.generation import Generation, read_generation
from meterhouse.layers.healing import Healing, Missed
from meterhouse.layers.live_views import distinct
from meterhouse.layers.stale import Stale
from meterhouse.layers.workbench import Outcome, Workbench
from meterhouse.log.chain import Log
from meterhouse.log.lock import Lock
from meterhouse.log.state import State
from meterhouse.models.finalize import arrow_schema
from meterhouse.names import PARSER_VERSION
from meterhouse.ports import (
    Answers,
    Blobs,
    Engine,
    LiveChange,
    LiveRows,
    LiveStore,
    ServingStore,
    Stamp,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LiveServing", "Speed", "SpeedReport"]

_NOTHING: Final = Stamp("", 0, 0, "")
_LOOKS: Final = 1_000
"""How often in a row somebody else may have moved the answers meanwhile."""


class LiveServing(LiveStore, ServingStore, Protocol):
    """A serving store whose answers follow the log between epochs."""


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """What one ``catch_up`` did."""

    stamp: Stamp
    """Where the answers stand now; ``Stamp("", 0, 0, "")`` while nothing is published."""
    entries: int = 0
    """Log entries that the answers went over, contract entries among them."""
    rows: int = 0
    """Judged rows of those."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Gold table → partial or finished rows that were handed to the store."""
    stale: Mapping[str, str] = field(default_factory=dict)
    """Tables that don't follow any more, with the reason; readers see their position."""


@dataclass
class Speed:
    """Keeps the answers of ``store`` up with the log. For one thread; holds open sessions."""

    blobs: Blobs
    log: Log
    state: State
    """Names the judged files; entries staged by a running ``Apply`` included."""
    engine: Engine
    store: LiveServing
    project: Callable[[], Generation]
    """Pins the texts of the project now (``generation.pin``): for the first epoch, which is
    empty, while no batch has published one."""
    lake: Callable[[], Published | None]
    """What is published now (``lambda: read_published(blobs)``)."""
    group_rows: int = 65_536
    """Judged rows that are computed at once when the answers are behind."""
    batch_lock: Path | None = None
    """Lock file of whoever publishes epochs: the first, empty one must not follow another."""

    def __post_init__(self) -> None:
        self._bench: Workbench | None = None
        self._lake = Lake(self.lake)
        self._healing = Healing(self.group_rows)
        self._stood: Stamp | None = None
        """Where the answers were last brought to; checked against the log already."""

    def catch_up(self, upto: Stamp) -> SpeedReport:
        """Bring the answers to ``upto``, up to which entries are applied; whole entries only.

        Does nothing when they stand there or further. While nothing is published, an empty
        epoch at position 0 is, with the texts of the project. A model that fails becomes
        stale with its position and stops nothing. Safe beside a batch, a promotion and
        another ``Speed``.

        Raises:
            DamageError: The log is not the one that the answers were made from; a judged
                file or the pinned texts are damaged.
            EnvironmentFailureError: The machine refuses; nothing of the group was changed.
        """
        done = _Done()
        for _ in range(_LOOKS):
            answers = self.store.answers() or self._first_epoch(upto)
            if answers is None:
                return SpeedReport(_NOTHING)
            while answers.stamp.position < upto.position:
                if not self._advance(answers, upto, done):
                    break
                answers = self.store.answers()
                if answers is None:
                    break
            else:
                return done.report(answers)
        raise EnvironmentFailureError(
            "other processes keep moving the answers, so these could not be brought up to date",
            "serving.db",
            "see which other commands run on this project, and run this one again",
        )

    def prepare(self) -> None:
        """Plan the models that the answers were computed with, before an entry waits for it."""
        answers = self.store.answers()
        if answers is not None:
            self._workbench(answers.details)

    def close(self) -> None:
        """Give back the engine's sessions; the next ``catch_up`` opens them again."""
        if self._bench is not None:
            self._bench.close()
            self._bench = None

    def _first_epoch(self, upto: Stamp) -> Answers | None:
        """Publish an empty epoch; None when there is nothing to follow, or a batch is at it."""
        if upto.position == 0:
            return None
        lock = Lock(self.batch_lock) if self.batch_lock is not None else None
        if lock is not None and not lock.take():
            return None
        try:
            if self.store.answers() is None:
                self._publish_nothing()
        finally:
            if lock is not None:
                lock.release()
        return self.store.answers()

    def _publish_nothing(self) -> None:
        generation = self.project()
        epoch = f"empty-{generation.sha256[:16]}"
        for name, model in generation.models.by_name.items():
            if model.served:
                self.store.load(epoch, name, arrow_schema(model).empty_table().to_reader())
        details = {
            "generation": 0,
            "keep_from": {},
            "latest_day": {},
            "models": generation.sha256,
            "parser": PARSER_VERSION,
            "stale": {},
            "stale_ingest_ts": {},
            "views": list(generation.models.on_read),
        }
        self.store.publish(
            epoch,
            _NOTHING,
            ingest_ts=self.log.read(1).time,
            details=json.dumps(details, sort_keys=True),
        )

    def _advance(self, answers: Answers, upto: Stamp, done: _Done) -> bool:
        """Bring the answers over the next group of entries; False: look again."""
        if answers.stamp != self._stood:
            self.log.check(answers.stamp, "the served answers")
        bench = self._workbench(answers.details)
        last = upto.position
        if answers.frozen is not None and answers.stamp.position < answers.frozen < last:
            # The values at the frozen position are kept: no group reaches across it.
            last = answers.frozen
        group = bench.entries.group(answers.stamp.position, last, self.group_rows)
        outcome = bench.compute(group, answers.details.get("latest_day", {}))
        stale = self._stale(bench, answers)
        missed = self._healing.missed(bench, answers, stale)
        stamp = upto if group.position == upto.position else self._stamp(group.position)
        found = self._tables(bench, answers, outcome, stale, missed)
        if not self._hand_over(bench, answers, stamp, outcome, found, stale):
            return False
        bench.keep(outcome)
        self._stood = stamp
        done.note(group, found, stale)
        return True

    def _hand_over(
        self,
        bench: Workbench,
        answers: Answers,
        stamp: Stamp,
        outcome: Outcome,
        found: dict[str, LiveRows],
        stale: Stale,
    ) -> bool:
        """Let the store merge ``found``; a table that can't be merged is left out, and stale."""
        while True:
            change = LiveChange(
                after=answers.stamp,
                stamp=stamp,
                ingest_ts=self.log.read(stamp.position).time,
                tables=tuple(found.values()),
                details=json.dumps(
                    {"latest_day": outcome.latest, **stale.details()}, sort_keys=True
                ),
                publication=answers.publication,
            )
            try:
                return self.store.advance(change)
            except ModelError as error:
                if error.where not in found:
                    raise
                self._leave(bench, error.where, error, found, stale)

    def _leave(
        self,
        bench: Workbench,
        table: str,
        error: MeterhouseError,
        found: dict[str, LiveRows],
        stale: Stale,
    ) -> None:
        """Let ``table`` and the views over it stay where they are."""
        models = bench.generation.models
        for name in (table, *bench.views):
            if name == table or table in models[name].live_from:
                found.pop(name, None)
                stale.add(name, error.what, self._time_of(stale.position))

    def _tables(
        self,
        bench: Workbench,
        answers: Answers,
        outcome: Outcome,
        stale: Stale,
        missed: Missed,
    ) -> dict[str, LiveRows]:
        """Return what the group does to each live table, those that fail noted as stale."""
        found: dict[str, LiveRows] = {}
        for name in missed.by_table:
            stale.drop(name)
        partials, failed = missed.with_those_of(outcome, bench)
        for name, error in failed.items():
            if name in bench.live:
                self._leave(bench, name, error, found, stale)
        for name, rows in partials.items():
            if name in stale:
                continue
            try:
                found[name] = LiveRows(name, rows, self._bases(bench, answers, name, rows))
            except ModelError as error:
                self._leave(bench, name, error, found, stale)
        for name, view in bench.views.items():
            if name in stale:
                continue
            try:
                change = view.change(partials, self._stored, missed.below(name))
            except ModelError as error:
                self._leave(bench, name, error, found, stale)
                continue
            if change is not None:
                found[name] = change
        return found

    def _bases(
        self, bench: Workbench, answers: Answers, name: str, rows: pa.Table
    ) -> pa.Table | None:
        """Return the rows of ``name`` that the store can't know because they are too old."""
        model = bench.generation.models[name]
        keys = older(model, rows, answers.details.get("keep_from", {}))
        if not keys.num_rows:
            return None
        here = distinct(self._stored(name, keys).select(keys.column_names))
        if here.num_rows == keys.num_rows:
            return None
        return base_rows(
            self.engine,
            model,
            keys,
            self._lake.at(answers.epoch),
            lambda: bench.history(name, answers.epoch.position),
            lambda parts: bench.added_up(name, parts),
        )

    def _stale(self, bench: Workbench, answers: Answers) -> Stale:
        """Return the stale tables, those that the epoch has newer rows of at its position."""
        stale = Stale.read(answers)
        for name in stale:
            stands = stale.stands(name, answers.epoch.position)
            if name in bench.live and stands == answers.epoch.position:
                stale.move(name, stands, self._time_of(stands))
        return stale

    def _stored(self, table: str, of: pa.Table) -> pa.Table:
        return self.store.rows(table, of=of).read_all()

    def _stamp(self, position: int) -> Stamp:
        return self.log.stamp(self.log.read(position))

    def _time_of(self, position: int) -> str:
        return self.log.read(max(position, 1)).ingest_ts

    def _workbench(self, details: Mapping[str, Any]) -> Workbench:
        """Return the planned models of the generation that the epoch was computed with."""
        sha256 = details.get("models")
        if not isinstance(sha256, str):
            raise DamageError(
                "the served answers don't say which models they were computed with",
                "serving.db",
                "publish them anew: meterhouse batch --full",
            )
        if self._bench is None or self._bench.generation.sha256 != sha256:
            self.close()
            generation = read_generation(self.blobs, sha256)
            self._bench = Workbench(
                self.engine, generation, (self.blobs, self.state), self.lake, self.group_rows
            )
        return self._bench


@dataclass
class _Done:
    """What one ``catch_up`` has done so far."""

    entries: int = 0
    rows: int = 0
    changed: dict[str, int] = field(default_factory=dict)

    def note(self, group: Group, found: Mapping[str, LiveRows], stale: Stale) -> None:
        self.entries += group.position - group.after
        self.rows += group.rows
        for name, change in found.items():
            handed = change.partials if change.partials is not None else change.rows
            count = handed.num_rows if handed is not None else 0
            self.changed[name] = self.changed.get(name, 0) + count

    def report(self, answers: Answers) -> SpeedReport:
        stale = Stale.read(answers)
        return SpeedReport(answers.stamp, self.entries, self.rows, self.changed, stale.reasons)
