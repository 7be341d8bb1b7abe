"""Packs: small landed objects of one range of entries, in few files instead of thousands.

A pack is found by the range of the entries that it was made for, and an object in it by
its hash. Objects keep their names; what a pack holds is what the object's own file held.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

from meterhouse.errors import DamageError
from meterhouse.log.blocks import RESTORE, BlockFile, packed, stored
from meterhouse.log.segments import SPAN, Span
from meterhouse.names import entry_name
from meterhouse.ports import Blobs

__all__ = ["Pack", "PackMaker", "Packs", "pack_path"]

_BLOCK_BYTES: Final = 128 << 10
_PACK_BYTES: Final = 16 << 20
"""Unpacked: a pack is made, and checked, in memory."""
_KEPT: Final = 64


def pack_path(first: int, last: int, part: int) -> str:
    """Return the blob name of pack ``part`` (0, 1, …) of the range of entries."""
    return f"landing/packs/{entry_name(first)}-{entry_name(last)}-{part:02d}.zst"


class PackMaker:
    """A pack on its way: objects are compressed as they are added."""

    def __init__(self, first: int, last: int, part: int) -> None:
        """Begin pack ``part`` of the range of entries ``first`` to ``last``."""
        self.path = pack_path(first, last, part)
        self._range = {"first": first, "last": last, "part": part}
        self._places: dict[str, tuple[int, int, int]] = {}
        self._blocks: list[bytes] = []
        self._lengths: list[int] = []
        self._open: list[bytes] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it holds as much as a pack should: it is made, and checked, in memory."""
        return sum(self._lengths) + self._size >= _PACK_BYTES

    def add(self, name: str, data: bytes) -> None:
        """Put in object ``name`` (SHA-256, hex)."""
        if self._open and self._size + len(data) > _BLOCK_BYTES:
            self._close()
        self._places[name] = (len(self._blocks), self._size, len(data))
        self._open.append(data)
        self._size += len(data)

    def to_bytes(self) -> bytes:
        """Return the pack; nothing can be added any more."""
        self._close()
        header = {"kind": "landed", **self._range, "objects": self._places}
        return stored(header, self._blocks, self._lengths)

    def _close(self) -> None:
        if self._open:
            self._blocks.append(packed(b"".join(self._open)))
            self._lengths.append(self._size)
            self._open, self._size = [], 0


class Pack:
    """One pack, opened."""

    def __init__(self, file: BlockFile) -> None:
        """Read the header.

        Raises:
            DamageError: It is not that of a pack.
        """
        try:
            header = file.header
            fits = header["kind"] == "landed" and file.name == pack_path(
                header["first"], header["last"], header["part"]
            )
            self._places = {
                name: (block, offset, size)
                for name, (block, offset, size) in header["objects"].items()
            }
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DamageError("pack's header lacks a field", file.name, RESTORE) from error
        if not fits:
            raise DamageError("pack is not the one of its name", file.name, RESTORE)
        self.name = file.name
        self._file = file

    @property
    def objects(self) -> Mapping[str, int]:
        """Name (SHA-256, hex) to size in bytes of the objects it holds."""
        return {name: size for name, (_, _, size) in self._places.items()}

    def read(self, name: str) -> bytes | None:
        """Return the bytes of object ``name``; None when it is not in here.

        Raises:
            DamageError: They are not what was packed.
        """
        if name not in self._places:
            return None
        block, offset, size = self._places[name]
        return self._file.block(block)[offset : offset + size]

    def checked(self) -> Iterator[int]:
        """Read all of it; yield the size of each object that is what its name says.

        Raises:
            DamageError: One is not; names the file.
        """
        for name in self._places:
            data = self.read(name) or b""
            if hashlib.sha256(data).hexdigest() != name:
                raise DamageError(
                    f"object {name[:12]}… of the pack does not hold what its name says",
                    self.name,
                    RESTORE,
                )
            yield len(data)
        self._file.check_end()


class Packs:
    """The packs of a landing zone."""

    def __init__(self, blobs: Blobs, span: Span = SPAN) -> None:
        self._blobs = blobs
        self._span = span
        self._open: OrderedDict[int, list[Pack]] = OrderedDict()

    def known(self, position: int, name: str) -> bytes | None:
        """Return object ``name`` of entry ``position`` from a pack that is open already."""
        for pack in self._open.get(self._span.of(position)[0], ()):
            data = pack.read(name)
            if data is not None:
                return data
        return None

    def find(self, position: int, name: str) -> bytes | None:
        """Return the bytes of object ``name`` of entry ``position``; None when no pack has it.

        An entry that is not sealed yet may name an object that came before and was packed
        then: packs of earlier ranges are looked into too, the newest first.

        Raises:
            DamageError: A pack is damaged.
        """
        first, _ = self._span.of(position)
        for start in range(first, 0, -self._span.entries):
            for pack in self.of(start):
                data = pack.read(name)
                if data is not None:
                    return data
        return None

    def of(self, position: int) -> list[Pack]:
        """Return the packs of the range that ``position`` is in; raises as ``part``."""
        number = 0
        while self.part(position, number) is not None:
            number += 1
        return self._open.get(self._span.of(position)[0], [])

    def part(self, position: int, number: int) -> Pack | None:
        """Return pack ``number`` of the range that ``position`` is in; None when there is none.

        Raises:
            DamageError: Its header is damaged.
        """
        first, last = self._span.of(position)
        found = self._open.get(first, [])
        while len(found) <= number:
            file = BlockFile.open(self._blobs, pack_path(first, last, len(found)))
            if file is None:
                return None
            found = self._open[first] = [*found, Pack(file)]
            self._open.move_to_end(first)
        if len(self._open) > _KEPT:
            self._open.popitem(last=False)
        return found[number]
