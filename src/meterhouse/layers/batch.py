"""The batch layer: publish lake, gold and serving up to one position of the log.

Everything is written beside what is published; ``lake/published.json`` is the commit
point, the serving store follows it. A crash anywhere leaves the last publication as it
was, and the next batch finishes or redoes the work: no step looks at how far another came.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from meterhouse.errors import DamageError, ModelError
from meterhouse.intake.contract import Contract
from meterhouse.lake.delta import Contents, DeltaTables
from meterhouse.lake.draft import Draft, DraftTable
from meterhouse.lake.published import (
    PUBLISHED,
    Published,
    PublishedTable,
    encoded_schema,
    read_published,
    write_published,
)
from meterhouse.layers.audit import refuse
from meterhouse.layers.bronze_stage import BronzeStage
from meterhouse.layers.model_stage import ModelStage
from meterhouse.layers.plan import Step, plan
from meterhouse.log.apply import entry_time
from meterhouse.log.chain import Log
from meterhouse.log.lock import one_writer
from meterhouse.log.state import State
from meterhouse.models.graph import Models
from meterhouse.names import PARSER_VERSION
from meterhouse.ports import Blobs, Engine, ServingStore, Stamp

__all__ = ["Batch", "BatchReport", "TableReport"]

_PENDING: Final = "serving.pending"
"""There while the serving store may stand for another publication than the lake's."""


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
    problems: tuple[ModelError, ...] = ()
    """Model files that are not valid; they stop only themselves."""


@dataclass(frozen=True)
class Batch:
    """Publishes the project's lake, up to where the state view was checkpointed."""

    blobs: Blobs
    log: Log
    state: State
    contracts: Mapping[str, Contract]
    """Those in force, see ``pinned.pinned_contracts``."""
    models: Models
    engine: Engine
    serving: ServingStore
    lake: DeltaTables
    file_bytes: int = 64 << 20
    """Small files are joined up to about this size."""
    attempt: Callable[[], str] = lambda: secrets.token_hex(4)
    """Part of new files' names that no other attempt has."""

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
            # Whoever held the lock may have seen a newer state than this object has.
            self.state.reload()
            return self._run(full, progress)

    def _run(self, full: bool, progress: Callable[[str], None]) -> BatchReport:
        stamp = self.state.stamp()
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
        changed = self._changed(draft, before, stamp)
        if changed:
            progress("publication")
            restated = bool(bronze.restated) or any(step.restated for step in steps)
            details = {
                "latest_day": stage.latest,
                "parser": PARSER_VERSION,
                "stale": stale,
                "stale_ingest_ts": {
                    name: self.log.read(position).ingest_ts for name, position in stale.items()
                },
            }
            published = self._publish(draft, stamp, _generation(before, stamp, restated), details)
        else:
            assert before is not None
            published = before
        served = self._serve(published, progress)
        if changed:
            self._clean(published, draft)
        return _report(
            published, draft, steps, bronze, before, changed or served, self.models.problems
        )

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

    def _changed(self, draft: Draft, before: Published | None, stamp: Stamp) -> bool:
        return (
            before is None
            or before.stamp != stamp
            or set(before.tables) != set(draft.tables)
            or any(not table.kept for table in draft.tables.values())
            or any(self.lake.ahead_of(name, before.tables[name].version) for name in before.tables)
        )

    def _publish(
        self, draft: Draft, stamp: Stamp, generation: int, details: Mapping[str, Any]
    ) -> Published:
        note = {
            "meterhouse.position": str(stamp.position),
            "meterhouse.generation": str(generation),
        }
        tables = {
            name: self._commit(table, draft, note) for name, table in sorted(draft.tables.items())
        }
        published = Published(
            stamp=stamp,
            ingest_ts=entry_time(self.log.read(stamp.position).ingest_ts),
            generation=generation,
            tables=tables,
            details=details,
            root=str(draft.lake),
        )
        # First of all: from here on a crash must not leave old answers under a new position.
        self.blobs.put(_PENDING, published.checksum.encode("ascii"), durable=True)
        write_published(self.blobs, published)
        return published

    def _commit(self, table: DraftTable, draft: Draft, note: Mapping[str, str]) -> PublishedTable:
        """Commit one table to its Delta log, unless that holds just this already."""
        name = table.shape.name
        old = draft.before.tables.get(name) if draft.before is not None else None
        if table.kept and old is not None and not self.lake.ahead_of(name, old.version):
            return old
        if table.kept:
            # A crash left another state in the Delta log, or a part of the lake is gone.
            draft.relation(name)
        contents = Contents(
            table.shape.schema,
            table.shape.partition_by,
            table.files,
            table.rearranged,
            table.statistics,
            note,
        )
        version = self.lake.commit(name, contents, published=old.version if old else None)
        return PublishedTable(
            name=name,
            version=version,
            rows=table.rows,
            model=table.shape.model,
            schema=encoded_schema(table.shape.schema),
            partition_by=table.shape.partition_by,
            files=table.files,
            log=self.lake.log_files(name, version, old.log if old is not None else ()),
        )

    def _serve(self, published: Published, progress: Callable[[str], None]) -> bool:
        """Load gold into the serving store, unless it stands for this publication."""
        if self.serving.stamp() == published.stamp and not self._pending():
            return False
        progress("serving")
        epoch = published.checksum[:16]
        names = sorted(name for name in published.tables if name.startswith("gold."))
        with self.engine.session({name: published.relation(name) for name in names}) as session:
            for name in names:
                self.serving.load(epoch, name, session.stream(f"SELECT * FROM {name}"))
        details = {"generation": published.generation, **published.details}
        self.serving.publish(
            epoch,
            published.stamp,
            ingest_ts=published.ingest_ts,
            details=json.dumps(details, sort_keys=True),
        )
        self.blobs.delete(_PENDING)
        return True

    def _pending(self) -> bool:
        try:
            self.blobs.read(_PENDING)
        except FileNotFoundError:
            return False
        return True

    def _clean(self, published: Published, draft: Draft) -> None:
        """Delete what no version within the time kept needs, now and then."""
        keep = frozenset(file.path for table in published.tables.values() for file in table.files)
        for name, table in draft.tables.items():
            if not table.kept:
                self.lake.tidy(name, published.tables[name].version, keep)
        self.lake.drop_all_but(published.tables)


def _computed_by(before: Published | None) -> dict[str, str]:
    """Return name → hash of what computed a published table, "" for one left behind."""
    if before is None:
        return {}
    # A table that was kept while its model was not valid lacks rows of earlier batches: it
    # must not be merged into, even when the very same text is back.
    behind = before.details.get("stale", {})
    return {name: "" if name in behind else one.model for name, one in before.tables.items()}


def _generation(before: Published | None, stamp: Stamp, restated: bool) -> int:
    if before is None:
        return 1
    other = restated or before.stamp.fork != stamp.fork
    return before.generation + (other or before.details.get("parser") != PARSER_VERSION)


def _report(
    published: Published,
    draft: Draft,
    steps: Sequence[Step],
    bronze: BronzeStage,
    before: Published | None,
    changed: bool,
    problems: tuple[ModelError, ...],
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
    )
