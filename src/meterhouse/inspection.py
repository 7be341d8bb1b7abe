"""Looking at a project: what it holds, whether it is true, what is behind a number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from meterhouse.errors import MeterhouseError
from meterhouse.follow.standing import Standing, read_standing
from meterhouse.formats import timestamp_text
from meterhouse.intake.contract import Contract
from meterhouse.lake.published import PUBLISHED
from meterhouse.log.entry import Entry
from meterhouse.log.state import State
from meterhouse.reading import named_in, resolve
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.verify import Check, Report, Scope, Subject, verify
from meterhouse.wiring import Wiring

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Inspection", "ProjectStatus"]

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
    following: Standing | None = None
    """What a running ``follow`` does; None while none runs."""
    invalid: Sequence[MeterhouseError] = ()
    """Why contract files are not valid; nothing of their sources is taken."""


class Inspection(Wiring):
    """What a project says of itself."""

    def verify(
        self,
        *,
        quick: bool = False,
        since: int = 0,
        expect: tuple[int, str] | None = None,
        full: bool = False,
        progress: Callable[[Entry], None] | None = None,
    ) -> Report:
        """Re-derive the ledger from landed bytes and log, and check every view against it.

        Changes nothing. Damage is in the report, not raised.

        Args:
            quick: Hashes and counts only.
            since: Bytes of entries after this one only; nothing is judged again.
            expect: Number and SHA-256 of an entry, as noted elsewhere.
            full: Also what sealed segments attest to is read and judged again.
            progress: Called with each entry that was judged again.
        """
        scope = Scope(quick, since, expect, full)
        for _ in range(_LOOKS):
            with self._subject() as (subject, opening):
                report = verify(subject, scope, opening=opening, progress=progress)
                if report.verdict == "holds" or not self._moved(subject):
                    break
        return report

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
        at = self._seen(lambda names: [*_bronze(names), *named_in(names, table)])
        published = at.published
        with self._state() as state:
            contracts, judged = self._judged(
                state, published.stamp.position if published is not None else 0
            )
            both = {name: {**forms, **at.judged.get(name, {})} for name, forms in judged.items()}
            lake = Lake(self.engine, self.models(contracts), contracts, at, both)
            return explain(lake, resolve(at, table), key, limit)

    def reconcile(self, org: str | None = None) -> Reconciliation:
        """Return metered against invoiced, by organisation and month, in USD."""
        names = (
            "gold.org_daily_usage_by_service",
            "silver.billing_enriched",
            "bronze.quarantine_usage",
        )
        at = self._seen(lambda _: names)
        for name in names:
            at.schema(name)  # says which one there isn't
        with at.session(self.engine, names) as session:
            return reconcile(session, org)

    def status(self) -> ProjectStatus:
        """Return sources, positions, lag, sizes, drift and unknown keys."""
        log = self._log()
        stamp = log.stamp()
        published = self.published()
        drift: list[Drift] = []
        sources: list[SourceStatus] = []
        if stamp.position:
            with self._state() as state:
                sources = sources_of(log, state)
                contracts, judged = self._judged(state)
                drift = [drift_of(self.engine, contracts[name], judged[name]) for name in judged]
        return ProjectStatus(
            root=self.root,
            position=stamp.position,
            head=stamp.head,
            published=published.stamp.position if published is not None else 0,
            published_at=timestamp_text(published.ingest_ts) if published is not None else "",
            sources=sources,
            drift=drift,
            unknown=unknown_keys(self.engine, published) if published is not None else None,
            sizes=sizes(self.root),
            following=read_standing(self.root),
            invalid=self.contract_folder.problems,
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
        serving = SqliteServing(self.root / "serving.db")
        if published is None and not reported and _stands_on_lake(serving):
            opening.fail("rebuildable", "lake is not published, but served", file=PUBLISHED)
        try:
            yield (
                Subject(self.root, self.blobs, self.engine, state, published, serving, self.span),
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


def _bronze(names: Collection[str]) -> list[str]:
    return [name for name in names if name.startswith("bronze.")]


def _stands_on_lake(serving: SqliteServing) -> bool:
    """Return whether what is served was ever computed from the lake, as far as can be told."""
    try:
        epoch = serving.epoch()
    except MeterhouseError:
        return True
    return epoch is not None and epoch.position > 0


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
