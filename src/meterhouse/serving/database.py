"""The writing connection to ``serving.db``: transactions that let each other through.

SQLite has one writer at a time. Whoever waits asks again every millisecond (SQLite itself
would ask ever more seldom), and whoever writes piece by piece pauses in between: so a live
write waits for one piece, not for a whole epoch.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from meterhouse.errors import EnvironmentFailureError
from meterhouse.serving.schema import quoted
from meterhouse.serving.snapshot import translated
from meterhouse.serving.standing import DDL, LAYOUT_VERSION, layout_version

__all__ = ["Database"]

_WAIT_S: Final = 60.0
_ASK_S: Final = 0.001
_PAUSE_S: Final = 0.004
"""Between two pieces of one long piece of work, at least: several times ``_ASK_S``."""
_LARGE_WAL: Final = 16 << 20
"""Bytes from which the -wal file is begun anew, which SQLite never does by itself while
there is always some reader."""
_READERS_MS: Final = 20
"""How long that waits for readers to end; if they don't, it is tried again later."""


class Database:
    """One connection, opened when it is needed, for one thread."""

    def __init__(self, path: Path, *, group_shared: bool) -> None:
        self.path: Final = path
        self._group_shared = group_shared
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._large_wal = _LARGE_WAL
        self._written_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, on the file that has the name now."""
        if self._connection is not None and self._inode != _inode(self.path):
            self.close()
        return self._connection is not None

    def close(self) -> None:
        """Close the connection; the last one to do so leaves a single file at rest."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in one transaction: all of it sees one position."""
        with self._translated():
            connection = self._opened()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Write in one transaction: all of the block or nothing.

        Args:
            durable: Whether it must survive a power loss, and with it whatever came before.

        Raises:
            EnvironmentFailureError: The machine refuses, or another one wrote for a minute.
            DamageError: The file is not what was written.
        """
        with self._translated():
            connection = self._opened()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            _begin(connection)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
            self._written_at = time.monotonic()
            self._shorten(connection)

    def piecewise(self, work: Callable[[sqlite3.Connection], bool]) -> None:
        """Call ``work`` in a transaction of its own each time, as long as it says there is more."""
        while True:
            with self.writing() as connection:
                more = work(connection)
            if not more:
                return
            self.pause()

    def pause(self) -> None:
        """Let others write before the next piece, unless they had time enough already."""
        left = self._written_at + _PAUSE_S - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _shorten(self, connection: sqlite3.Connection) -> None:
        """Begin the -wal file anew when it is large, unless a reader goes on for long."""
        wal = self.path.with_name(self.path.name + "-wal")
        try:
            size = wal.stat().st_size
        except FileNotFoundError:
            return
        if size < self._large_wal:
            return
        # What can be done beside other writers is done first: the second one holds them up.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        connection.execute(f"PRAGMA busy_timeout = {_READERS_MS}")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        connection.execute(f"PRAGMA busy_timeout = {int(_WAIT_S * 1000)}")
        self._large_wal = size + _LARGE_WAL if busy else _LARGE_WAL

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            if "no such table" in str(error):
                raise EnvironmentFailureError(
                    "another process published to the serving store meanwhile",
                    str(self.path),
                    "run the same command again",
                ) from error
            raise translated(error, self.path) from error

    def _opened(self) -> sqlite3.Connection:
        if self.is_open:
            assert self._connection is not None
            return self._connection
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=_WAIT_S)
        self._connection = connection
        self._inode = _inode(self.path)
        if self._group_shared:
            # SQLite gives the -wal and -shm files the mode of the file itself.
            self.path.chmod(self.path.stat().st_mode | 0o040)
        try:
            self._log_writes(connection)
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA temp_store = MEMORY")
            if layout_version(connection) != LAYOUT_VERSION:
                _make(connection)
        except BaseException:
            self.close()
            raise
        return connection

    def _log_writes(self, connection: sqlite3.Connection) -> None:
        """Have what is written go into the -wal file first: readers take no lock, and rely on it.

        A disk that refuses to sync the change of mode makes SQLite stay as it was, without an
        error: a crash would then leave half a transaction in the file.
        """
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise EnvironmentFailureError(
                "the serving store can't be opened or written: it can't have a write-ahead log",
                str(self.path),
                "check the disk, and run the same command again",
            )


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        until = time.monotonic() + _WAIT_S
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _busy(error) or time.monotonic() > until:
                    raise
            time.sleep(_ASK_S)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_WAIT_S * 1000)}")


def _busy(error: sqlite3.OperationalError) -> bool:
    return (getattr(error, "sqlite_errorname", None) or "").startswith("SQLITE_BUSY")


def _make(connection: sqlite3.Connection) -> None:
    """Make the file's own tables; what an older program left is dropped, the lake has it."""
    _begin(connection)
    try:
        if layout_version(connection) != LAYOUT_VERSION:
            names = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
            for (name,) in names:
                connection.execute(f"DROP TABLE {quoted(name)}")
            for statement in DDL:
                connection.execute(statement)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
