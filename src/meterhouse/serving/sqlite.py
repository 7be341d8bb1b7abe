"""The embedded serving store: one SQLite file, one table per gold model and epoch.

A new epoch is loaded beside the visible one, a chunk a transaction, under names nobody
reads; one short transaction makes it the visible one. Readers hold a read transaction
(WAL), so whoever opened before the switch keeps the answer begun with, and dropping the
old tables afterwards waits for nobody. How a user who may only read gets in:
``snapshot``. Everything here can be made anew from the lake.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import DamageError, EnvironmentFailureError, ModelError, UsageError
from meterhouse.ports import Stamp
from meterhouse.serving.schema import Layout, StoredColumn, create_table, quoted
from meterhouse.serving.snapshot import LAYOUT_VERSION, opened, read, translated

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SqliteServing"]

_CHUNK_ROWS: Final = 50_000
_APPLICATION: Final = 0x4D544852

_DDL: Final = (
    "CREATE TABLE IF NOT EXISTS visible (one INTEGER PRIMARY KEY CHECK (one = 1), "
    "epoch TEXT NOT NULL, project TEXT NOT NULL, fork INTEGER NOT NULL, "
    "position INTEGER NOT NULL, head TEXT NOT NULL, ingest_ts TEXT NOT NULL, "
    "details TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tables (id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "epoch TEXT NOT NULL, name TEXT NOT NULL, physical TEXT, columns TEXT NOT NULL, "
    "arrow_schema TEXT NOT NULL, rows INTEGER, visible INTEGER NOT NULL DEFAULT 0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {LAYOUT_VERSION}",
)


class SqliteServing:
    """``ports.ServingStore`` in one file. Reading through ``snapshot.read`` needs no instance."""

    def __init__(
        self,
        path: Path,
        layouts: Mapping[str, Layout] | None = None,
        *,
        group_shared: bool = False,
    ) -> None:
        """Nothing is opened or made before it is needed.

        Args:
            path: The file, ``serving.db``.
            layouts: Key of each table (``schema.layouts``); one without has no key.
            group_shared: Let the file's group read.
        """
        self._path = path
        self._layouts = layouts or {}
        self._group_shared = group_shared
        self._writer: sqlite3.Connection | None = None

    def stamp(self) -> Stamp | None:
        """Return what the visible epoch stands for; None when nothing was ever published.

        Raises:
            DamageError: The file is not what was written.
        """
        try:
            return read(self._path, lambda snapshot: snapshot.served.stamp)
        except UsageError:
            return None

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        """Add ``rows`` of gold model ``table`` to the invisible ``epoch``; return how many.

        The table counts as part of the epoch once its last row is in; loading it again
        replaces it. A visible epoch's tables may be loaded anew, to mend them: they are
        seen after ``publish``.

        Raises:
            ModelError: Two rows have the same key.
        """
        from meterhouse.serving.arrow_rows import schema_text, stored_columns, stored_rows

        columns = stored_columns(rows.schema)
        layout = self._layout(table, columns)
        with self._transaction() as connection:
            number, physical = self._begin(
                connection, epoch, table, columns, schema_text(rows.schema)
            )
            connection.execute(create_table(physical, columns, layout))
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {quoted(physical)} VALUES ({marks})"
        count = 0
        try:
            for batch in _pieces(rows):
                with self._transaction() as connection:
                    connection.executemany(insert, stored_rows(batch, columns, layout.key))
                count += batch.num_rows
        except sqlite3.IntegrityError as error:
            raise _same_key(table, layout) from error
        with self._transaction() as connection:
            connection.execute("UPDATE tables SET rows = ? WHERE id = ?", (count, number))
            connection.execute(
                "DELETE FROM tables WHERE epoch = ? AND name = ? AND id < ? AND NOT visible",
                (epoch, table, number),
            )
        return count

    def publish(self, epoch: str, stamp: Stamp, *, ingest_ts: datetime, details: str) -> None:
        """Make ``epoch`` the visible one in one short transaction and drop the one before.

        Publishing the visible epoch again, nothing loaded in between, changes nothing.
        """
        try:
            with self._transaction(durable=True) as connection:
                before = connection.execute("SELECT epoch FROM visible").fetchone()
                fresh = _complete(connection, epoch)
                if before != (epoch,):
                    connection.execute("UPDATE tables SET visible = 0")
                if fresh or before != (epoch,):
                    _show(connection, epoch, fresh)
                    _stand(connection, epoch, stamp, ingest_ts, details)
            self._drop_leftovers()
        finally:
            self.close()

    def rows(self, table: str) -> pa.RecordBatchReader:
        """Return all rows of a table of the visible epoch, for audits.

        Raises:
            UsageError: Nothing was published, or there is no such table.
            DamageError: A stored value is not what was written.
        """
        import pyarrow as pa

        from meterhouse.serving.arrow_rows import schema_from_text

        text = read(self._path, lambda snapshot: snapshot.table(table).arrow_schema)
        schema = schema_from_text(text)
        return pa.RecordBatchReader.from_batches(schema, self._batches(table, schema))

    def close(self) -> None:
        """Close what writing opened; the last one to do so leaves a single file at rest."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _batches(self, table: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        from meterhouse.serving.arrow_rows import to_batch

        with opened(self._path) as snapshot:
            stored = snapshot.table(table)
            for rows in snapshot.raw(stored, _CHUNK_ROWS):
                try:
                    yield to_batch(rows, stored.columns, schema)
                except (
                    ValueError,
                    TypeError,
                    ArithmeticError,
                    LookupError,
                    AttributeError,
                ) as error:
                    raise DamageError(
                        f"a served value of {table} is not what was written",
                        str(self._path),
                        "run `meterhouse rebuild`: it is made anew from the lake",
                    ) from error

    def _layout(self, table: str, columns: tuple[StoredColumn, ...]) -> Layout:
        layout = self._layouts.get(table, Layout())
        names = {column.name for column in columns}
        missing = [name for name in layout.key if name not in names]
        if missing:
            raise ModelError(
                f'serving key column "{missing[0]}" is not among the columns of {table}',
                table,
                f"name one of {', '.join(sorted(names))} in the model's header",
            )
        return layout

    def _begin(
        self,
        connection: sqlite3.Connection,
        epoch: str,
        table: str,
        columns: tuple[StoredColumn, ...],
        arrow_schema: str,
    ) -> tuple[int, str]:
        """Number a table that is being loaded; the number makes its name one nobody else has."""
        described = json.dumps([asdict(column) for column in columns])
        number = connection.execute(
            "INSERT INTO tables (epoch, name, columns, arrow_schema) VALUES (?, ?, ?, ?)",
            (epoch, table, described, arrow_schema),
        ).lastrowid
        physical = f"{table}@{number}"
        connection.execute("UPDATE tables SET physical = ? WHERE id = ?", (physical, number))
        return int(number or 0), physical

    def _drop_leftovers(self) -> None:
        """Drop every table that is not visible: the epoch before, and what crashes left."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM tables WHERE NOT visible")
            kept = {row[0] for row in connection.execute("SELECT physical FROM tables")}
            found = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%@%'"
            )
            leftover = [name for (name,) in found if name not in kept]
        for name in leftover:
            with self._transaction() as connection:
                connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Write in one transaction: all of the block or nothing.

        Only the switch must survive a power loss; with it does whatever came before.
        """
        try:
            connection = self._writer or self._connect()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            if "no such table" in str(error):
                raise EnvironmentFailureError(
                    "another process published to the serving store meanwhile",
                    str(self._path),
                    "run the same command again",
                ) from error
            raise translated(error, self._path) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=60)
        self._writer = connection
        if self._group_shared:
            # SQLite gives the -wal and -shm files the mode of the file itself.
            self._path.chmod(self._path.stat().st_mode | 0o040)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_size = -65536")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _DDL:
                connection.execute(statement)
            connection.commit()
        elif version != LAYOUT_VERSION:
            raise DamageError(
                f"the serving store has layout {version}, which this program does not know",
                str(self._path),
                "delete the file and run `meterhouse rebuild`: it is made anew from the lake",
            )
        return connection


