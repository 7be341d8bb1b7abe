"""What is verified: the parts of a project, opened so that damage is found, not raised."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from meterhouse.errors import MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.lake.published import Published
from meterhouse.layers.speed import LiveServing
from meterhouse.log.entry import Entry, entry_path
from meterhouse.log.segments import SPAN, Segment, Span
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Engine, Stamp

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
    full: bool = False
    """Read sealed entries and what they landed again, too, whatever their segments attest."""


@dataclass(slots=True)
class Subject:
    """One project. What could not be opened is None, and a finding already."""

    root: Path
    blobs: Blobs
    engine: Engine
    state: State | None
    published: Published | None
    serving: LiveServing | None
    span: Span = SPAN
    segments: tuple[Segment, ...] = ()
    """The sealed part of the log, as far as it could be read."""
    entries: tuple[Entry, ...] = ()
    """The entries in files of their own that follow, likewise."""
    contract_entries: tuple[Entry, ...] = ()
    """Of both."""
    reread: bool = False
    """True when sealed entries are read again; False when their segments' word is taken."""
    pinned: Mapping[str, Contract] = field(default_factory=dict)
    """By hash: every contract text that the log holds."""
    truth_holds: bool = True
    """False when log or landing are damaged: nothing can be derived from them then."""
    damaged: set[str] = field(default_factory=set)
    """Tables of the lake with a file that is not what was written: they are not read."""

    @property
    def last(self) -> Stamp:
        """The log's end, as far as it could be read."""
        if self.entries:
            found = self.stamp_of(self.entries[-1].position)
        else:
            found = self.stamp_of(self.segments[-1].attestation.last) if self.segments else None
        return found or Stamp("", 0, 0, "")

    @property
    def attested(self) -> int:
        """Last entry whose segment is taken at its word; 0 when everything is read again."""
        return self.segments[-1].attestation.last if self.segments and not self.reread else 0

    @property
    def covered(self) -> int:
        """Last entry that the views of ingest cover; the log's last when they are lost."""
        last = self.last.position
        return last if self.state is None else min(self.state.stamp().position, last)

    def where(self, position: int) -> str:
        """Return the file that entry ``position`` lies in."""
        segment = self._segment(position)
        return segment.name if segment is not None else entry_path(position)

    def stamp_of(self, position: int) -> Stamp | None:
        """Return what a view that ends with entry ``position`` says; None without that entry."""
        segment = self._segment(position)
        try:
            if segment is not None:
                data = segment.entry(position)
                entry = Entry.from_bytes(data, segment.name)
            else:
                at = bisect_left(self.entries, position, key=lambda one: one.position)
                if at == len(self.entries) or self.entries[at].position != position:
                    return None
                entry, data = self.entries[at], self.entries[at].to_bytes()
        except (OSError, MeterhouseError):
            return None
        project = self.segments[0].attestation.project if self.segments else self.entries[0].project
        return Stamp(project, entry.fork, position, hashlib.sha256(data).hexdigest())

    def data_entries(self, after: int = 0, upto: int | None = None) -> Iterator[Entry]:
        """Yield the data entries of (after, upto] that are read: not those only attested to."""
        for entry in chain(self._reread(after), self.entries):
            if entry.kind == "data" and entry.position > after:
                if upto is not None and entry.position > upto:
                    return
                yield entry

    def sealed_entries(self, segment: Segment) -> Iterator[Entry]:
        """Yield the entries of ``segment`` that can be read."""
        for positions in segment.positions():
            for position in positions:
                try:
                    yield Entry.from_bytes(segment.entry(position), segment.name)
                except (OSError, MeterhouseError):
                    continue  # check_log says so
        segment.close()

    def contract_of(self, entry: Entry) -> Contract | None:
        """Return the contract that ``entry`` was judged by; None when its text is lost."""
        return self.pinned.get(entry.contract)

    def contract_at(self, source: str, position: int) -> Contract | None:
        """Return the contract in force for ``source`` at entry ``position``."""
        return self.contracts(position).get(source)

    def contracts(self, upto: int | None = None) -> dict[str, Contract]:
        """Return the contracts in force after entry ``upto`` (the last one), by source."""
        found: dict[str, Contract] = {}
        for entry in self.contract_entries:
            if (upto is None or entry.position <= upto) and entry.contract in self.pinned:
                found[entry.source] = self.pinned[entry.contract]
        return found

    def _segment(self, position: int) -> Segment | None:
        at = bisect_left(self.segments, position, key=lambda one: one.attestation.last)
        if at == len(self.segments) or self.segments[at].attestation.first > position:
            return None
        return self.segments[at]

    def _reread(self, after: int) -> Iterator[Entry]:
        for segment in self.segments if self.reread else ():
            if segment.attestation.last > after:
                yield from self.sealed_entries(segment)


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
