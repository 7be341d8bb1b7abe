"""The state view: what was taken of each file, which judged files and runs there are.

One SQLite file with a cover, made anew from log, landing and judged files whenever it is
lost. What a running ``ingest`` has committed since the last checkpoint is staged in
memory and seen by its own look-ups; ``advance`` makes it durable together with the cover.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from meterhouse.errors import DamageError, EnvironmentFailureError
from meterhouse.ports import Stamp

__all__ = ["Change", "JudgedFile", "Pinned", "Run", "RunGone", "State", "Taken"]

_VERSION = 1
_BUSY_S = 60
_NOTHING = Stamp("", 0, 0, "")
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; text that is not UTF-8 comes as either, depending on where it is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One range of one file that the log holds."""

    source: str
    file: str
    lo: int
    hi: int
    """Range of the decoded file, in bytes."""
    lines_end: int
    """Number of the last physical line that begins before ``hi``; 0 for an empty range."""
    root: str
    """Hash-tree root over the range's decoded bytes."""
    whole: bool
    """True when the range completes a delivery that is taken whole (upsert, snapshot)."""
    position: int
    """The log entry."""
    ends_newline: bool
    """False when the last line was taken before its newline was written."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A contract text in force from ``position`` on."""

    source: str
    sha256: str
    position: int


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """The judged rows of one entry: ``judged/<source>/<position>.parquet``."""

    position: int
    source: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Run:
    """A sorted run of the deduplication index: ``index/<source>/<which>/<name>``."""

    source: str
    which: str
    """"keys" or "held"."""
    name: str
    tier: int
    rows: int
    sha256: str
    position: int
    """Last entry whose ids it may hold."""


@dataclass(frozen=True, slots=True)
class RunGone:
    """A run that was merged into another; its file is deleted after the commit."""

    source: str
    which: str
    name: str


Change: TypeAlias = Taken | Pinned | JudgedFile | Run | RunGone

