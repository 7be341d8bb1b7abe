"""A reader that stays: one open connection a thread, which looks anew at every question.

Opening the file and reading its list of tables takes longer than most questions. So both
are kept: the connection while the file is the same one, the list while nothing was
published. What a question sees is one read transaction all the same, at the position of
that moment. Nothing is written, and nobody waits: see ``snapshot``.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from meterhouse.errors import DamageError, UsageError
from meterhouse.serving.snapshot import (
    SqliteSnapshot,
    connect,
    is_written,
    nothing_published,
    read,
    rest,
    state_of,
)
from meterhouse.serving.standing import Described, standing

__all__ = ["Reader"]

_Result = TypeVar("_Result")


@dataclass(slots=True, weakref_slot=True)
class _Kept:
    """A connection, and what the file was when it was opened."""

    connection: sqlite3.Connection
    state: tuple[int, ...]
    at_rest: bool
    described: Described = field(default_factory=Described)

    def same(self, path: Path) -> bool:
        """Tell whether the connection still reads what is there now."""
        now = state_of(path)
        if self.at_rest:
            return now == self.state and not is_written(path)
        return now is not None and now[-1] == self.state[-1]

    def snapshot(self, path: Path) -> SqliteSnapshot:
        """Look where the answers stand, in a transaction of the caller's."""
        found = standing(self.connection)
        if found is None:
            raise nothing_published()
        tables = self.described.tables(self.connection, found)
        return SqliteSnapshot(self.connection, path, (found, tables))


class Reader:
    """Answers from ``serving.db``, again and again. Any number of threads may share one."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened before the first question."""
        self._path: Final = path
        self._local: Final = threading.local()

    def read(self, work: Callable[[SqliteSnapshot], _Result]) -> _Result:
        """Return what ``work`` makes of one position; it may run again if the file changed.

        Raises:
            UsageError: Nothing was published yet.
            DamageError: The file is not what was written.
            EnvironmentFailureError: It can't be opened, or never came to rest.
        """
        kept = self._kept()
        try:
            kept.connection.execute("BEGIN")
            try:
                found = work(kept.snapshot(self._path))
            finally:
                kept.connection.rollback()
            if not kept.at_rest or kept.same(self._path):
                return found
        except (UsageError, DamageError):
            if kept.same(self._path):
                raise
        except (sqlite3.Error, UnicodeDecodeError):
            pass
        # The file was replaced, or came to rest, or is damaged: the patient way says which.
        self.close()
        return read(self._path, work)

    def close(self) -> None:
        """Close this thread's connection; its next question opens another."""
        kept: _Kept | None = getattr(self._local, "kept", None)
        self._local.kept = None
        if kept is not None:
            kept.connection.close()

    def _kept(self) -> _Kept:
        kept: _Kept | None = getattr(self._local, "kept", None)
        if kept is not None and kept.same(self._path):
            return kept
        self.close()
        at_rest = rest(self._path)
        state = at_rest or state_of(self._path)
        if state is None:
            raise nothing_published(self._path)
        connection = connect(self._path, at_rest=at_rest is not None)
        kept = _Kept(connection, state, at_rest is not None)
        weakref.finalize(kept, connection.close)
        self._local.kept = kept
        return kept
