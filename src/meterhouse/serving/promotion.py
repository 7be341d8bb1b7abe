"""A loaded epoch becomes the visible one; what is old then goes, piece by piece.

The switch is one short transaction that moves no row: live rows that changed up to the new
epoch's position stop counting the moment that position moves (``overlay``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from meterhouse.ports import Stamp
from meterhouse.serving.database import Database
from meterhouse.serving.schema import CHANGED_AT, StoredTable, create_live, quoted
from meterhouse.serving.standing import Standing, standing, stored_tables

__all__ = ["clean", "freeze", "is_shown", "show"]

_PIECE_ROWS: Final = 2_000


def is_shown(
    connection: sqlite3.Connection, epoch: str, stamp: Stamp, ingest_ts: datetime, details: str
) -> bool:
    """Tell whether ``show`` and ``clean`` would change nothing at all."""
    found, tables = standing(connection), stored_tables(connection)
    if found is None or found.frozen is not None:
        return False
    shown = (found.epoch.epoch, found.epoch.stamp, found.epoch.ingest_ts)
    if shown != (epoch, stamp, ingest_ts) or found.epoch.details != json.loads(details or "{}"):
        return False
    hidden = connection.execute("SELECT count(*) FROM tables WHERE NOT visible").fetchone()[0]
    if hidden or _leftover(connection):
        return False
    covered = f"WHERE {quoted(CHANGED_AT)} <= {stamp.position:d}"
    return not any(
        connection.execute(f"SELECT 1 FROM {quoted(table.live)} {covered} LIMIT 1").fetchone()
        for table in tables.values()
        if table.live
    )


def show(
    connection: sqlite3.Connection, epoch: str, stamp: Stamp, ingest_ts: str, details: str
) -> None:
    """Make ``epoch`` the visible one, live rows that are later than it kept where they fit.

    ``ingest_ts`` is ISO text.
    """
    before, old = standing(connection), stored_tables(connection)
    again = before is not None and before.epoch.epoch == epoch
    fresh = _complete(connection, epoch)
    connection.execute("DELETE FROM frozen")
    connection.execute("UPDATE tables SET image = ''")
    if again and not fresh:
        _describe(connection)
        return
    if not again:
        connection.execute("UPDATE tables SET visible = 0")
    for number in fresh:
        connection.execute(
            "UPDATE tables SET visible = (id = ?) "
            "WHERE name = (SELECT name FROM tables WHERE id = ?)",
            (number, number),
        )
    new = stored_tables(connection)
    keeps = before is not None and _continues(before, stamp, details) and _alike(new, old)
    for name, table in new.items():
        _give_live(connection, table, old[name].live if keeps else "")
    publication = before.publication + 1 if before else _first(connection)
    description = before.description + 1 if before else 0
    at = (stamp.project, stamp.fork, stamp.position, stamp.head, ingest_ts)
    connection.execute(
        "INSERT OR REPLACE INTO visible VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (epoch, publication, description, *at, details),
    )
    if not keeps or before is None or before.answers.stamp.position <= stamp.position:
        # Nothing of what stood there before counts any more: what is left must say so.
        connection.execute("INSERT OR REPLACE INTO live VALUES (1, ?, ?, ?, ?, ?, '{}')", at)


def freeze(connection: sqlite3.Connection, at_least: int) -> int:
    """Begin to keep the values of touched rows at one position; return which."""
    found = standing(connection)
    position = at_least if found is None else max(at_least, found.answers.stamp.position)
    connection.execute("INSERT OR REPLACE INTO frozen VALUES (1, ?)", (position,))
    for table in stored_tables(connection).values():
        if table.live:
            image = _unused(connection, table.name, "image")
            connection.execute(create_live(image, table.columns, table.layout))
            _name(connection, table, "image", image)
    _describe(connection)
    return position


def clean(database: Database, *, loading: bool) -> None:
    """Delete the live rows that are the epoch's by now, and every table nobody reads.

    In pieces, so that nobody who writes waits for long. A crash in between leaves work for
    the next time, and nothing that anybody reads.

    Args:
        database: Where.
        loading: Leave what is being loaded.
    """
    with database.writing() as connection:
        found = standing(connection)
        tables = stored_tables(connection)
        if not loading:
            connection.execute("DELETE FROM tables WHERE NOT visible")
        leftover = _leftover(connection)
    if found is not None:
        for table in tables.values():
            if table.live:
                _delete_covered(database, table, found.epoch.stamp.position)
    for name in leftover:
        _drop(database, name)


def _leftover(connection: sqlite3.Connection) -> list[str]:
    """Return the tables of rows that the list of tables does not name."""
    rows = connection.execute("SELECT physical, live, image FROM tables")
    used = {name for row in rows for name in row}
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%@%'"
    )
    return [name for (name,) in names if name not in used]


def _describe(connection: sqlite3.Connection) -> None:
    """Let readers look at the list of tables anew."""
    connection.execute("UPDATE visible SET description = description + 1")


def _first(connection: sqlite3.Connection) -> int:
    """Return the number of a file's first publication, which no file before it had."""
    return int(connection.execute("SELECT abs(random() % (1 << 40))").fetchone()[0])


