"""The Engine port on DuckDB. The only module that imports it, with the Parquet writer beside it."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import duckdb
import pyarrow as pa

from meterhouse.engines.parquet import PartitionedWriter, TooManyPartitionsError
from meterhouse.errors import EnvironmentFailureError, MeterhouseError, SqlError
from meterhouse.ports import DataFile, ParquetFiles, Relation, Session

__all__ = ["DuckDBEngine", "DuckDBSession"]

STREAM_ROWS = 65_536
"""Rows of one streamed batch."""

# Of a planned statement. Through a relation, as other statements go, the result would be read
# by a statement of its own, which costs more than the copy that DuckDB warns of. Here once:
# what is put aside for the time of a statement is put aside for other threads, too.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)

_Result = TypeVar("_Result")
_Question: TypeAlias = tuple[Any, ...]
"""Text, and name and schema of each table."""
_QUESTIONS: Final = 16


class DuckDBEngine:
    """Sessions that share one in-process database instance, so its memory limit holds for all.

    Each session has a catalog of its own; nothing of it is left when it closes. Safe to use
    from several threads, one session each.
    """

    def __init__(
        self,
        memory_bytes: int,
        threads: int,
        temp_directory: Path,
        *,
        locked: bool = False,
    ) -> None:
        """Remember the limits; the database opens with the first session.

        Args:
            memory_bytes: What DuckDB may use before it spills.
            threads: Threads of one statement.
            temp_directory: Where it spills; made when needed.
            locked: For SQL that somebody else wrote: a session then sees its relations'
                files and nothing else of disk or network, and can't change a setting.
        """
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_bytes}B",
            "threads": threads,
            "temp_directory": str(temp_directory),
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
        }
        self._threads = threads
        self._locked = locked
        self._shared: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        self._number = itertools.count(1)
        self._asked: OrderedDict[_Question, DuckDBSession] = OrderedDict()
        """Sessions that nobody uses now, each with the one question that it has planned."""

    def session(self, relations: Mapping[str, Relation]) -> AbstractContextManager[Session]:
        """Open a session that sees ``relations`` by name."""
        return self._session(relations)

    @contextmanager
    def _session(self, relations: Mapping[str, Relation]) -> Iterator[Session]:
        parent = self._connection()
        session = DuckDBSession(parent, f"session_{next(self._number)}", self._threads)
        try:
            session.see(relations)
            if self._locked:
                session.lock()
            yield session
        finally:
            session.close()
            if self._locked:
                parent.close()

    def ask(self, sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        """Return the rows of one SELECT over ``tables``, of few rows each."""
        if self._locked:
            with self.session(tables) as session:
                return session.query(sql)
        question = (sql, *((name, table.schema) for name, table in tables.items()))
        asked = self._taken(question)
        try:
            for name, table in tables.items():
                asked.replace(name, table)
            rows = asked.query(sql, again=True)
            for name, table in tables.items():
                asked.replace(name, table.schema.empty_table())  # they take memory
        except BaseException:
            asked.close()
            raise
        with self._lock:
            self._asked[question] = asked
            least = self._asked.popitem(last=False)[1] if len(self._asked) > _QUESTIONS else None
        if least is not None:
            least.close()
        return rows

    def _taken(self, question: _Question) -> DuckDBSession:
        """Return a session for ``question`` that nobody else uses meanwhile."""
        with self._lock:
            asked = self._asked.pop(question, None)
        if asked is not None:
            return asked
        return DuckDBSession(self._connection(), f"session_{next(self._number)}", self._threads)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._locked:
            return duckdb.connect(":memory:", config=self._config)
        with self._lock:
            if self._shared is None:
                self._shared = duckdb.connect(":memory:", config=self._config)
            return self._shared

    def close(self) -> None:
        """Give back memory and threads; a later session opens them again."""
        with self._lock:
            self._asked.clear()
            if self._shared is not None:
                self._shared.close()
                self._shared = None


class DuckDBSession:
    """One catalog of views over Arrow tables and Parquet files."""

    def __init__(self, parent: duckdb.DuckDBPyConnection, catalog: str, threads: int) -> None:
        """Attach an empty catalog to the instance behind ``parent``."""
        self._parent = parent
        self._threads = threads
        self._catalog = catalog
        self._files: list[str] = []
        self._arrow: dict[str, pa.Table | _Current] = {}
        self._current: dict[str, _Current] = {}
        self._planned: dict[str, str] = {}
        self._schemas: set[str] = set()
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._settled = False
        self._main = parent.cursor()
        self._main.execute(f"ATTACH ':memory:' AS {catalog}")
        self._prepare(self._main)

    def see(self, relations: Mapping[str, Relation]) -> None:
        """Make a view of each of ``relations``."""
        for name, relation in relations.items():
            _translated(partial(self._relation, name, relation))

    def _prepare(self, cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.execute(f"USE {self._catalog}")
        if not self._settled:
            cursor.execute("SET TimeZone = 'UTC'")
        for alias, table in self._arrow.items():
            cursor.register(alias, table)

    def _relation(self, name: str, relation: Relation) -> None:
        if isinstance(relation, ParquetFiles) and relation.paths:
            columns = ", ".join(_quoted(column) for column in relation.schema.names)
            self._files += relation.paths
            paths = ", ".join(_literal(_unglobbed(path)) for path in relation.paths)
            self._view(name, f"SELECT {columns} FROM read_parquet([{paths}], {_AS_WRITTEN})")
            return
        empty = isinstance(relation, ParquetFiles)
        table = relation.schema.empty_table() if isinstance(relation, ParquetFiles) else relation
        self._registered(name, table, " LIMIT 0" if empty else "")

    def _registered(self, name: str, rows: pa.Table | _Current, clause: str = "") -> None:
        alias = f"arrow_{len(self._arrow)}"
        self._arrow[alias] = rows
        self._main.register(alias, rows)
        self._view(name, f"SELECT * FROM {alias}{clause}")

    def lock(self) -> None:
        """Shut out disk and network but for the relations' own files, for good."""
        allowed = ", ".join(_literal(path) for path in self._files)
        self._main.execute(f"SET GLOBAL allowed_paths = [{allowed}]")
        self._main.execute("SET GLOBAL enable_external_access = false")
        # No connection may set anything any more, so those to come must find UTC in force.
        self._main.execute("SET GLOBAL TimeZone = 'UTC'")
        self._settled = True
        self._main.execute("SET GLOBAL lock_configuration = true")

    def query(self, sql: str, *, again: bool = False) -> pa.Table:
        """Return the rows of one SELECT; with ``again`` it is planned once for the session."""
        if not again:
            return _translated(lambda: self._select(self._main, sql).to_arrow_table())
        return _translated(lambda: self._planned_result(sql))

    def _planned_result(self, sql: str) -> pa.Table:
        self._main.execute(f"EXECUTE {self._plan(sql)}")
        reader: pa.RecordBatchReader = self._main.to_arrow_reader(STREAM_ROWS)
        return pa.Table.from_batches(_batches(reader), reader.schema)

    def _plan(self, sql: str) -> str:
        if sql not in self._planned:
            name = f"planned_{len(self._planned)}"
            self._main.execute(f"PREPARE {name} AS {sql}")
            self._planned[sql] = name
        return self._planned[sql]

    def replace(self, name: str, rows: pa.Table) -> None:
        """Let later statements see ``rows`` under ``name``."""
        current = self._current.get(name)
        if current is not None and current.rows.schema.equals(rows.schema):
            current.rows = rows
            return
        current = self._current[name] = _Current(rows)
        _translated(partial(self._registered, name, current))

    def stream(self, sql: str) -> pa.RecordBatchReader:
        """Return the rows of one SELECT in batches, in bounded memory."""
        # A connection with an open result takes no other statement, so each stream has its own.
        cursor = self._cursor()
        reader = _translated(lambda: self._select(cursor, sql).to_arrow_reader(STREAM_ROWS))
        return pa.RecordBatchReader.from_batches(reader.schema, _batches(reader))

    def write(
        self, sql: str, directory: str, *, name: str, partition_by: Sequence[str] = ()
    ) -> list[DataFile]:
        """Write the rows of ``sql`` as Parquet files below ``directory``."""
        try:
            return self._write(sql, directory, name, partition_by)
        except TooManyPartitionsError:
            columns = ", ".join(_quoted(column) for column in partition_by)
            numbered = f"SELECT *, row_number() OVER () AS _row FROM ({sql})"
            ordered = f"SELECT * EXCLUDE (_row) FROM ({numbered}) ORDER BY {columns}, _row"
            return self._write(ordered, directory, name, partition_by, sorted_rows=True)

    def _write(
        self,
        sql: str,
        directory: str,
        name: str,
        partition_by: Sequence[str],
        *,
        sorted_rows: bool = False,
    ) -> list[DataFile]:
        writer = PartitionedWriter(
            Path(directory),
            name,
            tuple(partition_by),
            one_at_a_time=sorted_rows,
            threads=self._threads,
        )
        with writer:
            writer.write(self.stream(sql))
        return writer.files

    def view(self, name: str, sql: str) -> None:
        """Give ``sql`` the table name ``name`` for later statements."""
        _translated(lambda: self._view(name, sql))

    def _view(self, name: str, sql: str) -> None:
        schema, _, table = name.rpartition(".")
        if schema and schema not in self._schemas:
            self._main.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
            self._schemas.add(schema)
        # A planned statement would go on with the view as it was.
        while self._planned:
            self._main.execute(f"DEALLOCATE {self._planned.popitem()[1]}")
        target = f"{_quoted(schema)}.{_quoted(table)}" if schema else _quoted(table)
        self._main.execute(f"CREATE OR REPLACE VIEW {target} AS {sql}")

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._main.cursor()
        self._prepare(cursor)
        self._cursors.append(cursor)
        return cursor

    def _select(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
        relation = cursor.sql(sql)
        if relation is None:
            raise SqlError("statement returns no rows", sql[:200], "write one SELECT")
        return relation

    def close(self) -> None:
        """Drop the catalog; streams still open end with an error."""
        for cursor in self._cursors:
            cursor.close()
        self._main.close()
        # From a cursor of its own: a catalog in USE can't be detached.
        try:
            detaching = self._parent.cursor()
        except duckdb.ConnectionException:
            return  # The engine was closed before, and the catalog with it.
        detaching.execute(f"DETACH {self._catalog}")
        detaching.close()


class _Current:
    """Rows under a name that are others from time to time.

    DuckDB asks for them when a statement runs, not when it is planned. Measured over 100
    rows: planning takes more than half of a statement.
    """

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)


_AS_WRITTEN = "hive_partitioning = false, union_by_name = false"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unglobbed(path: str) -> str:
    """A path may hold ``[``, ``*`` or ``?``; read_parquet takes them for patterns."""
    return "".join(f"[{char}]" if char in "[*?" else char for char in path)


def _translated(action: Callable[[], _Result]) -> _Result:
    try:
        return action()
    except duckdb.Error as error:
        raise _ours(str(error)) from error


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """What fails in the middle of a stream comes as an OSError that holds DuckDB's text."""
    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        raise _ours(str(error)) from error


def _ours(text: str) -> MeterhouseError:
    message, _, rest = text.partition("\n")
    if message.startswith("Out of Memory Error"):
        return EnvironmentFailureError(
            "the engine ran out of memory",
            message,
            "raise engine.memory in meterhouse.toml; nothing was published",
        )
    if message.startswith("IO Error"):
        return EnvironmentFailureError(
            "the engine could not read or write a file",
            message,
            "check that the disk is not full and that the file is there (meterhouse verify)",
        )
    return SqlError(message, rest.strip(), "correct the SQL")
