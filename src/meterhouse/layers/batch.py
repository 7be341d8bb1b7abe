"""The batch layer: publish lake, gold and serving up to one position of the log.

Everything is written beside what is published; ``lake/published.json`` is the commit
point, the serving store follows it. A crash anywhere leaves the last publication as it
was, and the next batch finishes or redoes the work: no step looks at how far another came.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from meterhouse.errors import DamageError, MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.lake.delta import DeltaTables
from meterhouse.lake.draft import Draft
from meterhouse.lake.published import (
    PUBLISHED,
    Published,
    read_published,
)
from meterhouse.layers.agreement import Compared, disagreements, refuse_disagreements
from meterhouse.layers.audit import refuse
from meterhouse.layers.bronze_stage import BronzeStage
from meterhouse.layers.generation import pin
from meterhouse.layers.model_stage import ModelStage
from meterhouse.layers.plan import Step, plan
from meterhouse.layers.publishing import Publishing
from meterhouse.layers.speed import LiveServing
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.fork import lost_generation
from meterhouse.log.lock import one_writer
from meterhouse.log.state import State
from meterhouse.models.graph import Models
from meterhouse.names import PARSER_VERSION
from meterhouse.ports import Blobs, Engine, Stamp

__all__ = ["Batch", "BatchReport", "TableReport", "Texts"]


@dataclass(frozen=True, slots=True)
class TableReport:
    """What a batch did to one table."""

    name: str
    rows: int
    """Rows the table has now."""
    new_rows: int
    """Rows written; all of them when the table was written anew."""
    action: str
    """keep, append, merge, recompute; stale: its model is not valid, what was stays."""
    why: str


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch published, or that it had nothing to do."""

    changed: bool
    position: int
    ingest_ts: datetime | None
    """Time of the log entry at ``position``; None while nothing was ever published."""
    generation: int
    tables: tuple[TableReport, ...] = ()
    dropped: tuple[str, ...] = ()
    """Tables that are no longer published: their model or contract is gone."""
    problems: tuple[MeterhouseError, ...] = ()
    """Files of contracts and models that are not valid; they stop only themselves."""
    compared: Mapping[str, int] = field(default_factory=dict)
    """Live tables that were held against the live answers, and agreed → rows that had changed
    since the last batch. Empty where the answers did not stand where this batch went."""
    fork: Entry | None = None
    """The entry that a rebuild has written of a loss that was accepted."""


Texts: TypeAlias = tuple[Mapping[str, Contract], Models, LiveServing]


