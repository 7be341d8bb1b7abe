"""The embedded serving store: one SQLite file, two tables per gold model.

A new epoch is loaded beside the visible one, a small piece a transaction, under names
nobody reads; one short transaction makes it the visible one. Live rows, absolute, lie over
it (``overlay``) and follow the log in between. Readers hold a read transaction (WAL), so
whoever opened before a change keeps the answer begun with, and dropping what is old
afterwards waits for nobody. How a user who may only read gets in: ``snapshot``.
Everything here can be made anew from lake and log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterhouse.errors import DamageError, EnvironmentFailureError, ModelError, UsageError
from meterhouse.ports import Answers, LiveChange, Stamp
from meterhouse.serving.database import Database
from meterhouse.serving.live import LiveTable, Positions
from meterhouse.serving.promotion import clean, freeze, is_shown, show
from meterhouse.serving.schema import (
    CHANGED_AT,
    GONE,
    Layout,
    Served,
    StoredColumn,
    StoredTable,
    create_table,
    layout_text,
    quoted,
)
from meterhouse.serving.snapshot import SqliteSnapshot, nothing_published, opened, read
from meterhouse.serving.standing import Described, Standing, standing

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    _Pieces = Callable[[SqliteSnapshot, StoredTable, int], Iterator[list[tuple[Any, ...]]]]

__all__ = ["SqliteServing", "finished_rows", "live_rows"]

_Result = TypeVar("_Result")
_PIECE_ROWS: Final = 2_000
"""A transaction of an epoch's load: some 10 ms, which is what a live write waits."""
_READ_ROWS: Final = 50_000


