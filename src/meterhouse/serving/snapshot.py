"""Reading ``serving.db``: one epoch, whole, without a write and without waiting.

The file is in WAL mode. A user who may only read it (another user of the group) can't
open such a file when nobody else has it open: SQLite would have to make the -wal and -shm
files beside it. So a reader never makes them:

- While a -wal file exists, somebody writes (or crashed): open ``mode=ro`` and read in one
  transaction; the writer made the -shm file, which we need only read.
- While none exists, the file is complete and at rest: open it ``immutable``, and check
  afterwards that it did not change meanwhile; if it did, read again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from meterhouse.errors import DamageError, EnvironmentFailureError, MeterhouseError, UsageError
from meterhouse.formats import Column
from meterhouse.ports import Stamp
from meterhouse.serving.schema import (
    NULL_KEY,
    Condition,
    Served,
    StoredColumn,
    decoder,
    quoted,
)

__all__ = ["LAYOUT_VERSION", "SqliteSnapshot", "StoredTable", "opened", "read", "translated"]

LAYOUT_VERSION: Final = 1
"""``user_version`` of the file: raise it when its own tables change."""

_Result = TypeVar("_Result")
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.05
_FRESH_NS: Final = 50_000_000
"""Two writes closer than the file system's clock can't be told apart by their times."""

_ENVIRONMENT: Final = frozenset({"FULL", "IOERR", "READONLY", "CANTOPEN", "PERM", "BUSY", "LOCKED"})


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One table of one epoch, as the file's own table of tables has it."""

    name: str
    physical: str
    columns: tuple[StoredColumn, ...]
    arrow_schema: str
    """Arrow IPC schema, base64."""
    rows: int