@dataclass(frozen=True)
class Batch:
    """Publishes the project's lake, up to where the log was when it began.

    Beside a running speed layer: the answers go on while it works, and are held against what
    it comes to before they are put on the new epoch.
    """

    blobs: Blobs
    log: Log
    state: State
    contracts: Mapping[str, Contract]
    """Those in force, see ``pinned.pinned_contracts``."""
    models: Models
    engine: Engine
    serving: LiveServing
    lake: DeltaTables
    file_bytes: int = 64 << 20
    """Small files are joined up to about this size."""
    attempt: Callable[[], str] = lambda: secrets.token_hex(4)
    """Part of new files' names that no other attempt has."""
    cover: Callable[[int], None] = lambda position: None
    """Brings the state view up to at least this entry; called with 0 for the log's head."""
    keep_windows: timedelta = timedelta(days=35)
    """How much event time of tables with ``keep`` is loaded into the serving store."""
    generations_before: int = 0
    """Number of the last generation that views had which are made anew: a rebuild's."""
    texts: Callable[[int], Texts] | None = None
    """Gives contracts, models and a store laid out for them, in force after an entry: other
    ones than the first when a contract was changed meanwhile."""

    def run(
        self, *, full: bool = False, progress: Callable[[str], None] = lambda _: None
    ) -> BatchReport:
        """Publish up to the state's cover; do nothing when that is published.

        Idempotent. On any error what was published stays published.

        Args:
            full: Recompute every table from the judged files.
            progress: Told what is being done, one line at a time.

        Raises:
            ModelError: A model's SQL or audit failed.
            DamageError: What the result would be built on is damaged, or the log went
                backwards.
            EnvironmentFailureError: The machine refuses.
        """
        lock = Path(self.blobs.uri(".locks/batch"))
        with one_writer(lock, lambda: progress("waiting for another batch to end")):
            stamp = self._frozen()
            if self.texts is None:
                return self._run(stamp, full, progress)
            contracts, models, serving = self.texts(stamp.position)
            settled = replace(self, contracts=contracts, models=models, serving=serving)
            return settled._run(stamp, full, progress)

    def _frozen(self) -> Stamp:
        """Settle up to where this batch goes; from here on values there are kept.

        That is the log's head, or where the live answers are when they are further by now.
        """
        self.cover(0)
        # Another process may have moved the cover since this object read it.
        self.state.reload()
        here = self.state.stamp()
        answers, epoch = self.serving.stamp(), self.serving.epoch()
        if answers is None or epoch is None or epoch == answers == here:
            return here  # nothing lies between this batch and the last one
        position = self.serving.freeze(here.position)
        if position == here.position:
            return here
        self.cover(position)
        self.state.reload()
        return self.log.stamp(self.log.read(position))

    def _run(self, stamp: Stamp, full: bool, progress: Callable[[str], None]) -> BatchReport:
        before = read_published(self.blobs)
        if before is not None:
            self._check(before, stamp)
        if stamp.position == 0:
            return BatchReport(False, 0, None, 0, problems=self.models.problems)
        draft = Draft(
            Path(self.blobs.uri("lake")),
            self.engine,
            before,
            name=f"{stamp.position:012d}-{self.attempt()}",
            file_bytes=self.file_bytes,
        )
        progress("bronze")
        bronze = BronzeStage(
            self.blobs, self.state, self.contracts, self.engine, draft, stamp.position, full
        )
        bronze.write()
        steps = plan(self.models, _computed_by(before), bronze.changes, full=full)
        progress("silver and gold")
        stage = ModelStage(
            self.models,
            self.contracts,
            self.engine,
            draft,
            steps,
            bronze.changes,
            bronze.new_rows,
            before.details.get("latest_day", {}) if before else {},
        )
        stage.write()
        stale = self._stale(before, draft)
        refuse(stage.failures)
        generation = pin(self.blobs, self.models, self.contracts)
        compared: Mapping[str, int] = {}
        same = before is not None and before.details.get("models") == generation.sha256
        if before is not None and same and before.stamp != stamp:
            progress("comparison with the live answers")
            compared = self._agree(before, draft, stamp)
        changed = self._changed(draft, before, stamp, generation.sha256)
        publishing = Publishing(
            self.blobs, self.models, self.engine, self.serving, self.lake, self.keep_windows
        )
        taken = self.log.read(stamp.position).time
        if changed:
            restated = bool(bronze.restated) or any(step.restated for step in steps)
            details = {
                "keep_from": publishing.keep_from(draft, taken),
                "latest_day": stage.latest,
                "models": generation.sha256,
                "views": list(self.models.on_read),
                "parser": PARSER_VERSION,
                "stale": stale,
                "stale_ingest_ts": {
                    name: self.log.read(position).ingest_ts for name, position in stale.items()
                },
            }
            number = self._generation(before, stamp, restated)
            published = publishing.commit(draft, (stamp, taken), number, details)
        else:
            assert before is not None
            published = before
        served = publishing.switch(published, progress, changed=changed)
        if changed:
            publishing.clean(published, draft)
        return _report(
            published,
            draft,
            steps,
            bronze,
            before,
            changed or served,
            self.models.problems,
            compared,
        )

    def _generation(self, before: Published | None, stamp: Stamp, restated: bool) -> int:
        """Return the number of the generation that is published: no other one had it before."""
        if before is None:
            # The last one, as far as anything still tells.
            answers = self.serving.answers()
            served = int(answers.details.get("generation", 0)) if answers is not None else 0
            return 1 + max(self.generations_before, served, lost_generation(self.log))
        other = restated or before.stamp.fork != stamp.fork
        return before.generation + (other or before.details.get("parser") != PARSER_VERSION)

    def _check(self, before: Published, stamp: Stamp) -> None:
        """Refuse a log that is not the one the lake was made from, or ends before it."""
        self.log.check(before.stamp, "the lake")
        if stamp.position < before.stamp.position:
            raise DamageError(
                f"the state view ends at entry {stamp.position}, but the lake was made from "
                f"entries up to {before.stamp.position}",
                PUBLISHED,
                "make the views anew: meterhouse rebuild",
            )

    def _stale(self, before: Published | None, draft: Draft) -> dict[str, int]:
        """Keep the tables of models that are not valid now; return table → its position."""
        if before is None:
            return {}
        places = [problem.where for problem in self.models.problems]
        stale: dict[str, int] = {}
        for name in before.tables:
            layer, _, stem = name.partition(".")
            if name not in draft.tables and any(f"{layer}/{stem}.sql" in it for it in places):
                draft.keep(name)
                known = before.details.get("stale", {})
                stale[name] = known.get(name, before.stamp.position)
        return stale

    def _agree(self, before: Published, draft: Draft, stamp: Stamp) -> dict[str, int]:
        """Hold what was computed against the live answers at the same position.

        Returns live table → how many of its rows had changed since the last batch.

        Raises:
            BrokenPromiseError: They differ; nothing was published.
        """
        answers = self.serving.answers()
        if (
            answers is None
            or answers.epoch != before.stamp
            or answers.frozen != stamp.position
            or not before.stamp.position < stamp.position <= answers.stamp.position
        ):
            # The answers have not come that far, or stand on another epoch: what they would
            # have been is not known.
            return {}
        stale = answers.details.get("stale", {})
        tables = [
            Compared(name, self._grain(name), draft.published_relation(name), draft.relation(name))
            for name in sorted(draft.tables)
            if name in before.tables and name not in stale and self._live(name)
        ]
        found = disagreements(self.engine, self.serving, tables)
        refuse_disagreements({name: one.keys for name, one in found.items()}, stamp.position)
        return {name: one.touched for name, one in found.items()}

    def _live(self, name: str) -> bool:
        model = self.models.by_name.get(name)
        return model is not None and model.live

    def _grain(self, name: str) -> tuple[str, ...]:
        return self.models[name].grain

    def _changed(
        self, draft: Draft, before: Published | None, stamp: Stamp, generation: str
    ) -> bool:
        return (
            before is None
            or before.stamp != stamp
            or before.details.get("models") != generation
            or set(before.tables) != set(draft.tables)
            or any(not table.kept for table in draft.tables.values())
            or any(self.lake.ahead_of(name, before.tables[name].version) for name in before.tables)
        )


