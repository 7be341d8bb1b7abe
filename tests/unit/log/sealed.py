"""A log of small entries, without sources and judging, for tests of how it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from meterhouse.intake.lines import split, tree_root
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry, Input
from meterhouse.log.landing import Landing
from meterhouse.log.sealing import Sealing
from meterhouse.log.segments import Span
from meterhouse.ports import Blobs

SPAN = Span(entries=4)
MARGIN = 2


def line(number: int) -> bytes:
    """What entry ``number`` lands; every fifth lands what the one two before did."""
    return b"line %d\n" % (number - 2 if number % 5 == 0 else number)


@dataclass
class House:
    """A log on ``blobs``, and what its files held when they were written."""

    blobs: Blobs
    written: dict[int, bytes] = field(default_factory=dict)
    pack_bytes: int = 64

    def __post_init__(self) -> None:
        self.log = Log(self.blobs, SPAN)

    def next(self, log: Log | None = None) -> Entry:
        """Return the entry that would be appended next; its bytes are landed."""
        log = log or self.log
        head = log.head()
        position = head.position + 1 if head is not None else 1
        data = line(position)
        name = Landing(self.blobs, SPAN).land("s", data)
        item = Input(
            file="a",
            lo=0,
            hi=len(data),
            first_line=1,
            lines=1,
            records=1,
            blank=0,
            root=tree_root(data, split(data)),
            offset=0,
            size=len(data),
        )
        return Entry(
            position=position,
            kind="data",
            previous=log.stamp().head,
            ingest_ts=f"2025-09-01T00:00:{position % 60:02d}.000000Z",
            project="p-1" if position == 1 else "",
            source="s",
            object=name,
            inputs=(item,),
            counts={"landed": 1, "accepted": 1},
            money={"cost": {"USD": {"landed": "0.1", "accepted": "0.1", "unreadable": "0"}}},
        )

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            entry = self.next()
            assert self.log.append(entry)
            self.written[entry.position] = entry.to_bytes()

    def sealing(self, *, margin: int = MARGIN) -> Sealing:
        """A sealer that knows nothing yet, as a new process has it."""
        return Sealing(self.blobs, Log(self.blobs, SPAN), margin=margin, pack_bytes=self.pack_bytes)

    def seal(self, *, margin: int = MARGIN) -> Sealing:
        sealing = self.sealing(margin=margin)
        for _ in sealing.steps():
            pass
        return sealing

    def check(self) -> None:
        """See that a new reader finds every byte that was written, and the chain whole."""
        log, landing = Log(self.blobs, SPAN), Landing(self.blobs, SPAN)
        found = {entry.position: data for entry, data in log.stored()}
        assert found == self.written
        assert log.stamp().position == len(self.written)
        for entry in log.entries():
            assert [data for _, data in landing.ranges(entry)] == [line(entry.position)]
            assert hashlib.sha256(landing.read(entry)).hexdigest() == entry.object

    def own_files(self) -> list[int]:
        """Positions of the entries in files of their own."""
        return [int(name[4:16]) for name in self.blobs.list("log") if name.endswith(".json")]

    def names(self, folder: str) -> Iterator[str]:
        return self.blobs.list(folder)
