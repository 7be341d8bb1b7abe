"""Sources whose rows are versions: what a key's row was before some entries, and is after.

A corrected invoice takes the old version's amounts off and puts the new one's on. Of all
versions of a key only the winning one can still matter, and the key's last removal from a
snapshot: ``Held`` has these and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterhouse.intake.contract import Contract
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    current_sql,
    key_text,
    latest_removed_sql,
    latest_sql,
    removed_sql,
)
from meterhouse.names import ACCEPTED, REMOVED
from meterhouse.ports import Engine, Relation, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Held", "Replaced", "Versions"]


@dataclass(frozen=True, slots=True)
class Held:
    """What versions to come are compared with, as of a log position."""

    position: int
    versions: pa.Table
    """The winning version of each key, of keys that are gone too; columns of bronze."""
    removed: pa.Table
    """The last removal of each key that was ever removed; columns of bronze.removed_keys."""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return int(self.versions.nbytes + self.removed.nbytes)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What some entries did to the current rows of a source."""

    old: pa.Table
    """Rows of the keys touched, as they were before."""
    new: pa.Table
    """As they are after."""
    held: Held
    """As of the last of the entries."""


@dataclass(frozen=True)
class Versions:
    """Computes with the versions of one ``upsert`` or ``snapshot`` source."""

    engine: Engine
    contract: Contract
    accepted: pa.Schema
    """Of the bronze table."""
    removals: pa.Schema
    """Of bronze.removed_keys."""

    def nothing(self) -> Held:
        """Return what holds before the first entry."""
        return Held(0, self.accepted.empty_table(), self.removals.empty_table())

    def published(self, versions: Relation, removed: Relation, position: int, upto: int) -> Held:
        """Return what holds at ``upto`` by tables that cover the log up to ``position``."""
        relations = {"all_versions": versions, "all_removed": removed}
        with self.engine.session(relations) as session:
            for name, source in ((self.contract.table, "versions"), (REMOVED_KEYS, "removed")):
                session.view(name, f"SELECT * FROM all_{source} WHERE log_position <= {upto:d}")
            return Held(
                min(position, upto),
                session.query(latest_sql(self.contract)),
                session.query(latest_removed_sql(self.contract)),
            )

    def replaced(self, held: Held, judged: Iterable[pa.Table], position: int) -> Replaced:
        """Return what the judged rows of entries up to ``position`` do.

        Args:
            held: As of the entry before them.
            judged: Their judged rows, one table for each form.
            position: Of the last of the entries.
        """
        import pyarrow as pa

        forms = {f"judged_{number}": table for number, table in enumerate(judged)}
        relations: dict[str, Relation] = {
            **forms,
            "held_versions": held.versions,
            "held_removed": held.removed,
        }
        with self.engine.session(relations) as session:
            self._views(session, forms)
            self._see(session, "touched_versions", "touched_removed")
            old = session.query(current_sql(self.contract))
            self._see(
                session,
                "touched_versions UNION ALL SELECT * FROM new_versions",
                "touched_removed UNION ALL SELECT * FROM new_removed",
            )
            new = session.query(current_sql(self.contract))
            versions = [
                session.query("SELECT * FROM other_versions"),
                session.query(latest_sql(self.contract)),
            ]
            removed = [
                session.query("SELECT * FROM other_removed"),
                session.query(latest_removed_sql(self.contract)),
            ]
        after = Held(position, pa.concat_tables(versions), pa.concat_tables(removed))
        return Replaced(old, new, after)

    def current(self, held: Held) -> pa.Table:
        """Return the current rows of all keys."""
        relations = {self.contract.table: held.versions, REMOVED_KEYS: held.removed}
        with self.engine.session(relations) as session:
            return session.query(current_sql(self.contract))

    def _see(self, session: Session, versions: str, removed: str) -> None:
        session.view(self.contract.table, f"SELECT * FROM {versions}")
        session.view(REMOVED_KEYS, f"SELECT * FROM {removed}")

    def _views(self, session: Session, forms: dict[str, pa.Table]) -> None:
        """Make views of what is new, and of what is held of the keys that it touches."""
        contract = self.contract
        listed = ", ".join(_quoted(name) for name in contract.key)
        keys = " UNION ".join(
            f"SELECT {listed} FROM {name} WHERE verdict IN ('{ACCEPTED}', '{REMOVED}')"
            for name in forms
        )
        same = " AND ".join(
            f"held.{_quoted(name)} IS NOT DISTINCT FROM keys.{_quoted(name)}"
            for name in contract.key
        )
        views = {
            "touched_keys": keys,
            "touched_texts": f"SELECT {key_text(contract)} AS key FROM touched_keys",
            "new_versions": " UNION ALL ".join(
                accepted_sql(contract, name, table.column_names) for name, table in forms.items()
            ),
            "new_removed": " UNION ALL ".join(removed_sql(contract, name) for name in forms),
            "touched_versions": (
                f"SELECT held.* FROM held_versions AS held SEMI JOIN touched_keys AS keys ON {same}"
            ),
            "other_versions": (
                f"SELECT held.* FROM held_versions AS held ANTI JOIN touched_keys AS keys ON {same}"
            ),
            "touched_removed": (
                "SELECT * FROM held_removed WHERE key IN (SELECT key FROM touched_texts)"
            ),
            "other_removed": (
                "SELECT * FROM held_removed WHERE key NOT IN (SELECT key FROM touched_texts)"
            ),
        }
        for name, sql in views.items():
            session.view(name, sql)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