class SqliteServing:
    """``ports.ServingStore`` and ``ports.LiveStore`` in one file, for one thread.

    Reading through ``snapshot.read`` or ``reader.Reader`` needs no instance.
    """

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
            layouts: Of each table that is loaded (``schema.layouts``); one without has no key.
            group_shared: Let the file's group read.
        """
        self._path = path
        self._layouts = layouts or {}
        self._database = Database(path, group_shared=group_shared)
        self._described = Described()
        self._live: dict[str, tuple[StoredTable, LiveTable]] = {}

    def stamp(self) -> Stamp | None:
        """Return up to where the answers stand; None when nothing was ever published.

        Raises:
            DamageError: The file is not what was written.
        """
        found = self._standing()
        return found.answers.stamp if found else None

    def epoch(self) -> Stamp | None:
        """Return what the visible epoch stands for: ``stamp``, or earlier where rows are live."""
        found = self._standing()
        return found.epoch.stamp if found else None

    def answers(self) -> Answers | None:
        """Return what the answers stand for; None when nothing was ever published."""
        found = self._standing()
        if found is None:
            return None
        at, epoch = found.answers, found.epoch.stamp
        return Answers(at.stamp, epoch, found.publication, found.frozen, at.details)

    def served(self) -> Served | None:
        """Return the same as questions see it; None when nothing was ever published."""
        found = self._standing()
        return found.answers if found else None

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
        described = (json.dumps([asdict(column) for column in columns]), layout_text(layout))
        with self._database.writing() as connection:
            number, physical = _begin(
                connection, (epoch, table, *described, schema_text(rows.schema))
            )
            connection.execute(create_table(physical, columns, layout))
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {quoted(physical)} VALUES ({marks})"
        count = 0
        try:
            for batch in _pieces(rows):
                values = list(stored_rows(batch, columns, layout.key))
                if count:
                    self._database.pause()
                with self._database.writing() as connection:
                    connection.executemany(insert, values)
                count += batch.num_rows
        except sqlite3.IntegrityError as error:
            raise _same_key(table, layout) from error
        with self._database.writing() as connection:
            connection.execute("UPDATE tables SET rows = ? WHERE id = ?", (count, number))
            connection.execute(
                "DELETE FROM tables WHERE epoch = ? AND name = ? AND id < ? AND NOT visible",
                (epoch, table, number),
            )
        return count

    def publish(self, epoch: str, stamp: Stamp, *, ingest_ts: datetime, details: str) -> None:
        """Make ``epoch`` the visible one in one short transaction; clean up piece by piece.

        Live rows that changed after ``stamp`` stay, and the answers stand where they stood,
        unless the generation, the fork or a table's columns are others. Publishing the visible
        epoch again, nothing loaded in between, changes nothing.
        """
        try:
            with self._database.reading() as connection:
                if is_shown(connection, epoch, stamp, ingest_ts, details):
                    return
            at = ingest_ts.astimezone(UTC).isoformat()
            with self._database.writing(durable=True) as connection:
                show(connection, epoch, stamp, at, details)
            clean(self._database, loading=False)
        finally:
            self.close()

    def advance(self, change: LiveChange) -> bool:
        """Merge ``change`` in and move the answers to its stamp, in one transaction.

        False, with nothing changed, when the store does not stand at ``change.after``,
        another epoch is visible than ``change.publication``, or the change reaches across
        the position of ``freeze``.

        Raises:
            ModelError: Rows of a table can't be merged; nothing was changed.
            UsageError: A table is not published.
        """
        with self._database.writing() as connection:
            found = standing(connection)
            if found is None or found.answers.stamp != change.after:
                return False
            if change.publication not in (None, found.publication):
                return False
            frozen, upto = found.frozen, change.stamp.position
            if frozen is not None and change.after.position < frozen < upto:
                return False
            snapshot = self._snapshot(connection, found)
            for rows in change.tables:
                live = self._live_table(snapshot, rows.table)
                live.change(connection, rows, Positions(upto, frozen))
            to = change.stamp
            taken = change.ingest_ts.astimezone(UTC).isoformat()
            connection.execute(
                "UPDATE live SET project = ?, fork = ?, position = ?, head = ?, ingest_ts = ?, "
                "details = ?",
                (to.project, to.fork, to.position, to.head, taken, change.details),
            )
        return True

    def freeze(self, at_least: int) -> int:
        """Keep the value of every touched row at one position until the next ``publish``.

        Returns that position: ``at_least``, or where the answers are when that is later.
        An earlier freeze is forgotten.
        """
        with self._database.writing() as connection:
            position = freeze(connection, at_least)
        clean(self._database, loading=True)
        return position

    def frozen(self, table: str) -> pa.Table:
        """Return the rows touched between the epoch and the frozen position, as they were there.

        Finished columns, ``changed_at`` (log position) and ``gone`` (no such row any more).

        Raises:
            EnvironmentFailureError: Nothing is frozen: somebody else published meanwhile.
        """
        return self._read(lambda snapshot: _frozen(snapshot, table))

    def changed(self, table: str, after: int, columns: Sequence[str] = ()) -> pa.Table:
        """Return the live rows that changed after log position ``after``; columns as ``frozen``.

        Rows that changed up to the epoch's position are the epoch's, and not among them.

        Args:
            table: Its name.
            after: Log position.
            columns: Which of the table's; all when empty. The others are not read.
        """
        return self._read(lambda snapshot: _changed(snapshot, table, after, columns))

    def changes(self, table: str, after: int) -> int:
        """Return how many rows ``changed`` would; by an index, without reading them."""
        return self._read(lambda snapshot: _changes(snapshot, table, after))

    def rows(self, table: str, *, of: pa.Table | None = None) -> pa.RecordBatchReader:
        """Return the finished rows of a table as readers see them; those with the values ``of``.

        ``of`` has one column or more of the table's key.

        Raises:
            UsageError: Nothing was published, or there is no such table, or no such key column.
            DamageError: A stored value is not what was written.
        """
        if of is not None:
            return self._read(lambda snapshot: _rows_of(snapshot, table, of)).to_reader()
        return self._all_rows(table, SqliteSnapshot.raw)

    def epoch_rows(self, table: str) -> pa.RecordBatchReader:
        """Return all rows of a table as the epoch was loaded, without live ones, for audits."""
        return self._all_rows(table, SqliteSnapshot.raw_epoch)

    def close(self) -> None:
        """Close what writing opened; the last one to do so leaves a single file at rest."""
        self._database.close()

    def _standing(self) -> Standing | None:
        try:
            return self._read(lambda snapshot: snapshot.standing)
        except UsageError:
            return None

    def _read(self, work: Callable[[SqliteSnapshot], _Result]) -> _Result:
        """Return what ``work`` makes of one position, through the writing connection if open."""
        if not self._database.is_open:
            return read(self._path, work)
        with self._database.reading() as connection:
            found = standing(connection)
            if found is None:
                raise nothing_published(self._path)
            return work(self._snapshot(connection, found))

    def _live_table(self, snapshot: SqliteSnapshot, name: str) -> LiveTable:
        """Return what changes a table; it is kept while the tables are described alike."""
        table = snapshot.table(name)
        kept = self._live.get(name)
        if kept is None or kept[0] is not table:
            kept = (table, LiveTable(table, snapshot.served.epoch_position))
            self._live[name] = kept
        return kept[1]

    def _snapshot(self, connection: sqlite3.Connection, found: Standing) -> SqliteSnapshot:
        tables = self._described.tables(connection, found)
        return SqliteSnapshot(connection, self._path, (found, tables))

    def _all_rows(self, table: str, pieces: _Pieces) -> pa.RecordBatchReader:
        """Return all rows through a connection of their own, as long as they are read."""
        import pyarrow as pa

        from meterhouse.serving.arrow_rows import schema_from_text

        text = self._read(lambda snapshot: snapshot.table(table).arrow_schema)

        def batches() -> Iterator[pa.RecordBatch]:
            with opened(self._path) as snapshot:
                stored = snapshot.table(table)
                for rows in pieces(snapshot, stored, _READ_ROWS):
                    yield from finished_rows(stored, rows).to_batches()

        return pa.RecordBatchReader.from_batches(schema_from_text(text), batches())

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


def finished_rows(
    table: StoredTable, rows: Sequence[tuple[Any, ...]], names: Sequence[str] = ()
) -> pa.Table:
    """Return rows as stored (``SqliteSnapshot.raw``) in the finished table's schema.

    With ``names`` the rows have these columns only.

    Raises:
        DamageError: A value is not what was written.
    """
    import pyarrow as pa

    from meterhouse.serving.arrow_rows import schema_from_text, to_batch

    schema, columns = schema_from_text(table.arrow_schema), table.columns
    if names:
        described = {column.name: column for column in columns}
        schema = pa.schema([schema.field(name) for name in names])
        columns = tuple(described[name] for name in names)
    try:
        batches = [to_batch(rows, columns, schema)] if rows else []
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise DamageError(
            f"a served value of {table.name} is not what was written",
            "serving.db",
            "run `meterhouse rebuild`: it is made anew from the lake",
        ) from error
    return pa.Table.from_batches(batches, schema)


def _rows_of(snapshot: SqliteSnapshot, table: str, of: pa.Table) -> pa.Table:
    stored = snapshot.table(table)
    live = LiveTable(stored, snapshot.served.epoch_position)
    found = live.like(snapshot.connection, of).values()
    return finished_rows(stored, [row[:-2] for row in found if not row[-1]])


def live_rows(snapshot: SqliteSnapshot, table: str) -> pa.Table:
    """Return all live rows of a table, as ``changed`` has them, of an open snapshot."""
    return _changed(snapshot, table, 0)


def _changed(
    snapshot: SqliteSnapshot, table: str, after: int, columns: Sequence[str] = ()
) -> pa.Table:
    stored = snapshot.table(table)
    names = columns or [column.name for column in stored.columns]
    rows = []
    if stored.live:
        after = max(after, snapshot.served.epoch_position)
        picked = ", ".join(map(quoted, (*names, CHANGED_AT, GONE)))
        live = f"SELECT {picked} FROM {quoted(stored.live)} WHERE {quoted(CHANGED_AT)} > {after:d}"
        rows = snapshot.connection.execute(live).fetchall()
    return _with_positions(stored, rows, columns)


def _changes(snapshot: SqliteSnapshot, table: str, after: int) -> int:
    stored = snapshot.table(table)
    if not stored.live:
        return 0
    after = max(after, snapshot.served.epoch_position)
    counted = f"SELECT count(*) FROM {quoted(stored.live)} WHERE {quoted(CHANGED_AT)} > {after:d}"
    return int(snapshot.connection.execute(counted).fetchone()[0])


def _frozen(snapshot: SqliteSnapshot, table: str) -> pa.Table:
    stored, upto = snapshot.table(table), snapshot.standing.frozen
    if upto is None:
        raise EnvironmentFailureError(
            "nothing is frozen: another process published to the serving store meanwhile",
            "serving.db",
            "run the same command again",
        )
    rows = []
    if stored.live:
        epoch = snapshot.served.epoch_position
        rows = snapshot.connection.execute(
            f"SELECT * FROM {quoted(stored.live)} "
            f"WHERE {quoted(CHANGED_AT)} BETWEEN {epoch + 1:d} AND {upto:d} "
            f"UNION ALL SELECT * FROM {quoted(stored.image)}"
        ).fetchall()
    return _with_positions(stored, rows)


def _with_positions(
    table: StoredTable, rows: Sequence[tuple[Any, ...]], names: Sequence[str] = ()
) -> pa.Table:
    import pyarrow as pa

    found = finished_rows(table, rows, names)
    positions = pa.array([row[-2] for row in rows], pa.int64())
    gone = pa.array([bool(row[-1]) for row in rows], pa.bool_())
    return found.append_column("changed_at", positions).append_column("gone", gone)


def _begin(connection: sqlite3.Connection, described: Sequence[str]) -> tuple[int, str]:
    """Number a table that is being loaded; the number makes its name one nobody else has."""
    number = connection.execute(
        "INSERT INTO tables (epoch, name, columns, layout, arrow_schema) VALUES (?, ?, ?, ?, ?)",
        tuple(described),
    ).lastrowid
    physical = f"{described[1]}@{number}"
    connection.execute("UPDATE tables SET physical = ? WHERE id = ?", (physical, number))
    return int(number or 0), physical


def _pieces(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        for start in range(0, batch.num_rows, _PIECE_ROWS):
            yield batch.slice(start, _PIECE_ROWS)


def _same_key(table: str, layout: Layout) -> ModelError:
    return ModelError(
        f"two rows of {table} have the same {', '.join(layout.key)}; nothing was published",
        table,
        "make the grain in the model's header name the columns that identify a row",
    )
