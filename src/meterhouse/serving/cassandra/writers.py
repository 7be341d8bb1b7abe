"""Who is writing: told to each other, so that no row of a slow writer stays as a ghost.

Timestamps decide which of two writes to a row wins. What they can't decide is a row that a
writer deletes by not finding it: while one writes every row and deletes all others, a slower
one with an older state may not have written yet a row that is gone since. So every writer
says when it begins and when it has ended. Who wrote every row, and finds that another one
wrote meanwhile, leaves a doubt: the next writer that is alone writes every row again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import WRITERS

__all__ = ["Writers"]

_NAME: Final = "serving"
_OPEN: Final = "writing"
_CLOSED: Final = "ended"
_DOUBT: Final = "doubt"
_TTL_S: Final = 86_400
"""After a day nobody waits for the end of one that died."""

_Row = tuple[str, str]


class Writers:
    """One writer among others. Its own row is written over each time, so none pile up."""

    def __init__(self, session: CqlSession) -> None:
        """Say nothing yet; the session is in the keyspace of the replica."""
        self._session = session
        self._who = self._run = ""
        self._others: Mapping[str, _Row] = {}
        self._doubts: set[str] = set()
        self._sweeps = self._alone = False

    def begin(self, who: str) -> str:
        """Say that we write; return why every row has to be written, or nothing.

        Args:
            who: Our name; one that died is followed by one of the same name.
        """
        self._who = who
        self._run = uuid.uuid4().hex
        self._put(self._who, self._run, _OPEN)
        self._others, self._doubts = self._read()
        alone = all(state != _OPEN for _, state in self._others.values())
        self._sweeps, self._alone = False, alone
        return "two writers wrote at once" if self._doubts and alone else ""

    def sweeps(self) -> None:
        """Say that rows are deleted because they were not found."""
        self._sweeps = True

    def end(self) -> None:
        """Say that all was written, and the position too."""
        if self._sweeps:
            others, _ = self._read()
            if others != self._others or not self._alone:
                self._put(f"{_DOUBT} {self._run}", self._run, _DOUBT)
            for name in self._doubts if self._alone else ():
                self._session.write(
                    f"DELETE FROM {WRITERS} WHERE name = ? AND writer = ?", (_NAME, name)
                )
        self._put(self._who, self._run, _CLOSED)

    def _put(self, who: str, run: str, state: str) -> None:
        ttl = "" if state == _DOUBT else f" USING TTL {_TTL_S}"
        self._session.write(
            f"INSERT INTO {WRITERS} (name, writer, run, state) VALUES (?, ?, ?, ?){ttl}",
            (_NAME, who, run, state),
        )

    def _read(self) -> tuple[dict[str, _Row], set[str]]:
        """Return the other writers, and the doubts."""
        cql = f"SELECT writer, run, state FROM {WRITERS} WHERE name = ?"
        found = {row.writer: (row.run, row.state) for row in self._session.rows(cql, (_NAME,))}
        doubts = {name for name, (_, state) in found.items() if state == _DOUBT}
        return {
            name: row for name, row in found.items() if name not in doubts | {self._who}
        }, doubts
