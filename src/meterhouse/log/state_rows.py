"""What the state view holds: its rows as dataclasses, its tables, and how one becomes the other.

A project makes an entry each second, and its state is to be looked into for years: a file's
name is kept once, hashes as bytes, and what is counted is counted when it comes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any, Final, TypeAlias

from meterhouse.names import entry_name

__all__ = [
    "COUNTS",
    "VERSION",
    "Change",
    "Counted",
    "JudgedFile",
    "Pinned",
    "Run",
    "RunGone",
    "Taken",
    "Totals",
    "joined_path",
    "judged_path",
    "names_of",
    "odd_values",
    "prepare",
    "taken_of_row",
    "taken_sql",
    "write",
]

VERSION: Final = 2
COUNTS: Final = ("landed", "accepted", "quarantined", "duplicate", "blank", "removed")


def judged_path(source: str, position: int) -> str:
    """Return where the judged rows of one data entry lie, before they are joined with others."""
    return f"judged/{source}/{entry_name(position)}.parquet"


def joined_path(source: str, first: int, last: int) -> str:
    """Return where those of the source's entries from ``first`` to ``last`` lie, joined."""
    # The folder sorts before every file of one entry: a listing after one does not see it.
    return f"judged/{source}/0-joined/{entry_name(first)}-{entry_name(last)}.parquet"


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
    versioned: bool = False
    """True for upsert and snapshot sources: these bytes can come again under another name."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A contract text in force from ``position`` on."""

    source: str
    sha256: str
    position: int


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """Judged rows: those of one entry, or of all of a source's from ``first`` to ``position``."""

    position: int
    """The entry; the last one of a joined file."""
    source: str
    rows: int
    size: int
    sha256: str
    first: int = 0
    """First entry of a joined file; 0 for the file of one entry."""

    @property
    def begins(self) -> int:
        """First entry whose rows it holds."""
        return self.first or self.position

    def within(self, after: int, upto: int | None) -> bool:
        """Return whether it holds rows of entries in (after, upto] only; None: to the end."""
        return self.begins > after and (upto is None or self.position <= upto)

    @property
    def path(self) -> str:
        """Where it lies."""
        if self.first:
            return joined_path(self.source, self.first, self.position)
        return judged_path(self.source, self.position)


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


@dataclass(frozen=True, slots=True)
class Counted:
    """What one data entry adds to the totals of its source."""

    source: str
    position: int
    ingest_ts: str
    counts: Mapping[str, int] = field(default_factory=dict)
    """As in the entry; those of ``COUNTS`` are added up."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the log holds of one source."""

    source: str
    files: int
    entries: int
    counts: Mapping[str, int]
    last_position: int
    last_ingest_ts: str


Change: TypeAlias = Taken | Pinned | JudgedFile | Run | RunGone | Counted

_TABLES: Final[dict[type[Any], str]] = {Pinned: "contracts", JudgedFile: "judged", Run: "runs"}
"""Rows that are kept as they are."""

_COLUMNS: Final[Mapping[str, Mapping[str, type]]] = {
    "cover": {"one": int, "project": str, "fork": int, "position": int, "head": str},
    "files": {"id": int, "source": str, "file": str},
    "inputs": {
        "file": int,
        "position": int,
        "number": int,
        "lo": int,
        "hi": int,
        "lines_end": int,
        "root": bytes,
        "flags": int,
    },
    "contracts": {"source": str, "sha256": str, "position": int},
    "judged": {
        "position": int,
        "source": str,
        "rows": int,
        "size": int,
        "sha256": str,
        "first": int,
    },
    "runs": {
        "source": str,
        "which": str,
        "name": str,
        "tier": int,
        "rows": int,
        "sha256": str,
        "position": int,
    },
    "totals": {
        "source": str,
        "entries": int,
        **dict.fromkeys(COUNTS, int),
        "last_position": int,
        "last_ingest_ts": str,
    },
    "replaced": {"position": int, "source": str, "published": int},
    "marks": {"name": str, "position": int},
}
_KEYS: Final = {
    "cover": "one",
    "files": "id",
    "inputs": "PRIMARY KEY (file, position, number)",
    "contracts": "position",
    "judged": "position",
    "runs": "PRIMARY KEY (source, which, name)",
    "totals": "PRIMARY KEY (source)",
    "replaced": "position",
    "marks": "PRIMARY KEY (name)",
}
_SQL: Final = {int: "INTEGER", str: "TEXT", bytes: "BLOB"}
_WHOLE, _NEWLINE, _VERSIONED = 1, 2, 4

_TAKEN: Final = (
    "SELECT files.source, files.file, lo, hi, lines_end, root, flags, inputs.position "
    "FROM inputs JOIN files ON files.id = inputs.file"
)


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older version up to this one.

    In one transaction: a crash leaves what was there, and of two processes one does it.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        [version] = db.execute("PRAGMA user_version").fetchone()
        if version == 1:
            db.execute("DROP INDEX inputs_by_file")
            db.execute("DROP INDEX inputs_by_root")
            db.execute("ALTER TABLE inputs RENAME TO inputs_1")
            db.execute("ALTER TABLE judged ADD COLUMN first INTEGER NOT NULL DEFAULT 0")
        for table in _COLUMNS:
            db.execute(_create(table))
        db.execute(
            f"CREATE INDEX IF NOT EXISTS inputs_by_root ON inputs (root) WHERE flags & {_VERSIONED}"
        )
        if version == 1:
            _upgrade(db)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _create(table: str) -> str:
    key = _KEYS[table]
    columns = {name: f"{name} {_SQL[kind]} NOT NULL" for name, kind in _COLUMNS[table].items()}
    if key in columns:
        columns[key] = f"{key} INTEGER PRIMARY KEY"
        key = ""
    end = " WITHOUT ROWID" if table == "inputs" else ""
    parts = [*columns.values(), key, "UNIQUE (source, file)" if table == "files" else ""]
    return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(filter(None, parts))}){end}"


