"""Files of compressed blocks: many small things in one object, each read on its own.

A file is a header (one JSON object in a skippable frame of Zstandard, RFC 8878 section
3.1.2) and then its blocks, each a frame: `zstd -dc FILE` prints what the blocks hold, one
after the other. The header names the SHA-256 of each block and its own, so every byte is
checked when it is read. Docs/log-format.md has the fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import zstandard

from meterhouse.errors import DamageError
from meterhouse.ports import Blobs

__all__ = ["FORMAT_VERSION", "RESTORE", "BlockFile", "packed", "stored"]

FORMAT_VERSION: Final = 1
RESTORE: Final = "restore this file from a backup (docs/backup.md); nothing was changed"
_MAGIC: Final = b"\x50\x2a\x4d\x18"
_PREFIX: Final = 8
_FIRST_READ: Final = 16 << 10
_LEVEL: Final = 6
_LARGEST: Final = 1 << 30
"""Bytes: a header that says a block unpacks to more than this is not believed."""


@dataclass(frozen=True, slots=True)
class _Block:
    size: int
    """Bytes, compressed."""
    length: int
    """Bytes, unpacked."""
    sha256: str
    """Of the compressed bytes."""


def packed(data: bytes) -> bytes:
    """Return ``data`` as one block."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data)


def stored(header: Mapping[str, Any], blocks: Sequence[bytes], lengths: Sequence[int]) -> bytes:
    """Return the bytes of a file.

    Args:
        header: What it says beside its blocks: JSON values.
        blocks: Of ``packed``.
        lengths: How many bytes each of them unpacks to.
    """
    listed = [
        {"length": length, "sha256": hashlib.sha256(block).hexdigest(), "size": len(block)}
        for block, length in zip(blocks, lengths, strict=True)
    ]
    body = {**header, "format": FORMAT_VERSION, "blocks": listed}
    text = _canonical({**body, "checksum": _checksum(body)})
    return b"".join([_MAGIC, len(text).to_bytes(4, "little"), text, *blocks])


class BlockFile:
    """One such file, opened: its header is read and checked, its blocks are read when asked."""

    def __init__(self, blobs: Blobs, name: str, header: Mapping[str, Any], start: int) -> None:
        self.name = name
        self.header = header
        self._blobs = blobs
        try:
            self._blocks = [_Block(**block) for block in header["blocks"]]
        except (TypeError, KeyError) as error:
            raise _damage(name, "its header lacks a field") from error
        self._starts = [start]
        for block in self._blocks:
            self._starts.append(self._starts[-1] + block.size)
        self._last: tuple[int, bytes] | None = None

    @classmethod
    def open(cls, blobs: Blobs, name: str) -> BlockFile | None:
        """Read the header of ``name``; None when there is no such file.

        Raises:
            DamageError: It is not what was written, or of a newer format.
        """
        try:
            data = blobs.read(name, 0, _FIRST_READ)
            size = int.from_bytes(data[4:_PREFIX], "little")
            end = _PREFIX + size
            if data[:4] != _MAGIC or len(data) < _PREFIX or size > _LARGEST:
                raise _damage(name, "it does not begin with a header")
            if len(data) < end:
                data += blobs.read(name, len(data), end)
        except FileNotFoundError:
            return None
        return cls(blobs, name, _header(name, data[_PREFIX:end]), end)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._starts[-1]

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def block(self, number: int) -> bytes:
        """Return what block ``number`` (from 0) holds.

        Raises:
            DamageError: Its bytes are not what was written.
        """
        if self._last is None or self._last[0] != number:
            self._last = (number, self._unpacked(number))
        return self._last[1]

    def blocks(self) -> Iterator[bytes]:
        """Yield what each block holds, in order; raises as ``block``."""
        for number in range(len(self._blocks)):
            yield self.block(number)

    def close(self) -> None:
        """Forget the block that was read last."""
        self._last = None

    def check_end(self) -> None:
        """See that nothing follows the last block.

        Raises:
            DamageError: Something does.
        """
        if self._blobs.read(self.name, self.size, self.size + 1):
            raise _damage(self.name, "something follows its last block")

    def _unpacked(self, number: int) -> bytes:
        block = self._blocks[number]
        try:
            data = self._blobs.read(self.name, self._starts[number], self._starts[number + 1])
        except FileNotFoundError as error:
            raise DamageError("sealed file is missing", self.name, RESTORE) from error
        if hashlib.sha256(data).hexdigest() != block.sha256:
            raise _damage(self.name, f"block {number} is not what was written")
        try:
            found = zstandard.ZstdDecompressor().decompress(data, max_output_size=_LARGEST)
        except zstandard.ZstdError as error:
            raise _damage(self.name, f"block {number} can't be unpacked") from error
        if len(found) != block.length:
            raise _damage(self.name, f"block {number} does not unpack to its length")
        return found


def _header(name: str, text: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
        checksum = body.pop("checksum")
        newer = body["format"] > FORMAT_VERSION
        intact = checksum == _checksum(body) and _canonical({**body, "checksum": checksum}) == text
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damage(name, "its header can't be read") from error
    if newer:
        raise DamageError(
            f"sealed file has format {body['format']}, newer than this program knows",
            name,
            "install a newer meterhouse; nothing was changed",
        )
    if not intact:
        raise _damage(name, "its header does not fit its checksum")
    return {**body, "checksum": checksum}


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _canonical(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return (text + "\n").encode("ascii")


def _damage(name: str, how: str) -> DamageError:
    return DamageError(f"sealed file is damaged: {how}", name, RESTORE)
