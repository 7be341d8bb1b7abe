"""Who is writing: marks beside the position, since the Data API has no write timestamps.

Each writer leaves a mark while it writes, and takes it away when all is written. Who finds
a foreign one writes every row, so whatever two writers at once, or one that died, left
behind is written over. One that finds its own mark taken away was overtaken while it stood
still: it writes no more, and leaves a new mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from meterhouse.errors import EnvironmentFailureError

__all__ = ["Claim", "Marks"]

_UNFINISHED: Final = "another writer did not finish"


class Marks(Protocol):
    """Where marks are kept."""

    def names(self) -> set[str]:
        """Return those that are there."""
        ...

    def put(self, name: str) -> None:
        """Leave one; safe to repeat."""
        ...

    def remove(self, name: str) -> None:
        """Take one away; safe to repeat."""
        ...


class Claim:
    """One writer's mark, while it writes."""

    def __init__(self, marks: Marks, new_name: Callable[[], str], where: str) -> None:
        """Leave no mark yet.

        Args:
            marks: Where they are kept.
            new_name: Returns one that nobody has had.
            where: The store, for messages.
        """
        self._marks = marks
        self._new_name = new_name
        self._where = where
        self._mine = ""
        self._seen: set[str] = set()

    def begin(self) -> str:
        """Leave a mark; return why every row has to be written, or nothing."""
        self._seen = self._marks.names()
        self._mine = self._new_name()
        self._marks.put(self._mine)
        return _UNFINISHED if self._seen else ""

    def check(self) -> None:
        """See that nobody overtook us; asked before every piece.

        Raises:
            EnvironmentFailureError: Somebody did; what we wrote meanwhile may be older than
                what he wrote, so the next writer writes every row.
        """
        if self._mine in self._marks.names():
            return
        self._marks.put(self._new_name())
        raise EnvironmentFailureError(
            "another writer took the replica over while this one stood still",
            self._where,
            "run it again: meterhouse serving sync; it writes every row then",
        )

    def end(self) -> None:
        """Take our mark away, and those of writers that were dead before we began."""
        self.check()
        others = self._marks.names() - self._seen - {self._mine}
        for name in sorted(self._seen):
            self._marks.remove(name)
        if others:
            # He may have begun before us and end after us: our mark has to be news to him.
            self._marks.put(self._new_name())
        self._marks.remove(self._mine)
