"""Everything once more: each landed byte judged again, beside the real views."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np

from meterhouse.errors import DamageError, MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.index import KeyIndex, Keys, RunFile
from meterhouse.intake.judge import Judged, Piece
from meterhouse.log.apply import Apply, judged_path
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.state import Pinned, State, Taken
from meterhouse.verify.ledger import Tally
from meterhouse.verify.report import Check
from meterhouse.verify.rounding import residuals
from meterhouse.verify.subject import BesideBlobs, Subject

__all__ = ["derive_again"]

Progress = Callable[[Entry], None]


def derive_again(subject: Subject, landed: dict[str, Tally], progress: Progress | None) -> Check:
    """Judge every landed byte again, beside the real views, and compare all that comes out.

    Counts what landed, from the landed bytes, into ``landed`` by source, for entries that
    the views cover.
    """
    check = Check("derived again", unit="records")
    with tempfile.TemporaryDirectory(prefix="meterhouse-verify-") as folder:
        blobs = BesideBlobs(subject.blobs, Path(folder))
        state = State.open(Path(folder) / "index" / "state.db")
        try:
            apply = _Watched(
                blobs,
                Log(subject.blobs),
                state,
                subject.engine,
                index_folder=Path(folder) / "index",
            )

            def applied(entry: Entry) -> None:
                if entry.kind == "data":
                    _compare_judged(subject, check, entry, blobs, apply, landed)
                if progress is not None:
                    progress(entry)

            apply.catch_up(applied)
            apply.checkpoint()
            if subject.state is not None:
                _compare_states(check, subject, subject.state, state)
                _compare_indexes(check, subject.root, subject.state, Path(folder), state)
        except MeterhouseError as error:
            check.fail("broken", f"the log can't be applied again: {error.what}", file=error.where)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            # Only a last entry that nothing vouches for can hold values that make no sense.
            check.fail("broken", f"the log can't be applied again: {error}", file="log")
        finally:
            state.close()
    return check


class _Watched(Apply):
    """Lets see what the last entry was judged to be, and what rounding took off it."""

    judged: Judged
    rounded: Mapping[tuple[str, str], Decimal]

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


def _compare_judged(
    subject: Subject,
    check: Check,
    entry: Entry,
    blobs: BesideBlobs,
    apply: _Watched,
    landed: dict[str, Tally],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    for name, found in (("landed", sum(tally.records.values())), ("blank", tally.blank)):
        check.expect(
            entry.counts.get(name, 0),
            found,
            f"landed bytes hold another number of {name} lines than the log entry says",
            file=path,
            entry=entry.position,
        )
    again = blobs.read(path)
    if contract.mode != "snapshot":
        blobs.delete(path)  # a snapshot looks at the keys of the one before
    if entry.position > subject.covered:
        return
    landed.setdefault(entry.source, Tally()).merge(tally)
    try:
        data = subject.blobs.read(path)
        same = data == again or judged.table.equals(pq.read_table(io.BytesIO(data)))
    except (OSError, MeterhouseError, pa.ArrowException):
        return  # check_judged has said so
    if not same:
        check.fail(
            "rebuildable",
            "judged rows are not those that the landed bytes give",
            file=path,
            entry=entry.position,
        )


def _compare_states(check: Check, subject: Subject, real: State, again: State) -> None:
    upto = real.stamp().position
    for what, expected, found in (
        ("taken ranges", [row for row in again.inputs() if row.position <= upto], real.inputs()),
        ("contracts in force", _pinned_by_log(subject, upto), _pinned(subject, real, upto)),
        ("judged files", [row for row in _judged(again) if row.position <= upto], _judged(real)),
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
    for entry in subject.entries:
        if entry.kind == "contract" and entry.position <= upto:
            pinned = Pinned(entry.source, entry.contract, entry.position)
            texts[entry.source, entry.contract] = latest[entry.source] = pinned
    return [*texts.values(), *(latest[source] for source in sorted(latest))]


def _pinned(subject: Subject, state: State, upto: int) -> Sequence[Pinned]:
    """Ask ``state`` for every text that the log holds, and for those in force."""
    texts = {
        (entry.source, entry.contract): state.pinned(entry.source, entry.contract)
        for entry in subject.entries
        if entry.kind == "contract" and entry.position <= upto
    }
    latest = [state.pinned(source) for source in state.sources()]
    return [pinned for pinned in (*texts.values(), *latest) if pinned is not None]


class _Listed(tuple[int, str, int]):
    """A judged file without its bytes' hash, which depends on the Parquet library."""

    def __new__(cls, position: int, source: str, rows: int) -> _Listed:
        return super().__new__(cls, (position, source, rows))

    @property
    def position(self) -> int:
        return self[0]


def _judged(state: State) -> list[_Listed]:
    return [_Listed(file.position, file.source, file.rows) for file in state.judged_files()]


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
    runs = [
        RunFile(run.name, run.tier, run.rows, run.sha256, run.position)
        for run in state.runs(source, which)
    ]
    return KeyIndex(root / "index" / source / which, runs)


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
