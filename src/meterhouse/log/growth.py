"""Growing files: what is new of them, at the price of what is new.

A file that grows by a line a thousand times would be read a thousand times if each look
compared everything that was taken. So a look compares its beginning and what lies before
the new bytes; all of it is compared once for each process, and when something is odd.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, Protocol

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.lines import split, tree_root
from meterhouse.log.landing import Decoded
from meterhouse.log.ranges import (
    Cut,
    Delivery,
    Place,
    Range,
    Reading,
    Waiting,
    header_of,
    place,
)
from meterhouse.log.state import Taken

__all__ = ["Growth", "TakenOf"]

_HEAD: Final = 4096
_TAIL: Final = 16384


class TakenOf(Protocol):
    """What the log holds of a file (``log.state.State``)."""

    def taken(self, source: str, file: str) -> list[Taken]:
        """Return its ranges, in the order of the log."""
        ...

    def first_taken(self, source: str, file: str) -> Taken | None:
        """Return the first."""
        ...

    def last_taken(self, source: str, file: str) -> Taken | None:
        """Return the last."""
        ...


class Growth:
    """One uncompressed file of an ``append`` source, over its whole life."""

    def __init__(self, delivery: Delivery, log: TakenOf) -> None:
        """Know nothing yet: the first look compares the first and the last range taken."""
        self._delivery = delivery
        self._log = log
        self._at: Place | None = None
        """The last range taken when the digests were made."""
        self._head = (0, b"")
        self._tail = (0, b"")
        self._header = ""

    def ranges(self, piece_bytes: int, *, tail: bool) -> Iterator[Range | Waiting]:
        """Yield what is new, in ranges of about ``piece_bytes``.

        Args:
            piece_bytes: Largest range; one record is never cut.
            tail: Take a last record without a line end, when it is whole.

        Raises:
            SourceRefusedError: What was taken was changed or is gone: rotated, cut short,
                replaced. Nothing of the file may be taken.
            EnvironmentFailureError: It can't be read, or was cut short meanwhile.
        """
        last = self._last()
        with self._delivery.open() as reading:
            if last is not None:
                self._compare(reading, last)
                reading.seek(last.hi)
            cut = Cut(self._delivery, piece_bytes, tail=tail, header=self._header)
            known = [last] if last is not None else []
            yield from cut.ranges(reading, Decoded(reading.read, ""), known, place(known))

    def took(self, part: Range) -> None:
        """Remember ``part``, which is in the log now."""
        if part.item.lo == 0:
            self._head = _digest(part.data[:_HEAD])
        self._tail = _digest(part.data[-_TAIL:])
        self._header = part.item.header
        self._at = (part.item.lo, part.item.hi, part.item.root)

    def taken_bytes(self) -> int:
        """Return where the next range begins."""
        last = self._last()
        return last.hi if last is not None else 0

    def compare(self) -> Iterator[int]:
        """Compare everything that was taken, range by range; yield the bytes of each.

        Raises:
            SourceRefusedError: It was changed.
            EnvironmentFailureError: It can't be read.
        """
        taken = self._log.taken(self._delivery.contract.source, self._delivery.identity)
        with self._delivery.open() as reading:
            for item in taken:
                self._read(reading, item)
                yield item.hi - item.lo

    def _last(self) -> Taken | None:
        return self._log.last_taken(self._delivery.contract.source, self._delivery.identity)

    def _compare(self, reading: Reading, last: Taken) -> None:
        if self._at != place([last]):
            self._learn(reading, last)
            return
        for offset, (size, digest) in ((0, self._head), (last.hi - self._tail[0], self._tail)):
            reading.seek(offset)
            if _digest(reading.read(size)) != (size, digest):
                raise self._changed(last)

    def _learn(self, reading: Reading, last: Taken) -> None:
        """Compare the first and the last range with what the log says of them."""
        first = self._log.first_taken(self._delivery.contract.source, self._delivery.identity)
        begun = self._read(reading, first or last)
        ended = begun if first == last else self._read(reading, last)
        self._head, self._tail = _digest(begun[:_HEAD]), _digest(ended[-_TAIL:])
        if self._delivery.contract.format == "csv":
            self._header = header_of(begun)
        self._at = place([last])

    def _read(self, reading: Reading, taken: Taken) -> bytes:
        """Return the bytes of a range; they must be the same."""
        reading.seek(taken.lo)
        data = reading.read(taken.hi - taken.lo)
        if len(data) != taken.hi - taken.lo or tree_root(data, split(data)) != taken.root:
            raise self._changed(taken)
        return data

    def _changed(self, taken: Taken) -> SourceRefusedError:
        self._at = None
        return Cut(self._delivery, 0).changed(taken)


def _digest(data: bytes) -> tuple[int, bytes]:
    return len(data), hashlib.sha256(data).digest()
