"""Every table at one position of the log: the lake, and over it what came since.

Gold is the lake's rows with the live rows over them; bronze the lake's and the judged rows
since; silver is computed, by the pinned models, where anything that it reads has changed
since the batch. All of it at the position of the served answers (G4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import DamageError, EnvironmentFailureError, UsageError
from meterhouse.lake.published import PUBLISHED, Published, read_published
from meterhouse.layers.bronze import bronze_schemas, current_name
from meterhouse.layers.generation import Generation, read_generation
from meterhouse.layers.judged import by_form
from meterhouse.layers.overlay import LiveTable, Overlay
from meterhouse.log.apply import judged_path
from meterhouse.log.chain import Log
from meterhouse.log.segments import SPAN, Span
from meterhouse.models.finalize import arrow_schema
from meterhouse.names import entry_name
from meterhouse.ports import Blobs, Engine, ParquetFiles, Relation, Session
from meterhouse.serving.answer import AsOf
from meterhouse.serving.reader import Reader
from meterhouse.serving.schema import Served
from meterhouse.serving.snapshot import SqliteSnapshot
from meterhouse.serving.sqlite import live_rows

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["AtPosition", "Generations", "look"]

_LOOKS: Final = 20
"""How often in a row somebody else may publish while it is looked."""

Judged = Mapping[str, Mapping[str, ParquetFiles]]
"""Source → its judged rows since the lake's position, in their forms."""


class Generations:
    """Reads pinned texts, and keeps the last ones: parsing takes tenths of a second."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._kept: Generation | None = None

    def of(self, details: Mapping[str, Any]) -> Generation:
        """Return the texts that answers with ``details`` were computed with.

        Raises:
            DamageError: They are missing, or not what was written.
        """
        sha256 = details.get("models")
        if not isinstance(sha256, str):
            raise DamageError(
                "what was published doesn't say which models it was computed with",
                PUBLISHED,
                "publish it anew: meterhouse batch",
            )
        kept = self._kept  # another thread may keep another one meanwhile
        if kept is None or kept.sha256 != sha256:
            self._kept = kept = read_generation(self._blobs, sha256)
        return kept


@dataclass(frozen=True)
class AtPosition:
    """What readers see. Looked up once; stays what it is while others publish."""

    published: Published | None
    """The lake; None while nothing was published."""
    position: int
    """Of the answers: the lake's, or later."""
    ingest_ts: datetime
    live: Mapping[str, LiveTable]
    """Gold table → its live rows; only those asked for, and only where any table is live."""
    judged: Judged
    """Only where a table of bronze or silver was asked for."""
    pinned: Callable[[], Generation]
    """The texts that the answers are computed with; called when they are needed."""
    behind: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    """Tables that stand where the last batch stood, with that position and its time."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Of the answers: among others which tables are stale."""

    @property
    def tables(self) -> Collection[str]:
        """Return the names of all tables, those that are computed when they are read included."""
        if self.published is not None:
            return [*self.published.tables, *_views_of(self.details)]
        return _tables_of(self.generation)

    @property
    def generation(self) -> Generation:
        """The texts that the answers are computed with; whoever gives them keeps them."""
        return self.pinned()

    def schema(self, name: str) -> pa.Schema:
        """Return the columns of table ``name``.

        Raises:
            UsageError: There is no such table; names the nearest.
        """
        if self.published is not None and name not in _views_of(self.details):
            return self.published.table(name).arrow_schema()
        models, bronze = self.generation.models, bronze_schemas(self.generation.contracts)
        if name in self.tables:
            return bronze[name] if name in bronze else arrow_schema(models[name])
        raise UsageError.unknown("table", name, self.tables)

    @contextmanager
    def session(
        self, engine: Engine, names: Sequence[str], also: Mapping[str, Relation] | None = None
    ) -> Iterator[Session]:
        """Open a session in which ``names`` can be read by these names.

        Args:
            engine: A locked one where a user's SQL will run.
            names: Among those that were asked for when it was looked.
            also: More relations, by other names.
        """
        overlay = self._overlay()
        for name in names:
            overlay.see(name)
        with engine.session({**overlay.relations, **(also or {})}) as session:
            overlay.make(session)
            yield session

    @contextmanager
    def computed(
        self, engine: Engine, names: Sequence[str], also: Mapping[str, Relation] | None = None
    ) -> Iterator[Session]:
        """Open a session in which gold ``names`` are computed from silver and bronze.

        By the pinned models from all rows up to the position: what the answers have to be.
        It sees ``also``, too, by their names.
        """
        overlay = self._overlay(computed=True)
        for name in names:
            overlay.see(name)
        with engine.session({**overlay.relations, **(also or {})}) as session:
            overlay.make(session)
            yield session

    def as_of(self, names: Iterable[str], now: datetime) -> AsOf:
        """Return up to where tables ``names`` stand: where the oldest of them does."""
        listed = sorted(self._read_for(names))
        found = AsOf.at(self.position, self.ingest_ts, now)
        found = found.behind(listed, self.behind, now)
        return AsOf.of_tables(found, listed, self.details, now)

    def _read_for(self, names: Iterable[str]) -> frozenset[str]:
        listed = frozenset(names)
        if listed.isdisjoint(_views_of(self.details)):
            return listed
        return self.generation.models.read_for(listed)

    def _overlay(self, *, computed: bool = False) -> Overlay:
        ahead = self.published is None or self.published.stamp.position < self.position
        return Overlay(
            self.published,
            self.live,
            self.judged,
            lambda: self.generation,
            ahead=ahead,
            computed=computed,
        )