def _complete(connection: sqlite3.Connection, epoch: str) -> list[int]:
    """Return the newest complete load of each table of ``epoch`` that nobody sees yet."""
    found = connection.execute(
        "SELECT max(id) FROM tables WHERE epoch = ? AND rows IS NOT NULL AND NOT visible "
        "GROUP BY name",
        (epoch,),
    )
    return [number for (number,) in found]


def _continues(before: Standing, stamp: Stamp, details: str) -> bool:
    """Tell whether live rows of before mean the same over the new epoch."""
    at = before.epoch.stamp
    models = json.loads(details or "{}").get("models")
    return (
        (at.project or stamp.project, at.fork) == (stamp.project, stamp.fork)
        and at.position <= stamp.position
        and before.epoch.details.get("models") == models
    )


def _alike(new: Mapping[str, StoredTable], old: Mapping[str, StoredTable]) -> bool:
    """Tell whether live rows of ``old`` lie over the tables of ``new``, all of them."""
    return all(
        name in old and (table.columns, table.layout) == (old[name].columns, old[name].layout)
        for name, table in new.items()
    )


def _give_live(connection: sqlite3.Connection, table: StoredTable, kept: str) -> None:
    if kept:
        _name(connection, table, "live", kept)
        return
    if not table.layout.key:
        return
    live = _unused(connection, table.name, "live")
    connection.execute(create_live(live, table.columns, table.layout))
    connection.execute(
        f"CREATE INDEX {quoted(live + ' by position')} ON {quoted(live)} ({quoted(CHANGED_AT)})"
    )
    _name(connection, table, "live", live)


def _name(connection: sqlite3.Connection, table: StoredTable, what: str, name: str) -> None:
    connection.execute(f"UPDATE tables SET {what} = ? WHERE physical = ?", (name, table.physical))


def _unused(connection: sqlite3.Connection, table: str, what: str) -> str:
    """Return a name that no table had: whoever still reads an old one is not disturbed."""
    number = connection.execute(
        "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'tables' RETURNING seq"
    ).fetchone()[0]
    return f"{table}@{number}:{what}"


def _delete_covered(database: Database, table: StoredTable, position: int) -> None:
    key = ", ".join(map(quoted, table.layout.key))
    live, at = quoted(table.live), quoted(CHANGED_AT)

    def piece(connection: sqlite3.Connection) -> bool:
        done = connection.execute(
            f"DELETE FROM {live} WHERE ({key}) IN "
            f"(SELECT {key} FROM {live} WHERE {at} <= {position:d} LIMIT {_PIECE_ROWS})"
        )
        return done.rowcount == _PIECE_ROWS

    database.piecewise(piece)


def _drop(database: Database, name: str) -> None:
    """Drop a table; its rows go first, since dropping visits every page in one transaction."""

    def piece(connection: sqlite3.Connection) -> bool:
        columns = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
        if not columns:
            return False  # another process dropped it meanwhile
        key = ", ".join([quoted(column[1]) for column in columns if column[5]] or ["rowid"])
        done = connection.execute(
            f"DELETE FROM {quoted(name)} WHERE ({key}) IN "
            f"(SELECT {key} FROM {quoted(name)} LIMIT {_PIECE_ROWS})"
        )
        if done.rowcount == _PIECE_ROWS:
            return True
        connection.execute(f"DROP TABLE {quoted(name)}")
        return False

    database.piecewise(piece)
