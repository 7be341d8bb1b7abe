"""A project: the one place where the parts are put together, and the Python API.

import meterhouse

house = meterhouse.open("my-project")
house.ingest("delivery/")
house.batch()
house.query("top-services", days=30).table()
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from meterhouse.analysis.explain import Explained, Lake, explain
from meterhouse.analysis.held import Filter, HeldGroup, held_rows, summary
from meterhouse.analysis.reconcile import Reconciliation, reconcile
from meterhouse.analysis.status import (
    Drift,
    SourceStatus,
    Unknown,
    drift_of,
    sizes,
    sources_of,
    unknown_keys,
)
from meterhouse.clock import system_clock
from meterhouse.config import Settings, find_project, load_settings
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.formats import timestamp_text
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.lake.delta import DeltaTables
from meterhouse.lake.published import PUBLISHED, Published, read_published
from meterhouse.layers.batch import Batch, BatchReport
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.layers.judged import judged_forms
from meterhouse.layers.pinned import pinned_contracts
from meterhouse.log.apply import Apply
from meterhouse.log.apply import rebuild as rebuild_views
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.ingest import Ingest, Progress
from meterhouse.log.lock import one_writer
from meterhouse.log.report import IngestReport
from meterhouse.log.state import State
from meterhouse.models.graph import Models, load_models
from meterhouse.ports import Blobs, Clock, Engine, ParquetFiles, ServingStore
from meterhouse.reading import Selection, grain_of, published_lake, resolve, rows_of, rows_of_sql
from meterhouse.serving.answer import Answer
from meterhouse.serving.queries import ask
from meterhouse.serving.schema import layouts
from meterhouse.serving.snapshot import read as read_serving
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.sources.files import Discovery, discover
from meterhouse.storage.folder import FolderBlobs
from meterhouse.verify import Check, Report, Scope, Subject, verify
from meterhouse.verify.restore import check_rebuildable, drop_damaged_serving, lake_set_aside

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Project", "ProjectStatus", "open_project"]

_LOOKS: Final = 3
"""How often ``verify`` looks when others publish while it does."""


@dataclass(frozen=True, slots=True)
class ProjectStatus:
    """A project on one screen."""

    root: Path
    position: int
    """Last log entry; 0 while there is none."""
    head: str
    """Its SHA-256: with the position, the anchor to keep elsewhere."""
    published: int
    """Position of the last batch; 0 while there was none."""
    published_at: str
    """Time of the entry at that position."""
    sources: Sequence[SourceStatus]
    drift: Sequence[Drift]
    unknown: Unknown | None
    sizes: Mapping[str, tuple[int, int]]
    """Part of the project → files, bytes."""


def open_project(
    path: str | Path | None = None,
    *,
    clock: Clock = system_clock,
    options: Mapping[str, str] | None = None,
) -> Project:
    """Open the project at ``path``.

    Args:
        path: The project folder; else METERHOUSE_PROJECT, else the nearest parent of the
            current folder that holds a meterhouse.toml.
        clock: Gives the time that entries carry.
        options: Setting ("engine.threads") to value as text; they win over the
            environment, which wins over meterhouse.toml.

    Raises:
        ConfigError: There is no project, or a setting is not valid.
    """
    root = find_project(str(path) if path is not None else None, os.environ, Path.cwd())
    return Project(root, load_settings(root, os.environ, options), clock)


class Project:
    """One project folder. Opening it reads nothing but its settings.

    Every method sees the log as it is when it is called; results are Arrow tables with the
    columns of docs/data-dictionary.md: money DECIMAL(38,9), days and times UTC, NULL for unknown.
    """

    def __init__(self, root: Path, settings: Settings, clock: Clock) -> None:
        self.root = root
        self.settings = settings
        self.clock = clock

    def __repr__(self) -> str:
        return f"<meterhouse project {self.root}>"

    @cached_property
    def blobs(self) -> Blobs:
        """The project's files."""
        return FolderBlobs(self.root, group_shared=self.settings.access_group_shared)

    @cached_property
    def engine(self) -> Engine:
        """The engine of batch and verify."""
        return self._engine(self.root / ".tmp", locked=False)

    @property
    def contracts(self) -> dict[str, Contract]:
        """The contracts of the project folder, by source, as they are now."""
        return load_contracts(self.root / "contracts")

    def models(self, contracts: Mapping[str, Contract] | None = None) -> Models:
        """Return the models of the project folder; invalid ones are in ``problems``."""
        return load_models(
            self.root / "models", bronze_schemas(self.contracts if contracts is None else contracts)
        )

    @property
    def head(self) -> int:
        """Position of the last log entry; 0 while there is none."""
        entry = Log(self.blobs).head()
        return entry.position if entry is not None else 0

    def ingest(
        self,
        *paths: str | Path,
        source: str | None = None,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Take what is new in files and folders into the log, each record judged.

        Safe to repeat and to interrupt: what was taken is "already done". What was
        refused, stopped or not recognised is in the report.

        Raises:
            UsageError: A path or the source does not exist.
            DamageError: Log or views are damaged; nothing was added.
        """
        found = self.discover(paths, source)
        report = self.take(found, progress)
        report.unrecognised = found.unrecognised
        report.problems = found.problems
        return report

    def discover(self, paths: Iterable[str | Path], source: str | None = None) -> Discovery:
        """Find the deliveries at ``paths``, without taking them."""
        return discover(list(paths), self.contracts, source, project=self.root)

    def take(
        self,
        found: Discovery,
        progress: Progress | None = None,
        waiting: Callable[[], None] = lambda: None,
    ) -> IngestReport:
        """Take deliveries that ``discover`` found.

        ``waiting`` is called when another ``ingest`` has to end first.
        """
        with self._modes(), one_writer(self._lock("ingest"), waiting), self._state() as state:
            log = Log(self.blobs)
            apply = self._apply(log, state)
            run = Ingest(
                self.blobs,
                log,
                state,
                apply,
                self.clock,
                piece_bytes=self.settings.ingest_piece_bytes,
            )
            return run.run(found.files, progress)

    def batch(
        self, *, full: bool = False, progress: Callable[[str], None] = lambda _: None
    ) -> BatchReport:
        """Publish lake, gold and serving up to the log's head; whole or not at all.

        With nothing new it changes nothing.

        Args:
            full: Recompute every table from the judged files; gives identical tables.
            progress: Told what is being done.

        Raises:
            ModelError: A model's SQL or an audit failed; what was published stays.
        """
        with self._modes(), self._state() as state:
            log = Log(self.blobs)
            apply = self._apply(log, state)
            apply.catch_up()
            apply.checkpoint()
            contracts = pinned_contracts(log, state, self.contracts)
            models = self.models(contracts)
            lake = DeltaTables(self.root / "lake", self.settings.lake_keep, self.clock)
            return Batch(
                self.blobs,
                log,
                state,
                contracts,
                models,
                self.engine,
                self.serving(models),
                lake,
                self.settings.lake_file_bytes,
            ).run(full=full, progress=progress)

    def serving(self, models: Models) -> ServingStore:
        """Return the embedded serving store."""
        return SqliteServing(
            self.root / "serving.db",
            layouts(models.by_name.values()),
            group_shared=self.settings.access_group_shared,
        )

    def read(
        self,
        table: str,
        *,
        where: str = "",
        columns: Sequence[str] = (),
        limit: int | None = None,
    ) -> pa.Table:
        """Return a published table, sorted by its grain, at one position.

        Args:
            table: "gold.finops_by_org_day"; the layer may be left out where that is clear.
            where: One boolean SQL expression over its columns.
            columns: Which, in this order; all when empty.
            limit: At most so many rows.

        Raises:
            UsageError: Nothing is published, or a name does not exist.
        """
        if isinstance(columns, str):
            raise UsageError("columns is one text", "read", f'give a list: columns=["{columns}"]')
        published = published_lake(self.root)
        name = resolve(published, table)
        grain = grain_of(published, self.root, name)
        wanted = Selection(tuple(columns), where, limit)
        with self._locked() as engine, rows_of(published, engine, name, grain, wanted) as rows:
            return rows.read_all()

    def sql(self, text: str) -> pa.Table:
        """Return the result of one read-only SELECT (DuckDB) over the published tables.

        Raises:
            UsageError: It is not one SELECT, or names what does not exist.
        """
        published = published_lake(self.root)
        with self._locked() as engine, rows_of_sql(published, engine, text) as rows:
            return rows.read_all()

    def query(self, name: str, /, **arguments: object) -> Answer:
        """Answer one of the six questions, from the serving store.

        Args:
            name: daily-cost, top-services, ticket-sla, monthly-revenue, genai-usage or
                anomalies.
            arguments: As on the command line: org, service, from_, to, days, as_of, limit,
                severity, by.

        Raises:
            UsageError: Unknown question, argument, organisation or service.
        """
        given = {key: value for key, value in arguments.items() if value is not None}
        return read_serving(
            self.root / "serving.db", lambda snapshot: ask(snapshot, name, given, self.clock())
        )

    def published(self) -> Published | None:
        """Return what is published; None when nothing ever was.

        Raises:
            DamageError: The list of what is published is not what was written.
        """
        return read_published(self.root)

    def verify(
        self,
        *,
        quick: bool = False,
        since: int = 0,
        expect: tuple[int, str] | None = None,
        progress: Callable[[Entry], None] | None = None,
    ) -> Report:
        """Re-derive the ledger from landed bytes and log, and check every view against it.

        Changes nothing. Damage is in the report, not raised.

        Args:
            quick: Hashes and counts only.
            since: Bytes of entries after this one only; nothing is judged again.
            expect: Number and SHA-256 of an entry, as noted elsewhere.
            progress: Called with each entry that was judged again.
        """
        scope = Scope(quick, since, expect)
        for _ in range(_LOOKS):
            with self._subject() as (subject, opening):
                report = verify(subject, scope, opening=opening, progress=progress)
                if report.verdict == "holds" or not self._moved(subject):
                    break
        return report

    def rebuild(
        self,
        *,
        accept_loss: bool = False,
        progress: Callable[[Entry], None] | None = None,
        said: Callable[[str], None] = lambda _: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> BatchReport:
        """Make every view anew from log and landing: judged files, index, lake, serving.

        Questions are answered from the last epoch meanwhile. Safe to repeat and to interrupt.

        Args:
            accept_loss: Go on with a log that ends before what the views were made from.
            progress: Called with each entry that was judged again.
            said: Told what is being published.
            waiting: Called when another command has to end first.

        Raises:
            DamageError: Log or landing are damaged or lost; they can't be made anew, and
                nothing was changed.
            ModelError: A model's SQL or audit failed; the lake is what it was.
        """
        with self._modes(), one_writer(self._lock("ingest"), waiting):
            with self._subject() as (subject, _):
                check_rebuildable(subject, accept_loss=accept_loss)
                drop_damaged_serving(subject)
            rebuild_views(
                self.blobs,
                Log(self.blobs),
                self.engine,
                index_folder=self.root / "index",
                progress=progress,
            ).close()
            with lake_set_aside(self.root, self._lock("batch"), waiting):
                return self.batch(progress=said)

    def quarantine(self) -> list[HeldGroup]:
        """Return counts and money of what is held, by source and first broken rule."""
        with self._state() as state:
            contracts, judged = self._judged(state)
            return summary(self.engine, contracts, judged)

    def quarantined(
        self, source: str = "", reason: str = "", limit: int | None = None
    ) -> Iterator[tuple[Contract, pa.RecordBatch]]:
        """Yield held records with their bytes, reasons, file and line, source by source."""
        with self._state() as state:
            contracts, judged = self._judged(state)
            yield from held_rows(self.engine, contracts, judged, Filter(source, reason, limit))

    def explain(self, table: str, key: Mapping[str, str], limit: int = 20) -> Explained:
        """Return the records behind one row of ``table``, and what stands beside it.

        Raises:
            UsageError: Nothing is published, or table, column or key do not exist.
        """
        published = published_lake(self.root)
        with self._state() as state:
            contracts, judged = self._judged(state, published.stamp.position)
            relations = {name: published.relation(name) for name in published.tables}
            lake = Lake(self.engine, self.models(contracts), contracts, relations, judged)
            return explain(lake, resolve(published, table), key, limit)

    def reconcile(self, org: str | None = None) -> Reconciliation:
        """Return metered against invoiced, by organisation and month, in USD."""
        published = published_lake(self.root)
        names = (
            "gold.org_daily_usage_by_service",
            "silver.billing_enriched",
            "bronze.quarantine_usage",
        )
        with self.engine.session({name: published.relation(name) for name in names}) as session:
            return reconcile(session, org)

    def status(self) -> ProjectStatus:
        """Return sources, positions, lag, sizes, drift and unknown keys."""
        log = Log(self.blobs)
        stamp = log.stamp()
        published = self.published()
        drift: list[Drift] = []
        if stamp.position:
            with self._state() as state:
                contracts, judged = self._judged(state)
                drift = [drift_of(self.engine, contracts[name], judged[name]) for name in judged]
        return ProjectStatus(
            root=self.root,
            position=stamp.position,
            head=stamp.head,
            published=published.stamp.position if published is not None else 0,
            published_at=timestamp_text(published.ingest_ts) if published is not None else "",
            sources=sources_of(log.entries()),
            drift=drift,
            unknown=unknown_keys(self.engine, published) if published is not None else None,
            sizes=sizes(self.root),
        )

    @contextmanager
    def _subject(self) -> Iterator[tuple[Subject, Check]]:
        """Open what ``verify`` looks at; what can't be opened is None, and a finding."""
        opening = Check("views can be opened", unit="views")
        state = None
        if (self.root / "log").exists():
            path = self.root / "index" / "state.db"
            state = _opened(opening, "index/state.db", lambda: State.open(path, create=False))
        if state is not None and (problems := state.check()):
            for problem in problems:
                opening.fail("rebuildable", f"state view: {problem}", file="index/state.db")
            state.close()
            state = None
        published = _opened(opening, PUBLISHED, self.published)
        reported = any(found.file == PUBLISHED for found in opening.findings)
        if published is None and not reported and (self.root / "serving.db").exists():
            opening.fail("rebuildable", "lake is not published, but served", file=PUBLISHED)
        serving = SqliteServing(self.root / "serving.db")
        try:
            yield (
                Subject(self.root, self.blobs, self.engine, state, published, serving),
                opening,
            )
        finally:
            if state is not None:
                state.close()

    def _moved(self, subject: Subject) -> bool:
        """Return whether somebody ingested or published since ``subject`` was opened."""
        try:
            moved = subject.state is not None and subject.state.moved()
            return moved or self.published() != subject.published
        except (MeterhouseError, OSError):
            return False

    def _lock(self, name: str) -> Path:
        return self.root / ".locks" / name

    @contextmanager
    def _modes(self) -> Iterator[None]:
        """Let the group read what libraries write, whose files take the process's umask."""
        if not self.settings.access_group_shared:
            yield
            return
        before = os.umask(0)
        os.umask(before & ~0o050)
        try:
            yield
        finally:
            os.umask(before)

    @contextmanager
    def _state(self) -> Iterator[State]:
        state = State.open(self.root / "index" / "state.db")
        try:
            yield state
        finally:
            state.close()

    def _apply(self, log: Log, state: State) -> Apply:
        return Apply(self.blobs, log, state, self.engine, index_folder=self.root / "index")

    def _judged(
        self, state: State, upto: int | None = None
    ) -> tuple[dict[str, Contract], dict[str, dict[str, ParquetFiles]]]:
        contracts = pinned_contracts(Log(self.blobs), state, self.contracts)
        return contracts, {
            source: judged_forms(self.blobs, state, source, upto=upto) for source in contracts
        }

    def _engine(self, spill: Path, *, locked: bool) -> DuckDBEngine:
        settings = self.settings
        return DuckDBEngine(settings.engine_memory, settings.engine_threads, spill, locked=locked)

    @contextmanager
    def _locked(self) -> Iterator[Engine]:
        # Not in the project: whoever may only read it can still sort a large table.
        with tempfile.TemporaryDirectory(prefix="meterhouse-") as spill:
            yield self._engine(Path(spill), locked=True)


_Opened = TypeVar("_Opened")


def _opened(check: Check, name: str, action: Callable[[], _Opened]) -> _Opened | None:
    """Open a view; note in ``check`` when it can't be."""
    check.covered += 1
    try:
        return action()
    except MeterhouseError as error:
        check.fail("rebuildable", error.what, file=name)
        return None
    except OSError as error:
        check.fail("rebuildable", f"can't be read: {error.strerror}", file=name)
        return None
