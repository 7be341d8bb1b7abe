"""The chain of entries: finding its head, reading it in order, adding to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from meterhouse.errors import DamageError
from meterhouse.log.entry import Entry, entry_path
from meterhouse.log.segments import SPAN, Segments, Span, entry_bytes
from meterhouse.names import ENTRY_DIGITS, entry_name
from meterhouse.ports import Blobs, Stamp

__all__ = ["Log", "own_positions"]

_ENTRY_NAME = re.compile(r"log/(\d{12})\.json\Z")
_SEALED_EVERY = 8
"""Looks for a next entry until one among the sealed: only who slept for long finds it there."""
_RESTORE = "restore the files of log/ from a backup (docs/backup.md); nothing was changed"


class Log:
    """The project's entries, numbered 1, 2, 3, …, each naming the hash of the one before.

    Keeps no lock: any number of processes may append; of those that want the same
    number one wins. Reading verifies each link it passes. An entry lies in a file of its
    own, and later in the segment of its range; where it lies makes no difference.
    """

    def __init__(self, blobs: Blobs, span: Span = SPAN) -> None:
        self.segments = Segments(blobs, span)
        self._blobs = blobs
        self._head: Entry | None = None
        self._head_sha = ""
        self._project = ""
        self._listed = False
        self._looks = 0
        self._settled = 0

    def head(self, known: int = 0) -> Entry | None:
        """Return the last entry, None while the log is empty.

        Args:
            known: A position that a view says it has seen: looked for among the sealed,
                too. The first call lists the names from there on, so that a lost entry is
                noticed and not numbered anew.

        Raises:
            DamageError: An entry is missing, unreadable, or doesn't fit the one before.
        """
        if not self._listed:
            self._list(known)
            self._listed = True
        looks_deep = self._looks % _SEALED_EVERY == 0
        while (
            # Who waited beside a busy log may know of entries that are sealed by now.
            found := self._find(self._next, sealed=looks_deep or self._next <= known)
        ) is not None:
            entry, data = found
            self._link(entry, self._head_sha)
            self._head, self._head_sha = entry, hashlib.sha256(data).hexdigest()
        self._looks += 1
        return self._head

    def stamp(self, entry: Entry | None = None) -> Stamp:
        """Return what a view that covers the log up to ``entry`` (the head) says of itself."""
        known = self._head is not None and entry is not None
        head = self._head if known else self.head()
        entry = entry or head
        if entry is None or head is None:
            return Stamp("", 0, 0, "")
        sha = self._head_sha if entry.position == head.position else entry.sha256
        return Stamp(self.project, entry.fork, entry.position, sha)

    @property
    def project(self) -> str:
        """The project's id, from entry 1; empty while the log is empty."""
        if not self._project and self.head() is not None:
            self._project = self.read(1).project
        return self._project

    def read(self, position: int) -> Entry:
        """Return entry ``position``.

        Raises:
            DamageError: It is missing or its bytes were changed.
        """
        return self._there(position)[0]

    def entries(self, after: int = 0, upto: int | None = None) -> Iterator[Entry]:
        """Yield the entries of (after, upto] in order; up to the head when ``upto`` is None.

        Raises:
            DamageError: One is missing, changed, or doesn't fit the one before.
        """
        return (entry for entry, _ in self.stored(after, upto))

    def stored(self, after: int = 0, upto: int | None = None) -> Iterator[tuple[Entry, bytes]]:
        """Yield what ``entries`` does, each with its bytes; raises as that."""
        head = self.head()
        last = head.position if head is not None else 0
        previous = self._sha(after) if 0 < after < last else ""
        for position in range(after + 1, (last if upto is None else min(upto, last)) + 1):
            entry, data = self._there(position)
            self._link(entry, previous)
            previous = hashlib.sha256(data).hexdigest()
            yield entry, data

    def following(self, now: datetime) -> Entry:
        """Return an empty data entry that follows the head; the time never runs backwards.

        The first of a log still lacks the ``project``.
        """
        head = self.head()
        now = now.astimezone(UTC)
        if head is not None:
            now = max(now, head.time)
        return Entry(
            position=self._next,
            kind="data",
            previous=self._head_sha,
            ingest_ts=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            fork=head.fork if head is not None else 0,
        )

    def append(self, entry: Entry) -> bool:
        """Commit ``entry`` as the next one; False when another process took its number.

        True means that it survives a power loss. The landed object must be durable before.
        """
        head = self.head()
        expected = head.position + 1 if head is not None else 1
        if entry.position != expected or entry.previous != self._head_sha:
            return False
        data, path = entry.to_bytes(), entry_path(entry.position)
        if not self._blobs.put_if_absent(path, data):
            return False
        # A name is free again once its entry is sealed: whoever slept for as long as that
        # takes has put an entry that nobody reads, under a number that is long taken.
        segment = self.segments.find(entry.position)
        if segment is not None and segment.entry(entry.position) != data:
            self._blobs.delete(path)
            self._head, self._head_sha, self._listed, self._looks = None, "", False, 0
            return False
        self._head, self._head_sha = entry, hashlib.sha256(data).hexdigest()
        self._settled = entry.position
        return True

    def settle(self) -> None:
        """Make durable what is seen, whoever put it.

        An entry is seen before the call that puts it returns: who puts it may die in between,
        and a power loss take it back. Call this before anything is made of such an entry.
        """
        head = self.head()
        if head is not None and head.position > self._settled:
            self._blobs.put_if_absent(entry_path(head.position), head.to_bytes())
            self._settled = head.position

    def check(self, cover: Stamp, view: str) -> None:
        """See that the log still holds what ``view`` was made from.

        Raises:
            DamageError: The log ends before ``cover``, or is another one.
        """
        if cover.position == 0:
            return
        head = self.head(cover.position)
        last = head.position if head is not None else 0
        fix = (
            "restore the newer log (docs/backup.md); if this older log is the one to go on "
            "with, for good: meterhouse rebuild --accept-loss"
        )
        if last < cover.position:
            raise DamageError(
                f"the log ends at entry {last}, but {view} was made from entries up to "
                f"{cover.position}",
                entry_path(cover.position),
                fix,
            )
        if self._sha(cover.position) != cover.head or self.project != cover.project:
            raise DamageError(
                f"log entry {cover.position} is not the one that {view} was made from",
                entry_path(cover.position),
                fix,
            )

    @property
    def _next(self) -> int:
        return self._head.position + 1 if self._head is not None else 1

    def _list(self, known: int) -> None:
        """Find the head by name; a hole between two names is a lost entry."""
        names = list(own_positions(self._blobs, known))
        if (names and names[0] != known + 1) or names != list(range(*_ends(names))):
            # Before the newest that are there in one row everything must be sealed.
            names = self._newest(names if not known else list(own_positions(self._blobs)))
        last = names[-1] if names else known or self._sealed()
        if last == 0:
            return
        found = self._find(last)
        if found is None and known:
            # The view knows more than the log has: say where the log ends, and let
            # ``check`` refuse it with the words for that.
            self._list(0)
        elif found is not None:
            self._head, self._head_sha = found[0], hashlib.sha256(found[1]).hexdigest()

    def _newest(self, names: list[int]) -> list[int]:
        """Return those of ``names`` that follow each other up to the last."""
        at = len(names) - 1
        while at and names[at - 1] == names[at] - 1:
            at -= 1
        missing = names[at] - 1
        if missing and self.segments.find(missing) is None:
            raise DamageError(
                f"log entry {missing} is missing, but {entry_name(missing + 1)} is there",
                entry_path(missing),
                _RESTORE,
            )
        return names[at:]

    def _sealed(self) -> int:
        """Return the last entry of the last segment: the head when all others are lost."""
        names = self.segments.names()
        return int(names[-1].rpartition("-")[2][:ENTRY_DIGITS]) if names else 0

    def _find(self, position: int, *, sealed: bool = True) -> tuple[Entry, bytes] | None:
        found = entry_bytes(self.segments, self._blobs, position, sealed=sealed)
        if found is None:
            return None
        where, data = found
        entry = Entry.from_bytes(data, where)
        if entry.position != position:
            raise DamageError(
                f"log entry {position} says it is entry {entry.position}", where, _RESTORE
            )
        return entry, data

    def _there(self, position: int) -> tuple[Entry, bytes]:
        found = self._find(position)
        if found is None:
            raise DamageError(f"log entry {position} is missing", entry_path(position), _RESTORE)
        return found

    def _sha(self, position: int) -> str:
        return hashlib.sha256(self._there(position)[1]).hexdigest()

    @staticmethod
    def _link(entry: Entry, previous: str) -> None:
        if entry.previous != previous:
            raise DamageError(
                f"log entry {entry.position} does not follow from entry {entry.position - 1}: "
                "one of the two was changed",
                entry_path(entry.position),
                _RESTORE,
            )


def own_positions(blobs: Blobs, after: int = 0) -> Iterator[int]:
    """Yield the positions after ``after`` of entries in a file of their own; in one listing."""
    for name in blobs.list("log", after=entry_path(after) if after else ""):
        match = _ENTRY_NAME.match(name)
        if match is not None:
            yield int(match[1])
        elif name.startswith("log/segments/"):
            # Digits come first: nothing after this is an entry.
            return


def _ends(names: list[int]) -> tuple[int, int]:
    return (names[0], names[-1] + 1) if names else (0, 0)
