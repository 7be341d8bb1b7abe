"""The views of ingest: judged files, state and index, against what the log gives again."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from meterhouse.errors import DamageError, MeterhouseError
from meterhouse.intake.index import KeyIndex, Keys, RunFile, run_sha256
from meterhouse.log.apply import Apply, judged_path
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.state import Pinned, State
from meterhouse.verify.ledger import Tally, columns_counted
from meterhouse.verify.report import Check
from meterhouse.verify.subject import ReadOnlyBlobs, Scope, Subject

__all__ = ["check_judged", "check_state", "derive_again"]

Progress = Callable[[Entry], None]


def check_judged(
    subject: Subject, scope: Scope, kept: dict[str, Tally], upto: dict[str, Tally]
) -> Check:
    """Hash every judged file and count its records and money, by source.

    Args:
        subject: The project.
        scope: Files of entries up to ``scope.since`` are counted and not hashed.
        kept: Filled with what all judged files hold.
        upto: Filled with what those up to the published position hold.
    """
    check = Check("judged", unit="files")
    listed = {}
    if subject.state is not None:
        listed = {file.position: file for file in subject.state.judged_files()}
    for entry in subject.data_entries():
        path = judged_path(entry.source, entry.position)
        data = _bytes(subject, check, entry, path)
        if data is None:
            continue
        check.covered += 1
        file = listed.get(entry.position)
        if file is not None and entry.position > scope.since:
            check.expect(
                file.sha256,
                hashlib.sha256(data).hexdigest(),
                "judged file does not hold what was written",
                file=path,
                entry=entry.position,
                severity="rebuildable",
            )
        elif file is None and _covered(subject, entry):
            check.fail("rebuildable", "judged file is not listed", file=path, entry=entry.position)
        tally = _counted(subject, check, entry, path, data)
        kept.setdefault(entry.source, Tally()).merge(tally)
        if subject.published is not None and entry.position <= subject.published.stamp.position:
            upto.setdefault(entry.source, Tally()).merge(tally)
    return check


def _covered(subject: Subject, entry: Entry) -> bool:
    return subject.state is not None and entry.position <= subject.state.stamp().position


def _bytes(subject: Subject, check: Check, entry: Entry, path: str) -> bytes | None:
    try:
        return subject.blobs.read(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            what = "judged file is missing"
        else:
            what = f"judged file can't be read: {error.strerror}"
        check.fail("rebuildable", what, file=path, entry=entry.position)
        return None


def _counted(subject: Subject, check: Check, entry: Entry, path: str, data: bytes) -> Tally:
    import pyarrow as pa
    import pyarrow.parquet as pq

    contract, tally = subject.contracts[entry.source], Tally()
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        rows = file.read(columns=columns_counted(contract, file.schema_arrow.names))
    except (pa.ArrowException, OSError) as error:
        check.fail(
            "rebuildable",
            f"judged file can't be read: {str(error).splitlines()[0]}",
            file=path,
            entry=entry.position,
        )
        return tally
    tally.add(contract, rows)
    return tally


def check_state(subject: Subject) -> Check:
    """See that the state view is whole and that the runs it lists hold what was written."""
    check = Check("index", unit="files")
    state = subject.state
    if state is None:
        return check
    for problem in state.check():
        check.fail("rebuildable", f"state view: {problem}", file="index/state.db")
    for run in state.all_runs():
        name = f"index/{run.source}/{run.which}/{run.name}"
        path = subject.root / name
        check.covered += 1
        if not path.is_file():
            check.fail("rebuildable", "run of the index is missing", file=name)
        else:
            check.expect(
                run.sha256,
                run_sha256(path),
                "run of the index does not hold what was written",
                file=name,
                severity="rebuildable",
            )
    return check


def derive_again(subject: Subject, landed: dict[str, Tally], progress: Progress | None) -> Check:
    """Judge every landed byte again, beside the real views, and compare all that comes out.

    Counts what landed, from the landed bytes, into ``landed`` by source.
    """
    check = Check("derived again", unit="records")
    blobs = ReadOnlyBlobs(subject.blobs)
    with tempfile.TemporaryDirectory(prefix="meterhouse-verify-") as folder:
        state = State.open(Path(folder) / "state.db")
        try:
            apply = Apply(
                blobs, Log(subject.blobs), state, subject.engine, index_folder=Path(folder)
            )

            def applied(entry: Entry) -> None:
                if entry.kind == "data":
                    _compare_judged(subject, check, entry, blobs, landed)
                if progress is not None:
                    progress(entry)

            apply.catch_up(applied)
            apply.checkpoint()
            if subject.state is not None:
                _compare_states(check, subject.state, state)
                _compare_indexes(check, subject.root / "index", subject.state, Path(folder), state)
        except MeterhouseError as error:
            check.fail("broken", f"the log can't be applied again: {error.what}", file=error.where)
        finally:
            state.close()
    return check


def _compare_judged(
    subject: Subject,
    check: Check,
    entry: Entry,
    blobs: ReadOnlyBlobs,
    landed: dict[str, Tally],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = judged_path(entry.source, entry.position)
    again = blobs.written.pop(path)
    rows = pq.read_table(io.BytesIO(again))
    contract = subject.contracts[entry.source]
    tally = Tally()
    tally.add(contract, rows)
    landed.setdefault(entry.source, Tally()).merge(tally)
    counted = sum(tally.records.values())
    check.covered += counted
    check.expect(
        entry.counts.get("landed", 0),
        counted,
        "landed bytes hold another number of records than the log entry says",
        file=path,
        entry=entry.position,
    )
    try:
        data = subject.blobs.read(path)
        same = data == again or rows.equals(pq.read_table(io.BytesIO(data)))
    except (OSError, pa.ArrowException):
        return  # check_judged has said so
    if not same:
        check.fail(
            "rebuildable",
            "judged rows are not those that the landed bytes give",
            file=path,
            entry=entry.position,
        )


def _compare_states(check: Check, real: State, again: State) -> None:
    upto = real.stamp().position
    for what, ours, theirs in (
        ("taken ranges", real.inputs(), again.inputs()),
        ("contracts in force", _pinned(real), _pinned(again)),
        ("judged files", _judged(real), _judged(again)),
    ):
        expected = [row for row in theirs if row.position <= upto]
        found = list(ours)
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


def _pinned(state: State) -> list[Pinned]:
    found = (state.pinned(source) for source in state.sources())
    return [pinned for pinned in found if pinned is not None]


class _Listed(tuple[int, str, int]):
    """A judged file without its bytes' hash, which depends on the Parquet library."""

    def __new__(cls, position: int, source: str, rows: int) -> _Listed:
        return super().__new__(cls, (position, source, rows))

    @property
    def position(self) -> int:
        return self[0]


def _judged(state: State) -> list[_Listed]:
    return [_Listed(file.position, file.source, file.rows) for file in state.judged_files()]


def _compare_indexes(
    check: Check, folder: Path, real: State, again_folder: Path, again: State
) -> None:
    if real.stamp() != again.stamp():
        return  # the views are behind the log: the next ingest or batch catches up
    names = {(run.source, run.which) for run in (*real.all_runs(), *again.all_runs())}
    for source, which in sorted(names):
        where = f"index/{source}/{which}"
        try:
            ours = _index(folder, real, source, which)
        except (DamageError, OSError):
            continue  # check_state has said so
        theirs = _index(again_folder, again, source, which)
        if not _same(ours.live(), theirs.live()):
            check.fail("rebuildable", "index does not hold the keys that the log gives", file=where)


def _index(folder: Path, state: State, source: str, which: str) -> KeyIndex:
    runs = [
        RunFile(run.name, run.tier, run.rows, run.sha256, run.position)
        for run in state.runs(source, which)
    ]
    return KeyIndex(folder / source / which, runs)


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
