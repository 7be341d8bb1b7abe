"""What is verified: the parts of a project, opened so that damage is found, not raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meterhouse.intake.contract import Contract
from meterhouse.lake.published import Published
from meterhouse.log.entry import Entry
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Engine, ServingStore

__all__ = ["BesideBlobs", "Scope", "Subject"]


@dataclass(frozen=True, slots=True)
class Scope:
    """How much to look at."""

    quick: bool = False
    """Hashes and counts only; nothing is judged again."""
    since: int = 0
    """Check bytes of entries after this one only; the chain is checked whole."""
    expect: tuple[int, str] | None = None
    """An anchor kept elsewhere: entry number and its SHA-256."""


@dataclass(slots=True)
class Subject:
    """One project. What could not be opened is None, and a finding already."""

    root: Path
    blobs: Blobs
    engine: Engine
    state: State | None
    published: Published | None
    serving: ServingStore | None
    entries: tuple[Entry, ...] = ()
    """The log, as far as it could be read."""
    pinned: Mapping[str, Contract] = field(default_factory=dict)
    """By hash: every contract text that the log holds."""
    truth_holds: bool = True
    """False when log or landing are damaged: nothing can be derived from them then."""
    damaged: set[str] = field(default_factory=set)
    """Tables of the lake with a file that is not what was written: they are not read."""

    @property
    def covered(self) -> int:
        """Last entry that the views of ingest cover; the log's last when they are lost."""
        last = self.entries[-1].position if self.entries else 0
        return last if self.state is None else min(self.state.stamp().position, last)

    def data_entries(self, after: int = 0, upto: int | None = None) -> Iterator[Entry]:
        """Yield the data entries of (after, upto]."""
        for entry in self.entries:
            if entry.kind == "data" and entry.position > after:
                if upto is not None and entry.position > upto:
                    return
                yield entry

    def contract_of(self, entry: Entry) -> Contract | None:
        """Return the contract that ``entry`` was judged by; None when its text is lost."""
        return self.pinned.get(entry.contract)

    def contracts(self, upto: int | None = None) -> dict[str, Contract]:
        """Return the contracts in force after entry ``upto`` (the last one), by source."""
        found: dict[str, Contract] = {}
        for entry in self.entries:
            if entry.kind != "contract" or (upto is not None and entry.position > upto):
                continue
            if entry.contract in self.pinned:
                found[entry.source] = self.pinned[entry.contract]
        return found


class BesideBlobs:
    """Reads pass through; what would be written goes to a folder beside.

    Lets the product's own ``apply`` derive everything again beside the real files. What
    was written is what is read back, so that nothing of the real views flows into it.
    """

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._written: set[str] = set()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Keep ``data`` beside."""
        self.put(name, data)
        return True

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Keep ``data`` beside."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._written.add(name)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes of what was written, else of the real file."""
        if name in self._written:
            return (self._folder / name).read_bytes()[lo:hi]
        return self._blobs.read(name, lo, hi)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the real names."""
        return self._blobs.list(prefix, after=after)

    def delete(self, name: str) -> None:
        """Forget what was written; the real file stays."""
        if name in self._written:
            self._written.remove(name)
            (self._folder / name).unlink()

    def uri(self, name: str) -> str:
        """Return the address beside: nothing real is ever opened by it."""
        return str(self._folder / name)
