"""Sealed segments: the entries of a range in one file, with what that file attests to.

Ranges are fixed: entries 1 to 1,000, 1,001 to 2,000 and so on. So the segment of an entry
is found by its name, without a listing, and two processes that seal seal the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from decimal import Context, Decimal
from typing import Any, Final

from meterhouse.errors import DamageError
from meterhouse.log.blocks import RESTORE, BlockFile, packed, stored
from meterhouse.log.entry import Entry, entry_path
from meterhouse.names import entry_name
from meterhouse.ports import Blobs

__all__ = [
    "SPAN",
    "Attestation",
    "Segment",
    "Segments",
    "Span",
    "entry_bytes",
    "segment_bytes",
    "segment_path",
]

_ENTRIES_A_BLOCK: Final = 100
_KEPT: Final = 64
"""Headers in memory: a few KiB each."""
_EXACT: Final = Context(prec=400)


@dataclass(frozen=True, slots=True)
class Span:
    """How many entries a segment holds: a part of the format, another one in tests only."""

    entries: int = 1000

    def of(self, position: int) -> tuple[int, int]:
        """Return the first and the last entry of the range that ``position`` is in."""
        first = (position - 1) // self.entries * self.entries + 1
        return first, first + self.entries - 1


SPAN: Final = Span()


def segment_path(first: int, last: int) -> str:
    """Return the blob name of the segment that holds entries ``first`` to ``last``."""
    return f"log/segments/{entry_name(first)}-{entry_name(last)}.jsonl.zst"


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a segment says of its entries: seen to hold when it was sealed."""

    first: int
    last: int
    previous: str
    """Hash that entry ``first`` names: of the entry before it."""
    head: str
    """Hash of entry ``last``."""
    first_ts: str
    last_ts: str
    """``ingest_ts`` of entries ``first`` and ``last``."""
    project: str
    """As in entry 1; empty in every other segment."""
    fork: int
    """Of entry ``last``."""
    sha256: str
    """Over the entries' bytes, one after the other."""
    contracts: tuple[int, ...]
    """Positions of the contract entries."""
    packs: int
    """Packs of landed bytes that there were (log.packs)."""
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Source → entries (number), counts and money: sums over its data entries, as there."""

    @classmethod
    def over(cls, found: Sequence[tuple[Entry, bytes]], packs: int) -> Attestation:
        """Return what is to be said of ``found``: the entries of a range and their bytes."""
        (first, _), (last, last_bytes) = found[0], found[-1]
        return cls(
            first.position,
            last.position,
            first.previous,
            hashlib.sha256(last_bytes).hexdigest(),
            first.ingest_ts,
            last.ingest_ts,
            first.project,
            last.fork,
            hashlib.sha256(b"".join(data for _, data in found)).hexdigest(),
            tuple(entry.position for entry, _ in found if entry.kind == "contract"),
            packs,
            _sums(entry for entry, _ in found if entry.kind == "data"),
        )


def segment_bytes(found: Sequence[tuple[Entry, bytes]], packs: int) -> bytes:
    """Return the segment of ``found``, the entries of a whole range with their bytes."""
    texts = [
        b"".join(data for _, data in found[start : start + _ENTRIES_A_BLOCK])
        for start in range(0, len(found), _ENTRIES_A_BLOCK)
    ]
    header = {"kind": "entries", **asdict(Attestation.over(found, packs))}
    return stored(header, [packed(text) for text in texts], [len(text) for text in texts])


class Segment:
    """One segment, opened. Its entries are read when asked, a block at a time."""

    def __init__(self, file: BlockFile) -> None:
        """Read the header.

        Raises:
            DamageError: It is not that of a segment.
        """
        body = {
            name: value
            for name, value in file.header.items()
            if name not in ("kind", "format", "blocks", "checksum")
        }
        try:
            self.attestation = Attestation(**{**body, "contracts": tuple(body["contracts"])})
            fits = file.header["kind"] == "entries" and file.name == segment_path(
                self.attestation.first, self.attestation.last
            )
        except (TypeError, KeyError) as error:
            raise DamageError("segment's header lacks a field", file.name, RESTORE) from error
        if not fits:
            raise DamageError("segment is not the one of its name", file.name, RESTORE)
        self.name = file.name
        self.size = file.size
        self._file = file
        self._lines: tuple[int, list[bytes]] | None = None

    def entry(self, position: int) -> bytes:
        """Return the bytes of entry ``position``, as its own file held them.

        Raises:
            DamageError: They are not what was sealed.
        """
        number, row = divmod(position - self.attestation.first, _ENTRIES_A_BLOCK)
        lines = self._block(number)
        if not 0 <= row < len(lines):
            raise DamageError(f"segment does not hold entry {position}", self.name, RESTORE)
        return lines[row]

    def positions(self) -> Iterator[range]:
        """Yield the positions of each block: what one damaged byte takes away."""
        for number in range(len(self._file)):
            first = self.attestation.first + number * _ENTRIES_A_BLOCK
            yield range(first, min(first + _ENTRIES_A_BLOCK, self.attestation.last + 1))

    def check(self) -> None:
        """Read all of it, and see that what it attests to holds.

        Raises:
            DamageError: It does not; names the file.
        """
        found: list[tuple[Entry, bytes]] = []
        previous = self.attestation.previous
        for positions in self.positions():
            for position in positions:
                data = self.entry(position)
                entry = Entry.from_bytes(data, self.name)
                if entry.position != position or entry.previous != previous:
                    raise DamageError(
                        f"entry {position} of the segment does not follow from the one before",
                        self.name,
                        RESTORE,
                    )
                previous = hashlib.sha256(data).hexdigest()
                found.append((entry, data))
        self._file.check_end()
        if Attestation.over(found, self.attestation.packs) != self.attestation:
            raise DamageError("segment does not hold what it attests to", self.name, RESTORE)

    def close(self) -> None:
        """Forget the block that was read last; the next reading reads it again."""
        self._lines = None
        self._file.close()

    def _block(self, number: int) -> list[bytes]:
        if not 0 <= number < len(self._file):
            return []
        if self._lines is None or self._lines[0] != number:
            self._lines = (number, self._file.block(number).splitlines(keepends=True))
        return self._lines[1]


class Segments:
    """The segments of a log, found by the entries they hold."""

    def __init__(self, blobs: Blobs, span: Span = SPAN) -> None:
        self.span = span
        self._blobs = blobs
        self._open: OrderedDict[int, Segment] = OrderedDict()

    def known(self, position: int) -> Segment | None:
        """Return the segment of ``position`` when it was opened before; reads nothing."""
        return self._open.get(self.span.of(position)[0])

    def find(self, position: int) -> Segment | None:
        """Return the segment that holds ``position``; None when that is not sealed.

        Raises:
            DamageError: Its header is damaged.
        """
        first, last = self.span.of(position)
        found = self._open.get(first)
        if found is not None:
            self._open.move_to_end(first)
            return found
        file = BlockFile.open(self._blobs, segment_path(first, last))
        if file is None:
            return None
        found = self._open[first] = Segment(file)
        if len(self._open) > _KEPT:
            self._open.popitem(last=False)
        return found

    def names(self) -> list[str]:
        """Return the names of all segments, in order: one listing for each 1,000."""
        return [name for name in self._blobs.list("log/segments") if name.endswith(".zst")]


def entry_bytes(
    segments: Segments, blobs: Blobs, position: int, *, sealed: bool = True
) -> tuple[str, bytes] | None:
    """Return where entry ``position`` lies and its bytes; None when there is none.

    Without ``sealed`` an entry that has no file of its own is not looked for. A segment goes
    before a file of its own: where both are, a crash left the file, or a writer that had
    slept put it under a number that was sealed away.

    Raises:
        DamageError: The segment is damaged.
    """
    data = None
    if segments.known(position) is None:
        with suppress(FileNotFoundError):
            data = blobs.read(entry_path(position))
        if data is None and not sealed:
            return None
    # Looked for after the file was read: a number is only free again once it is sealed.
    segment = segments.find(position)
    if segment is not None:
        return segment.name, segment.entry(position)
    return None if data is None else (entry_path(position), data)


def _sums(entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        sums = found.setdefault(entry.source, {"entries": 0, "counts": {}, "money": {}})
        sums["entries"] += 1
        for name, count in entry.counts.items():
            sums["counts"][name] = sums["counts"].get(name, 0) + count
        for column, currencies in entry.money.items():
            for currency, terms in currencies.items():
                known = sums["money"].setdefault(column, {}).setdefault(currency, {})
                for term, amount in terms.items():
                    known[term] = _added(known.get(term, "0"), amount)
    return found


def _added(left: str, right: str) -> str:
    return format(_EXACT.add(Decimal(left), Decimal(right)), "f")