def _upgrade(db: sqlite3.Connection) -> None:
    """Take over what the tables of version 1 hold."""
    db.execute("INSERT INTO files (source, file) SELECT DISTINCT source, file FROM inputs_1")
    numbers: dict[int, int] = {}
    rows = db.execute(
        "SELECT files.id, position, lo, hi, lines_end, root, whole, ends_newline FROM inputs_1 "
        "JOIN files USING (source, file) ORDER BY inputs_1.rowid"
    ).fetchall()
    for file, position, lo, hi, lines_end, root, whole, newline in rows:
        number = numbers[position] = numbers.get(position, -1) + 1
        # Which sources are versioned is not known here: all can be found by their bytes.
        flags = _WHOLE * whole + _NEWLINE * newline + _VERSIONED
        values = (file, position, number, lo, hi, lines_end, bytes.fromhex(root), flags)
        db.execute("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    db.execute("DROP TABLE inputs_1")
    # What came before is counted in the log when somebody asks.
    db.execute("INSERT INTO marks SELECT 'counted', position FROM cover")


def write(db: sqlite3.Connection, changes: Iterable[Change]) -> None:
    """Store ``changes``, in order; ranges of one entry are consecutive."""
    number, position = 0, 0
    for change in changes:
        if isinstance(change, RunGone):
            db.execute(
                "DELETE FROM runs WHERE source = ? AND which = ? AND name = ?", astuple(change)
            )
        elif isinstance(change, Counted):
            _count(db, change)
        elif isinstance(change, Taken):
            number = number + 1 if change.position == position else 0
            position = change.position
            _take(db, change, number)
        else:
            marks = ", ".join("?" * len(fields(change)))
            db.execute(
                f"INSERT OR REPLACE INTO {_TABLES[type(change)]} VALUES ({marks})", astuple(change)
            )


def _take(db: sqlite3.Connection, taken: Taken, number: int) -> None:
    name = (taken.source, taken.file)
    db.execute("INSERT OR IGNORE INTO files (source, file) VALUES (?, ?)", name)
    [file] = db.execute("SELECT id FROM files WHERE source = ? AND file = ?", name).fetchone()
    flags = _WHOLE * taken.whole + _NEWLINE * taken.ends_newline + _VERSIONED * taken.versioned
    db.execute(
        "INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            file,
            taken.position,
            number,
            taken.lo,
            taken.hi,
            taken.lines_end,
            bytes.fromhex(taken.root),
            flags,
        ),
    )


def _count(db: sqlite3.Connection, one: Counted) -> None:
    counts = [one.counts.get(name, 0) for name in COUNTS]
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in ("entries", *COUNTS))
    db.execute(
        f"INSERT INTO totals VALUES (?, 1, {', '.join('?' * len(COUNTS))}, ?, ?) "
        f"ON CONFLICT (source) DO UPDATE SET {added}, last_position = excluded.last_position, "
        "last_ingest_ts = excluded.last_ingest_ts",
        (one.source, *counts, one.position, one.ingest_ts),
    )


def taken_sql(clause: str, order: str) -> str:
    """Return the SELECT of ranges, for ``taken_of_row``; its last parameter is the cover."""
    return f"{_TAKEN} WHERE ({clause}) AND inputs.position <= ? ORDER BY {order}"


def taken_of_row(row: Sequence[Any]) -> Taken:
    """Return the range that a row of ``taken_sql`` stands for."""
    source, file, lo, hi, lines_end, root, flags, position = row
    return Taken(
        source,
        file,
        lo,
        hi,
        lines_end,
        root.hex(),
        bool(flags & _WHOLE),
        position,
        bool(flags & _NEWLINE),
        bool(flags & _VERSIONED),
    )


def names_of(kind: type[Any]) -> str:
    """Return the columns of a row that is kept as it is."""
    return ", ".join(field.name for field in fields(kind))


def odd_values(db: sqlite3.Connection) -> list[str]:
    """Return what no writer of ours would have written; SQLite keeps any type in any column."""
    problems = []
    for table, columns in _COLUMNS.items():
        for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}"):
            problems += [
                f"column {name} of {table} holds {type(value).__name__}"
                for (name, kind), value in zip(columns.items(), row, strict=True)
                if type(value) is not kind
            ]
    for what, sql in (
        (
            "a range has flags that mean nothing",
            "SELECT 1 FROM inputs WHERE flags NOT BETWEEN 0 AND 7",
        ),
        ("a range is of no file", "SELECT 1 FROM inputs WHERE file NOT IN (SELECT id FROM files)"),
        ("a file has no range", "SELECT 1 FROM files WHERE id NOT IN (SELECT file FROM inputs)"),
        (
            "ranges of an entry are not numbered in order",
            "SELECT 1 FROM inputs GROUP BY position "
            "HAVING min(number) <> 0 OR max(number) <> count(*) - 1",
        ),
        (
            "a mark is no position",
            "SELECT 1 FROM marks WHERE name NOT IN ('joined', 'counted', 'published') "
            "OR position > (SELECT max(position) FROM cover)",
        ),
    ):
        problems += [what] if db.execute(f"{sql} LIMIT 1").fetchone() else []
    return problems
