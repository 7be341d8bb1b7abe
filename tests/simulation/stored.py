"""Where a log's bytes lie: in files of their own, sealed in segments, packed.

Reads what docs/log-format.md says, with nothing of the product.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zstandard

__all__ = ["Stored"]

_HEADER_BEGINS = 8
"""A skippable frame: four bytes of magic, four of size."""


class Stored:
    """The blobs of one project, by the names they were put under."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[Path, tuple[tuple[int, int], Any]] = {}

    def read(self, name: str) -> bytes | None:
        """Return what was put as ``name``, wherever it lies by now; None when it is nowhere."""
        folder, _, last = name.rpartition("/")
        if folder == "log":
            sealed = self.sealed(int(last.partition(".")[0]))
            if sealed is not None:
                return sealed
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return self._packed(last) if name.startswith("landing/") else None

    def sealed(self, position: int) -> bytes | None:
        """Return entry ``position`` from its segment; None where there is no segment of it."""
        for path in self._root.glob("log/segments/*.jsonl.zst"):
            first, last = (int(part) for part in path.name.partition(".")[0].split("-"))
            if first <= position <= last:
                _, blocks = self._opened(path)
                return b"".join(blocks).splitlines(keepends=True)[position - first]
        return None

    def _packed(self, sha256: str) -> bytes | None:
        for path in sorted(self._root.glob("landing/packs/*.zst")):
            header, blocks = self._opened(path)
            if sha256 in header["objects"]:
                number, offset, size = header["objects"][sha256]
                return bytes(blocks[number][offset : offset + size])
        return None

    def _opened(self, path: Path) -> tuple[Any, list[bytes]]:
        status = path.stat()
        state = (status.st_ino, status.st_size)
        if path not in self._open or self._open[path][0] != state:
            self._open[path] = (state, _unpacked(path.read_bytes()))
        found: tuple[Any, list[bytes]] = self._open[path][1]
        return found


def _unpacked(data: bytes) -> tuple[Any, list[bytes]]:
    end = _HEADER_BEGINS + int.from_bytes(data[4:_HEADER_BEGINS], "little")
    header = json.loads(data[_HEADER_BEGINS:end])
    blocks = []
    for block in header["blocks"]:
        packed = data[end : end + block["size"]]
        blocks.append(zstandard.decompress(packed, max_output_size=block["length"]))
        end += block["size"]
    return header, blocks
