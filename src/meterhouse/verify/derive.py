"""Everything once more: each landed byte judged again, beside the real views."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from meterhouse.errors import DamageError, MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.index import KeyIndex, Keys, RunFile
from meterhouse.intake.judge import Judged, Piece
from meterhouse.log.apply import Apply, judged_path
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.state import JudgedFile, Pinned, State, Taken
from meterhouse.ports import Engine
from meterhouse.verify.ledger import Tally
from meterhouse.verify.report import Check
from meterhouse.verify.rounding import residuals
from meterhouse.verify.subject import BesideBlobs, Subject

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["derive_again"]

Progress = Callable[[Entry], None]


class _Listed(NamedTuple):
    """A judged file without its bytes' hash."""

    position: int
    source: str
    rows: int
    first: int


def derive_again(subject: Subject, landed: dict[str, Tally], progress: Progress | None) -> Check:
    """Judge landed bytes again, beside the real views, and compare all that comes out.

    Those of all entries; or, where sealed ones are only attested to, of the entries after
    them, from what the real views were then. Counts what landed, from the landed bytes, into
    ``landed`` by source, for entries that the views cover.
    """
    check = Check("derived again", unit="records")
    with tempfile.TemporaryDirectory(prefix="meterhouse-verify-") as folder:
        blobs = BesideBlobs(subject.blobs, Path(folder))
        state = State.open(Path(folder) / "index" / "state.db")
        try:
            apply = _watched(subject, blobs, state, Path(folder) / "index")

            def applied(entry: Entry) -> None:
                if entry.kind == "data":
                    _compare_judged(subject, check, entry, blobs, apply, landed)
                if progress is not None:
                    progress(entry)

            apply.catch_up(applied)
            apply.checkpoint()
            if subject.state is not None:
                _compare_states(check, subject, subject.state, state)
                if not subject.attested:
                    _compare_indexes(check, subject.root, subject.state, Path(folder), state)
        except MeterhouseError as error:
            check.fail("broken", f"the log can't be applied again: {error.what}", file=error.where)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            # Only a last entry that nothing vouches for can hold values that make no sense.
            check.fail("broken", f"the log can't be applied again: {error}", file="log")
        finally:
            state.close()
    return check


def _watched(subject: Subject, blobs: BesideBlobs, state: State, folder: Path) -> _Watched:
    """Return what applies entries beside, from the first, or from what the views were once."""
    log, real, upto = Log(subject.blobs, subject.span), subject.state, subject.attested
    past = None
    if upto and real is not None:
        found = subject.stamp_of(upto)
        assert found is not None, "the log is whole, or nothing is derived"
        state.stage(
            upto,
            (
                Pinned(entry.source, entry.contract, entry.position)
                for entry in subject.contract_entries
                if entry.position <= upto
            ),
        )
        state.stage(upto, real.judged_files(upto=upto))
        state.advance(found)
        past = _Past(subject, real, upto)
    return _Watched(blobs, log, state, subject.engine, index_folder=folder, past=past)


@dataclass(frozen=True, slots=True)
class _Past:
    """The real views, as they were after entry ``upto``."""

    subject: Subject
    state: State
    upto: int

    def index(self, source: str, which: str) -> tuple[Path, list[RunFile], int]:
        """Return where an index lies, its runs, and up to where its rows count."""
        folder = self.subject.root / "index" / source / which
        return folder, _run_files(self.state, source, which), self.upto


