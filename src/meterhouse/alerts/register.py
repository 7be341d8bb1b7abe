"""The register of alerts: ``alerts.db``, which is made from nothing else and outlives rebuilds.

What was raised, for whom it still has to be delivered, and up to where each rule has looked,
in one SQLite file of its own. A commit survives a power loss.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from meterhouse.alerts.evaluation import Group
from meterhouse.errors import DamageError, EnvironmentFailureError

__all__ = [
    "ALERT_COLUMNS",
    "BUSY_S",
    "FILE_NAME",
    "VERSION",
    "Alert",
    "Delivery",
    "Register",
    "Seen",
    "State",
    "alert_of",
    "failure",
    "moment_text",
    "numbers_text",
    "other_version",
]

FILE_NAME: Final = "alerts.db"
State = Literal["raised", "silent", "cleared"]
VERSION: Final = 1
BUSY_S: Final = 10.0

DDL: Final = (
    "CREATE TABLE project (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)",
    "CREATE TABLE seen (rule TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, fork INTEGER NOT NULL, "
    "position INTEGER NOT NULL, head TEXT NOT NULL, epoch INTEGER NOT NULL, "
    "generation TEXT NOT NULL, still INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, "
    "key TEXT NOT NULL, window TEXT NOT NULL, occurrence INTEGER NOT NULL, state TEXT NOT NULL, "
    "numbers TEXT NOT NULL, raised_at TEXT NOT NULL, raised_position INTEGER NOT NULL, "
    "late_by_s INTEGER, cleared_at TEXT NOT NULL, cleared_position INTEGER NOT NULL, "
    "idempotency_key TEXT NOT NULL UNIQUE, delivery TEXT NOT NULL, "
    "UNIQUE (rule, key, window, occurrence))",
    "CREATE UNIQUE INDEX alerts_open ON alerts (rule, key, window) WHERE state <> 'cleared'",
    "CREATE TABLE deliveries (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, "
    "idempotency_key TEXT NOT NULL, body TEXT NOT NULL, created_at TEXT NOT NULL, "
    "attempts INTEGER NOT NULL, next_attempt_at TEXT NOT NULL, delivered_at TEXT NOT NULL, "
    "error TEXT NOT NULL, UNIQUE (channel, idempotency_key))",
    "CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE delivered_at = ''",
    f"PRAGMA user_version = {VERSION}",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """Up to where a rule has looked."""

    rule: str
    fingerprint: str
    fork: int
    position: int
    head: str
    """Of that entry; empty when the rule has to look at everything again."""
    epoch: int
    """Position of the epoch that was visible then."""
    generation: str
    still: bool
    """True when the table stood still while others went on (stale, batch-only)."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One occurrence of a rule for a key and window."""

    rule: str
    group: Group
    occurrence: int
    """1 for the first; one more each time it is raised again after it was cleared."""
    state: State
    numbers: Mapping[str, object]
    """What the condition looked at, when it was last looked at."""
    raised_at: str
    raised_position: int
    late_by_s: int | None
    """How long after the window's end it was raised; None when it was not late."""
    cleared_at: str
    cleared_position: int
    idempotency_key: str
    delivered: str
    """"delivered", "waiting …" with what went wrong last, or empty when nobody is told."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one channel, not delivered yet."""

    id: int
    channel: str
    idempotency_key: str
    body: str
    attempts: int


ALERT_COLUMNS: Final = (
    "rule, key, window, occurrence, state, numbers, raised_at, raised_position, late_by_s, "
    "cleared_at, cleared_position, idempotency_key"
)


def alert_of(row: Sequence[Any], delivered: str = "") -> Alert:
    """Return the alert that ``ALERT_COLUMNS`` hold."""
    return Alert(
        rule=row[0],
        group=Group(row[1], row[2]),
        occurrence=row[3],
        state=row[4],
        numbers=json.loads(row[5]),
        raised_at=row[6],
        raised_position=row[7],
        late_by_s=row[8],
        cleared_at=row[9],
        cleared_position=row[10],
        idempotency_key=row[11],
        delivered=delivered,
    )