def _pieces(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        for start in range(0, batch.num_rows, _CHUNK_ROWS):
            yield batch.slice(start, _CHUNK_ROWS)


def _complete(connection: sqlite3.Connection, epoch: str) -> list[int]:
    """Return the newest complete load of each table of ``epoch`` that nobody sees yet."""
    found = connection.execute(
        "SELECT max(id) FROM tables WHERE epoch = ? AND rows IS NOT NULL AND NOT visible "
        "GROUP BY name",
        (epoch,),
    )
    return [number for (number,) in found]


def _show(connection: sqlite3.Connection, epoch: str, fresh: list[int]) -> None:
    for number in fresh:
        connection.execute(
            "UPDATE tables SET visible = (id = ?) "
            "WHERE name = (SELECT name FROM tables WHERE id = ?)",
            (number, number),
        )


def _stand(
    connection: sqlite3.Connection, epoch: str, stamp: Stamp, ingest_ts: datetime, details: str
) -> None:
    values: tuple[Any, ...] = (epoch, stamp.project, stamp.fork, stamp.position, stamp.head)
    at = ingest_ts.astimezone(UTC).isoformat()
    connection.execute(
        "INSERT OR REPLACE INTO visible VALUES (1, ?, ?, ?, ?, ?, ?, ?)", (*values, at, details)
    )


def _same_key(table: str, layout: Layout) -> ModelError:
    return ModelError(
        f"two rows of {table} have the same {', '.join(layout.key)}; nothing was published",
        table,
        "make the grain in the model's header name the columns that identify a row",
    )
