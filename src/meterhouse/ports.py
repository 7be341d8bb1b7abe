"""The ports: what Meterhouse needs of the outside, on one page.

Arrow tables and frozen dataclasses cross them. Only adapters import vendors, and
every adapter of a port passes the one suite in ``tests/conformance``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Answers",
    "Blobs",
    "Clock",
    "DataFile",
    "Engine",
    "LiveChange",
    "LiveRows",
    "LiveStore",
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

        Of any number of racing callers exactly one gets True; a reader sees nothing or all of
        it, perhaps before the call returns. After it, what is there survives a power loss,
        also where it is another's (False), and so do blobs beside it that were seen before.
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

    def query(self, sql: str, *, again: bool = False) -> pa.Table:
        """Return the rows of one SELECT in DuckDB's dialect.

        DECIMAL, DATE, TIMESTAMPTZ (microseconds, UTC), MAP and LIST come out as the
        Arrow types of the same meaning. Row order is that of its ORDER BY, else none.

        Args:
            sql: The SELECT.
            again: The same text will be asked for many times: it may stay planned as long
                as the session is open.
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

    def replace(self, name: str, rows: pa.Table) -> None:
        """Let later statements see ``rows`` under ``name``, made anew or in place of others.

        Rows of the columns that were there before leave planned statements planned.
        """
        ...


class Engine(Protocol):
    """Opens sessions. Results never depend on threads, memory or locale."""

    def session(self, relations: Mapping[str, Relation]) -> AbstractContextManager[Session]:
        """Open a session that sees ``relations`` by name ("schema.table" or "table")."""
        ...

    def ask(self, sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        """Return the rows of one SELECT over ``tables``, of few rows each.

        As a session would. Asked again with the same text and types it need not be planned
        anew, which is most of what a small question costs.
        """
        ...


class ServingStore(Protocol):
    """Merged gold rows by key, for readers that can't wait. One epoch is visible at a time."""

    def stamp(self) -> Stamp | None:
        """Return up to where the answers stand; None when nothing was ever published."""
        ...

    def epoch(self) -> Stamp | None:
        """Return what the visible epoch stands for: ``stamp``, or earlier where rows are live."""
        ...

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        """Add ``rows`` of gold model ``table`` to the invisible ``epoch``; return how many.

        The first call for an epoch creates it empty; loading a table again replaces it.
        """
        ...

    def publish(self, epoch: str, stamp: Stamp, *, ingest_ts: datetime, details: str) -> None:
        """Make ``epoch`` the visible one in one short transaction and drop the one before.

        ``details`` is JSON text that travels with every answer (tables, generation).
        Publishing the visible epoch again changes nothing. Live rows that changed after
        ``stamp`` stay, and the answers stand where they stood, unless details["models"], the
        fork or the columns of a table are others than those of the epoch before.
        """
        ...

    def rows(self, table: str) -> pa.RecordBatchReader:
        """Return all rows of a table of the visible epoch, for audits."""
        ...


@dataclass(frozen=True, slots=True)
class LiveRows:
    """What the entries of a ``LiveChange`` do to one gold table."""

    table: str
    partials: pa.Table | None = None
    """mergeable: its stored columns over the new facts alone, one row a key, to be merged
    into the row that is there; counts may be negative where versions were replaced."""
    bases: pa.Table | None = None
    """Finished rows of the lake at the epoch's position for keys of ``partials`` that the
    epoch in the store does not hold because they are too old."""
    rows: pa.Table | None = None
    """view: its finished rows for the values in ``replaces``, whole."""
    replaces: pa.Table | None = None
    """view: values of some grain columns; rows of these that are not in ``rows`` are gone."""


@dataclass(frozen=True, slots=True)
class LiveChange:
    """Entries (after, stamp] on their way into the answers."""

    after: Stamp
    """What the store must stand for, or nothing happens."""
    stamp: Stamp
    ingest_ts: datetime
    """Time of the entry at ``stamp``."""
    tables: tuple[LiveRows, ...]
    details: str
    """JSON text that replaces the details of the answers (latest days, stale tables)."""
    publication: int | None = None
    """``Answers.publication`` of the epoch that was looked at: when another one is visible by
    now, nothing happens. None looks at no epoch: neither its rows nor its models count."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a live store's readers see, looked up in one read transaction."""

    stamp: Stamp
    """Up to where the answers stand."""
    epoch: Stamp
    """What the visible epoch stands for: ``stamp``, or earlier where rows are live."""
    publication: int
    """Another number for each epoch that was made visible, also at the same position."""
    frozen: int | None
    """The position that ``freeze`` keeps; None when none is kept."""
    details: Mapping[str, Any]
    """The epoch's details, with those of the last advance over them."""


class LiveStore(Protocol):
    """Answers that follow the log between batches: live rows over the rows of the epoch.

    Live rows are absolute: what a key's row is at the store's position. Readers see whole
    entries up to one position, before and after every call.
    """

    def answers(self) -> Answers | None:
        """Return what the answers stand for; None when nothing was ever published."""
        ...

    def rows(self, table: str, *, of: pa.Table | None = None) -> pa.RecordBatchReader:
        """Return the finished rows of a table as readers see them.

        Those with the values ``of`` (one column or more of the table's grain), or all.
        """
        ...

    def advance(self, change: LiveChange) -> bool:
        """Merge ``change`` in and move the answers to its stamp, in one transaction.

        False, with nothing changed, when the store does not stand at ``change.after``,
        another epoch is visible than ``change.publication``, or the change reaches across
        the position of ``freeze``: look again.
        """
        ...

    def freeze(self, at_least: int) -> int:
        """Keep the value of every touched row at one position until the next ``publish``.

        Returns that position: ``at_least``, or where the answers are when that is later.
        An earlier freeze is forgotten.
        """
        ...

    def frozen(self, table: str) -> pa.Table:
        """Return the rows touched between the epoch and the frozen position, as they were there.

        Finished columns, ``changed_at`` (log position) and ``gone`` (no such row any more).
        """
        ...

    def changed(self, table: str, after: int, columns: Sequence[str] = ()) -> pa.Table:
        """Return the live rows that changed after log position ``after``; columns as ``frozen``.

        Args:
            table: Its name.
            after: Log position.
            columns: Which of the table's; all when empty.
        """
        ...

    def changes(self, table: str, after: int) -> int:
        """Return how many rows ``changed`` would; cheap for a million."""
        ...
