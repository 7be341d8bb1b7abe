"""A project: the one place where the parts are put together, and the Python API.

import meterhouse

house = meterhouse.open("my-project")
house.ingest("delivery/")
house.batch()
house.query("top-services", days=30).table()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meterhouse.clock import system_clock
from meterhouse.config import find_project, load_settings
from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.follow.requests import hand_over, ingest_request
from meterhouse.inspection import Inspection, ProjectStatus
from meterhouse.lake.delta import DeltaTables
from meterhouse.layers.batch import Batch, BatchReport
from meterhouse.log.apply import rebuild as rebuild_views
from meterhouse.log.entry import Entry
from meterhouse.log.fork import go_on_without
from meterhouse.log.ingest import Ingest, Progress
from meterhouse.log.lock import Lock, all_at_once, one_writer
from meterhouse.log.report import IngestReport
from meterhouse.log.sealing import Sealed
from meterhouse.log.upkeep import SEALING_LOCK
from meterhouse.ports import Clock, LiveStore
from meterhouse.reading import (
    Selection,
    grain_of,
    resolve,
    rows_of,
    rows_of_sql,
)
from meterhouse.serving.answer import Answer
from meterhouse.serving.queries import ask
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.sources.files import Discovery, discover
from meterhouse.verify.restore import (
    check_rebuildable,
    drop_damaged_serving,
    lake_set_aside,
    last_generation,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.alerts.alerts import Alerts
    from meterhouse.follow.say import Say
    from meterhouse.follow.telling import Exporter

__all__ = ["Project", "ProjectStatus", "open_project"]

_ALERTS_S: Final = 5.0
"""How long the end of ``follow`` waits for a look at alerts, and for their delivery."""
_SEALING_S: Final = 2.0
"""So long ``ingest`` seals what is due; the next one goes on from there."""


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


class Project(Inspection):
    """One project folder. Opening it reads nothing but its settings.

    Every method sees the log as it is when it is called; results are Arrow tables with the
    columns of docs/data-dictionary.md: money DECIMAL(38,9), days and times UTC, NULL for unknown.
    """

    def __repr__(self) -> str:
        return f"<meterhouse project {self.root}>"

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
        """Find the deliveries at ``paths``, without taking them.

        A contract that is not valid is a problem, and so are files that wait for it.
        """
        folder = self.contract_folder
        for bad in folder.bad:
            if bad.source == source:
                raise bad.error
        found = discover(list(paths), folder.contracts, source, project=self.root)
        found.wait_for(folder.bad)
        return found

    def take(
        self,
        found: Discovery,
        progress: Progress | None = None,
        waiting: Callable[[], None] = lambda: None,
    ) -> IngestReport:
        """Take deliveries that ``discover`` found.

        A running ``follow`` takes them between what is live. ``waiting`` is called when
        another ``ingest`` has to end first.
        """
        with self._modes():
            lock = Lock(self._lock("ingest"))
            asked = ingest_request(found.files)
            done = hand_over(self.root, lock, asked, progress=progress, waiting=waiting)
            if done is not None:
                return IngestReport.from_body(done["report"])
            try:
                return self._take(found, progress)
            finally:
                lock.release()

    def _take(self, found: Discovery, progress: Progress | None) -> IngestReport:
        with self._views() as state:
            log = self._log()
            apply = self._apply(log, state)
            run = Ingest(
                self.blobs,
                log,
                state,
                apply,
                self.clock,
                piece_bytes=self.settings.ingest_piece_bytes,
            )
            report = run.run(found.files, progress)
            self._seal(log, apply.stamp().position, _SEALING_S)
            return report

    def follow(
        self,
        *paths: str | Path,
        say: Say,
        once: bool = False,
        wait: bool = False,
        poll: bool = False,
        interval: float = 10.0,
        exporter: Exporter | None = None,
        batch_every: float = 0.0,
        batch_command: Sequence[str] = (),
        replicas: Mapping[str, Sequence[str]] | None = None,
        waiting: Callable[[str], None] = lambda what: None,
    ) -> list[MeterhouseError]:
        """Keep log and answers up with folders until SIGTERM or SIGINT; see docs/follow.md.

        Returns what nothing is taken of, and why.

        Args:
            paths: Files and folders; those of ``ingest.folders`` when there are none.
            say: Is told what happens.
            once: End when there is nothing more to take.
            wait: Wait for another follower to end.
            poll: Look every second instead of being told of changes.
            interval: Seconds between two lines about how it goes; 0: none.
            exporter: Is shown the figures every second.
            batch_every: Seconds between two batches; 0: none.
            batch_command: How a batch is started.
            replicas: Store → how the process is started that keeps a replica up in it.
            waiting: Called with what has to end first.

        Raises:
            UsageError: A path does not exist.
            DamageError: Log or views are damaged.
            EnvironmentFailureError: Another follower runs; with ``once``, the machine failed.
        """
        # Here, and not above: no other command waits for what only this one needs.
        from meterhouse.follow.parts import Options, Parts
        from meterhouse.follow.run import Live, only_one, run
        from meterhouse.sources.watch import FolderWatch

        given = [Path(path) for path in paths]
        options = Options(
            given or [self.root / folder for folder in self.settings.ingest_folders],
            once,
            self.settings.follow_settle.total_seconds(),
            self.settings.ingest_piece_bytes,
            batch_command,
            batch_every,
            replicas or {},
        )
        with (
            self._modes(),
            only_one(self.root, wait=wait, waiting=waiting),
            self._views() as state,
            closing(FolderWatch(poll=poll)) as watch,
            closing(self._speed(log := self._log(), state)) as speed,
        ):
            apply = self._apply(log, state)
            live = Live(speed, say)
            parts = Parts(
                self.root,
                self.blobs,
                log,
                state,
                apply,
                self.clock,
                watch,
                [live],
                say,
                self.ticks,
                self._upkeep(log),
            )
            with self._alerting(speed.store, say, exporter) as alerting:
                return run(parts, options, live, interval=interval, exporter=alerting)

    def alerts(self) -> Alerts:
        """Return what raises and delivers alerts, by the project's ``alerts.yaml``; close it."""
        from meterhouse.alerts.alerts import Alerts

        def aside() -> AbstractContextManager[LiveStore]:
            return closing(SqliteServing(self.root / "serving.db"))

        return Alerts(self.root, self.models, self.engine, self.clock, os.environ, aside=aside)

    @contextmanager
    def _alerting(
        self, store: LiveStore, say: Say, exporter: Exporter | None
    ) -> Iterator[Exporter]:
        from meterhouse.follow.alerting import Alerting

        alerting = Alerting(self.alerts(), store, say, exporter)
        try:
            yield alerting
        finally:
            alerting.close(self.clock(), _ALERTS_S)

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
        return self._batch(full, progress)

    def _batch(self, full: bool, progress: Callable[[str], None], after: int = 0) -> BatchReport:
        with self._modes(), self._views() as state:
            log = self._log()
            invalid = self.contract_folder.problems
            first = self._texts(log, state, state.stamp().position)
            report = Batch(
                self.blobs,
                log,
                state,
                *first[:2],
                self.engine,
                first[2],
                DeltaTables(self.root / "lake", self.settings.lake_keep, self.clock),
                self.settings.lake_file_bytes,
                cover=lambda position: self._cover(log, state, position),
                keep_windows=self.settings.serving_keep_windows,
                generations_before=after,
                texts=lambda upto: self._texts(log, state, upto, first),
            ).run(full=full, progress=progress)
            self._join(state, report.position, progress)
            return replace(report, problems=(*invalid, *report.problems))

    def seal(self, *, waiting: Callable[[], None] = lambda: None) -> Sealed:
        """Seal all entries that are due, and pack what they landed; see docs/log-format.md.

        ``ingest`` and ``follow`` do it by themselves, a little at a time. Safe to repeat, to
        interrupt, and beside everything else.

        Args:
            waiting: Called when another sealer, or a backup, has to end first.

        Raises:
            DamageError: Log or landing are damaged: nothing of that range was changed.
        """
        with self._modes(), one_writer(self.root / SEALING_LOCK, waiting):
            sealing = self._sealing(self._log())
            for _ in sealing.steps():
                pass
            return sealing.done

    def read(
        self,
        table: str,
        *,
        where: str = "",
        columns: Sequence[str] = (),
        limit: int | None = None,
    ) -> pa.Table:
        """Return a table, sorted by its grain, at the position of the answers.

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
        wanted = Selection(tuple(columns), where, limit)
        tables = self.at_position(f"{table} {where}")
        name = resolve(tables, table)
        grain = grain_of(tables, self.root, name)
        with self._locked() as engine, rows_of(tables, engine, name, grain, wanted) as rows:
            return rows.read_all()

    def sql(self, text: str) -> pa.Table:
        """Return the result of one read-only SELECT (DuckDB) over all tables, at one position.

        Raises:
            UsageError: It is not one SELECT, or names what does not exist.
        """
        tables = self.at_position(text)
        with self._locked() as engine, rows_of_sql(tables, engine, text) as rows:
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
        return self.answers.read(lambda snapshot: ask(snapshot, name, given, self.clock()))

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
        locks = [self._lock(name) for name in ("ingest", "batch", "views")]
        with self._modes(), all_at_once(locks, waiting) as (_, *others):
            # A batch that is loading the serving store would go on with a new, empty one.
            with self._subject() as (subject, _opening):
                lost = check_rebuildable(subject, accept_loss=accept_loss)
                generation, fork = last_generation(subject), None
                if lost is not None:
                    # Before anything is deleted that still tells of what was lost.
                    fork = go_on_without(self._log(), lost, generation, self.clock())
                drop_damaged_serving(subject)
                published = subject.published
            rebuild_views(
                self.blobs,
                self._log(),
                self.engine,
                index_folder=self.root / "index",
                progress=progress,
                published=published.stamp.position if published is not None else 0,
            ).close()
            for lock in others:
                lock.release()
            with lake_set_aside(self.root, self._lock("batch"), waiting):
                done = self._batch(full=False, progress=said, after=generation)
                return replace(done, fork=fork)