class SqliteSnapshot:
    """One epoch in one read transaction: ``schema.Snapshot`` over SQLite."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._where = str(path)
        self.served: Final = _served(connection)
        self.stored: Final = _stored(connection)

    def tables(self) -> Mapping[str, Sequence[Column]]:
        """Return the columns of every table by the table's name."""
        return {
            name: tuple(Column(column.name, column.kind) for column in table.columns)
            for name, table in self.stored.items()
        }

    def table(self, name: str) -> StoredTable:
        """Return one table of the epoch.

        Raises:
            UsageError: It is not among them.
        """
        if name not in self.stored:
            raise UsageError.unknown("served table", name, self.stored, where=self._where)
        return self.stored[name]

    def scan(
        self, table: str, columns: Sequence[str], conditions: Sequence[Condition] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that meet all ``conditions``, as Python values, in no order."""
        stored = self.table(table)
        read = [decoder(self._column(stored, name), self._where) for name in columns]
        clauses = [
            f"{quoted(self._column(stored, term.column).name)} {term.operator} ?"
            for term in conditions
        ]
        # NULL_KEY is a BLOB, which sorts above every text: it must meet no comparison.
        clauses += [f"{quoted(term.column)} <> ?" for term in conditions if term.operator == ">="]
        values: list[str | int | bytes] = [term.value for term in conditions]
        values += [NULL_KEY for term in conditions if term.operator == ">="]
        sql = f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(stored.physical)}"
        if clauses:
            sql += f" WHERE {' AND '.join(clauses)}"
        for row in self._connection.execute(sql, values):
            yield tuple([decode(value) for decode, value in zip(read, row, strict=True)])

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        """Yield the values of ``column`` but NULL, each once."""
        stored = self.table(table)
        decode = decoder(self._column(stored, column), self._where)
        sql = f"SELECT DISTINCT {quoted(column)} FROM {quoted(stored.physical)}"
        for (value,) in self._connection.execute(sql):
            if value is not None and value != NULL_KEY:
                yield decode(value)

    def check(self) -> list[str]:
        """Return what SQLite finds wrong with the file; empty when nothing is."""
        found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check")]
        problems = [] if found == ["ok"] else found
        if self._connection.execute("SELECT one FROM visible").fetchall() != [(1,)]:
            problems.append("it does not have just one visible epoch")
        rows = self._connection.execute("SELECT id, epoch, name, physical FROM tables")
        for number, epoch, name, physical in rows:
            if (epoch, physical) != (self.served.epoch, f"{name}@{number}"):
                problems.append(f"its list has {name} as {physical} of epoch {epoch}")
        return problems

    def raw(self, table: StoredTable, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield all rows of ``table`` as stored, ``size`` at a time."""
        names = ", ".join(quoted(column.name) for column in table.columns)
        cursor = self._connection.execute(f"SELECT {names} FROM {quoted(table.physical)}")
        while rows := cursor.fetchmany(size):
            yield rows

    def _column(self, table: StoredTable, name: str) -> StoredColumn:
        found = {column.name: column for column in table.columns}
        if name not in found:
            raise UsageError.unknown(f"column of {table.name}", name, found)
        return found[name]


def _served(connection: sqlite3.Connection) -> Served:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    row = None
    if version == LAYOUT_VERSION:
        row = connection.execute(
            "SELECT epoch, project, fork, position, head, ingest_ts, details FROM visible"
        ).fetchone()
    elif version:
        raise DamageError(
            f"the serving store has layout {version}, which this program does not know",
            "",
            "install the meterhouse that wrote it, or make it anew with `meterhouse rebuild`",
        )
    if row is None:
        raise nothing_published()
    with _readable("its visible epoch"):
        _typed(row, (str, str, int, int, str, str, str))
        details = json.loads(row[6] or "{}")
        _typed((details,), (dict,))
        return Served(row[0], Stamp(*row[1:5]), datetime.fromisoformat(row[5]), details)


def _stored(connection: sqlite3.Connection) -> dict[str, StoredTable]:
    rows = connection.execute(
        "SELECT name, physical, columns, arrow_schema, rows FROM tables WHERE visible ORDER BY name"
    ).fetchall()
    with _readable("its list of tables"):
        for row in rows:
            _typed(row, (str, str, str, str, int))
        return {
            row[0]: StoredTable(row[0], row[1], _columns(row[2]), row[3], row[4]) for row in rows
        }


def _typed(row: Sequence[object], types: Sequence[type]) -> None:
    """SQLite keeps any type in any column: a damaged page may give another one."""
    for value, expected in zip(row, types, strict=True):
        if not isinstance(value, expected):
            raise TypeError(f"{type(value).__name__} where {expected.__name__} belongs")


def _columns(text: str) -> tuple[StoredColumn, ...]:
    return tuple(StoredColumn(**item) for item in json.loads(text))


@contextmanager
def _readable(part: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise DamageError(
            f"the serving store is damaged: {part} can't be read",
            "serving.db",
            "run `meterhouse rebuild`: it is made anew from the lake",
        ) from error


def nothing_published(path: Path | None = None) -> UsageError:
    """Say that there are no answers yet, or that they were lost."""
    if path is not None and (path.parent / "lake" / "published.json").exists():
        return UsageError(
            "the serving store is gone, what was published is not",
            str(path),
            "load it again: meterhouse batch",
        )
    return UsageError(
        "nothing was published yet", "", "run `meterhouse ingest PATH` and then `meterhouse batch`"
    )


def read(path: Path, work: Callable[[SqliteSnapshot], _Result]) -> _Result:
    """Return what ``work`` makes of one epoch; it may run again if a file at rest changed.

    Raises:
        UsageError: Nothing was published yet.
        DamageError: The file is not what was written.
        EnvironmentFailureError: It can't be opened, or never came to rest.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            with opened(path) as snapshot:
                return work(snapshot)
        except _ChangedError:
            continue
    raise EnvironmentFailureError(
        "the serving store changed all the while it was read",
        str(path),
        "run the same command again",
    )


class _ChangedError(Exception):
    """The file did not rest, or a -wal file came or went: what was read does not count."""


@contextmanager
def opened(path: Path) -> Iterator[SqliteSnapshot]:
    """Open the visible epoch; leaving the block raises if the file changed underneath."""
    before = _rest(path)
    mode = "mode=ro&immutable=1" if before else "mode=ro"
    try:
        with closing(_connect(path, mode)) as connection:
            connection.execute("BEGIN")
            yield SqliteSnapshot(connection, path)
        problem: Exception | None = None
    except (sqlite3.Error, UnicodeDecodeError, MeterhouseError) as error:
        problem = error
    if (before and _state(path) != before) or _came_or_went(problem, path, before):
        raise _ChangedError from problem
    if isinstance(problem, sqlite3.Error | UnicodeDecodeError):
        raise translated(problem, path) from problem
    if problem is not None:
        raise problem


def _came_or_went(problem: Exception | None, path: Path, before: tuple[int, ...] | None) -> bool:
    """Tell whether the last writer closed between our look and our opening."""
    return isinstance(problem, sqlite3.OperationalError) and not before and not _wal(path).exists()


def _rest(path: Path) -> tuple[int, ...] | None:
    """Return the state of a file nobody writes to; None while a -wal file exists."""
    state = _state(path)
    if state is None:
        raise nothing_published(path)
    while time.time_ns() - state[0] < _FRESH_NS and not _wal(path).exists():
        time.sleep(_PAUSE_S / 10)
        state = _state(path) or state
        if time.time_ns() < state[0]:
            break
    return None if _wal(path).exists() else state


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # With isolation_level None, Python opens no transaction of its own.
    return sqlite3.connect(
        f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None, timeout=10
    )


def translated(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> MeterhouseError:
    """Return ``error`` as the environment's fault or as damage."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if any(name.startswith(f"SQLITE_{kind}") for kind in _ENVIRONMENT):
        return EnvironmentFailureError(
            f"the serving store can't be opened or written: {error}",
            str(path),
            "check space and permissions (setting access.group_shared lets the group read), "
            "and run the same command again",
        )
    return DamageError(
        f"the serving store is damaged: {error}",
        str(path),
        "run `meterhouse rebuild`: it is made anew from the lake",
    )