class _Watched(Apply):
    """Lets see what the last entry was judged to be, and what rounding took off it."""

    judged: Judged
    rounded: Mapping[tuple[str, str], Decimal]

    def __init__(
        self,
        blobs: BesideBlobs,
        log: Log,
        state: State,
        engine: Engine,
        *,
        index_folder: Path,
        past: _Past | None,
    ) -> None:
        super().__init__(blobs, log, state, engine, index_folder=index_folder)
        self._past = past

    def judge(
        self,
        source: str,
        pieces: Sequence[Piece],
        contract: Contract,
        *,
        position: int,
        ingest_ts: datetime,
    ) -> Judged:
        """Judge ``pieces`` and remember what rounding took off."""
        self.rounded = residuals(contract, (piece.parsed for piece in pieces))
        return super().judge(source, pieces, contract, position=position, ingest_ts=ingest_ts)

    def take(self, entry: Entry, judged: Judged, taken: Sequence[Taken]) -> None:
        """Apply ``entry`` and remember its rows."""
        super().take(entry, judged, taken)
        self.judged = judged

    def opened(self, source: str, which: str, runs: Sequence[RunFile]) -> KeyIndex:
        """Open an index over what the real one was."""
        past = self._past.index(source, which) if self._past is not None else None
        return KeyIndex(self.index_folder / source / which, runs, past=past)

    def judged_uri(self, source: str, position: int) -> str:
        """Return where the rows of an earlier entry are: beside, or in the real files."""
        if self._past is None or position > self._past.upto:
            return super().judged_uri(source, position)
        file = self._past.state.judged_file(source, position)
        path = file.path if file is not None else judged_path(source, position)
        return self._past.subject.blobs.uri(path)


def _compare_judged(
    subject: Subject,
    check: Check,
    entry: Entry,
    blobs: BesideBlobs,
    apply: _Watched,
    landed: dict[str, Tally],
) -> None:
    import pyarrow as pa

    judged, contract = apply.judged, subject.contract_of(entry)
    assert contract is not None, "the log holds every contract, or nothing is derived"
    tally = Tally(blank=judged.counts.get("blank", 0))
    tally.add(contract, judged.table)
    for column, currencies in judged.money.items():
        for currency, sums in currencies.items():
            tally.unreadable[column, currency] = int(sums["unreadable"])
    tally.rounded.update(apply.rounded)
    check.covered += judged.table.num_rows
    path = judged_path(entry.source, entry.position)
    listed = subject.state.judged_file(entry.source, entry.position) if subject.state else None
    real = listed.path if listed is not None else path
    for name, found in (("landed", sum(tally.records.values())), ("blank", tally.blank)):
        check.expect(
            entry.counts.get(name, 0),
            found,
            f"landed bytes hold another number of {name} lines than the log entry says",
            file=real,
            entry=entry.position,
        )
    again = blobs.read(path)
    if contract.mode != "snapshot":
        blobs.delete(path)  # a snapshot looks at the keys of the one before
    if entry.position > subject.covered:
        return
    landed.setdefault(entry.source, Tally()).merge(tally)
    try:
        data = subject.blobs.read(real)
        same = data == again or judged.table.equals(_rows_of(data, entry.position))
    except (OSError, MeterhouseError, pa.ArrowException):
        return  # check_judged has said so
    if not same:
        check.fail(
            "rebuildable",
            "judged rows are not those that the landed bytes give",
            file=real,
            entry=entry.position,
        )


