"""How the parts of a project are put together, each opened when it is first asked for."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

from meterhouse.config import Settings
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import DamageError, MeterhouseError
from meterhouse.follow.requests import hand_over
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import ContractFolder, read_contracts
from meterhouse.lake.published import Published, read_published
from meterhouse.layers.at_position import AtPosition, Generations, look
from meterhouse.layers.batch import Texts
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.layers.generation import pin
from meterhouse.layers.judged import judged_forms
from meterhouse.layers.pinned import pinned_contracts
from meterhouse.layers.speed import Speed
from meterhouse.log.apply import Apply
from meterhouse.log.chain import Log
from meterhouse.log.joining import Joining
from meterhouse.log.lock import Lock, together
from meterhouse.log.sealing import Sealing
from meterhouse.log.segments import SPAN, Span
from meterhouse.log.state import State
from meterhouse.log.upkeep import Upkeep, for_seconds
from meterhouse.models.graph import Models, load_models
from meterhouse.ports import Blobs, Clock, Engine, Relation
from meterhouse.reading import named_in
from meterhouse.serving.reader import Reader
from meterhouse.serving.schema import layouts
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.storage.folder import FolderBlobs

__all__ = ["Wiring"]

_JOINING_S: Final = 30.0
"""So long a command works on what is not its own task; the next one goes on from there."""


class Wiring:
    """The parts of one project folder. Opening it reads nothing but its settings."""

    span: Span = SPAN
    """How many entries are sealed together: a part of the log's format, smaller in tests."""
    seal_margin: int = 256
    """How many entries stay in files of their own after what is sealed."""

    def __init__(self, root: Path, settings: Settings, clock: Clock) -> None:
        self.root = root
        self.settings = settings
        self.clock = clock

    def ticks(self) -> float:
        """Return seconds that never go back; what waits is timed by them."""
        return time.monotonic()

    @cached_property
    def blobs(self) -> Blobs:
        """The project's files."""
        return FolderBlobs(self.root, group_shared=self.settings.access_group_shared)

    @cached_property
    def engine(self) -> Engine:
        """The engine of batch and verify."""
        return self._engine(self.root / ".tmp", locked=False)

    @cached_property
    def answers(self) -> Reader:
        """What questions are asked of; it keeps the serving store open from one to the next."""
        return Reader(self.root / "serving.db")

    @cached_property
    def generations(self) -> Generations:
        """The texts that answers were computed with; those read last are kept."""
        return Generations(self.blobs)

    def at_position(self, text: str) -> AtPosition:
        """Return the tables as readers see them now, at the position of the answers.

        Args:
            text: Names those that will be read, among other words.

        Raises:
            UsageError: Nothing was published yet.
        """
        return self._seen(lambda names: named_in(names, text))

    def _seen(self, wanted: Callable[[Collection[str]], Collection[str]]) -> AtPosition:
        """Like ``at_position``, for those of all names that ``wanted`` returns."""
        return look(self.blobs, self.answers, self.generations, wanted, span=self.span)

    @property
    def contracts(self) -> dict[str, Contract]:
        """The contracts by source, sorted: those of the project folder as they are now.

        A file that is not valid stops nothing: while there is one, what is missing is as it
        was published last.

        Raises:
            ContractError: A file is not valid, and what was published can't be read either.
        """
        folder = self.contract_folder
        found = dict(folder.contracts)
        if folder.bad:
            try:
                former = self._published_contracts()
            except DamageError as error:
                raise folder.bad[0].error from error
            owned = {table for contract in found.values() for table in contract.tables}
            for source, contract in former.items():
                if source not in found and owned.isdisjoint(contract.tables):
                    found[source] = contract
        return dict(sorted(found.items()))

    def _published_contracts(self) -> Mapping[str, Contract]:
        published = self.published()
        if published is not None:
            return self.generations.of(published.details).contracts
        # A rebuild has set the lake aside; the answers go on.
        with closing(SqliteServing(self.root / "serving.db")) as store:
            answers = store.answers()
        return self.generations.of(answers.details).contracts if answers is not None else {}

    def contracts_in_force(self) -> dict[str, Contract]:
        """Return the contract of every source that has tables, by source, sorted.

        That which the log pinned; of a source that never delivered the one of the folder.
        """
        with self._state() as state:
            return pinned_contracts(self._log(), state, self.contracts)

    @property
    def contract_folder(self) -> ContractFolder:
        """The contract files as they are now, each by itself: one may not be valid."""
        return read_contracts(self.root / "contracts")

    def models(self, contracts: Mapping[str, Contract] | None = None) -> Models:
        """Return the models of the project folder; invalid ones are in ``problems``."""
        return load_models(
            self.root / "models", bronze_schemas(self.contracts if contracts is None else contracts)
        )

    @property
    def head(self) -> int:
        """Position of the last log entry; 0 while there is none."""
        entry = self._log().head()
        return entry.position if entry is not None else 0

    def published(self) -> Published | None:
        """Return what is published; None when nothing ever was.

        Raises:
            DamageError: The list of what is published is not what was written.
        """
        return read_published(self.root)

    def serving(self, models: Models) -> SqliteServing:
        """Return the embedded serving store."""
        return SqliteServing(
            self.root / "serving.db",
            layouts(models.by_name.values()),
            group_shared=self.settings.access_group_shared,
        )

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

    @contextmanager
    def _views(self) -> Iterator[State]:
        """Open the state to change the views; nobody deletes them meanwhile."""
        with together(self._lock("views")), self._state() as state:
            yield state

    def _log(self) -> Log:
        return Log(self.blobs, self.span)

    def _sealing(self, log: Log) -> Sealing:
        return Sealing(
            self.blobs, log, margin=self.seal_margin, pack_bytes=self.settings.log_pack_bytes
        )

    def _upkeep(self, log: Log) -> Upkeep | None:
        """Return what seals the log, unless the project wants its entries one by one."""
        if not self.settings.log_seal:
            return None
        return Upkeep(self.root, self._sealing(log), ticks=self.ticks)

    def _seal(self, log: Log, head: int, seconds: float) -> MeterhouseError | None:
        """Seal for about so long what is due; return why not, where something is damaged."""
        upkeep = self._upkeep(log)
        if upkeep is None:
            return None
        upkeep.step(head, seconds)
        upkeep.close()
        return upkeep.problem

    def _apply(self, log: Log, state: State) -> Apply:
        return Apply(self.blobs, log, state, self.engine, index_folder=self.root / "index")

    def _cover(self, log: Log, state: State, position: int) -> None:
        """Bring the state view to the log's head, and at least to ``position``.

        A running follower or ingest does that for itself: it is asked to make durable what
        it has applied.
        """
        lock = Lock(self._lock("ingest"))
        asked = {"kind": "checkpoint"}
        while not lock.take():
            # An ingest: what it has committed can be applied beside it.
            if hand_over(self.root, lock, asked, patient=False) is None:
                break
            state.reload()
            if state.stamp().position >= position:
                return
        try:
            apply = self._apply(log, state)
            apply.catch_up()
            apply.checkpoint()
        finally:
            lock.release()

    def _join(self, state: State, published: int, progress: Callable[[str], None]) -> None:
        """Join judged files of small entries, up to the publication before this one."""
        lock = Lock(self._lock("joining"))
        if not lock.take():
            return
        try:
            work = Joining(self.blobs, state, span=self.span)
            for_seconds(work.steps(min(state.mark("published"), published), published), _JOINING_S)
            if state.mark("published") != published:
                state.note("published", published)
        except DamageError as error:
            # What was published stands; `verify` says the same, and what to do.
            progress(f"judged files are not joined: {error.what} ({error.where})")
        finally:
            lock.release()

    def _speed(self, log: Log, state: State) -> Speed:
        def texts() -> tuple[Models, dict[str, Contract]]:
            contracts = pinned_contracts(log, state, self.contracts)
            return self.models(contracts), contracts

        return Speed(
            self.blobs,
            log,
            state,
            self.engine,
            self.serving(texts()[0]),
            lambda: pin(self.blobs, *texts()),
            self.published,
            batch_lock=self._lock("batch"),
        )

    def _texts(self, log: Log, state: State, upto: int, known: Texts | None = None) -> Texts:
        """Return contracts in force after an entry, models and a store laid out for them.

        ``known`` where the contracts are those: parsing models takes tenths of a second.
        """
        contracts = pinned_contracts(log, state, self.contracts, upto=upto)
        if known is not None and contracts == known[0]:
            return known
        models = self.models(contracts)
        return contracts, models, self.serving(models)

    def _judged(
        self, state: State, upto: int | None = None
    ) -> tuple[dict[str, Contract], dict[str, dict[str, Relation]]]:
        contracts = pinned_contracts(self._log(), state, self.contracts)
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
