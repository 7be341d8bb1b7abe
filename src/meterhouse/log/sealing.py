"""Sealing: the entries of a range become one segment, their small landed objects packs.

In this order, each step durable and read back before the next: packs, segment; then the
objects' own files are deleted, then the entries'. A crash leaves both, and the next sealer
goes on from there. Two that seal one range at a time make the same of it: what is there is
compared and kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from meterhouse.errors import DamageError
from meterhouse.log.blocks import RESTORE
from meterhouse.log.chain import Log, own_positions
from meterhouse.log.entry import Entry, entry_path
from meterhouse.log.landing import Landing, landing_path
from meterhouse.log.packs import Pack, PackMaker, pack_path
from meterhouse.log.segments import Attestation, segment_bytes, segment_path
from meterhouse.ports import Blobs

__all__ = ["Sealed", "Sealing"]

_STEP: Final = 50
"""Files between two pauses: some milliseconds."""


@dataclass(slots=True)
class Sealed:
    """What was done."""

    segments: int = 0
    packs: int = 0
    upto: int = 0
    """Last entry that is sealed; 0 before the first look."""


@dataclass(slots=True)
class _Range:
    """The entries of one range."""

    first: int
    last: int
    found: list[tuple[Entry, bytes]] = field(default_factory=list)

    def objects(self) -> dict[str, Entry]:
        """Return the landed objects that its entries name, each with one that does."""
        return {entry.object: entry for entry, _ in self.found if entry.object}

    def own_files(self) -> dict[str, str]:
        """Return where those lie while they have files of their own, and their names."""
        return {
            landing_path(entry.source, entry.object): entry.object
            for entry, _ in self.found
            if entry.object
        }


class Sealing:
    """Seals what is old enough, range by range, in small steps."""

    def __init__(
        self, blobs: Blobs, log: Log, *, margin: int = 256, pack_bytes: int = 64 << 10
    ) -> None:
        """Look at nothing yet.

        Args:
            blobs: Where log and landing are.
            log: The log on them.
            margin: So many entries after a range must be there before it is sealed: whoever
                is about to append is not to find its number sealed away.
            pack_bytes: Landed objects up to this size are packed; 0 packs none.
        """
        self.done = Sealed()
        self._blobs = blobs
        self._log = log
        self._span = log.segments.span
        self._landing = Landing(blobs, self._span)
        self._margin = margin
        self._small = pack_bytes
        self._ours: set[str] = set()
        """What this process put, which is durable."""
        self._next = 0
        """First entry of the range to seal next; 0 before the first look."""

    def due(self, head: int) -> bool:
        """Return whether there is something to do while ``head`` is the last entry."""
        return head >= max(self._next, 1) + self._span.entries - 1 + self._margin

    def steps(self) -> Iterator[None]:
        """Seal all that is due; pause after every few milliseconds of work.

        May be left at any pause, and begun again.

        Raises:
            DamageError: Log or landing are damaged: nothing of that range was deleted.
        """
        if not self._next:
            yield from self._look()
            self.done.upto = self._next - 1
        while self.due(self._log.stamp().position):
            yield from self._seal(_Range(*self._span.of(self._next)))
            self._next += self._span.entries
            self.done.upto = self._next - 1

    def _look(self) -> Iterator[None]:
        """Find the first range that is not sealed; delete what a crash left of others."""
        positions = list(own_positions(self._blobs))
        for first, last in sorted({self._span.of(position) for position in positions}):
            if self._log.segments.find(first) is None:
                self._next = first
                return
            work = _Range(first, last)
            yield from self._collect(work)
            yield from self._clean(work, [at for at in positions if first <= at <= last])
        self._next = self._span.of(self._log.stamp().position + 1)[0]

    def _seal(self, work: _Range) -> Iterator[None]:
        yield from self._collect(work)
        if self._log.segments.find(work.first) is None:
            packs = yield from self._pack(work)
            yield from self._put(work, packs)
        yield from self._clean(work, range(work.first, work.last + 1))

    def _collect(self, work: _Range) -> Iterator[None]:
        """Read the entries of the range; each must follow from the one before."""
        for found in self._log.stored(work.first - 1, work.last):
            work.found.append(found)
            if len(work.found) % _STEP == 0:
                yield
        if len(work.found) != self._span.entries:
            raise DamageError(
                f"log ends in the middle of the range {work.first} to {work.last}",
                entry_path(work.first + len(work.found)),
                RESTORE,
            )

    def _pack(self, work: _Range) -> Generator[None, None, int]:
        """Put the small objects into packs; return how many packs there are then.

        What another sealer packed stays as it is; only what it left out is added.
        """
        missing = {
            name: entry
            for name, entry in work.objects().items()
            if max((item.offset + item.size for item in entry.inputs), default=0) <= self._small
        }
        number = 0
        while True:
            pack = self._landing.packs.part(work.first, number)
            if pack is None and not missing:
                return number
            if pack is None:
                maker = PackMaker(work.first, work.last, number)
                yield from self._fill(maker, missing)
                self.done.packs += self._put_new(maker.path, maker.to_bytes())
                yield
                pack = self._landing.packs.part(work.first, number)
            if pack is None:
                path = pack_path(work.first, work.last, number)
                raise DamageError("pack is missing", path, RESTORE)
            yield from self._checked(pack)
            for name in pack.objects:
                missing.pop(name, None)
            number += 1

    def _fill(self, maker: PackMaker, missing: Mapping[str, Entry]) -> Iterator[None]:
        for count, (name, entry) in enumerate(missing.items(), 1):
            try:
                data = self._landing.read(entry)
            except FileNotFoundError as error:
                path = landing_path(entry.source, name)
                raise DamageError(
                    f"landed object of log entry {entry.position} is missing", path, RESTORE
                ) from error
            if hashlib.sha256(data).hexdigest() != name:
                path = landing_path(entry.source, name)
                raise DamageError("landed object does not hold what its name says", path, RESTORE)
            maker.add(name, data)
            if maker.full:
                return
            if count % _STEP == 0:
                yield

    def _checked(self, pack: Pack) -> Iterator[None]:
        """Read a pack back, before anything rests on it."""
        for count, _ in enumerate(pack.checked(), 1):
            if count % _STEP == 0:
                yield

    def _put(self, work: _Range, packs: int) -> Iterator[None]:
        """Put the segment and read it back: the entries as they were, and what it attests."""
        path, data = segment_path(work.first, work.last), segment_bytes(work.found, packs)
        yield
        self.done.segments += self._put_new(path, data)
        yield
        segment = self._log.segments.find(work.first)
        if segment is None:
            raise DamageError("segment is missing", path, RESTORE)
        same = replace(segment.attestation, packs=packs) == Attestation.over(work.found, packs)
        for entry, data in work.found:
            same = same and segment.entry(entry.position) == data
        if not same:
            raise DamageError("segment does not hold the entries of its range", path, RESTORE)
        yield

    def _put_new(self, path: str, data: bytes) -> bool:
        if not self._blobs.put_if_absent(path, data):
            return False
        self._ours.add(path)
        return True

    def _durable(self, path: str) -> None:
        """Let what another sealer put survive a power loss, before files are deleted."""
        self._blobs.put_if_absent(path, self._blobs.read(path))

    def _clean(self, work: _Range, positions: Iterable[int]) -> Iterator[None]:
        """Delete the files that nobody needs any more: the entries' last.

        As long as one of those is left, the next sealer deletes all of them again.
        """
        packs = self._landing.packs.of(work.first)
        for path in (*(pack.name for pack in packs), segment_path(work.first, work.last)):
            if path not in self._ours:
                self._durable(path)
            self._ours.discard(path)
        packed = {name for pack in packs for name in pack.objects}
        files = [path for path, name in work.own_files().items() if name in packed]
        for count, path in enumerate([*files, *map(entry_path, positions)], 1):
            self._blobs.delete(path)
            if count % _STEP == 0:
                yield
