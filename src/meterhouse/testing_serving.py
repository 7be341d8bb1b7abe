"""A serving store in memory, for tests: yours too, not only ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from meterhouse.errors import UsageError
from meterhouse.ports import Stamp

__all__ = ["MemoryServing"]


@dataclass
class _Epoch:
    name: str
    stamp: Stamp
    ingest_ts: datetime
    details: str
    tables: dict[str, pa.Table] = field(default_factory=dict)


class MemoryServing:
    """``ports.ServingStore`` in dictionaries. Lost with the process."""

    def __init__(self) -> None:
        """Start with nothing published."""
        self._loading: dict[str, dict[str, pa.Table]] = {}
        self._visible: _Epoch | None = None

    def stamp(self) -> Stamp | None:
        """Return what the visible epoch stands for; None when nothing was ever published."""
        return self._visible.stamp if self._visible else None

    @property
    def details(self) -> str:
        """What the visible epoch was published with; empty when nothing was."""
        return self._visible.details if self._visible else ""

    @property
    def tables(self) -> Sequence[str]:
        """Names of the visible epoch's tables, sorted."""
        return sorted(self._visible.tables) if self._visible else []

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        """Add ``rows`` of gold model ``table`` to the invisible ``epoch``; return how many."""
        found = rows.read_all()
        self._loading.setdefault(epoch, {})[table] = found
        return int(found.num_rows)

    def publish(self, epoch: str, stamp: Stamp, *, ingest_ts: datetime, details: str) -> None:
        """Make ``epoch`` the visible one and drop the one before."""
        fresh = self._loading.pop(epoch, {})
        if self._visible is not None and self._visible.name == epoch:
            if not fresh:
                return
            fresh = self._visible.tables | fresh
        self._visible = _Epoch(epoch, stamp, ingest_ts, details, fresh)
        self._loading.clear()

    def rows(self, table: str) -> pa.RecordBatchReader:
        """Return all rows of a table of the visible epoch.

        Raises:
            UsageError: Nothing was published, or there is no such table.
        """
        if self._visible is None:
            raise UsageError("nothing was published yet", "", "load and publish an epoch")
        if table not in self._visible.tables:
            raise UsageError.unknown("served table", table, self._visible.tables)
        return self._visible.tables[table].to_reader()
