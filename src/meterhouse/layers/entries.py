"""Judged rows of consecutive log entries, in pieces that fit the memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterhouse.errors import DamageError, EnvironmentFailureError
from meterhouse.log.state import JudgedFile, State
from meterhouse.ports import Blobs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Entries", "Group"]

_FILES: Final = 4_096
"""Most judged files of one group: a small one costs more than its rows."""
_SPAN: Final = 65_536
"""Most entries of one group: with a million behind, they are not all listed each time."""


@dataclass(frozen=True, slots=True)
class Group:
    """Entries (after, position] on their way into the answers."""

    after: int
    position: int
    rows: int
    """Judged rows, whatever their verdict."""
    tables: Mapping[str, tuple[pa.Table, ...]]
    """Source → its judged rows: one table for each form that its files have."""


class Entries:
    """Reads judged files as ``log.apply`` wrote them, each checked by its hash."""

    def __init__(self, blobs: Blobs, state: State, *, unread: Collection[str] = ()) -> None:
        """Remember where they are; columns ``unread`` are passed over."""
        self._blobs = blobs
        self._state = state
        self._unread = frozenset(unread)

    def group(self, after: int, upto: int, rows: int) -> Group:
        """Return the entries from ``after`` on: up to ``upto``, or to about ``rows`` rows.

        At least one entry. The last position may be of an entry without rows.

        Raises:
            DamageError: A judged file is missing or not what was written.
            EnvironmentFailureError: The view that names the files does not go up to ``upto``.
        """
        position, taken = min(upto, after + _SPAN), 0
        files = self._files(None, after, position)
        for number, file in enumerate(files):
            if number and (taken + file.rows > rows or number >= _FILES):
                # What follows the last file taken has no rows until this one.
                position = file.position - 1
                break
            taken += file.rows
        by_source: dict[str, list[JudgedFile]] = {}
        # A joined file may begin before and end after: its rows are cut at the position.
        for file in (one for one in files if one.begins <= position):
            by_source.setdefault(file.source, []).append(file)
        tables = {source: self._read(files, after, position) for source, files in by_source.items()}
        return Group(after, position, taken, tables)

    def of(self, source: str, after: int, upto: int, rows: int) -> Iterator[pa.Table]:
        """Yield the judged rows of one source in (after, upto], some ``rows`` at a time.

        Raises:
            DamageError: A judged file is missing or not what was written.
            EnvironmentFailureError: The view that names the files does not go up to ``upto``.
        """
        waiting: list[JudgedFile] = []
        for file in self._files(source, after, upto):
            if waiting and sum(one.rows for one in waiting) + file.rows > rows:
                yield from self._read(waiting, after, upto)
                waiting = []
            waiting.append(file)
        yield from self._read(waiting, after, upto)

    def _files(self, source: str | None, after: int, upto: int) -> list[JudgedFile]:
        if self._state.position < upto:
            # It would name no file, as if the entries had no rows.
            raise EnvironmentFailureError(
                f"entries up to {upto} are to be answered, but those after "
                f"{self._state.position} are not applied any more",
                "index/state.db",
                "they are in the log, and applied when this is tried again",
            )
        return self._state.judged_files(source, after, upto)

    def _read(self, files: list[JudgedFile], after: int, upto: int) -> tuple[pa.Table, ...]:
        import pyarrow as pa

        forms: list[list[pa.Table]] = []
        for file in files:
            if not file.rows:
                continue
            table = self._table(file, after, upto)
            for form in forms:
                if form[0].schema.equals(table.schema):
                    form.append(table)
                    break
            else:
                forms.append([table])
        return tuple(pa.concat_tables(form) for form in forms)

    def _table(self, file: JudgedFile, after: int, upto: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        where = file.path
        try:
            data = self._blobs.read(where)
        except FileNotFoundError as error:
            raise _damaged(where, "is missing") from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise _damaged(where, "is not what was written")
        opened = pq.ParquetFile(pa.BufferReader(data))
        names = [name for name in opened.schema_arrow.names if name not in self._unread]
        table = opened.read(columns=names, use_threads=False).replace_schema_metadata(None)
        return table if file.within(after, upto) else _rows_within(table, after, upto)


def _rows_within(table: pa.Table, after: int, upto: int) -> pa.Table:
    import pyarrow.compute as pc

    position = table["log_position"]
    return table.filter(pc.and_(pc.greater(position, after), pc.less_equal(position, upto)))


def _damaged(where: str, how: str) -> DamageError:
    return DamageError(
        f"a judged file {how}",
        where,
        "judged files are a view of the log; make them anew: meterhouse rebuild",
    )
