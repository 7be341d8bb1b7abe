"""The landing zone: bytes as they came, named by their hash, and read back by range."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import zstandard

from meterhouse.errors import DamageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.lines import split, tree_root
from meterhouse.intake.parse import Parsed, Text, parse_all
from meterhouse.log.entry import Entry, Input
from meterhouse.log.packs import Packs
from meterhouse.log.segments import SPAN, Span
from meterhouse.ports import Blobs

__all__ = [
    "BrokenStreamError",
    "Decoded",
    "Landing",
    "landing_path",
    "parse_landed",
    "read_landed",
]

_CHUNK = 1 << 18
_RESTORE = "restore this file from a backup (docs/backup.md); nothing was changed"


def landing_path(source: str, name: str) -> str:
    """Return where the landed object ``name`` (its SHA-256, hex) of ``source`` lies."""
    return f"landing/{source}/{name[:2]}/{name}"


class BrokenStreamError(ValueError):
    """Compressed bytes end too early or are not what they should be."""


class Decoded:
    """Bytes behind an optional compression, read in order in bounded memory."""

    def __init__(self, read: Callable[[int], bytes], compression: Literal["", "gz", "zst"]) -> None:
        self._read = read
        self._chunks = {"": self._plain, "gz": self._gz, "zst": self._zst}[compression]()
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` further decoded bytes, fewer only at the end.

        Raises:
            BrokenStreamError: The compressed bytes end too early or are damaged.
        """
        parts: list[memoryview] = []
        wanted = size
        while wanted:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
                continue
            parts.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Pass over up to ``size`` decoded bytes; return how many there were."""
        left = size
        while left and (passed := len(self.read(min(left, _CHUNK)))):
            left -= passed
        return size - left

    def _plain(self) -> Iterator[bytes]:
        while chunk := self._read(_CHUNK):
            yield chunk

    def _gz(self) -> Iterator[bytes]:
        packed = self._read(_CHUNK)
        if not packed:
            raise BrokenStreamError("it is empty")
        while packed:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                packed = packed or self._read(_CHUNK)
                if not packed:
                    raise BrokenStreamError("it ends in the middle")
                try:
                    yield member.decompress(packed, 4 * _CHUNK)
                except zlib.error as error:
                    raise BrokenStreamError("its compressed bytes are damaged") from error
                packed = member.unconsumed_tail
            packed = self._past_padding(member.unused_data)

    def _past_padding(self, packed: bytes) -> bytes:
        """Tape blocks: zero bytes may follow a gzip member."""
        while not (packed := packed.lstrip(b"\0")):
            packed = self._read(_CHUNK)
            if not packed:
                break
        return packed

    def _zst(self) -> Iterator[bytes]:
        packed = self._read(_CHUNK)
        if not packed:
            raise BrokenStreamError("it is empty")
        while packed:
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof:
                packed = packed or self._read(_CHUNK)
                if not packed:
                    raise BrokenStreamError("it ends in the middle")
                # Small bites: one call returns all that its input unpacks to.
                bite, packed = packed[:16384], packed[16384:]
                try:
                    yield frame.decompress(bite)
                except zstandard.ZstdError as error:
                    raise BrokenStreamError("its compressed bytes are damaged") from error
            packed = frame.unused_data + packed
            packed = packed or self._read(_CHUNK)


class Landing:
    """Puts objects into the landing zone and reads ranges of entries back.

    An object lies in a file of its own, and later in a pack; where makes no difference.
    Ranges of one compressed object that are read in order are decoded once.
    """

    def __init__(self, blobs: Blobs, span: Span = SPAN) -> None:
        self.packs = Packs(blobs, span)
        self._blobs = blobs
        self._landed = ""
        self._open: tuple[tuple[str, int], int, Decoded] | None = None

    def land(self, source: str, data: bytes) -> str:
        """Store ``data`` durably and return its name; nothing happens when it is there.

        Raises:
            DamageError: An object of that name is there and holds other bytes.
        """
        name = hashlib.sha256(data).hexdigest()
        path = landing_path(source, name)
        if path == self._landed:
            return name
        while not self._blobs.put_if_absent(path, data):
            try:
                there = self._blobs.read(path)
            except FileNotFoundError:
                continue  # it was packed just now
            if there != data:
                raise DamageError("landed object does not hold what its name says", path, _RESTORE)
            break
        self._landed = path
        return name

    def read(self, entry: Entry, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes [lo, hi) of the landed object of ``entry``, as stored.

        Raises:
            FileNotFoundError: It is neither in a file of its own nor in a pack.
            DamageError: The pack that holds it is damaged.
        """
        data = self.packs.known(entry.position, entry.object)
        if data is None:
            try:
                return self._blobs.read(landing_path(entry.source, entry.object), lo, hi)
            except FileNotFoundError:
                data = self.packs.find(entry.position, entry.object)
                if data is None:
                    raise
        return data[lo:hi]

    def ranges(self, entry: Entry, *, check: bool = True) -> Iterator[tuple[Input, bytes]]:
        """Yield each input of ``entry`` with its decoded bytes, in order.

        Args:
            entry: A data entry.
            check: Compare each range with the root that the entry recorded.

        Raises:
            DamageError: The object is missing, or holds other bytes than were landed.
        """
        path = landing_path(entry.source, entry.object)
        for item in entry.inputs:
            try:
                data = self._bytes(entry, item)
            except FileNotFoundError as error:
                raise DamageError(
                    f"landed object of log entry {entry.position} is missing", path, _RESTORE
                ) from error
            except BrokenStreamError as error:
                raise DamageError(
                    f"landed object of log entry {entry.position} can't be read: {error}",
                    path,
                    _RESTORE,
                ) from error
            if len(data) != item.hi - item.lo or (
                check and tree_root(data, split(data)) != item.root
            ):
                raise DamageError(
                    f"landed bytes of log entry {entry.position} are not what was landed "
                    f'(file "{item.file}", bytes {item.lo} to {item.hi})',
                    path,
                    _RESTORE,
                )
            yield item, data

    def _bytes(self, entry: Entry, item: Input) -> bytes:
        if not item.compression:
            return self.read(entry, item.offset, item.offset + item.size)
        key = (entry.object, item.offset)
        if self._open is None or self._open[0] != key or self._open[1] > item.lo:
            self._open = (key, 0, Decoded(self._window(entry, item), item.compression))
        _, position, stream = self._open
        stream.skip(item.lo - position)
        data = stream.read(item.hi - item.lo)
        self._open = (key, item.hi, stream)
        return data

    def _window(self, entry: Entry, item: Input) -> Callable[[int], bytes]:
        at, end = item.offset, item.offset + item.size

        def read(size: int) -> bytes:
            nonlocal at
            upto = min(at + size, end)
            data = self.read(entry, at, upto) if upto > at else b""
            at += len(data)
            return data

        return read


def read_landed(blobs: Blobs, entry: Entry) -> Iterator[tuple[Input, bytes]]:
    """Yield each input of ``entry`` with its decoded bytes; see ``Landing.ranges``.

    For many entries in a row keep one ``Landing``: it decodes a large compressed object once.
    """
    return Landing(blobs).ranges(entry)


def parse_landed(landed: Iterable[tuple[Input, bytes]], contract: Contract) -> list[Parsed]:
    """Parse landed ranges as they were parsed when they were judged.

    Raises:
        SourceRefusedError: CSV whose header can't be used.
    """
    return parse_all(
        [
            Text(
                data[data.index(b"\n") + 1 :] if item.joined else data,
                item.header,
                item.first_line,
                item.lo == 0,
            )
            for item, data in landed
        ],
        contract,
    )