def _rows_of(data: bytes, position: int) -> pa.Table:
    """Return the rows of one entry in a judged file, which may hold those of others."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.read_table(io.BytesIO(data))
    return rows.filter(pc.equal(rows["log_position"], position))


def _compare_states(check: Check, subject: Subject, real: State, again: State) -> None:
    upto, after = real.stamp().position, subject.attested
    for what, expected, found in (
        (
            "taken ranges",
            [row for row in again.inputs(after) if row.position <= upto],
            real.inputs(after),
        ),
        ("contracts in force", _pinned_by_log(subject, upto), _pinned(subject, real, upto)),
        ("judged files", *_judged(again, real, after, upto)),
    ):
        if found == expected:
            continue
        odd = next(
            (pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]),
            (f"{len(expected)} rows", f"{len(found)} rows"),
        )
        check.fail(
            "rebuildable",
            f"state view: {what} are not those of the log",
            file="index/state.db",
            expected=str(odd[0]),
            found=str(odd[1]),
        )


def _pinned_by_log(subject: Subject, upto: int) -> Sequence[Pinned]:
    texts: dict[tuple[str, str], Pinned] = {}
    latest: dict[str, Pinned] = {}
    for entry in subject.contract_entries:
        if entry.position <= upto:
            pinned = Pinned(entry.source, entry.contract, entry.position)
            texts[entry.source, entry.contract] = latest[entry.source] = pinned
    return [*texts.values(), *(latest[source] for source in sorted(latest))]


def _pinned(subject: Subject, state: State, upto: int) -> Sequence[Pinned]:
    """Ask ``state`` for every text that the log holds, and for those in force."""
    texts = {
        (entry.source, entry.contract): state.pinned(entry.source, entry.contract)
        for entry in subject.contract_entries
        if entry.position <= upto
    }
    latest = [state.pinned(source) for source in state.sources()]
    return [pinned for pinned in (*texts.values(), *latest) if pinned is not None]


def _judged(
    again: State, real: State, after: int, upto: int
) -> tuple[list[_Listed], list[_Listed]]:
    """Return the judged files that the log gives and those that are listed, without hashes.

    These depend on the Parquet library. What was joined counts as one in both.
    """
    listed = real.judged_files(after=after)
    singles = [file for file in again.judged_files(after=after) if file.position <= upto]
    by_source: dict[str, list[JudgedFile]] = {}
    for file in singles:
        by_source.setdefault(file.source, []).append(file)
    given: list[_Listed] = []
    for source, files in by_source.items():
        joined = [file for file in listed if file.source == source and file.first]
        given += _as_joined(files, joined)
    found = [_Listed(file.position, file.source, file.rows, file.first) for file in listed]
    return sorted(given), found


def _as_joined(files: Sequence[JudgedFile], joined: Sequence[JudgedFile]) -> Iterator[_Listed]:
    """Add up the rows of ``files`` that lie in one of ``joined``, both by position."""
    at, rows = 0, 0
    for file in files:
        while at < len(joined) and joined[at].position < file.position:
            at += 1
        if at == len(joined) or joined[at].first > file.position:
            yield _Listed(file.position, file.source, file.rows, 0)
            continue
        rows += file.rows
        if file.position == joined[at].position:
            yield _Listed(file.position, file.source, rows, joined[at].first)
            rows = 0


def _compare_indexes(check: Check, root: Path, real: State, beside: Path, again: State) -> None:
    if real.stamp() != again.stamp():
        return  # the views are behind the log: the next ingest or batch catches up
    names = {(run.source, run.which) for run in (*real.all_runs(), *again.all_runs())}
    for source, which in sorted(names):
        try:
            ours = _index(root, real, source, which)
        except (DamageError, OSError):
            continue  # check_state has said so
        theirs = _index(beside, again, source, which)
        if not _same(ours.live(), theirs.live()):
            check.fail(
                "rebuildable",
                "index does not hold the keys that the log gives",
                file=f"index/{source}/{which}",
            )


def _index(root: Path, state: State, source: str, which: str) -> KeyIndex:
    return KeyIndex(root / "index" / source / which, _run_files(state, source, which))


def _run_files(state: State, source: str, which: str) -> list[RunFile]:
    return [
        RunFile(run.name, run.tier, run.rows, run.sha256, run.position)
        for run in state.runs(source, which)
    ]


def _same(ours: Iterator[Keys], theirs: Iterator[Keys]) -> bool:
    """Compare two sorted streams that may be cut differently, in bounded memory."""
    left, right = np.zeros((0, 4), np.uint64), np.zeros((0, 4), np.uint64)
    while True:
        if not len(left):
            left = _words(ours)
        if not len(right):
            right = _words(theirs)
        if not len(left) or not len(right):
            return len(left) == len(right)
        size = min(len(left), len(right))
        if not np.array_equal(left[:size], right[:size]):
            return False
        left, right = left[size:], right[size:]


def _words(stream: Iterator[Keys]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    for keys in stream:
        if len(keys):
            return np.column_stack([keys.ids, keys.payload, keys.place])
    return np.zeros((0, 4), np.uint64)
