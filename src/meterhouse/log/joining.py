"""Joining: judged rows of many small entries in one file instead of thousands.

A joined file is a pure function of the files it replaces: their rows, in the order of the
log. It is listed in their place in one transaction of the state; they are deleted later,
so that whoever has their names can read them. Only entries that the lake has are joined:
what lies after it is read entry by entry.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.errors import DamageError
from meterhouse.log.judged import judged_bytes
from meterhouse.log.segments import SPAN, Span
from meterhouse.log.state import JudgedFile, State

if TYPE_CHECKING:
    from meterhouse.ports import Blobs

__all__ = ["Joined", "Joining"]

_STEP: Final = 20
"""Files between two pauses: some milliseconds."""
_SMALL: Final = 256 << 10
"""Bytes: a judged file larger than this is not worth joining."""
_LARGEST: Final = 16 << 20
_MOST_ROWS: Final = 1 << 18
"""Of files that become one: they are held in memory."""
_DELETED: Final = 100
_REBUILD: Final = "make the judged files anew: meterhouse rebuild"


@dataclass(slots=True)
class Joined:
    """What was done."""

    files: int = 0
    """Joined files written."""
    deleted: int = 0
    """Files of single entries deleted, which joined files had replaced before."""


class Joining:
    """Joins the judged files of ranges of entries, range by range, in small steps."""

    def __init__(self, blobs: Blobs, state: State, *, span: Span = SPAN) -> None:
        """Look at nothing yet.

        Args:
            blobs: Where judged files are.
            state: Lists them.
            span: The ranges: those of the log's segments.
        """
        self.done = Joined()
        self._blobs = blobs
        self._state = state
        self.span = span

    def steps(self, before: int, published: int) -> Iterator[None]:
        """Join what is due, delete what was replaced; pause after every few milliseconds.

        May be left at any pause, and begun again.

        Args:
            before: Position of the publication before the one in force: readers may still
                be at that one.
            published: Position of the one in force.

        Raises:
            DamageError: A judged file is not what was written; its range stays as it is.
        """
        yield from self._delete(published)
        first = self._state.mark("joined") + 1
        while self.span.of(first)[1] <= before:
            first, last = self.span.of(first)
            joined = yield from self._range(first, last)
            if not self._state.join(joined, last, published):
                return  # somebody else joins
            self.done.files += len(joined)
            first = last + 1
            yield

    def _range(self, first: int, last: int) -> Generator[None, None, list[JudgedFile]]:
        """Write the joined files of one range; return those that stand for two or more."""
        found = self._state.judged_files(after=first - 1, upto=last)
        joined: list[JudgedFile] = []
        for source in sorted({file.source for file in found}):
            run = _Run(self._blobs, source, self._state.pinned_at(source))
            for number, file in enumerate([one for one in found if one.source == source], 1):
                table = self._table(file) if file.size <= _SMALL and not file.first else None
                if not run.fits(file, table):
                    joined += run.close()
                if table is not None:
                    run.add(file, table)
                if number % _STEP == 0:
                    yield
            joined += run.close()
            yield
        return joined

    def _table(self, file: JudgedFile) -> pa.Table:
        try:
            data = self._blobs.read(file.path)
        except FileNotFoundError as error:
            raise DamageError("judged file is missing", file.path, _REBUILD) from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise DamageError("judged file is not what was written", file.path, _REBUILD)
        return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)

    def _delete(self, published: int) -> Iterator[None]:
        """Delete files that were replaced before the publication in force."""
        while files := self._state.replaced(published, _DELETED):
            for file in files:
                self._blobs.delete(file.path)
            self._state.forget_replaced([file.position for file in files])
            self.done.deleted += len(files)
            yield


class _Run:
    """Files of one source that become one: neighbours under one contract, of one schema."""

    def __init__(self, blobs: Blobs, source: str, pinned_at: Sequence[int]) -> None:
        self._blobs = blobs
        self._source = source
        self._pinned_at = pinned_at
        self._files: list[JudgedFile] = []
        self._tables: list[pa.Table] = []

    def fits(self, file: JudgedFile, table: pa.Table | None) -> bool:
        if not self._files:
            return True
        return (
            table is not None
            and bisect(self._pinned_at, file.position)
            == bisect(self._pinned_at, self._files[0].position)
            and self._tables[0].schema.equals(table.schema)
            and sum(one.size for one in self._files) + file.size <= _LARGEST
            and sum(one.rows for one in self._files) + file.rows <= _MOST_ROWS
        )

    def add(self, file: JudgedFile, table: pa.Table) -> None:
        self._files.append(file)
        self._tables.append(table)

    def close(self) -> list[JudgedFile]:
        """Write the file, where there are two or more; begin anew."""
        files, tables = self._files, self._tables
        self._files, self._tables = [], []
        if len(files) < 2:
            return []
        # In one chunk: the bytes depend on the rows alone, not on how they came.
        data = judged_bytes(pa.concat_tables(tables).combine_chunks())
        file = JudgedFile(
            files[-1].position,
            self._source,
            sum(one.rows for one in files),
            len(data),
            hashlib.sha256(data).hexdigest(),
            files[0].position,
        )
        self._blobs.put(file.path, data)
        return [file]