def look(
    blobs: Blobs,
    reader: Reader,
    generations: Generations,
    wanted: Callable[[Collection[str]], Collection[str]],
    *,
    span: Span = SPAN,
) -> AtPosition:
    """Look where the answers stand, and take up what lies between the lake and there.

    Args:
        blobs: The project's files.
        reader: Of its serving store.
        generations: The texts that answers were computed with.
        wanted: Given the names of all tables, those that will be read.
        span: How many entries are sealed together.

    Raises:
        UsageError: Nothing was published yet.
        DamageError: What is published, or served, is not what was written.
        EnvironmentFailureError: Judged rows are missing: they are being made anew, or have to be.
    """
    choose = _Choice(wanted, generations)
    for _ in range(_LOOKS):
        published = read_published(blobs)
        names = choose(published.tables, published.details) if published is not None else None

        def taken(
            snapshot: SqliteSnapshot, names: frozenset[str] | None = names
        ) -> tuple[Served, dict[str, LiveTable]]:
            served = snapshot.served
            if names is None:
                names = choose(snapshot.stored, served.details)
            return served, _live(snapshot, names)

        try:
            found = reader.read(taken)
        except UsageError:
            # Never loaded, lost, or written by an older program: the lake is there.
            if published is None:
                raise
            found = None
        if published is not None and (found is None or not _continues(published, found[0])):
            # A batch has published the lake and not yet the answers.
            return _lake_alone(published, generations)
        assert found is not None
        served, live = found
        if served.epoch_position > _position(published):
            continue  # a batch promoted between the two looks, or a rebuild took the lake away
        at = _together(published, served, live, generations)
        if not at.position > _position(published):
            return at
        chosen = names if names is not None else choose(at.tables, at.details)
        if all(name.startswith("gold.") for name in chosen):
            return at
        listed = _listed(blobs, at)
        # What an earlier publication covers may be put together with other entries' rows: as
        # long as this one is the last, that is nothing that it doesn't cover.
        if _position(read_published(blobs)) == _position(published):
            _check_complete(Log(blobs, span), at, listed)
            return replace(at, judged=_judged(blobs, listed))
    raise EnvironmentFailureError(
        "the lake does not hold what is served, or was published anew all the while",
        PUBLISHED,
        "run the same command again; if it says this again: meterhouse batch",
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """What will be read: tables, views, and the tables that the views are made from."""

    wanted: Callable[[Collection[str]], Collection[str]]
    generations: Generations

    def __call__(self, tables: Iterable[str], details: Mapping[str, Any]) -> frozenset[str]:
        """Choose among ``tables`` and the views of answers with ``details``."""
        views = _views_of(details)
        chosen = frozenset(self.wanted([*tables, *views]))
        if chosen.isdisjoint(views):
            return chosen
        return self.generations.of(details).models.read_for(chosen)


def _live(snapshot: SqliteSnapshot, names: frozenset[str]) -> dict[str, LiveTable]:
    if snapshot.served.stamp.position == snapshot.served.epoch_position:
        return {}
    return {
        name: LiveTable(live_rows(snapshot, name), table.layout.key)
        for name, table in snapshot.stored.items()
        if name in names and table.live and not table.layout.batch_only
    }


def _continues(published: Published, served: Served) -> bool:
    """Tell whether the answers are the lake's, or what came of it since."""
    generation = served.details.get("generation")
    return (
        (served.stamp.project, served.stamp.fork) == (published.stamp.project, published.stamp.fork)
        and served.stamp.position >= published.stamp.position
        and served.details.get("models") == published.details.get("models")
        # 0: of the epoch that holds nothing, which no batch has made.
        and generation in (0, published.generation)
    )


def _together(
    published: Published | None,
    served: Served,
    live: Mapping[str, LiveTable],
    generations: Generations,
) -> AtPosition:
    behind, details = served.behind, served.details
    if published is not None and served.epoch_position < published.stamp.position:
        # The lake is published, the answers are about to be: what does not follow live stands
        # where the lake does by now.
        at = (published.stamp.position, published.ingest_ts)
        lake = published.details.get("stale", {})
        stopped = [name for name in details.get("stale", {}) if name not in lake]
        behind = dict.fromkeys([*behind, *stopped], at)
        live = {name: rows for name, rows in live.items() if name not in stopped}
        details = published.details
    return AtPosition(
        published,
        served.stamp.position,
        served.ingest_ts,
        live,
        {},
        lambda: generations.of(details),
        behind,
        details,
    )


def _lake_alone(published: Published, generations: Generations) -> AtPosition:
    return AtPosition(
        published,
        published.stamp.position,
        published.ingest_ts,
        {},
        {},
        lambda: generations.of(published.details),
        {},
        published.details,
    )


def _listed(blobs: Blobs, at: AtPosition) -> dict[str, list[str]]:
    """Return the judged files of the entries between the lake and the answers, by source."""
    found: dict[str, list[str]] = {}
    for source in at.generation.contracts:
        after = judged_path(source, _position(at.published))
        last = judged_path(source, at.position)
        found[source] = []
        for name in blobs.list(f"judged/{source}", after=after):
            if name > last:
                break
            found[source].append(name)
    return found


def _check_complete(log: Log, at: AtPosition, listed: Mapping[str, Sequence[str]]) -> None:
    """See that no entry's rows are missing: a listing alone would pass over them in silence."""
    there = {PurePosixPath(name).stem for names in listed.values() for name in names}
    for position in range(_position(at.published) + 1, at.position + 1):
        if entry_name(position) in there:
            continue
        entry = log.read(position)
        if entry.kind == "data" and entry.source in listed:
            raise EnvironmentFailureError(
                f"the judged rows of log entry {position} are missing, or made anew meanwhile",
                judged_path(entry.source, position),
                "wait for a running `meterhouse rebuild`; where there is none, run it",
            )


def _judged(blobs: Blobs, listed: Mapping[str, Sequence[str]]) -> Judged:
    found = {}
    for source, names in listed.items():
        if forms := by_form(f"newly_judged_{source}", [Path(blobs.uri(one)) for one in names]):
            found[source] = forms
    return found


def _position(published: Published | None) -> int:
    return published.stamp.position if published is not None else 0


def _tables_of(generation: Generation) -> list[str]:
    """Return the tables that a batch will publish: none of what only models see."""
    models = generation.models
    hidden = {current_name(one) for one in generation.contracts.values() if one.mode != "append"}
    bronze = [name for name in bronze_schemas(generation.contracts) if name not in hidden]
    shown = [name for name in models.order if models[name].stored or models[name].on_read]
    return sorted([*bronze, *shown])


def _views_of(details: Mapping[str, Any]) -> Collection[str]:
    """Return the names of the views that answers with ``details`` have."""
    found: Collection[str] = details.get("views", ())
    return found
