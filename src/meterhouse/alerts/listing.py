"""What the register of alerts holds, for readers: nothing is written, nobody waits."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from meterhouse.alerts.register import (
    ALERT_COLUMNS,
    BUSY_S,
    VERSION,
    Alert,
    State,
    alert_of,
    failure,
    other_version,
)

__all__ = ["listed"]

_ALERTS: Final = f"SELECT {ALERT_COLUMNS}, delivery FROM alerts"
_DELIVERIES: Final = (
    "SELECT idempotency_key, channel, attempts, delivered_at, error FROM deliveries "
    "ORDER BY channel"
)


def listed(path: Path, states: Sequence[State], rule: str = "") -> list[Alert]:
    """Return the alerts in one of ``states``, newest first; none when there is no file.

    Raises:
        DamageError: The register is not what was written.
        EnvironmentFailureError: The system refused.
    """
    if not path.exists():
        return []
    sql = f"{_ALERTS} WHERE state IN ({', '.join('?' * len(states))})"
    sql += (" AND rule = ?" if rule else "") + " ORDER BY id DESC"
    try:
        with closing(_reading(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise other_version(version, path)
            if not version:
                return []
            connection.execute("BEGIN")
            told = _told(connection)
            rows = connection.execute(sql, [*states, *([rule] if rule else [])]).fetchall()
    except sqlite3.Error as error:
        raise failure(error, path) from error
    return [alert_of(row, told.get(row[-1], "")) for row in rows]


def _told(connection: sqlite3.Connection) -> Mapping[str, str]:
    """Return message → how its delivery stands, channel by channel."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, channel, attempts, delivered_at, error in connection.execute(_DELIVERIES):
        if delivered_at:
            found[key].append(channel)
        elif not attempts:
            found[key].append(f"{channel} waits")
        else:
            times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
            found[key].append(f"{channel} waits after {times}: {error or 'no answer yet'}")
    return {key: "; ".join(parts) for key, parts in found.items()}


def _reading(path: Path) -> sqlite3.Connection:
    """Open the file for reading; at rest, nothing appears beside it."""
    at_rest = not path.with_name(f"{path.name}-wal").exists()
    options = "mode=ro&immutable=1" if at_rest else "mode=ro"
    return sqlite3.connect(
        f"file:{quote(str(path))}?{options}", uri=True, timeout=BUSY_S, isolation_level=None
    )
