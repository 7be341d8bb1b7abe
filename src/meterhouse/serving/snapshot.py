"""Reading ``serving.db``: one position, whole, without a write and without waiting.

The file is in WAL mode. A user who may only read it (another user of the group) can't
open such a file when nobody else has it open: SQLite would have to make the -wal and -shm
files beside it. So a reader never makes them:

- While a -wal file exists, somebody writes (or crashed): open ``mode=ro`` and read in one
  transaction; the writer made the -shm file, which we need only read.
- While none exists, the file is complete and at rest: open it ``immutable``, and check
  afterwards that it did not change meanwhile; if it did, read again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from meterhouse.errors import DamageError, EnvironmentFailureError, MeterhouseError, UsageError
from meterhouse.formats import Column
from meterhouse.serving.overlay import counting, overlaid
from meterhouse.serving.schema import (
    NULL_KEY,
    Condition,
    Served,
    StoredColumn,
    StoredTable,
    decoder,
    quoted,
)
from meterhouse.serving.standing import Standing, standing, stored_tables

__all__ = [
    "SqliteSnapshot",
    "connect",
    "is_written",
    "nothing_published",
    "opened",
    "read",
    "rest",
    "state_of",
    "translated",
]

_Result = TypeVar("_Result")
_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.05
_FRESH_NS: Final = 50_000_000
_BEHIND: Final = (
    "SELECT 1 FROM visible AS v JOIN live AS l WHERE l.position < v.position OR "
    "(l.position = v.position AND (l.project, l.fork, l.head, l.ingest_ts, l.details) "
    "IS NOT (v.project, v.fork, v.head, v.ingest_ts, '{}'))"
)
"""Two writes closer than the file system's clock can't be told apart by their times."""

_ENVIRONMENT: Final = frozenset({"FULL", "IOERR", "READONLY", "CANTOPEN", "PERM", "BUSY", "LOCKED"})


class SqliteSnapshot:
    """One position in one read transaction: ``schema.Snapshot`` over SQLite."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        described: tuple[Standing, Mapping[str, StoredTable]] | None = None,
    ) -> None:
        """Look where the answers stand.

        Args:
            connection: In a read transaction.
            path: The file, for messages.
            described: Where they stand and the tables, where both were looked up already.

        Raises:
            UsageError: Nothing was published yet.
            DamageError: The file is not what was written.
        """
        self.connection: Final = connection
        self._where = str(path)
        found = described or _described(connection)
        self.standing: Final = found[0]
        self.stored: Final = found[1]
        self.served: Final = _served(*found)

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
        sql, times = self._select(stored, columns, " AND ".join(clauses))
        for row in self.connection.execute(sql, values * times):
            yield tuple([decode(value) for decode, value in zip(read, row, strict=True)])

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        """Yield the values of ``column`` but NULL, each once."""
        stored = self.table(table)
        decode = decoder(self._column(stored, column), self._where)
        sql, _ = self._select(stored, [column])
        for (value,) in self.connection.execute(f"SELECT DISTINCT * FROM ({sql})"):
            if value is not None and value != NULL_KEY:
                yield decode(value)

    def check(self) -> list[str]:
        """Return what SQLite finds wrong with the file; empty when nothing is."""
        found = [str(row[0]) for row in self.connection.execute("PRAGMA integrity_check")]
        problems = [] if found == ["ok"] else found
        for own in ("visible", "live"):
            if self.connection.execute(f"SELECT one FROM {own}").fetchall() != [(1,)]:
                problems.append(f"its table {own} does not have just one row")
        if self.connection.execute(_BEHIND).fetchone() is not None:
            problems.append("its answers stand neither where its epoch does nor later")
        rows = self.connection.execute("SELECT id, epoch, name, physical FROM tables")
        for number, epoch, name, physical in rows:
            if (epoch, physical) != (self.served.epoch, f"{name}@{number}"):
                problems.append(f"its list has {name} as {physical} of epoch {epoch}")
        return problems

    def raw(self, table: StoredTable, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield all rows of ``table`` as stored, ``size`` at a time."""
        sql, _ = self._select(table, [column.name for column in table.columns])
        return _pieces(self.connection.execute(sql), size)

    def raw_epoch(self, table: StoredTable, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield all rows of ``table`` as the epoch has them, without live ones."""
        names = ", ".join(quoted(column.name) for column in table.columns)
        return _pieces(
            self.connection.execute(f"SELECT {names} FROM {quoted(table.physical)}"), size
        )

    def live_rows(self, table: StoredTable) -> int:
        """Return how many live rows ``table`` has, those of keys that are gone included."""
        if not table.live:
            return 0
        sql = f"SELECT count(*) FROM {quoted(table.live)} WHERE {counting(self._epoch)}"
        return int(self.connection.execute(sql).fetchone()[0])

    @property
    def _epoch(self) -> int:
        return self.served.epoch_position

    def _select(
        self, table: StoredTable, columns: Sequence[str], where: str = ""
    ) -> tuple[str, int]:
        """Return the SELECT, and how often it takes the parameters of ``where``."""
        if table.live and self.served.stamp.position > self._epoch:
            return overlaid(table, columns, self._epoch, where), 2
        sql = f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(table.physical)}"
        return (f"{sql} WHERE {where}" if where else sql), 1

    def _column(self, table: StoredTable, name: str) -> StoredColumn:
        found = {column.name: column for column in table.columns}
        if name not in found:
            raise UsageError.unknown(f"column of {table.name}", name, found)
        return found[name]


