"""Catching the views up with the log: judged files, the deduplication index, the state.

Each is a pure function of log[1..n] and of the parser version in the entries, so applying
again writes the same. What lies above the state's cover is written anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meterhouse.errors import DamageError, SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract
from meterhouse.intake.index import KeyIndex, RunFile
from meterhouse.intake.judge import Judged, Piece, judge
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry, Input, entry_path
from meterhouse.log.joining import Joining
from meterhouse.log.judged import judged_bytes
from meterhouse.log.landing import Landing, parse_landed
from meterhouse.log.state import Change, Counted, JudgedFile, Pinned, Run, RunGone, State, Taken
from meterhouse.log.state_rows import judged_path
from meterhouse.names import PARSER_VERSION
from meterhouse.ports import Blobs, Stamp

if TYPE_CHECKING:
    from meterhouse.ports import Engine

__all__ = [
    "Apply",
    "OvertakenError",
    "judged_path",
    "rebuild",
    "taken_of",
]

_CHECKPOINT_ENTRIES: Final = 16
_CHECKPOINT_BYTES: Final = 512 << 20


class OvertakenError(Exception):
    """Another process has changed the views or the file meanwhile: look again."""


class Apply:
    """Applies entries to the views, strictly in order.

    What it applied since the last checkpoint is seen by its own look-ups, and lost with
    the process: the log has it, and the next ``catch_up`` applies it again.
    """

    def __init__(
        self, blobs: Blobs, log: Log, state: State, engine: Engine, *, index_folder: Path
    ) -> None:
        self._blobs = blobs
        self._log = log
        self._state = state
        self._engine = engine
        self.index_folder = index_folder
        self._landing = Landing(blobs, log.segments.span)
        self._at = state.stamp()
        self._checked = False
        self._indexes: dict[tuple[str, str], KeyIndex] = {}
        self._contracts: dict[str, Contract] = {}
        self._entries = 0
        self._bytes = 0

    def stamp(self) -> Stamp:
        """Return up to where entries are applied, checkpointed or not."""
        return self._at

    def catch_up(self, progress: Callable[[Entry], None] | None = None) -> Stamp:
        """Apply every entry that the views do not cover yet; return the new cover.

        Raises:
            DamageError: The log ends before what the views cover, or is another one; an
                entry or its landed bytes are damaged; or an entry is judged differently now.
        """
        while True:
            try:
                if not self._checked:
                    self._log.head(self._at.position)
                    self._log.check(self._at, "the state view")
                    self._checked = True
                if self._log.stamp().position > self._at.position:
                    self._log.settle()
                for entry in self._log.entries(self._at.position):
                    if entry.position != self._at.position + 1:
                        # A checkpoint found another process ahead and went on from there.
                        break
                    self._apply(entry)
                    if progress is not None:
                        progress(entry)
                else:
                    return self._at
            except OvertakenError:
                continue

    def judge(
        self,
        source: str,
        pieces: Sequence[Piece],
        contract: Contract,
        *,
        position: int,
        ingest_ts: datetime,
    ) -> Judged:
        """Judge ``pieces`` as entry ``position``, the one after ``stamp()``; change nothing.

        Raises:
            SourceRefusedError: A ``stop`` rule, an undeclared column or the shrink guard.
        """
        return judge(
            pieces,
            contract,
            position=position,
            ingest_ts=ingest_ts,
            keys=self._index(source, "keys"),
            held=self._index(source, "held"),
            engine=self._engine,
            judged_file=lambda earlier: self.judged_uri(source, earlier),
        )

    def take(self, entry: Entry, judged: Judged, taken: Sequence[Taken]) -> None:
        """Apply data entry ``entry``, the one after ``stamp()``, which is in the log already."""
        data = judged_bytes(judged.table)
        file = JudgedFile(
            entry.position,
            entry.source,
            judged.table.num_rows,
            len(data),
            hashlib.sha256(data).hexdigest(),
        )
        with self._whole():
            self._blobs.put(file.path, data)
            self._index(entry.source, "keys").add(judged.key_changes)
            self._index(entry.source, "held").add(judged.held_changes)
            self._bytes += sum(item.hi - item.lo for item in entry.inputs)
            counted = Counted(entry.source, entry.position, entry.ingest_ts, entry.counts)
            self._advance(entry, [*taken, file, counted])

    def take_contract(self, entry: Entry) -> None:
        """Apply contract entry ``entry``, the one after ``stamp()``."""
        with self._whole():
            self._advance(entry, [Pinned(entry.source, entry.contract, entry.position)])

    def checkpoint(self) -> None:
        """Make durable what was applied, so that nobody has to apply it again."""
        while self._at != self._state.stamp():
            with self._whole():
                advanced = self._state.advance(self._at, self._flush)
            if not advanced or self._state.stamp() != self._at:
                # Another process has moved the cover: its views are as good as ours.
                self._forget()
                self.catch_up()
        self._entries = self._bytes = 0
        self._state.alone(self._clean)

    def contract(self, source: str, sha256: str) -> Contract:
        """Return the contract that entries of ``source`` name by ``sha256``.

        Raises:
            DamageError: No contract entry holds it.
        """
        if sha256 not in self._contracts:
            pinned = self._state.pinned(source, sha256)
            if pinned is None:
                raise DamageError(
                    f'no log entry holds the contract of "{source}" with hash {sha256[:12]}…',
                    "log/",
                    "make the views anew: meterhouse rebuild",
                )
            text = self._log.read(pinned.position).text
            self._contracts[sha256] = parse_contract(text, entry_path(pinned.position))
        return self._contracts[sha256]

    def opened(self, source: str, which: str, runs: Sequence[RunFile]) -> KeyIndex:
        """Open the deduplication index of ``source`` that consists of ``runs``."""
        return KeyIndex(self.index_folder / source / which, runs)

    def judged_uri(self, source: str, position: int) -> str:
        """Return where an engine finds the judged rows of ``position``, an entry of ``source``."""
        file = self._state.judged_file(source, position)
        return self._blobs.uri(file.path if file is not None else judged_path(source, position))

    def _apply(self, entry: Entry) -> None:
        if entry.kind == "data":
            self._judge_again(entry)
        elif entry.kind == "contract":
            self.take_contract(entry)
        elif entry.kind == "fork":
            with self._whole():
                self._advance(entry, [])
        else:
            raise DamageError(
                f"log entry {entry.position} is of kind {entry.kind}, which this program "
                "does not apply",
                entry_path(entry.position),
                "install a newer meterhouse; nothing was changed",
            )

    def _judge_again(self, entry: Entry) -> None:
        contract = self.contract(entry.source, entry.contract)
        landed = list(self._landing.ranges(entry))
        pieces = [
            Piece(item.file, parsed, item.repeated, item.whole)
            for (item, _), parsed in zip(landed, parse_landed(landed, contract), strict=True)
        ]
        taken = [
            taken_of(
                entry,
                item,
                ends_newline=data.endswith(b"\n"),
                versioned=contract.mode != "append",
            )
            for item, data in landed
        ]
        try:
            judged = self.judge(
                entry.source,
                pieces,
                contract,
                position=entry.position,
                ingest_ts=entry.time,
            )
        except SourceRefusedError as error:
            raise _differs(entry, f"it is refused now ({error.what})") from error
        for name in ("landed", "accepted", "quarantined", "duplicate", "removed"):
            if judged.counts.get(name, 0) != entry.counts.get(name, 0):
                raise _differs(
                    entry,
                    f"{name} {judged.counts.get(name, 0)} now, {entry.counts.get(name, 0)} then",
                )
        self.take(entry, judged, taken)

    def _advance(self, entry: Entry, changes: Sequence[Change]) -> None:
        self._state.stage(entry.position, changes)
        self._at = self._log.stamp(entry)
        self._entries += 1
        if self._entries >= _CHECKPOINT_ENTRIES or self._bytes >= _CHECKPOINT_BYTES:
            self.checkpoint()

    def _flush(self) -> list[Change]:
        changes: list[Change] = []
        for (source, which), index in self._indexes.items():
            flushed = index.flush(self._at.position)
            changes += [RunGone(source, which, run.name) for run in flushed.removed]
            changes += [
                Run(source, which, run.name, run.tier, run.rows, run.sha256, run.position)
                for run in flushed.added
            ]
        return changes

    def _clean(self) -> None:
        for index in self._indexes.values():
            index.clean()

    def _index(self, source: str, which: str) -> KeyIndex:
        key = (source, which)
        if key not in self._indexes:
            runs = [
                RunFile(run.name, run.tier, run.rows, run.sha256, run.position)
                for run in self._state.runs(source, which)
            ]
            try:
                self._indexes[key] = self.opened(source, which, runs)
            except DamageError:
                if not self._state.moved():
                    raise
                # Another process merged these runs; see its views instead.
                self._forget()
                raise OvertakenError from None
        return self._indexes[key]

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Let no half-applied entry be seen: on any failure go back to the last checkpoint."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._state.reload()
        self._indexes.clear()
        self._at = self._state.stamp()
        self._checked = False
        self._entries = self._bytes = 0


def taken_of(entry: Entry, item: Input, *, ends_newline: bool, versioned: bool) -> Taken:
    """Return what the state keeps of one input of ``entry``, whose source may be versioned."""
    return Taken(
        entry.source,
        item.file,
        item.lo,
        item.hi,
        item.first_line + item.lines - 1,
        item.root,
        item.whole,
        entry.position,
        ends_newline,
        versioned,
    )


def rebuild(
    blobs: Blobs,
    log: Log,
    engine: Engine,
    *,
    index_folder: Path,
    progress: Callable[[Entry], None] | None = None,
    published: int = 0,
) -> State:
    """Make state, index and judged files anew from log and landing; return the new state.

    What was there is deleted first. Safe to repeat after a crash: it starts over.

    Args:
        blobs: Where all of it is.
        log: The log on them.
        engine: Evaluates rules.
        index_folder: Of state and index.
        progress: Called with each entry.
        published: Judged rows up to here are joined as they come.

    Raises:
        DamageError: Log or landing are damaged: these can't be made anew.
    """
    path = index_folder / "state.db"
    for leftover in (path, *(path.with_name(f"state.db-{end}") for end in ("wal", "shm"))):
        leftover.unlink(missing_ok=True)
    if index_folder.exists():
        # A power loss must not bring back the list of what is deleted from here on.
        _sync(index_folder)
        shutil.rmtree(index_folder)
    for name in list(blobs.list("judged")):
        blobs.delete(name)
    state = State.open(path)
    apply = Apply(blobs, log, state, engine, index_folder=index_folder)
    joining = Joining(blobs, state, span=log.segments.span)

    def applied(entry: Entry) -> None:
        if entry.position <= published and entry.position % joining.span.entries == 0:
            apply.checkpoint()
            # Nobody reads these files yet: what is replaced is deleted the next time.
            for _ in joining.steps(entry.position, entry.position):
                pass
        if progress is not None:
            progress(entry)

    apply.catch_up(applied)
    apply.checkpoint()
    return state


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differs(entry: Entry, how: str) -> DamageError:
    if entry.parser != PARSER_VERSION:
        return DamageError(
            f"log entry {entry.position} was judged by parser {entry.parser}; "
            f"parser {PARSER_VERSION} judges it differently: {how}",
            entry_path(entry.position),
            "keep the views as they are, or use the version of meterhouse that wrote them",
        )
    return DamageError(
        f"log entry {entry.position} is judged differently now: {how}",
        entry_path(entry.position),
        "check log and landing: meterhouse verify",
    )
