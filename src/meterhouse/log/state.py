"""The state view: what was taken of each file, which judged files and runs there are.

One SQLite file with a cover, made anew from log, landing and judged files whenever it is
lost. What a running ``ingest`` has committed since the last checkpoint is staged in
memory and seen by its own look-ups; ``advance`` makes it durable together with the cover.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from meterhouse.errors import DamageError, EnvironmentFailureError
from meterhouse.log.state_rows import (
    COUNTS,
    VERSION,
    Change,
    Counted,
    JudgedFile,
    Pinned,
    Run,
    RunGone,
    Taken,
    Totals,
    names_of,
    odd_values,
    prepare,
    taken_of_row,
    taken_sql,
    write,
)
from meterhouse.ports import Stamp

__all__ = [
    "Change",
    "Counted",
    "JudgedFile",
    "Pinned",
    "Run",
    "RunGone",
    "State",
    "Taken",
    "Totals",
]

_BUSY_S = 60
_NOTHING = Stamp("", 0, 0, "")
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; text that is not UTF-8 comes as either, depending on where it is."""
_PINNED = f"SELECT {names_of(Pinned)} FROM contracts"
_JUDGED = f"SELECT {names_of(JudgedFile)} FROM judged"


class State:
    """``index/state.db``: reads see the rows up to ``stamp()`` and this object's staged ones.

    Rows that another process commits meanwhile stay unseen until ``reload``.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._base = _NOTHING
        self._runs: list[Run] = []
        self._position = 0
        self._staged: list[Change] = []
        self._by_file: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
        self._by_root: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
        self._pinned: dict[str, Pinned] = {}
        self.reload()

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> State:
        """Open the view; make an empty one when it is not there and ``create`` is True.

        Raises:
            DamageError: It is missing (``create`` False), unreadable, or of a newer format.
        """
        if not path.exists():
            if not create:
                raise DamageError("the state view is missing", str(path), _REBUILD)
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            try:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > VERSION:
                    raise DamageError(
                        f"the state view has format {version}, newer than this program knows",
                        str(path),
                        "install a newer meterhouse; nothing was changed",
                    )
                if version < VERSION and not create:
                    what = "is empty" if not version else f"has the older format {version}"
                    fix = _REBUILD if not version else "bring it up to date: meterhouse batch"
                    raise DamageError(f"the state view {what}", str(path), fix)
                if create:
                    # Every time: a disk that refuses it once does so without an error.
                    db.execute("PRAGMA journal_mode = WAL")
                if version < VERSION:
                    prepare(db)
                db.execute("PRAGMA synchronous = FULL")
                return cls(path, db)
            except BaseException:
                db.close()
                raise
        except _UNREADABLE as error:
            raise _failure(error, path) from error

    def close(self) -> None:
        """Close the file; what is staged is forgotten (the log has it)."""
        self._db.close()

    def reload(self) -> None:
        """Forget what is staged and see the committed rows as they are now, in one read."""
        self._staged.clear()
        self._by_file.clear()
        self._by_root.clear()
        self._pinned.clear()
        try:
            self._db.execute("BEGIN")
            try:
                self._base = self._committed()
                self._position = self._base.position
                self._runs = [
                    Run(*row)
                    for row in self._db.execute(
                        f"SELECT {names_of(Run)} FROM runs "
                        "ORDER BY source, which, position, tier DESC, name"
                    )
                ]
            finally:
                self._db.execute("COMMIT")
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error

    def stamp(self) -> Stamp:
        """Return up to where the committed rows cover the log."""
        return self._base

    @property
    def position(self) -> int:
        """Last entry that look-ups see: of the committed ones, or of those staged."""
        return self._position

    def stage(self, position: int, changes: Iterable[Change]) -> None:
        """Let look-ups see ``changes``, of entries up to ``position``; ``advance`` keeps them."""
        self._position = position
        for change in changes:
            self._staged.append(change)
            if isinstance(change, Taken):
                self._by_file[change.source, change.file].append(change)
                if change.versioned:
                    self._by_root[change.source, change.root].append(change)
            elif isinstance(change, Pinned):
                self._pinned[change.source] = change

    def advance(self, stamp: Stamp, flush: Callable[[], Sequence[Change]] | None = None) -> bool:
        """Commit what is staged and move the cover to ``stamp``, in one transaction.

        Returns False, with nothing changed, when another process has moved the cover since
        this object last read it: ``reload`` and apply from there.

        Args:
            stamp: The new cover.
            flush: Called while the write lock is held and the cover is known to be ours:
                writes the runs that the new cover needs and returns their changes.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if self._committed() != self._base:
                    self._db.execute("ROLLBACK")
                    return False
                changes = [*self._staged, *(flush() if flush is not None else ())]
                write(self._db, changes)
                self._db.execute(
                    "INSERT OR REPLACE INTO cover VALUES (1, ?, ?, ?, ?)", astuple(stamp)
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        self.reload()
        return True

    def alone(self, action: Callable[[], None]) -> bool:
        """Run ``action`` while nobody else can move the cover; False when somebody has."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                ours = self._committed() == self._base
                if ours:
                    action()
            finally:
                self._db.execute("ROLLBACK")
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        return ours

    def moved(self) -> bool:
        """Return whether another process has moved the cover since the last ``reload``."""
        return self._committed() != self._base

    def taken(self, source: str, file: str) -> list[Taken]:
        """Return the ranges of ``file`` that the log holds, in the order of the log."""
        rows = self._taken(_OF_FILE, (source, file), _IN_ORDER)
        return [*rows, *self._by_file.get((source, file), ())]

    def first_taken(self, source: str, file: str) -> Taken | None:
        """Return the first of ``taken``, at the price of one look-up; None when there is none."""
        rows = self._taken(_OF_FILE, (source, file), f"{_IN_ORDER} LIMIT 1")
        return next(iter([*rows, *self._by_file.get((source, file), ())]), None)

    def last_taken(self, source: str, file: str) -> Taken | None:
        """Return the last of ``taken``, at the price of one look-up; None when there is none."""
        if staged := self._by_file.get((source, file)):
            return staged[-1]
        order = "inputs.position DESC, number DESC LIMIT 1"
        rows = self._taken(_OF_FILE, (source, file), order)
        return rows[0] if rows else None

    def root_taken(self, source: str, root: str) -> list[Taken]:
        """Return the ranges of any file of ``source`` whose bytes have this ``root``.

        Of versioned sources only: elsewhere bytes that come again are told by their keys.
        """
        clause = "root = ? AND flags & 4 AND files.source = ?"
        rows = self._taken(clause, (bytes.fromhex(root), source), _IN_ORDER)
        return [*rows, *self._by_root.get((source, root), ())]

    def root_seen(self, source: str, root: str) -> bool:
        """Return whether these very bytes were taken before, under whatever name."""
        return bool(self.root_taken(source, root))

    def contract(self, source: str) -> str | None:
        """Return the hash of the contract text in force, None before the first."""
        pinned = self.pinned(source)
        return pinned.sha256 if pinned is not None else None

    def pinned(
        self, source: str, sha256: str | None = None, *, upto: int = 1 << 62
    ) -> Pinned | None:
        """Return the latest pinned text of ``source``; of those with ``sha256`` when given.

        ``upto`` leaves out what entries after it pinned.
        """
        staged = [
            change
            for change in self._staged
            if isinstance(change, Pinned) and change.position <= upto
        ]
        for change in reversed(staged):
            if change.source == source and sha256 in (None, change.sha256):
                return change
        clause, values = "source = ?", [source]
        if sha256 is not None:
            clause, values = f"{clause} AND sha256 = ?", [source, sha256]
        rows = self._select(
            f"{_PINNED} WHERE {clause} AND position <= ? ORDER BY position DESC LIMIT 1",
            (*values, min(self._base.position, upto)),
        )
        return Pinned(*rows[0]) if rows else None

    def judged_files(
        self, source: str | None = None, after: int = 0, upto: int | None = None
    ) -> list[JudgedFile]:
        """Return the judged files that hold rows of entries in (after, upto], by position.

        A joined file may hold rows of entries before and after these, too.
        """
        last = upto if upto is not None else 1 << 62
        found = [
            JudgedFile(*row)
            for row in self._select(
                f"{_JUDGED} WHERE position > ? AND position <= ? "
                "AND CASE first WHEN 0 THEN position ELSE first END <= ? ORDER BY position",
                (after, self._base.position, last),
            )
        ]
        found += [change for change in self._staged if isinstance(change, JudgedFile)]
        return [
            file
            for file in found
            if after < file.position and file.begins <= last and source in (None, file.source)
        ]

    def judged_file(self, source: str, position: int) -> JudgedFile | None:
        """Return the file that holds the judged rows of entry ``position`` of ``source``."""
        for change in reversed(self._staged):
            if isinstance(change, JudgedFile) and change.position == position:
                return change
        rows = self._select(
            f"{_JUDGED} WHERE position >= ? AND source = ? ORDER BY position LIMIT 1",
            (position, source),
        )
        found = JudgedFile(*rows[0]) if rows else None
        return found if found is not None and found.begins <= position else None

    def totals(self) -> tuple[list[Totals], int]:
        """Return what the committed entries add up to, by source; and from which entry on.

        Entries up to that one came before anything was counted here.
        """
        files = dict(self._select("SELECT source, count(*) FROM files GROUP BY source", ()))
        found = [
            Totals(
                source,
                files.get(source, 0),
                entries,
                dict(zip(COUNTS, rest, strict=False)),
                *rest[-2:],
            )
            for source, entries, *rest in self._select("SELECT * FROM totals ORDER BY source", ())
        ]
        return found, self.mark("counted")

    def mark(self, name: str) -> int:
        """Return the position that was noted under ``name``; 0 when none was."""
        rows = self._select("SELECT position FROM marks WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else 0

    def note(self, name: str, position: int) -> None:
        """Remember ``position`` as the ``mark`` of that name."""
        sql = "INSERT OR REPLACE INTO marks VALUES (?, ?)"
        self._alone(lambda: bool(self._db.execute(sql, (name, position))))

    def join(self, files: Sequence[JudgedFile], upto: int, published: int) -> bool:
        """List joined ``files`` in place of the files of single entries whose rows they hold.

        False, with nothing changed, when those are not all listed any more. The files of
        single entries are ``replaced`` then, and stay for readers that have their names.

        Args:
            files: Of entries that the committed rows cover.
            upto: No entry up to here needs to be looked at again.
            published: Position of the publication that readers may be at.
        """
        return self._alone(lambda: self._joined(files, upto, published))

    def _joined(self, files: Sequence[JudgedFile], upto: int, published: int) -> bool:
        for file in files:
            rows = self._db.execute(
                f"{_JUDGED} WHERE position BETWEEN ? AND ? AND source = ?",
                (file.first, file.position, file.source),
            ).fetchall()
            singles = [JudgedFile(*row) for row in rows]
            if (
                not singles
                or any(one.first for one in singles)
                or singles[-1].position != file.position
                or sum(one.rows for one in singles) != file.rows
            ):
                return False
            self._db.executemany(
                "INSERT OR REPLACE INTO replaced VALUES (?, ?, ?)",
                [(one.position, one.source, published) for one in singles],
            )
            self._db.executemany(
                "DELETE FROM judged WHERE position = ?", [(one.position,) for one in singles]
            )
            write(self._db, [file])
        self._db.execute("INSERT OR REPLACE INTO marks VALUES ('joined', ?)", (upto,))
        return True

    def replaced(self, published: int, most: int) -> list[JudgedFile]:
        """Return some files of single entries that were joined before this publication.

        Nobody has their names any more, unless who looked before two publications.
        """
        rows = self._select(
            "SELECT position, source FROM replaced AS old WHERE published < ? AND EXISTS ("
            "SELECT 1 FROM judged WHERE judged.position >= old.position "
            "AND judged.source = old.source AND first BETWEEN 1 AND old.position) "
            "ORDER BY position LIMIT ?",
            (published, most),
        )
        return [JudgedFile(position, source, 0, 0, "") for position, source in rows]

    def forget_replaced(self, positions: Sequence[int]) -> None:
        """Forget files of ``replaced`` that were deleted."""
        self._alone(
            lambda: bool(
                self._db.executemany(
                    "DELETE FROM replaced WHERE position = ?",
                    [(position,) for position in positions],
                )
            )
        )

    def runs(self, source: str, which: str) -> list[Run]:
        """Return the committed runs that make up one index, oldest first."""
        return [run for run in self._runs if (run.source, run.which) == (source, which)]

    def all_runs(self) -> list[Run]:
        """Return the committed runs of every index."""
        return list(self._runs)

    def pinned_at(self, source: str) -> list[int]:
        """Return from which entries on another contract text was in force, in order."""
        rows = self._select(
            f"{_PINNED} WHERE source = ? AND position <= ? ORDER BY position",
            (source, self._base.position),
        )
        return [Pinned(*row).position for row in rows]

    def sources(self) -> list[str]:
        """Return the sources that ever had a contract in the log, sorted."""
        rows = self._select(f"{_PINNED} WHERE position <= ?", (self._base.position,))
        return sorted({row[0] for row in rows} | set(self._pinned))

    def inputs(self, after: int = 0) -> list[Taken]:
        """Return the committed ranges of entries after ``after``, in the order of the log."""
        return self._taken("inputs.position > ?", (after,), _IN_ORDER)

    def check(self) -> list[str]:
        """Return what is wrong with the file: SQLite's findings, and values that none wrote."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
            return ([] if found == ["ok"] else found) + odd_values(self._db)
        except _UNREADABLE as error:
            return [str(error)]

    def _committed(self) -> Stamp:
        try:
            row = self._db.execute("SELECT project, fork, position, head FROM cover").fetchone()
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        return Stamp(*row) if row is not None else _NOTHING

    def _alone(self, action: Callable[[], bool]) -> bool:
        """Run ``action`` in a transaction; undo it when it returns False."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                done = action()
                self._db.execute("COMMIT" if done else "ROLLBACK")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error
        return done

    def _select(self, sql: str, values: Sequence[object]) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except _UNREADABLE as error:
            raise _failure(error, self.path) from error

    def _taken(self, clause: str, values: Sequence[object], order: str) -> list[Taken]:
        rows = self._select(taken_sql(clause, order), (*values, self._base.position))
        return [taken_of_row(row) for row in rows]


_REBUILD = "make it anew from the log: meterhouse rebuild"
_OF_FILE = "files.source = ? AND files.file = ?"
_IN_ORDER = "inputs.position, number"


def _failure(
    error: sqlite3.Error | UnicodeDecodeError, path: Path
) -> DamageError | EnvironmentFailureError:
    """Tell a file that is broken from a machine that says no."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return EnvironmentFailureError(
            "the state view is in use by another process",
            str(path),
            "wait for the other command to end and run this one again",
        )
    if name.startswith(
        ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
    ):
        return EnvironmentFailureError(
            f"the state view can't be used: {error}",
            str(path),
            "check the disk, its free space and permissions, then run the command again",
        )
    return DamageError(f"the state view can't be read: {error}", str(path), _REBUILD)