def _computed_by(before: Published | None) -> dict[str, str]:
    """Return name → hash of what computed a published table, "" for one left behind."""
    if before is None:
        return {}
    # A table that was kept while its model was not valid lacks rows of earlier batches: it
    # must not be merged into, even when the very same text is back.
    behind = before.details.get("stale", {})
    return {name: "" if name in behind else one.model for name, one in before.tables.items()}


def _report(
    published: Published,
    draft: Draft,
    steps: Sequence[Step],
    bronze: BronzeStage,
    before: Published | None,
    changed: bool,
    problems: tuple[MeterhouseError, ...],
    compared: Mapping[str, int],
) -> BatchReport:
    by_name = {step.name: step for step in steps}
    tables = []
    for name, table in sorted(draft.tables.items()):
        step = by_name.get(name)
        action: str = "stale"
        why = "its model is not valid"
        if step is not None:
            action, why = step.action, step.why
        elif name in bronze.changes:
            action, why = bronze.said(name)
        tables.append(TableReport(name, table.rows, table.new.rows, action, why))
    dropped = sorted(set(before.tables) - set(published.tables)) if before is not None else []
    return BatchReport(
        changed,
        published.stamp.position,
        published.ingest_ts,
        published.generation,
        tuple(tables),
        tuple(dropped),
        problems,
        compared,
    )