class Register:
    """One connection to ``alerts.db``, for one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file; make it when it is not there.

        Raises:
            DamageError: It is not what was written, or a newer program wrote it.
            EnvironmentFailureError: The system refused.
        """
        self.path = path
        with self._translated():
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            self._db.execute("PRAGMA synchronous = FULL")
        if mode != "wal":
            # A disk that refuses the change does so without an error, and readers rely on it.
            self._db.close()
            raise EnvironmentFailureError(
                "the register of alerts can't be used: it can't have a write-ahead log",
                str(path),
                "see to it and run this again",
            )
        with self.transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in DDL:
                    self._db.execute(statement)
            elif version != VERSION:
                raise other_version(version, path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do everything inside, durably, or nothing."""
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def belongs_to(self, project: str) -> None:
        """Note whose alerts these are, once.

        Raises:
            DamageError: They are another project's.
        """
        with self._translated():
            self._db.execute("INSERT OR IGNORE INTO project VALUES (1, ?)", (project,))
            found = self._db.execute("SELECT id FROM project").fetchone()[0]
        if found != project:
            raise DamageError(
                "the register of alerts is another project's",
                str(self.path),
                "put the right alerts.db there; or move it away: what is over is raised anew",
            )

    def seen(self) -> dict[str, Seen]:
        """Return up to where each rule has looked."""
        with self._translated():
            rows = self._db.execute("SELECT * FROM seen").fetchall()
        found = [Seen(r[0], r[1], r[2], r[3], r[4], r[5], r[6], bool(r[7])) for r in rows]
        return {one.rule: one for one in found}

    def see(self, seen: Seen) -> None:
        """Note up to where a rule has looked."""
        self._db.execute(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(seen)
        )

    def opened(self, rule: str) -> frozenset[Group]:
        """Return the groups that ``rule`` has over, silent ones included."""
        sql = "SELECT key, window FROM alerts WHERE rule = ? AND state <> 'cleared'"
        with self._translated():
            return frozenset(Group(*row) for row in self._db.execute(sql, (rule,)))

    def open_alert(self, rule: str, group: Group) -> tuple[int, State, str] | None:
        """Return id, state and numbers of the alert that is open, None when none is."""
        row = self._db.execute(
            "SELECT id, state, numbers FROM alerts WHERE rule = ? AND key = ? AND window = ? "
            "AND state <> 'cleared'",
            (rule, group.key, group.window),
        ).fetchone()
        return (row[0], row[1], row[2]) if row else None

    def occurrences(self, rule: str, group: Group) -> int:
        """Return how often the rule was raised for ``group``."""
        row = self._db.execute(
            "SELECT coalesce(max(occurrence), 0) FROM alerts "
            "WHERE rule = ? AND key = ? AND window = ?",
            (rule, group.key, group.window),
        ).fetchone()
        return int(row[0])

    def add(self, alert: Alert, delivery: str) -> None:
        """Raise an alert; ``delivery`` is the idempotency key of the message that tells of it."""
        self._db.execute(
            "INSERT INTO alerts (rule, key, window, occurrence, state, numbers, raised_at, "
            "raised_position, late_by_s, cleared_at, cleared_position, idempotency_key, delivery) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?, ?)",
            (
                alert.rule,
                alert.group.key,
                alert.group.window,
                alert.occurrence,
                alert.state,
                numbers_text(alert.numbers),
                alert.raised_at,
                alert.raised_position,
                alert.late_by_s,
                alert.idempotency_key,
                delivery,
            ),
        )

    def clear(self, alert: int, at: str, position: int) -> Alert:
        """Clear an open alert and return it."""
        self._db.execute(
            "UPDATE alerts SET state = 'cleared', cleared_at = ?, cleared_position = ? "
            "WHERE id = ?",
            (at, position, alert),
        )
        sql = f"SELECT {ALERT_COLUMNS} FROM alerts WHERE id = ?"
        return alert_of(self._db.execute(sql, (alert,)).fetchone())

    def renumber(self, alert: int, numbers: str) -> None:
        """Note what an open alert's numbers are by now."""
        self._db.execute("UPDATE alerts SET numbers = ? WHERE id = ?", (numbers, alert))

    def post(self, channel: str, key: str, body: str, at: str) -> None:
        """Put a message into the outbox; one of that key that is there stays as it is."""
        self._db.execute(
            "INSERT OR IGNORE INTO deliveries (channel, idempotency_key, body, created_at, "
            "attempts, next_attempt_at, delivered_at, error) VALUES (?, ?, ?, ?, 0, ?, '', '')",
            (channel, key, body, at, at),
        )

    def due(self, at: datetime, channels: Sequence[str]) -> list[Delivery]:
        """Return the messages to ``channels`` that are to be tried now, oldest first."""
        marks = ", ".join("?" * len(channels))
        with self._translated():
            rows = self._db.execute(
                "SELECT id, channel, idempotency_key, body, attempts FROM deliveries "
                f"WHERE delivered_at = '' AND next_attempt_at <= ? AND channel IN ({marks}) "
                "ORDER BY id LIMIT 100",
                (moment_text(at), *channels),
            ).fetchall()
        return [Delivery(*row) for row in rows]

    def is_due(self, at: datetime, channels: Sequence[str]) -> bool:
        """Return whether any message to ``channels`` is to be tried now."""
        marks = ", ".join("?" * len(channels))
        with self._translated():
            found = self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM deliveries WHERE delivered_at = '' "
                f"AND next_attempt_at <= ? AND channel IN ({marks}))",
                (moment_text(at), *channels),
            ).fetchone()
        return bool(found[0])

    def attempted(self, delivery: int, next_attempt_at: datetime) -> None:
        """Note that a message is tried now, and when it will be again unless it arrives."""
        with self.transaction():
            self._db.execute(
                "UPDATE deliveries SET attempts = attempts + 1, next_attempt_at = ? WHERE id = ?",
                (moment_text(next_attempt_at), delivery),
            )

    def failed(self, delivery: int, error: str) -> None:
        """Note what went wrong with the last attempt."""
        with self.transaction():
            self._db.execute("UPDATE deliveries SET error = ? WHERE id = ?", (error, delivery))

    def delivered(self, delivery: int, at: datetime) -> None:
        """Note that a message arrived; its text is not needed any more."""
        with self.transaction():
            self._db.execute(
                "UPDATE deliveries SET delivered_at = ?, body = '', error = '' WHERE id = ?",
                (moment_text(at), delivery),
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise failure(error, self.path) from error


def numbers_text(numbers: Mapping[str, object]) -> str:
    """Return the numbers of an alert as JSON."""
    return json.dumps(numbers, ensure_ascii=False, separators=(",", ":"))


def moment_text(moment: datetime) -> str:
    """Return a time as text that sorts as times do: UTC, always with six decimals."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds") + "Z"


def other_version(version: int, path: Path) -> DamageError:
    """Return the error for a register of a format that is not ours."""
    return DamageError(
        f"the register of alerts has format {version}, which this program does not know",
        str(path),
        "install the meterhouse that wrote it",
    )


def failure(error: sqlite3.Error, path: Path) -> Exception:
    """Tell a file that is broken from a machine that says no; a bug of ours stays what it is."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(_REFUSED):
        return EnvironmentFailureError(
            f"the register of alerts can't be used: {error}",
            str(path),
            "see to it and run this again",
        )
    if not name or name.startswith("SQLITE_CONSTRAINT"):
        return error
    return DamageError(
        f"the register of alerts can't be read: {error}",
        str(path),
        "restore it from a backup; or move it away: what is over is raised anew",
    )


_REFUSED: Final = tuple(
    f"SQLITE_{name}" for name in ("BUSY", "LOCKED", "FULL", "IOERR", "READONLY", "CANTOPEN", "PERM")
)
