"""The deduplication index: which keys were seen, with what payload, where.

A run is a file of four columns of little-endian unsigned 64-bit numbers, one after the
other, without a header: the high and low halves of the key's hash, the payload's hash, and
the place. Rows are sorted by (hash, place). Runs are never changed; now and then the newest
are merged into one. The index is a view of the log: its files are listed, with their
hashes, in the state database, and rebuilt when they are lost.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from meterhouse.errors import DamageError

__all__ = [
    "REMOVED_BIT",
    "ROW_BYTES",
    "Found",
    "KeyIndex",
    "Keys",
    "RunChanges",
    "RunFile",
    "place_of",
    "run_sha256",
]

Words: TypeAlias = npt.NDArray[np.uint64]

REMOVED_BIT = np.uint64(1 << 63)
"""In a place: the key is gone since there (a snapshot no longer holds it)."""

ROW_BYTES = 32

_SEGMENT = 1 << 20
"""Rows of a run looked at before its pages are given back: 8 MiB of one column."""

_CHUNK = 1 << 17
"""Rows in memory at a time while runs are merged."""

_PENDING = 1 << 18
"""Rows held in memory before they are written."""

_FAN_IN = 4


@dataclass(frozen=True, slots=True)
class RunFile:
    """One run on disk, as the state database lists it."""

    name: str
    """File name in the index's folder; names sort from oldest to newest."""
    tier: int
    """How often it could be divided by four: for people, nothing depends on it."""
    rows: int
    sha256: str
    position: int
    """Last log entry in it."""


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What a flush did to the list of runs; to be stored in the state's transaction."""

    added: tuple[RunFile, ...] = ()
    removed: tuple[RunFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """Answer for each id asked for; ``payload`` and ``place`` are 0 where ``mask`` is False."""

    mask: npt.NDArray[np.bool_]
    payload: Words
    place: Words


@dataclass(frozen=True, slots=True)
class Keys:
    """Ids (n, 2) with payloads and places, in no order: what one entry adds to an index."""

    ids: Words = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    payload: Words = field(default_factory=lambda: np.zeros(0, np.uint64))
    place: Words = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __len__(self) -> int:
        return len(self.place)

    def __add__(self, other: Keys) -> Keys:
        return Keys(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.payload, other.payload]),
            np.concatenate([self.place, other.place]),
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """Sorted columns: in memory, or mapped from a file."""

    high: Words
    low: Words
    payload: Words
    place: Words
    file: RunFile | None = None
    mapped: mmap.mmap | None = None
    upto: int | None = None
    """Rows of later log entries are passed over."""

    def __len__(self) -> int:
        return len(self.high)

    def part(self, lo: int, hi: int) -> tuple[Words, Words, Words, Words]:
        found = self.high[lo:hi], self.low[lo:hi], self.payload[lo:hi], self.place[lo:hi]
        if self.upto is None:
            return found
        there = self.seen(found[3])
        return found[0][there], found[1][there], found[2][there], found[3][there]

    def seen(self, places: Words) -> npt.NDArray[np.bool_]:
        """Return which of ``places`` are not passed over."""
        if self.upto is None:
            return np.ones(len(places), bool)
        return (places & ~REMOVED_BIT) >> np.uint64(32) <= np.uint64(self.upto)

    def give_back(self) -> None:
        """Unmap pages that were read: mapped pages count as memory of this process."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


class KeyIndex:
    """Newest payload and place of every key seen. Memory stays bounded whatever its size.

    What was added but not flushed is found too, and lost when the process ends.
    """

    def __init__(
        self,
        folder: Path,
        runs: Sequence[RunFile] = (),
        *,
        past: tuple[Path, Sequence[RunFile], int] | None = None,
    ) -> None:
        """Open the index made of ``runs``.

        Args:
            folder: Made when a run is written; it and the two above are synced then.
            runs: As the state lists them.
            past: Folder and runs of another index, and a log position: what that one held
                then goes before what this one holds, and is never written again.

        Raises:
            DamageError: A run is missing or has another size.
        """
        self._folder = folder
        ordered = sorted(runs, key=lambda run: run.name)
        self._files = [_mapped(folder / run.name, run) for run in ordered]
        self._past = []
        if past is not None:
            known = sorted(past[1], key=lambda run: run.name)
            self._past = [_mapped(past[0] / run.name, run, upto=past[2]) for run in known]
        self._pending: list[_Run] = []
        self._last = 0
        self._added: dict[str, RunFile] = {}
        self._removed: dict[str, RunFile] = {}
        self._found_after_power_loss = False

    def __len__(self) -> int:
        """Rows, with those that newer ones replaced."""
        return sum(map(len, self._runs()))

    @property
    def pending(self) -> int:
        """Rows that are only in memory."""
        return sum(map(len, self._pending))

    @property
    def files(self) -> tuple[RunFile, ...]:
        """The runs on disk, oldest first."""
        return tuple(run.file for run in self._files if run.file is not None)

    def _runs(self) -> list[_Run]:
        return [*self._past, *self._files, *self._pending]

    def find(self, ids: Words) -> Found:
        """Look up ``ids`` (n, 2), in any order, repeated or not.

        The newest row of an id counts; an id whose newest row removes it is not found.
        """
        count = len(ids)
        found = Found(np.zeros(count, bool), np.zeros(count, np.uint64), np.zeros(count, np.uint64))
        wanted = np.argsort(ids[:, 0])
        for run in reversed(self._runs()):
            if not len(wanted):
                break
            wanted = _search(run, ids, wanted, found)
        gone = (found.place & REMOVED_BIT) != 0
        for values in (found.mask, found.payload, found.place):
            values[gone] = 0
        return found

    def add(self, keys: Keys) -> None:
        """Add rows; each must be newer than all rows of its id that are there.

        Large amounts go to disk at once, and are part of what ``flush`` returns.
        """
        if not len(keys):
            return
        self._pending.append(
            _Run(*_in_order((keys.ids[:, 0], keys.ids[:, 1], keys.payload, keys.place)))
        )
        self._last = max(self._last, int((keys.place & ~REMOVED_BIT).max()) >> 32)
        if self.pending >= _PENDING:
            self._spill(self._last)
            return
        start = _merge_from([len(run) for run in self._pending])
        if start is not None:
            self._pending[start:] = [_Run(*columns) for columns in _merged(self._pending[start:])]

    def flush(self, position: int) -> RunChanges:
        """Write what is pending, synced, in a run that covers entries up to ``position``.

        Files that were replaced stay until ``clean``: store the changes first.
        """
        if self._pending:
            self._spill(position)
        changes = RunChanges(tuple(self._added.values()), tuple(self._removed.values()))
        self._added, self._removed = {}, {}
        return changes

    def _spill(self, position: int) -> None:
        start = _merge_from([*(len(run) for run in self._files), self.pending])
        start = len(self._files) if start is None else start
        replaced = self._files[start:]
        added = self._write([*replaced, *self._pending], position)
        self._files[start:] = [_mapped(self._folder / added.name, added)]
        self._pending = []
        for run in replaced:
            if run.file is not None and self._added.pop(run.file.name, None) is None:
                self._removed[run.file.name] = run.file
        self._added[added.name] = added

    def clean(self) -> None:
        """Delete files that nobody needs: replaced before the last flush, or left by a crash."""
        names = {file.name for file in self.files} | self._removed.keys()
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in names and path.name.endswith((".run", ".run.tmp")):
                    path.unlink(missing_ok=True)

    def live(self) -> Iterator[Keys]:
        """Yield the newest row of every key that is not removed, in chunks, sorted by id."""
        for high, low, payload, place in _merged(self._runs()):
            last = np.ones(len(high), bool)
            last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
            last &= (place & REMOVED_BIT) == 0
            yield Keys(np.stack([high[last], low[last]], axis=1), payload[last], place[last])

    def _write(self, runs: Sequence[_Run], position: int) -> RunFile:
        rows = sum(map(len, runs))
        tier = max(rows.bit_length() - 1, 0) // 2
        used = {file.name for file in self.files} | self._removed.keys()
        # A file that the stored state may still name is never overwritten.
        serial = sum(other.startswith(f"{position:012d}-") for other in used)
        name = f"{position:012d}-{serial:02d}-{tier}.run"
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{name}.tmp"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            done = 0
            for columns in _merged(runs):
                for index, column in enumerate(columns):
                    _write_all(descriptor, column.astype("<u8"), 8 * (rows * index + done))
                done += len(columns[0])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        digest = run_sha256(temporary)
        temporary.replace(self._folder / name)
        _sync(self._folder)
        if not self._found_after_power_loss:
            # Whoever made the folders may have died before their names were synced.
            for folder in self._folder.parents[:2]:
                _sync(folder)
            self._found_after_power_loss = True
        return RunFile(name, tier, rows, digest, position)


def place_of(position: int, rows: npt.NDArray[np.int64]) -> Words:
    """Return the places of row numbers ``rows`` of log entry ``position``."""
    return (np.uint64(position) << np.uint64(32)) | rows.astype(np.uint64)


def run_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a run's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mapped(path: Path, run: RunFile, *, upto: int | None = None) -> _Run:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = -1
    if size != run.rows * ROW_BYTES or not run.rows:
        state = "is missing" if size < 0 else f"has {size} bytes, not {run.rows * ROW_BYTES}"
        raise DamageError(
            f'run "{run.name}" of the deduplication index {state}',
            str(path),
            "run meterhouse rebuild: the index is made again from the log",
        )
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    words: Words = np.frombuffer(mapped, dtype="<u8")
    high, low, payload, place = words.reshape(4, run.rows)
    return _Run(high, low, payload, place, run, mapped, upto)


def _search(
    run: _Run, ids: Words, wanted: npt.NDArray[np.int64], found: Found
) -> npt.NDArray[np.int64]:
    """Fill ``found`` for those of ``wanted`` (sorted by id) in ``run``; return the others."""
    left = []
    segments = range(0, len(run), _SEGMENT)
    starts = np.searchsorted(ids[wanted, 0], run.high[::_SEGMENT], side="left")
    ends = [*starts[1:].tolist(), len(wanted)]
    left.append(wanted[: int(starts[0])])
    for segment, lo, hi in zip(segments, starts.tolist(), ends, strict=True):
        part = wanted[lo:hi]
        if not len(part):
            continue
        high = run.high[segment : segment + _SEGMENT]
        at = segment + np.searchsorted(high, ids[part, 0], side="right") - 1
        candidates = np.flatnonzero(run.high[at] == ids[part, 0])
        hit = _newest(run, ids, part[candidates], at[candidates], found)
        missing = np.ones(len(part), bool)
        missing[candidates[hit]] = False
        left.append(part[missing])
        run.give_back()
    return np.concatenate(left)


def _newest(
    run: _Run, ids: Words, asked: npt.NDArray[np.int64], at: npt.NDArray[np.int64], found: Found
) -> npt.NDArray[np.bool_]:
    """Walk left from ``at`` through rows of one high half to the newest row of the id.

    Returns which of ``asked`` were found.
    """
    hit = np.zeros(len(asked), bool)
    walking = np.arange(len(asked))
    at = at.copy()
    while len(walking):
        here = at[walking]
        same = run.low[here] == ids[asked[walking], 1]
        if run.upto is not None:
            same &= run.seen(run.place[here])
        rows, targets = here[same], asked[walking[same]]
        found.mask[targets] = True
        found.payload[targets] = run.payload[rows]
        found.place[targets] = run.place[rows]
        hit[walking[same]] = True
        walking = walking[~same]
        at[walking] -= 1
        walking = walking[at[walking] >= 0]
        walking = walking[run.high[at[walking]] == ids[asked[walking], 0]]
    return hit


def _merge_from(sizes: Sequence[int]) -> int | None:
    """Return from which run on (oldest first) runs should become one; None: leave them.

    Four or more are merged when the oldest of them is no larger than the others together.
    So a row is written again only when its run at least doubles, and there are never more
    than log2(rows) + 3 runs.
    """
    total = 0
    start = None
    for index in reversed(range(len(sizes))):
        if len(sizes) - index >= _FAN_IN and sizes[index] <= total:
            start = index
        total += sizes[index]
    return start


def _merged(runs: Sequence[_Run]) -> Iterator[tuple[Words, Words, Words, Words]]:
    """Yield all rows of ``runs`` by (id, place), a range of hashes at a time."""
    if not runs:
        return
    ranges = max(sum(map(len, runs)) // _CHUNK, 1)
    step = (1 << 64) // ranges
    starts = [0] * len(runs)
    for number in range(1, ranges + 1):
        ends = [len(run) for run in runs]
        if number < ranges:
            edge = np.uint64(step * number)
            ends = [
                start + int(np.searchsorted(run.high[start:], edge))
                for run, start in zip(runs, starts, strict=True)
            ]
        parts = [run.part(*span) for run, *span in zip(runs, starts, ends, strict=True)]
        high, low, payload, place = map(np.concatenate, zip(*parts, strict=True))
        if len(high):
            yield _in_order((high, low, payload, place))
        starts = ends
        for run in runs:
            run.give_back()


def _in_order(columns: tuple[Words, Words, Words, Words]) -> tuple[Words, Words, Words, Words]:
    high, low, payload, place = columns
    order = np.argsort(high)
    ordered = high[order]
    equal = ordered[1:] == ordered[:-1]
    if equal.any():
        # Rows of one high half are few: only they are worth a sort by all three words.
        member = np.zeros(len(order), bool)
        member[1:] |= equal
        member[:-1] |= equal
        some = order[member]
        order[member] = some[np.lexsort((place[some] & ~REMOVED_BIT, low[some], high[some]))]
    return high[order], low[order], payload[order], place[order]


def _write_all(descriptor: int, column: Words, offset: int) -> None:
    data = memoryview(column.tobytes())
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
