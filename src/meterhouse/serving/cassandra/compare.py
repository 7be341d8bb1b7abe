"""Holding the replica in Cassandra against the embedded store, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping

from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import CqlTable
from meterhouse.serving.cassandra.replica import Replica
from meterhouse.serving.comparing import Comparison, Difference
from meterhouse.serving.comparing import compare as compared
from meterhouse.serving.snapshot import SqliteSnapshot

__all__ = ["Comparison", "Difference", "compare"]


def compare(
    session: CqlSession, snapshot: SqliteSnapshot, tables: Mapping[str, tuple[CqlTable, ...]]
) -> Comparison:
    """Compare every row of every table; each table is held in memory once."""
    return compared(Replica(session, tables), snapshot)