_TABLES: dict[type[Any], str] = {
    Taken: "inputs",
    Pinned: "contracts",
    JudgedFile: "judged",
    Run: "runs",
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cover (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    project TEXT NOT NULL, fork INTEGER NOT NULL, position INTEGER NOT NULL, head TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS inputs (
    source TEXT NOT NULL, file TEXT NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL,
    lines_end INTEGER NOT NULL, root TEXT NOT NULL, whole INTEGER NOT NULL,
    position INTEGER NOT NULL, ends_newline INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS inputs_by_file ON inputs (source, file, position, lo);
CREATE INDEX IF NOT EXISTS inputs_by_root ON inputs (source, root);
CREATE TABLE IF NOT EXISTS contracts (
    source TEXT NOT NULL, sha256 TEXT NOT NULL, position INTEGER PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS judged (
    position INTEGER PRIMARY KEY, source TEXT NOT NULL, rows INTEGER NOT NULL,
    size INTEGER NOT NULL, sha256 TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS runs (
    source TEXT NOT NULL, which TEXT NOT NULL, name TEXT NOT NULL, tier INTEGER NOT NULL,
    rows INTEGER NOT NULL, sha256 TEXT NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (source, which, name)
);
"""


class State:
    """``index/state.db``: reads see the rows up to ``stamp()`` and this object's staged ones.

    Rows that another process commits meanwhile stay unseen until ``reload``.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._base = _NOTHING
        self._runs: list[Run] = []
        self._staged: list[Change] = []
        self._by_file: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
        self._by_root: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
        self._pinned: dict[str, Pinned] = {}
        self.reload()

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> State:
        """Open the view; make an empty one when it is not there and ``create`` is True.

        Raises:
            DamageError: It is missing (``create`` False), unreadable, or of a newer format.
        """
        if not path.exists():
            if not create:
                raise DamageError("the state view is missing", str(path), _REBUILD)
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            try:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > _VERSION:
                    raise DamageError(
                        f"the state view has format {version}, newer than this program knows",
                        str(path),
                        "install a newer meterhouse; nothing was changed",
                    )
                if version < _VERSION and not create:
                    raise DamageError("the state view is empty", str(path), _REBUILD)
                if version < _VERSION:
                    db.execute("PRAGMA journal_mode = WAL")
                    db.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
                db.execute("PRAGMA synchronous = FULL")
                return cls(path, db)
            except BaseException:
                db.close()
                raise
        except _UNREADABLE as error:
            raise _failure(error, path) from error

    def close(self) -> None:
        """Close the file; what is staged is forgotten (the log has it)."""
        self._db.close()

    def reload(self) -> None:
        """Forget what is staged and see the committed rows as they are now, in one read."""
        self._staged.clear()
        self._by_file.clear()
        self._by_root.clear()
        self._pinned.clear()
        try:
            self._db.execute("BEGIN")
            try:
                self._base = self._committed()
                self._runs = [
                    Run(*row)
                    for row in self._db.execute(
                        f"SELECT {_names(Run)} FROM runs "
                        "ORDER BY source, which, position, tier DESC, name"
                    )
                ]
            finally:
                self._db.execute("COMMIT")
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error

    def stamp(self) -> Stamp:
        """Return up to where the committed rows cover the log."""
        return self._base

    def stage(self, changes: Iterable[Change]) -> None:
        """Let look-ups see ``changes`` of one entry; ``advance`` makes them durable."""
        for change in changes:
            self._staged.append(change)
            if isinstance(change, Taken):
                self._by_file[change.source, change.file].append(change)
                self._by_root[change.source, change.root].append(change)
            elif isinstance(change, Pinned):
                self._pinned[change.source] = change

    def advance(self, stamp: Stamp, flush: Callable[[], Sequence[Change]] | None = None) -> bool:
        """Commit what is staged and move the cover to ``stamp``, in one transaction.

        Returns False, with nothing changed, when another process has moved the cover since
        this object last read it: ``reload`` and apply from there.

        Args:
            stamp: The new cover.
            flush: Called while the write lock is held and the cover is known to be ours:
                writes the runs that the new cover needs and returns their changes.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if self._committed() != self._base:
                    self._db.execute("ROLLBACK")
                    return False
                changes = [*self._staged, *(flush() if flush is not None else ())]
                self._write(changes)
                self._db.execute(
                    "INSERT OR REPLACE INTO cover VALUES (1, ?, ?, ?, ?)", astuple(stamp)
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        self.reload()
        return True

    def alone(self, action: Callable[[], None]) -> bool:
        """Run ``action`` while nobody else can move the cover; False when somebody has."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                ours = self._committed() == self._base
                if ours:
                    action()
            finally:
                self._db.execute("ROLLBACK")
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        return ours

    def moved(self) -> bool:
        """Return whether another process has moved the cover since the last ``reload``."""
        return self._committed() != self._base

    def taken(self, source: str, file: str) -> list[Taken]:
        """Return the ranges of ``file`` that the log holds, in the order of the log."""
        rows = self._rows(Taken, "source = ? AND file = ?", (source, file), order="position, lo")
        return [*rows, *self._by_file.get((source, file), ())]

    def root_taken(self, source: str, root: str) -> list[Taken]:
        """Return the ranges of any file of ``source`` whose bytes have this ``root``."""
        rows = self._rows(Taken, "source = ? AND root = ?", (source, root), order="position, lo")
        return [*rows, *self._by_root.get((source, root), ())]

    def root_seen(self, source: str, root: str) -> bool:
        """Return whether these very bytes were taken before, under whatever name."""
        return bool(self.root_taken(source, root))

    def contract(self, source: str) -> str | None:
        """Return the hash of the contract text in force, None before the first."""
        pinned = self.pinned(source)
        return pinned.sha256 if pinned is not None else None

    def pinned(self, source: str, sha256: str | None = None) -> Pinned | None:
        """Return the latest pinned text of ``source``; of those with ``sha256`` when given."""
        staged = [change for change in self._staged if isinstance(change, Pinned)]
        for change in reversed(staged):
            if change.source == source and sha256 in (None, change.sha256):
                return change
        clause, values = "source = ?", [source]
        if sha256 is not None:
            clause, values = f"{clause} AND sha256 = ?", [source, sha256]
        rows = self._rows(Pinned, clause, values, order="position DESC LIMIT 1")
        return rows[0] if rows else None

    def judged_files(
        self, source: str | None = None, after: int = 0, upto: int | None = None
    ) -> list[JudgedFile]:
        """Return the judged files of entries in (after, upto], by position."""
        last = upto if upto is not None else 1 << 62
        rows = self._rows(
            JudgedFile, "position > ? AND position <= ?", (after, last), order="position"
        )
        staged = [
            change
            for change in self._staged
            if isinstance(change, JudgedFile) and after < change.position <= last
        ]
        return [file for file in (*rows, *staged) if source in (None, file.source)]

    def runs(self, source: str, which: str) -> list[Run]:
        """Return the committed runs that make up one index, oldest first."""
        return [run for run in self._runs if (run.source, run.which) == (source, which)]

    def all_runs(self) -> list[Run]:
        """Return the committed runs of every index."""
        return list(self._runs)

    def sources(self) -> list[str]:
        """Return the sources that ever had a contract in the log, sorted."""
        committed = self._rows(Pinned, "TRUE", (), order="position")
        return sorted({pinned.source for pinned in committed} | set(self._pinned))

    def inputs(self, after: int = 0) -> list[Taken]:
        """Return the committed ranges of entries after ``after``, in the order of the log."""
        return self._rows(Taken, "position > ?", (after,), order="position, rowid")

    def check(self) -> list[str]:
        """Return what is wrong with the file: SQLite's findings, and values of other types."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
            problems = [] if found == ["ok"] else found
            for kind, table in _TABLES.items():
                for row in self._db.execute(f"SELECT {_names(kind)} FROM {table}"):
                    problems += _odd_types(kind, table, row)
        except _UNREADABLE as error:
            return [str(error)]
        return problems

    def _committed(self) -> Stamp:
        try:
            row = self._db.execute("SELECT project, fork, position, head FROM cover").fetchone()
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        return Stamp(*row) if row is not None else _NOTHING

    def _write(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, RunGone):
                self._db.execute(
                    "DELETE FROM runs WHERE source = ? AND which = ? AND name = ?",
                    astuple(change),
                )
                continue
            marks = ", ".join("?" * len(fields(change)))
            self._db.execute(
                f"INSERT OR REPLACE INTO {_TABLES[type(change)]} VALUES ({marks})",
                astuple(change),
            )

    def _rows(
        self, kind: type[Any], clause: str, values: Sequence[object], *, order: str
    ) -> list[Any]:
        sql = (
            f"SELECT {_names(kind)} FROM {_TABLES[kind]} "
            f"WHERE ({clause}) AND position <= ? ORDER BY {order}"
        )
        try:
            found = [kind(*row) for row in self._db.execute(sql, (*values, self._base.position))]
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        if kind is Taken:
            return [_with_flags(taken) for taken in found]
        return found


_REBUILD = "make it anew from the log: meterhouse rebuild"


def _names(kind: type[Any]) -> str:
    return ", ".join(field.name for field in fields(kind))


def _odd_types(kind: type[Any], table: str, row: Sequence[object]) -> list[str]:
    """SQLite keeps any type in any column: a damaged page may give another one."""
    return [
        f"column {field.name} of {table} holds {type(value).__name__}"
        for field, value in zip(fields(kind), row, strict=True)
        if not isinstance(value, str if field.type == "str" else int)
    ]


def _with_flags(taken: Taken) -> Taken:
    """SQLite keeps booleans as 0 and 1."""
    return replace(taken, whole=bool(taken.whole), ends_newline=bool(taken.ends_newline))


def _failure(
    error: sqlite3.Error | UnicodeDecodeError, path: Path
) -> DamageError | EnvironmentFailureError:
    """Tell a file that is broken from a machine that says no."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return EnvironmentFailureError(
            "the state view is in use by another process",
            str(path),
            "wait for the other command to end and run this one again",
        )
    if name.startswith(
        ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
    ):
        return EnvironmentFailureError(
            f"the state view can't be used: {error}", str(path), "see to it and run this again"
        )
    return DamageError(f"the state view can't be read: {error}", str(path), _REBUILD)
