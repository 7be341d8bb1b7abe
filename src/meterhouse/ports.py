"""The ports: what Meterhouse needs of the outside, on one page.

Arrow tables and frozen dataclasses cross them. Only adapters import vendors, and
every adapter of a port passes the one suite in ``tests/conformance``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Blobs",
    "Clock",
    "DataFile",
    "Engine",
    "ParquetFiles",
    "Relation",
    "ServingStore",
    "Session",
    "Stamp",
]


class Clock(Protocol):
    """The only way to ask what time it is."""

    def __call__(self) -> datetime:
        """Return now, zone-aware, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """Up to where a view covers the log. Two stamps are equal or one is stale."""

    project: str
    """Id of the project; empty while the log is empty."""
    fork: int
    """How often an older backup of this log was continued; 0 at first."""
    position: int
    """Last entry covered; 0 covers nothing."""
    head: str
    """SHA-256 (hex) of that entry's bytes; empty at position 0."""


class Blobs(Protocol):
    """Named bytes. Names are relative, ``/``-separated, never absolute."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Store ``data``, durably and whole, unless ``name`` exists.

        Of any number of racing callers exactly one gets True; a reader sees nothing
        or all of it. True means it survives a power loss.
        """
        ...

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Store or replace ``name`` atomically; with ``durable`` it survives a power loss."""
        ...

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes [lo, hi); to the end when ``hi`` is None.

        Raises:
            FileNotFoundError: There is no such name.
        """
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names below ``prefix`` (a folder), sorted, greater than ``after``."""
        ...

    def delete(self, name: str) -> None:
        """Remove ``name``; nothing happens when it does not exist."""
        ...

    def uri(self, name: str) -> str:
        """Return what an engine or a table format opens ``name`` by (a path, an s3:// address)."""
        ...


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """A relation in files. All share one schema; an empty list needs ``schema``."""

    paths: tuple[str, ...]
    schema: pa.Schema
    """Column order and types of the relation, also when there are no files."""


Relation: TypeAlias = "pa.Table | ParquetFiles"
"""What a session can see under a table name."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file that a session wrote."""

    path: str
    """Relative to the directory given."""
    rows: int
    size: int
    """Bytes."""
    partition: Mapping[str, str] = field(default_factory=dict)
    """Value of each partition column, as text; the columns are in the file too."""
    minimum: Mapping[str, str] = field(default_factory=dict)
    """Smallest value by column, as JSON text, where cheap to know."""
    maximum: Mapping[str, str] = field(default_factory=dict)


class Session(Protocol):
    """SQL over the relations it was opened with. Time zone UTC, whatever the machine's."""

    def query(self, sql: str) -> pa.Table:
        """Return the rows of one SELECT in DuckDB's dialect.

        DECIMAL, DATE, TIMESTAMPTZ (microseconds, UTC), MAP and LIST come out as the
        Arrow types of the same meaning. Row order is that of its ORDER BY, else none.
        """
        ...

    def stream(self, sql: str) -> pa.RecordBatchReader:
        """Like ``query``, in batches, in bounded memory."""
        ...

    def write(
        self, sql: str, directory: str, *, name: str, partition_by: Sequence[str] = ()
    ) -> list[DataFile]:
        """Write the rows of ``sql`` as Parquet below ``directory``, in its ORDER BY.

        Files are ``[column=value/…]name-NNNNN.parquet``, synced to disk; none for no rows.
        Memory stays bounded whatever the number of rows. Not atomic: nobody may read
        the files before a table names them.
        """
        ...

    def view(self, name: str, sql: str) -> None:
        """Give ``sql`` the table name ``name`` ("schema.table") for later statements."""
        ...


class Engine(Protocol):
    """Opens sessions. Results never depend on threads, memory or locale."""

    def session(self, relations: Mapping[str, Relation]) -> AbstractContextManager[Session]:
        """Open a session that sees ``relations`` by name ("schema.table" or "table")."""
        ...


class ServingStore(Protocol):
    """Merged gold rows by key, for readers that can't wait. One epoch is visible at a time."""

    def stamp(self) -> Stamp | None:
        """Return what the visible epoch stands for; None when nothing was ever published."""
        ...

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        """Add ``rows`` of gold model ``table`` to the invisible ``epoch``; return how many.

        The first call for an epoch creates it empty; loading a table again replaces it.
        """
        ...

    def publish(self, epoch: str, stamp: Stamp, *, ingest_ts: datetime, details: str) -> None:
        """Make ``epoch`` the visible one in one short transaction and drop the one before.

        ``details`` is JSON text that travels with every answer (tables, generation).
        Publishing the visible epoch again changes nothing.
        """
        ...

    def rows(self, table: str) -> pa.RecordBatchReader:
        """Return all rows of a table of the visible epoch, for audits."""
        ...
