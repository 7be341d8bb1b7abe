r"""Where the lines and records of a range of bytes lie, found without copying them.

A *line* ends with ``\n``, or with the range. A *record* is one line of JSONL, or one row of
CSV, which can hold quoted line ends. Lines of spaces, tabs and carriage returns only are
blank: they are counted and are no records.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.intake.jsontext import MAX_RECORD_BYTES, read_object

__all__ = [
    "BOM",
    "LEAF_LINES",
    "Offsets",
    "Spans",
    "complete_prefix",
    "joined",
    "records",
    "split",
    "tree_root",
]

BOM: Final = b"\xef\xbb\xbf"

LEAF_LINES: Final = 256
"""Lines under one leaf of the hash tree: what must be kept to redact one of them."""

Offsets: TypeAlias = npt.NDArray[np.int64]

_CHUNK = 1 << 20
_NEWLINE, _RETURN, _QUOTE, _COMMA = 10, 13, 34, 44
_BLANK = b" \t\r"
_IS_BLANK = np.zeros(256, np.bool_)
_IS_BLANK[list(_BLANK)] = True

_QUOTED = rb'"(?:[^"]++|"")*+"'
_CLOSED_ROW = re.compile(
    rb"(?:%b[^,\n]*+|[^\",\n][^,\n]*+)?+(?:,(?:%b[^,\n]*+|[^\",\n][^,\n]*+)?+)*+(?:\n|\Z)"
    % (_QUOTED, _QUOTED)
)
"""One CSV row in which every field that begins with a quote has a closing one."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The records of a range: record i is ``data[starts[i]:ends[i]]``, without line end."""

    data: bytes
    starts: Offsets
    ends: Offsets
    lines: Offsets
    """Physical line of the range, from 0, where each record starts."""
    physical: int
    """Physical lines in the range, blank ones included."""
    blank: int

    def __len__(self) -> int:
        return len(self.starts)

    def body(self, index: int) -> bytes:
        """Return one record's bytes."""
        return self.data[self.starts[index] : self.ends[index]]

    def bodies(self) -> pa.LargeBinaryArray:
        """Return every record's bytes, copied out of the range."""
        count = len(self)
        if not count:
            return pa.array([], pa.large_binary())
        # Records and the gaps between them alternate, so the range itself is the value
        # buffer of an array of which every other value is taken.
        edges = np.empty(2 * count, np.int64)
        edges[0::2], edges[1::2] = self.starts, self.ends
        alternating = pa.Array.from_buffers(
            pa.large_binary(), 2 * count - 1, [None, pa.py_buffer(edges), pa.py_buffer(self.data)]
        )
        return alternating.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int64)))

    def only(self, first: int, stop: int | None = None) -> Spans:
        """Return records [first, stop) of the same range."""
        part = slice(first, stop)
        return Spans(
            self.data,
            self.starts[part],
            self.ends[part],
            self.lines[part],
            self.physical,
            self.blank,
        )

    def picked(self, chosen: npt.NDArray[np.int64]) -> Spans:
        """Return some of the records, copied out, each as a line of a range of its own."""
        bodies = [self.body(index) for index in chosen.tolist()]
        ends = np.cumsum([len(body) + 1 for body in bodies]) - 1
        starts = ends - (self.ends[chosen] - self.starts[chosen])
        return Spans(b"\n".join(bodies), starts, ends, self.lines[chosen], len(bodies), 0)


def joined(parts: Sequence[Spans], first_lines: Sequence[int]) -> Spans:
    """Return the records of several ranges as those of one; lines count from ``first_lines``."""
    lines = [part.lines + first for part, first in zip(parts, first_lines, strict=True)]
    if len(parts) == 1:
        return replace(parts[0], lines=lines[0])
    texts = [part.data if part.data.endswith(b"\n") else part.data + b"\n" for part in parts]
    offsets = [0, *accumulate(map(len, texts))]
    none = np.zeros(0, np.int64)
    return Spans(
        b"".join(texts),
        np.concatenate(
            [none, *(part.starts + at for part, at in zip(parts, offsets, strict=False))]
        ),
        np.concatenate([none, *(part.ends + at for part, at in zip(parts, offsets, strict=False))]),
        np.concatenate([none, *lines]),
        sum(part.physical for part in parts),
        sum(part.blank for part in parts),
    )


