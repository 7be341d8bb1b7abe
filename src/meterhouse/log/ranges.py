"""Cutting a delivered file into the ranges that the log does not hold yet."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from meterhouse.errors import EnvironmentFailureError, SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.lines import complete_prefix, records, split, tree_root
from meterhouse.log.entry import Input
from meterhouse.log.landing import BrokenStreamError, Decoded
from meterhouse.log.state import Taken

__all__ = [
    "Cut",
    "Delivery",
    "PieceBytes",
    "Place",
    "Range",
    "Reading",
    "Waiting",
    "broken_stream",
    "bytes_now",
    "header_of",
    "new_ranges",
    "place",
]

_EVERYTHING = 1 << 62
_HEADER_WINDOW = 1 << 14

PieceBytes: TypeAlias = int | Callable[[], int]
"""About how many bytes a range or an entry has; as said each time one is begun."""

Place: TypeAlias = tuple[int, int, str]
"""lo, hi and root of a range: what a file's next range must follow."""


class Reading(Protocol):
    """The stored bytes of one open delivery, in order."""

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` further bytes (all when negative), b"" at the end."""
        ...

    def seek(self, offset: int, /) -> object:
        """Go on reading at stored byte ``offset``."""
        ...

    def changed(self) -> bool:
        """Return whether it was written to since it was opened."""
        ...

    def shrunk(self) -> bool:
        """Return whether it is shorter than when it was opened."""
        ...


class Delivery(Protocol):
    """A file that a contract recognises, wherever it lies."""

    @property
    def identity(self) -> str:
        """What the log calls it."""
        ...

    @property
    def contract(self) -> Contract:
        """The contract that recognises it."""
        ...

    @property
    def compression(self) -> Literal["", "gz", "zst"]:
        """How its stored bytes are compressed."""
        ...

    @property
    def size(self) -> int:
        """Bytes as stored, when it was found."""
        ...

    def open(self) -> AbstractContextManager[Reading]:
        """Open it for reading from its beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes to be taken, cut at the ends of records."""

    delivery: Delivery
    item: Input
    """As it will stand in the entry, but for its place in the object and its counts."""
    data: bytes
    """Decoded."""
    ends_newline: bool
    after: Place | None
    """The file's last taken range when this one was cut; None when nothing was taken."""
    packed: bytes = b""
    """Compressed deliveries: the stored bytes of the whole file."""
    alone: bool = False
    """True when the landed object must hold this file only."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The end of a file that is not a whole record yet; it is taken when it is."""

    file: str
    line: int
    size: int
    """Bytes."""


def bytes_now(size: PieceBytes) -> int:
    """Return how large a piece that is begun now may be."""
    return size if isinstance(size, int) else size()


def place(taken: Sequence[Taken]) -> Place | None:
    """Return the place of the last taken range, None when there is none."""
    return (taken[-1].lo, taken[-1].hi, taken[-1].root) if taken else None


def new_ranges(
    delivery: Delivery, taken: Sequence[Taken], piece_bytes: PieceBytes
) -> Iterator[Range | Waiting]:
    """Yield what is new in ``delivery``; nothing when all of it was taken before.

    ``append``: what follows the ranges taken, which must still be what they were. Else:
    the whole file when it is not the file's last delivery, byte for byte; what is missing
    when a crash left that one incomplete.

    Raises:
        SourceRefusedError: What was taken was changed, or the file is not readable as what
            its name says. The file is refused; nothing further of it may be taken.
        EnvironmentFailureError: It is gone, unreadable, or was written to meanwhile.
    """
    try:
        if delivery.contract.mode == "append":
            yield from Cut(delivery, piece_bytes).continued(taken)
        else:
            yield from _delivered(delivery, taken, piece_bytes)
    except BrokenStreamError as error:
        raise broken_stream(delivery, error) from error


def broken_stream(delivery: Delivery, error: BrokenStreamError) -> SourceRefusedError:
    """Return why a compressed delivery is refused."""
    return SourceRefusedError(
        f'file "{delivery.identity}" is not a whole .{delivery.compression} file: {error}',
        delivery.identity,
        "deliver it again, whole; nothing new of it was taken",
    )


def _delivered(
    delivery: Delivery, taken: Sequence[Taken], piece_bytes: PieceBytes
) -> Iterator[Range | Waiting]:
    last: list[Taken] = []
    for item in taken:
        last = [item] if item.lo == 0 else [*last, item]
    cut = Cut(delivery, _EVERYTHING if delivery.contract.mode == "snapshot" else piece_bytes)
    if last:
        with delivery.open() as reading:
            stream = cut.stream(reading)
            same = all(cut.matches(stream, item) for item in last)
            ended = same and not stream.read(1)
        if same and ended and last[-1].whole:
            return
        if same and not ended and not last[-1].whole:
            yield from cut.continued(last)
            return
    yield from cut.continued((), after=place(taken))


class Cut:
    """Cuts one delivery at the ends of records."""

    def __init__(
        self, delivery: Delivery, piece_bytes: PieceBytes, *, tail: bool = True, header: str = ""
    ) -> None:
        """Cut ``delivery``.

        Args:
            delivery: The file.
            piece_bytes: About how many bytes a range has.
            tail: Take a last record that has no line end, when it is whole.
            header: CSV: the file's first record, when cutting does not begin there.
        """
        self._delivery = delivery
        self._tail = tail
        self._piece_bytes = piece_bytes
        self._csv = delivery.contract.format == "csv"
        self._append = delivery.contract.mode == "append"
        self._complete = not self._append or bool(delivery.compression)
        """True when the end of the file is the end of what there will be."""
        self._packed = b""
        self._header = header

    def stream(self, reading: Reading) -> Decoded:
        """Return the decoded bytes of the open delivery."""
        if not self._delivery.compression:
            return Decoded(reading.read, "")
        self._packed = reading.read()
        if reading.changed():
            raise self._unsteady()
        return Decoded(io.BytesIO(self._packed).read, self._delivery.compression)

    def matches(self, stream: Decoded, taken: Taken) -> bool:
        """Read on over a range that was taken; return whether it is still the same."""
        data = stream.read(taken.hi - taken.lo)
        if taken.lo == 0 and self._csv:
            self._header = header_of(data)
        return len(data) == taken.hi - taken.lo and tree_root(data, split(data)) == taken.root

    def continued(
        self, taken: Sequence[Taken], after: Place | None = None
    ) -> Iterator[Range | Waiting]:
        """Yield ranges from the end of ``taken`` on; ``after`` is given for a new delivery."""
        with self._delivery.open() as reading:
            stream = self.stream(reading)
            for item in taken:
                if not self.matches(stream, item):
                    raise self.changed(item)
            yield from self.ranges(reading, stream, taken, after or place(taken))

    def ranges(
        self, reading: Reading, stream: Decoded, taken: Sequence[Taken], after: Place | None
    ) -> Iterator[Range | Waiting]:
        """Yield ranges of what ``stream`` still holds; it stands at the end of ``taken``."""
        lo = taken[-1].hi if taken else 0
        line = taken[-1].lines_end + 1 if taken else 1
        joined = bool(taken) and not taken[-1].ends_newline
        rest, ended, first = b"", False, True
        while not ended:
            # One byte more than asked for tells whether the file goes on.
            piece = bytes_now(self._piece_bytes)
            size = (piece - len(rest) if len(rest) < piece else piece) + 1
            fresh = stream.read(size)
            rest, ended = rest + fresh, len(fresh) < size
            self._steady(reading, ended=ended)
            skip = self._seam(rest, taken[-1], ended=ended) if joined else 0
            end = self._end(rest, skip, ended=ended)
            if end <= skip and (rest or not self._must_judge(lo)):
                continue
            if first and not ended and self._packed:
                # Nothing of a file that breaks off may be taken: look at it whole, first.
                compression = self._delivery.compression
                Decoded(io.BytesIO(self._packed).read, compression).skip(_EVERYTHING)
            data, rest = rest[:end], rest[end:]
            item = self._input(data, lo, line, joined=joined, last=ended)
            yield Range(
                self._delivery,
                item,
                data,
                data.endswith(b"\n"),
                after,
                self._packed,
                alone=bool(self._packed) and not (first and ended),
            )
            after = (item.lo, item.hi, item.root)
            lo, line, joined, first = item.hi, line + item.lines, False, False
        if rest.strip():
            yield Waiting(self._delivery.identity, line, len(rest))

    def _must_judge(self, lo: int) -> bool:
        """An empty file is nothing to append, unless it should have had a header."""
        return lo == 0 and (self._csv or not self._append)

    def _input(self, data: bytes, lo: int, line: int, *, joined: bool, last: bool) -> Input:
        if lo == 0 and self._csv:
            self._header = header_of(data)
        offsets = split(data)
        return Input(
            file=self._delivery.identity,
            lo=lo,
            hi=lo + len(data),
            first_line=line,
            lines=len(offsets) - 1 - joined,
            records=0,
            blank=0,
            root=tree_root(data, offsets),
            offset=0,
            size=len(self._packed) if self._delivery.compression else len(data),
            compression=self._delivery.compression,
            header=self._header,
            whole=last and not self._append,
            joined=joined,
        )

    def _end(self, data: bytes, skip: int, *, ended: bool) -> int:
        """Return where the last whole record of ``data`` ends; what is before ``skip`` is none."""
        if ended and self._complete:
            return len(data)
        if ended and not self._tail:
            if self._csv:
                return skip + complete_prefix(data[skip:], "csv")
            return max(data.rfind(b"\n", skip) + 1, skip)
        if not self._csv:
            if ended:
                return skip + complete_prefix(data[skip:], "jsonl")
            # Leave a byte for the range after this one, so that the last is known as such.
            return max(data.rfind(b"\n", skip, len(data) - 1) + 1, skip)
        end = skip + complete_prefix(data[skip:] if ended else data[skip:-1], "csv")
        if ended and complete_prefix(data[end:] + b"\n", "csv") == len(data) - end + 1:
            return len(data)
        return end

    def _seam(self, data: bytes, taken: Taken, *, ended: bool) -> int:
        """Return where the line that was taken without its newline ends."""
        newline = data.find(b"\n")
        tail = data if newline < 0 else data[:newline]
        if tail.strip(b"\r" if self._csv else b" \t\r") or (newline < 0 and not ended):
            raise self.changed(taken)
        return newline + 1 if newline >= 0 else len(data)

    def _steady(self, reading: Reading, *, ended: bool) -> None:
        if not self._delivery.compression and (
            reading.shrunk() or (self._complete and ended and reading.changed())
        ):
            raise self._unsteady()

    def _unsteady(self) -> EnvironmentFailureError:
        name = self._delivery.identity
        return EnvironmentFailureError(
            f'file "{name}" was written to while it was being read',
            name,
            "run the same command again when the delivery is complete",
        )

    def changed(self, taken: Taken) -> SourceRefusedError:
        """Return why the file is refused: it no longer holds ``taken``."""
        name = self._delivery.identity
        return SourceRefusedError(
            f'file "{name}" changed in what was already taken',
            f"{name}, bytes {taken.lo} to {taken.hi}, taken by log entry {taken.position}",
            "put back what was there (it may only grow) and deliver new or corrected records "
            "in a file with another name; nothing new of it was taken",
        )


def header_of(data: bytes) -> str:
    """Return the text of the first CSV record of a file, empty when it has none."""
    window = _HEADER_WINDOW
    while True:
        found = records(data[:window], "csv", start_of_file=True)
        if len(found) > 1 or window >= len(data):
            return found.body(0).decode("utf-8", "replace") if len(found) else ""
        window *= 16
