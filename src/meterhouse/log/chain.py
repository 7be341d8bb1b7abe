"""The chain of entries: finding its head, reading it in order, adding to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from meterhouse.errors import DamageError
from meterhouse.log.entry import Entry, entry_path
from meterhouse.names import entry_name
from meterhouse.ports import Blobs, Stamp

__all__ = ["Log"]

_ENTRY_NAME = re.compile(r"log/(\d{12})\.json\Z")
_RESTORE = "restore the files of log/ from a backup (docs/backup.md); nothing was changed"


class Log:
    """The project's entries, numbered 1, 2, 3, …, each naming the hash of the one before.

    Keeps no lock: any number of processes may append; of those that want the same
    number one wins. Reading verifies each link it passes.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._head: Entry | None = None
        self._head_sha = ""
        self._project = ""
        self._listed = False

    def head(self, known: int = 0) -> Entry | None:
        """Return the last entry, None while the log is empty.

        Args:
            known: A position that a view says it has seen; the first call lists the
                names from there on, so that a lost entry is noticed and not numbered anew.

        Raises:
            DamageError: An entry is missing, unreadable, or doesn't fit the one before.
        """
        if not self._listed:
            self._list(known)
            self._listed = True
        while (found := self._find(self._next)) is not None:
            entry, sha = found
            self._link(entry, self._head_sha)
            self._head, self._head_sha = entry, sha
        return self._head

    def stamp(self, entry: Entry | None = None) -> Stamp:
        """Return what a view that covers the log up to ``entry`` (the head) says of itself."""
        head = self.head()
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
        found = self._find(position)
        if found is None:
            raise DamageError(f"log entry {position} is missing", entry_path(position), _RESTORE)
        return found[0]

    def entries(self, after: int = 0, upto: int | None = None) -> Iterator[Entry]:
        """Yield the entries of (after, upto] in order; up to the head when ``upto`` is None.

        Raises:
            DamageError: One is missing, changed, or doesn't fit the one before.
        """
        head = self.head()
        last = head.position if head is not None else 0
        previous = self._sha(after) if 0 < after < last else ""
        for position in range(after + 1, (last if upto is None else min(upto, last)) + 1):
            found = self._find(position)
            if found is None:
                raise DamageError(
                    f"log entry {position} is missing", entry_path(position), _RESTORE
                )
            entry, sha = found
            self._link(entry, previous)
            previous = sha
            yield entry

    def append(self, entry: Entry) -> bool:
        """Commit ``entry`` as the next one; False when another process took its number.

        True means that it survives a power loss. The landed object must be durable before.
        """
        head = self.head()
        expected = head.position + 1 if head is not None else 1
        if entry.position != expected or entry.previous != self._head_sha:
            return False
        data = entry.to_bytes()
        if not self._blobs.put_if_absent(entry_path(entry.position), data):
            return False
        self._head, self._head_sha = entry, hashlib.sha256(data).hexdigest()
        return True

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
        after = entry_path(known) if known else ""
        last = known
        for name in self._blobs.list("log", after=after):
            match = _ENTRY_NAME.match(name)
            if match is None:
                continue
            position = int(match[1])
            if position != last + 1:
                raise DamageError(
                    f"log entry {last + 1} is missing, but {entry_name(position)} is there",
                    entry_path(last + 1),
                    _RESTORE,
                )
            last = position
        if last == 0:
            return
        found = self._find(last)
        if found is None and known:
            # The view knows more than the log has: say where the log ends, and let
            # ``check`` refuse it with the words for that.
            self._list(0)
        elif found is not None:
            self._head, self._head_sha = found

    def _find(self, position: int) -> tuple[Entry, str] | None:
        where = entry_path(position)
        try:
            data = self._blobs.read(where)
        except FileNotFoundError:
            return None
        entry = Entry.from_bytes(data, where)
        if entry.position != position:
            raise DamageError(
                f"log entry {position} says it is entry {entry.position}", where, _RESTORE
            )
        return entry, hashlib.sha256(data).hexdigest()

    def _sha(self, position: int) -> str:
        found = self._find(position)
        if found is None:
            raise DamageError(f"log entry {position} is missing", entry_path(position), _RESTORE)
        return found[1]

    @staticmethod
    def _link(entry: Entry, previous: str) -> None:
        if entry.previous != previous:
            raise DamageError(
                f"log entry {entry.position} does not follow from entry {entry.position - 1}: "
                "one of the two was changed",
                entry_path(entry.position),
                _RESTORE,
            )