def _pieces(cursor: sqlite3.Cursor, size: int) -> Iterator[list[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(size):
        yield rows


def _described(connection: sqlite3.Connection) -> tuple[Standing, Mapping[str, StoredTable]]:
    found = standing(connection)
    if found is None:
        raise nothing_published()
    return found, stored_tables(connection)


def _served(found: Standing, tables: Mapping[str, StoredTable]) -> Served:
    """Return what the answers stand for, and which tables don't stand there."""
    epoch, answers = found.epoch, found.answers
    if answers.stamp.position == epoch.stamp.position:
        return answers
    at = (epoch.stamp.position, epoch.ingest_ts)
    behind = {
        name: at for name, table in tables.items() if table.layout.batch_only or not table.live
    }
    return replace(answers, behind=behind)


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
    """Open what is served; leaving the block raises if the file changed underneath."""
    before = rest(path)
    try:
        with closing(connect(path, at_rest=before is not None)) as connection:
            connection.execute("BEGIN")
            yield SqliteSnapshot(connection, path)
        problem: Exception | None = None
    except (sqlite3.Error, UnicodeDecodeError, MeterhouseError) as error:
        problem = error
    if (before and state_of(path) != before) or _came_or_went(problem, path, before):
        raise _ChangedError from problem
    if isinstance(problem, sqlite3.Error | UnicodeDecodeError):
        raise translated(problem, path) from problem
    if problem is not None:
        raise problem


def _came_or_went(problem: Exception | None, path: Path, before: tuple[int, ...] | None) -> bool:
    """Tell whether the last writer closed between our look and our opening."""
    return isinstance(problem, sqlite3.OperationalError) and not before and not _wal(path).exists()


def rest(path: Path) -> tuple[int, ...] | None:
    """Return the state of a file nobody writes to; None while a -wal file exists."""
    state = state_of(path)
    if state is None:
        raise nothing_published(path)
    while time.time_ns() - state[0] < _FRESH_NS and not _wal(path).exists():
        time.sleep(_PAUSE_S / 10)
        state = state_of(path) or state
        if time.time_ns() < state[0]:
            break
    return None if _wal(path).exists() else state


def state_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when the file at rest does; None when there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def is_written(path: Path) -> bool:
    """Tell whether somebody writes to the file, or crashed while doing so."""
    return _wal(path).exists()


def connect(path: Path, *, at_rest: bool) -> sqlite3.Connection:
    """Open the file read-only; ``immutable`` where ``rest`` said so."""
    mode = "mode=ro&immutable=1" if at_rest else "mode=ro"
    # With isolation_level None, Python opens no transaction of its own. Whoever drops the
    # connection may be another thread than the one that reads.
    return sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        isolation_level=None,
        timeout=10,
        check_same_thread=False,
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
