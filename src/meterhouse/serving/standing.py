"""What ``serving.db`` says of itself: which epoch is visible, where the answers stand.

Three tables of its own: ``visible`` (the epoch), ``live`` (where the answers stand, and the
frozen position), ``tables`` (every table of every epoch, with its layout).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from meterhouse.errors import DamageError, UsageError
from meterhouse.ports import Stamp
from meterhouse.serving.schema import Served, StoredColumn, StoredTable, layout_from_text

__all__ = [
    "DDL",
    "LAYOUT_VERSION",
    "Described",
    "Standing",
    "layout_version",
    "standing",
    "stored_tables",
]

LAYOUT_VERSION: Final = 2
"""``user_version`` of the file: raise it when its own tables change."""
_APPLICATION: Final = 0x4D544852

DDL: Final = (
    "CREATE TABLE visible (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, "
    "publication INTEGER NOT NULL, description INTEGER NOT NULL, project TEXT NOT NULL, "
    "fork INTEGER NOT NULL, position INTEGER NOT NULL, head TEXT NOT NULL, "
    "ingest_ts TEXT NOT NULL, details TEXT NOT NULL)",
    "CREATE TABLE live (one INTEGER PRIMARY KEY CHECK (one = 1), project TEXT NOT NULL, "
    "fork INTEGER NOT NULL, position INTEGER NOT NULL, head TEXT NOT NULL, "
    "ingest_ts TEXT NOT NULL, details TEXT NOT NULL)",
    "CREATE TABLE frozen (one INTEGER PRIMARY KEY CHECK (one = 1), position INTEGER NOT NULL)",
    "CREATE TABLE tables (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, "
    "name TEXT NOT NULL, physical TEXT, live TEXT NOT NULL DEFAULT '', "
    "image TEXT NOT NULL DEFAULT '', columns TEXT NOT NULL, layout TEXT NOT NULL, "
    "arrow_schema TEXT NOT NULL, rows INTEGER, visible INTEGER NOT NULL DEFAULT 0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {LAYOUT_VERSION}",
)

_STANDING: Final = (
    "SELECT v.epoch, v.publication, v.description, v.project, v.fork, v.position, v.head, "
    "v.ingest_ts, v.details, l.project, l.fork, l.position, l.head, l.ingest_ts, l.details, "
    "f.position "
    "FROM visible AS v JOIN live AS l LEFT JOIN frozen AS f"
)
_TYPES: Final = (str, int, int, *(str, int, int, str, str, str) * 2)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where epoch and answers stand."""

    epoch: Served
    """The visible epoch by itself."""
    answers: Served
    """What readers see: the same, or ahead of it."""
    publication: int
    """Another number for each epoch that was made visible."""
    description: int
    """Counts changes of the list of tables: while it stays, they are described alike."""
    frozen: int | None
    """Position at which values are kept; None while nothing is frozen."""


def layout_version(connection: sqlite3.Connection) -> int:
    """Return the layout of the file; 0 while it is empty.

    Raises:
        DamageError: A newer program wrote it.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > LAYOUT_VERSION:
        raise DamageError(
            f"the serving store has layout {version}, which this program does not know",
            "serving.db",
            "install the meterhouse that wrote it; or delete the file and make it anew: "
            "meterhouse batch",
        )
    return version


def standing(connection: sqlite3.Connection) -> Standing | None:
    """Return where epoch and answers stand; None when nothing was ever published.

    Raises:
        UsageError: An older program wrote the file; a batch makes it anew.
        DamageError: It can't be read.
    """
    version = layout_version(connection)
    if version == 0:
        return None
    if version < LAYOUT_VERSION:
        raise UsageError(
            f"the serving store has layout {version}, which is older than this program's",
            "serving.db",
            "make it anew from the lake: meterhouse batch",
        )
    row = connection.execute(_STANDING).fetchone()
    return None if row is None else _parsed(row)


def _parsed(row: tuple[Any, ...]) -> Standing:
    with readable("its visible epoch"):
        typed(row[:-1], _TYPES)
        typed((row[-1] or 0,), (int,))
        epoch, answers = _of(row[0], row[3:9]), _of(row[0], row[9:15])
        if answers.stamp.position <= epoch.stamp.position:
            answers = epoch
        details = {**epoch.details, **answers.details}
        answers = replace(answers, details=details, epoch_position=epoch.stamp.position)
        return Standing(epoch, answers, row[1], row[2], row[15])


def _of(epoch: str, row: Sequence[Any]) -> Served:
    stamp, ingest_ts = Stamp(*row[:4]), datetime.fromisoformat(row[4])
    return Served(epoch, stamp, ingest_ts, _object(row[5]), stamp.position)


def _object(text: str) -> Mapping[str, Any]:
    found = json.loads(text or "{}")
    typed((found,), (dict,))
    return dict(found)


def stored_tables(connection: sqlite3.Connection) -> dict[str, StoredTable]:
    """Return the tables of the visible epoch by name.

    Raises:
        DamageError: They can't be read.
    """
    rows = connection.execute(
        "SELECT name, physical, columns, layout, arrow_schema, rows, live, image "
        "FROM tables WHERE visible ORDER BY name"
    ).fetchall()
    with readable("its list of tables"):
        for row in rows:
            typed(row, (str, str, str, str, str, int, str, str))
        return {
            row[0]: StoredTable(
                row[0], row[1], _columns(row[2]), layout_from_text(row[3]), *row[4:]
            )
            for row in rows
        }


class Described:
    """The tables of the visible epoch, read anew only when they are described anew."""

    def __init__(self) -> None:
        self._of: tuple[sqlite3.Connection | None, int, int] = (None, 0, 0)
        self._tables: Mapping[str, StoredTable] = {}

    def tables(self, connection: sqlite3.Connection, found: Standing) -> Mapping[str, StoredTable]:
        """Return the tables where ``found`` is what stands in ``connection``."""
        of = (connection, found.publication, found.description)
        if of != self._of:
            self._tables, self._of = stored_tables(connection), of
        return self._tables


def _columns(text: str) -> tuple[StoredColumn, ...]:
    return tuple(StoredColumn(**item) for item in json.loads(text))


def typed(row: Sequence[object], types: Sequence[type]) -> None:
    """SQLite keeps any type in any column: a damaged page may give another one."""
    for value, expected in zip(row, types, strict=True):
        if not isinstance(value, expected):
            raise TypeError(f"{type(value).__name__} where {expected.__name__} belongs")


@contextmanager
def readable(part: str) -> Iterator[None]:
    """Turn what a damaged page makes of ``part`` into DamageError."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DamageError(
            f"the serving store is damaged: {part} can't be read",
            "serving.db",
            "run `meterhouse rebuild`: it is made anew from the lake",
        ) from error
