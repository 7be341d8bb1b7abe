"""Where a replica stands, and what that says of the way to where the answers stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meterhouse.errors import DamageError
from meterhouse.serving.schema import StoredTable

__all__ = ["ReplicaPosition", "changed", "is_past", "old_windows", "refuse", "stands", "why_whole"]


@dataclass(frozen=True, slots=True)
class ReplicaPosition:
    """Up to where the log is in the replica."""

    project: str
    fork: int
    generation: int
    position: int
    epoch: int
    """Position of the batch that its batch-only tables stand for."""
    head: str
    ingest_ts: str
    tables: str
    details: str

    @property
    def batch(self) -> tuple[int, int]:
        """Return generation and position of the batch that it stands on."""
        return self.generation, self.epoch

    def said(self, name: str) -> Any:
        """Return one part of the details; empty where there is none."""
        return json.loads(self.details).get(name, {})


def stands(position: ReplicaPosition, stored: StoredTable) -> int:
    """Return the log position that the rows of a table stand for.

    That of the batch for a table that does not follow live, that of its failure for one
    whose model failed. Rows that are written whole bear it: one written with a later one
    would win over what the table's next batch says.
    """
    live = stored.live and not stored.layout.batch_only
    last = position.position if live else position.epoch
    return int(position.said("stale").get(stored.name, last))


def old_windows(
    position: ReplicaPosition, stored: StoredTable, rows: Sequence[Sequence[Any]]
) -> bool:
    """Tell whether rows are among those that the embedded store gives up at its next batch.

    They are older than what it keeps, and there only because something late came for them.
    """
    first = position.said("keep_from").get(stored.name) if stored.layout.keep else None
    if first is None:
        return False
    [place] = [n for n, column in enumerate(stored.columns) if column.name == stored.layout.keep]
    return any(isinstance(row[place], str) and row[place] < first for row in rows)


def why_whole(before: ReplicaPosition | None, target: ReplicaPosition) -> str:
    """Return why what changed since ``before`` can't be told; empty where it can."""
    if before is None:
        return "it was empty"
    if (before.fork, before.generation) != (target.fork, target.generation):
        return "the tables were restated"
    if before.tables != target.tables:
        return "its tables changed"
    if before.position < target.epoch:
        return "it was behind the last batch"
    return ""


def is_past(before: ReplicaPosition, target: ReplicaPosition) -> bool:
    """Tell whether the answers stand before the replica, in the same generation.

    Those of one and the same log do while they are made anew: they come past it.
    """
    one, two = (before.fork, before.generation), (target.fork, target.generation)
    return one == two and (before.position, before.epoch) > (target.position, target.epoch)


def refuse(
    before: ReplicaPosition, target: ReplicaPosition, where: str, in_log: bool | None
) -> None:
    """Refuse a replica that knows more than the log, or something else.

    Args:
        before: Where the replica stands.
        target: Where the answers stand.
        where: The replica's store.
        in_log: Whether the log holds the entry that the replica was made from; None: not known.

    Raises:
        DamageError: It does.
    """
    fix = (
        "if this project is the one to go on with, make the replica anew: meterhouse serving "
        "rebuild (--store says which); else restore the newer log (docs/backup.md). Nothing was "
        "written"
    )
    if before.project != target.project:
        raise DamageError("the replica is of another project", where, fix)
    one, two = (before.fork, before.generation), (target.fork, target.generation)
    # A row of the lost future must not win by its generation.
    further = (
        before.fork > target.fork
        or before.generation > target.generation
        or (before.fork < target.fork and before.generation == target.generation)
    )
    if further or (one == two and before.position > target.position and not in_log):
        raise DamageError(
            f"the replica stands at log position {before.position:,} of generation "
            f"{before.generation}, ahead of {target.position:,} of generation {target.generation} "
            "here: an older state of the project was restored",
            where,
            fix,
        )
    other = (before.fork, before.position) == (target.fork, target.position) and (
        before.head != target.head
    )
    if other or (one == two and in_log is False):
        raise DamageError(
            f"log entry {before.position:,} is not the one that the replica was made from",
            where,
            fix,
        )


def changed(details: str, **more: Any) -> str:
    """Return details with some parts replaced."""
    found: Mapping[str, Any] = json.loads(details)
    return json.dumps({**found, **more}, sort_keys=True)