def split(data: bytes) -> Offsets:
    r"""Return the offsets of the n physical lines of ``data``, n + 1 values.

    Line i is ``data[offsets[i]:offsets[i + 1]]``, its ``\n`` included; a last line without
    one counts. Empty data has no lines and one offset, 0.
    """
    view = np.frombuffer(data, np.uint8)
    found = [np.zeros(1, np.int64)]
    marks = np.empty(min(_CHUNK, len(view)), np.bool_)
    for lo in range(0, len(view), _CHUNK):
        part = view[lo : lo + _CHUNK]
        hits = np.flatnonzero(np.equal(part, _NEWLINE, out=marks[: len(part)]))
        hits += lo + 1
        found.append(hits)
    if data and not data.endswith(b"\n"):
        found.append(np.array([len(data)], np.int64))
    return np.concatenate(found)


def tree_root(data: bytes, offsets: Offsets) -> str:
    """Return the hash-tree root of a range, hex, given its ``split``.

    SHA-256 over the concatenated SHA-256 digests of runs of 256 consecutive lines, so one
    record can be redacted later and every other leaf still be checked.
    """
    view = memoryview(data)
    edges = [*offsets[:-1:LEAF_LINES].tolist(), int(offsets[-1])]
    leaves = [hashlib.sha256(view[lo:hi]).digest() for lo, hi in pairwise(edges)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def records(data: bytes, format: Literal["csv", "jsonl"], *, start_of_file: bool) -> Spans:
    """Return the records of a range; for CSV a header row in it is the first of them.

    A byte order mark at the start of a file belongs to the file: it is in no record.

    Args:
        data: The bytes; they begin where a record begins.
        format: How the bytes are cut.
        start_of_file: ``data`` begins where its file does.
    """
    offsets = split(data)
    skip = len(BOM) if start_of_file and data.startswith(BOM) else 0
    if format == "csv" and data.find(b'"') >= 0:
        starts, ends = _quoted_rows(data, skip)
        lines = np.searchsorted(offsets, starts, side="right") - 1
    else:
        starts, ends = offsets[:-1].copy(), offsets[1:]
        lines = np.arange(len(starts), dtype=np.int64)
        starts[:1] += skip
    return _without_blanks(data, starts, ends, lines, len(offsets) - 1)


def _without_blanks(
    data: bytes, starts: Offsets, ends: Offsets, lines: Offsets, physical: int
) -> Spans:
    """Take off line ends, then drop what is blank."""
    view = np.frombuffer(data, np.uint8)
    ended = len(ends) - (1 if len(ends) and data[ends[-1] - 1] != _NEWLINE else 0)
    ends[:ended] -= 1
    returns = np.flatnonzero(view[np.maximum(ends[:ended], 1) - 1] == _RETURN)
    ends[returns[ends[returns] > starts[returns]]] -= 1
    filled = ends > starts
    if len(view):
        suspects = filled & _IS_BLANK[view[np.minimum(starts, len(view) - 1)]]
        for index in np.flatnonzero(suspects):
            filled[index] = bool(data[starts[index] : ends[index]].strip(_BLANK))
    blank = len(filled) - int(np.count_nonzero(filled))
    if blank:
        starts, ends, lines = starts[filled], ends[filled], lines[filled]
    return Spans(data, starts, ends, lines, physical, blank)


def _quoted_rows(data: bytes, skip: int) -> tuple[Offsets, Offsets]:
    """Return starts and ends (line end included) of the rows of CSV that holds quotes."""
    ends = _ends_by_parity(data, skip)
    if ends is None:
        found = []
        position = skip
        while position < len(data):
            position, _ = _row_end(data, position)
            found.append(position)
        ends = np.array(found, np.int64)
    starts = np.concatenate([np.array([skip], np.int64), ends[:-1]])
    return starts, ends


def _ends_by_parity(data: bytes, skip: int) -> Offsets | None:
    """Return where rows end when all quoting is in order, None when any of it is odd.

    In order means: each opening quote follows a comma, a line end or a quote, each closing
    one precedes them. Then a line end is a row's end when the quotes before it are even.
    """
    view = np.frombuffer(data, np.uint8)[skip:]
    quotes = np.flatnonzero(view == _QUOTE)
    if len(quotes) % 2:
        return None
    before = view[np.maximum(quotes[0::2], 1) - 1]
    opened = np.isin(before, (_COMMA, _NEWLINE, _QUOTE)) | (quotes[0::2] == 0)
    after = view[np.minimum(quotes[1::2] + 1, len(view) - 1)]
    closed = np.isin(after, (_COMMA, _NEWLINE, _RETURN, _QUOTE)) | (quotes[1::2] == len(view) - 1)
    if not (opened.all() and closed.all()):
        return None
    newlines = np.flatnonzero(view == _NEWLINE)
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
    if not len(ends) or ends[-1] != len(view):
        ends = np.append(ends, len(view))
    sizes = np.diff(ends, prepend=0)
    if len(sizes) and sizes.max() > MAX_RECORD_BYTES:
        return None
    found: Offsets = ends.astype(np.int64) + skip
    return found


def _row_end(data: bytes, start: int) -> tuple[int, bool]:
    """Return where the row at ``start`` ends, and whether its quotes are all closed.

    A quote opens at the start of a field only. One that is not closed within the largest
    record, or before the data ends, is broken: the row then ends with its line, so that
    a stray quote costs one line and not all that follow.
    """
    match = _CLOSED_ROW.match(data, start)
    if match is not None:
        end = match.end()
        if end - start <= MAX_RECORD_BYTES or data.find(b"\n", start, end - 1) < 0:
            return end, True
    newline = data.find(b"\n", start)
    return (newline + 1 if newline >= 0 else len(data)), False


def complete_prefix(data: bytes, format: Literal["csv", "jsonl"]) -> int:
    """Return how many bytes of ``data`` end at the end of a record, at most.

    JSONL: up to the last line end, or all of it when what follows that is one complete
    JSON object. CSV: up to the last line end outside quotes. ``data`` begins where a record
    begins. What is left over waits for the rest of its record.
    """
    if format == "jsonl":
        tail = data.rfind(b"\n") + 1
        rest = data[tail:].removeprefix(BOM) if tail == 0 else data[tail:]
        return len(data) if rest and read_object(rest) is not None else tail
    last = data.rfind(b"\n") + 1
    if not last or data.find(b'"') < 0:
        return last
    skip = len(BOM) if data.startswith(BOM) else 0
    even = data
    if data.count(b'"') % 2:
        # The last quote opens a field that goes on after the data, unless it is a stray one.
        opening = data.rfind(b'"')
        even = data[:opening] if opening == skip or data[opening - 1] in b',\n"' else b""
    ends = _ends_by_parity(even, skip) if even else None
    if ends is not None:
        whole = len(ends) - (0 if len(even) == len(data) and data.endswith(b"\n") else 1)
        prefix = int(ends[whole - 1]) if whole else 0
        if len(data) - prefix <= MAX_RECORD_BYTES:
            return prefix
    position = skip
    while position < len(data):
        end, closed = _row_end(data, position)
        decided = closed or len(data) - position > MAX_RECORD_BYTES
        if not decided or data[end - 1] != _NEWLINE:
            break
        position = end
    return position if position > skip else 0
