"""What is verified: the parts of a project, opened so that damage is found, not raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from meterhouse.intake.contract import Contract
from meterhouse.lake.published import Published
from meterhouse.log.entry import Entry
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Engine, ServingStore

__all__ = ["ReadOnlyBlobs", "Scope", "Subject"]


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
    contracts: Mapping[str, Contract]
    """By source: the texts in force in the log, filled when the log was read."""
    entries: tuple[Entry, ...] = ()
    """The log, as far as it could be read."""
    truth_holds: bool = True
    """False when log or landing are damaged: nothing can be derived from them then."""

    def data_entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield the data entries after ``after``."""
        return (entry for entry in self.entries if entry.kind == "data" and entry.position > after)


class ReadOnlyBlobs:
    """Reads pass through; what would be written goes to ``written`` instead.

    Lets the product's own ``apply`` derive everything again beside the real files.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.written: dict[str, bytes] = {}

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Keep ``data`` aside."""
        self.written[name] = data
        return True

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Keep ``data`` aside."""
        self.written[name] = data

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes of the real file."""
        return self._blobs.read(name, lo, hi)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the real names."""
        return self._blobs.list(prefix, after=after)

    def delete(self, name: str) -> None:
        """Delete nothing."""
        self.written.pop(name, None)

    def uri(self, name: str) -> str:
        """Return the real address."""
        return self._blobs.uri(name)
