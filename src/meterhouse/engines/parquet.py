"""Streams of rows into Parquet files, partitioned, in bounded memory.

DuckDB's own ``COPY … PARTITION_BY`` writes the same, but takes twice the CPU, grows past its
memory limit when few partitions take many rows, and fails on values whose escaped text is
longer than a file name may be.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.engines.chunks import Chunk, chunks, partition_order, repetitive
from meterhouse.errors import EnvironmentFailureError
from meterhouse.ports import DataFile

__all__ = ["PartitionedWriter", "TooManyPartitionsError", "partition_folder"]

CHUNK_BYTES = 192 << 20
"""Rows held back to be split among the partitions: more makes larger row groups, and each
column of each row group costs, however few rows it has."""

PIECE_BYTES = 64 << 20
"""Rows held back where there are no partitions."""

ROW_GROUP_ROWS = 122_880
FILE_BYTES = 256 << 20
"""A file is closed when it is larger, and the next one begun."""

OPEN_FILES = 768
"""More partitions than this at a time are sorted first: each open file keeps about 60 KB."""

OPEN_ROW_GROUPS = 4096
"""Files are closed, and others begun, when they have more than this together: a writer keeps
about 20 KB for each until its file is closed."""

CODEC = "snappy"
"""zstd would take a third less space and, as most row groups are small, twice the time."""

_NAME_BYTES = 200
_SYNC_THREADS = 16
_DICTIONARY_SHARE = 8
"""A dictionary is written as it is when it has so many times fewer values than a part has
rows; else each part's own values are looked up again."""


_Item = TypeVar("_Item")


class TooManyPartitionsError(Exception):
    """The rows of one chunk belong to more partitions than files may be open."""


@dataclass
class _Open:
    path: str
    """Relative to the directory."""
    values: dict[str, str]
    writer: pq.ParquetWriter
    collected: list[Any]
    sink: Any


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows for one file."""

    folder: str
    values: dict[str, str]
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class _Layout:
    """How columns are encoded, the same in all files of a table."""

    schema: pa.Schema
    """With dictionaries for columns that are handed over as such."""
    repetitive: list[str]
    measured: list[str]
    """Columns with statistics: nobody skips a row group by its text or its amounts."""

    @classmethod
    def of(cls, schema: pa.Schema, sample: pa.Table, part_rows: int) -> _Layout:
        """Choose by rows in ``sample``, of which parts have ``part_rows`` on average."""
        fields = [
            field if _shared(sample[field.name], part_rows) else schema.field(field.name)
            for field in sample.schema
        ]
        measured = [
            field.name
            for field in schema
            if pa.types.is_integer(field.type) or pa.types.is_temporal(field.type)
        ]
        return cls(pa.schema(fields), repetitive(sample), measured)

    def fitted(self, rows: pa.Table) -> pa.Table:
        """Return ``rows`` as they are handed over to a writer."""
        columns = [
            column if column.type == field.type else column.cast(field.type)
            for field, column in zip(self.schema, rows.columns, strict=True)
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)


def _shared(column: pa.ChunkedArray, part_rows: int) -> bool:
    """Return whether one dictionary is small enough to be written into every file."""
    if not pa.types.is_dictionary(column.type):
        return False
    return len(column.chunk(0).dictionary) * _DICTIONARY_SHARE <= part_rows


class PartitionedWriter:
    """Writes batches as ``[column=value/…]name-NNNNN.parquet``; close it to sync the files.

    Within a file the rows keep the order they came in.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        partition_by: tuple[str, ...],
        *,
        one_at_a_time: bool = False,
        threads: int = 1,
    ) -> None:
        """Write below ``directory``.

        Args:
            directory: Made when it does not exist and there are rows.
            name: First part of each file name.
            partition_by: Columns; they stay in the files.
            one_at_a_time: The rows come sorted by partition: a file is closed as soon as
                another partition begins.
            threads: So many partitions are encoded at a time.
        """
        self.files: list[DataFile] = []
        self._directory = directory
        self._name = name
        self._partition_by = partition_by
        self._one_at_a_time = one_at_a_time
        self._threads = 1 if one_at_a_time else threads
        self._open: dict[str, _Open] = {}
        self._numbers: dict[str, int] = {}
        self._row_groups = 0
        self._layout: _Layout | None = None

    def __enter__(self) -> PartitionedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close_all(keep=kind is None)
        if kind is None:
            self.files.sort(key=lambda file: file.path)
            _sync(self._directory, [file.path for file in self.files])
        else:
            self._discard()

    def write(self, batches: pa.RecordBatchReader) -> None:
        """Write all rows of ``batches``.

        Raises:
            TooManyPartitionsError: Too many partitions at once; sort the rows. What was
                written is removed.
        """
        split = bool(self._partition_by)
        for chunk in chunks(batches, size=CHUNK_BYTES if split else PIECE_BYTES, encode=split):
            if split:
                self._write_partitions(chunk)
            else:
                self._write_whole(chunk.table())
            del chunk
            # Else the allocator holds twice the chunk for the next one.
            pa.default_memory_pool().release_unused()

    def _write_whole(self, rows: pa.Table) -> None:
        if self._layout is None:
            self._layout = _Layout.of(rows.schema, rows, rows.num_rows)
        self._write_part(_Part("", {}, rows))

    def _write_partitions(self, chunk: Chunk) -> None:
        order, bounds = partition_order(chunk.columns, self._partition_by)
        if len(bounds) - 1 > OPEN_FILES and not self._one_at_a_time:
            self._close_all(keep=False)
            self._discard()
            raise TooManyPartitionsError
        rows = chunk.reordered(order)
        if self._layout is None:
            self._layout = _Layout.of(chunk.schema, rows, len(order) // (len(bounds) - 1))
        parts = [self._part(rows.slice(lo, hi - lo)) for lo, hi in pairwise(bounds)]
        new = sum(part.folder not in self._open for part in parts)
        if len(self._open) + new > OPEN_FILES:
            self._close_all(keep=True)
        self._each(self._write_part, parts)
        self._row_groups += len(parts)
        if self._row_groups > OPEN_ROW_GROUPS:
            self._close_all(keep=True)

    def _part(self, rows: pa.Table) -> _Part:
        values = {name: _as_text(rows[name][0]) for name in self._partition_by}
        folder = "/".join(partition_folder(name, text) for name, text in values.items())
        known = {name: text for name, text in values.items() if text is not None}
        return _Part(folder, known, rows)

    def _write_part(self, part: _Part) -> None:
        if self._one_at_a_time and part.folder not in self._open:
            self._close_all(keep=True)
        file = self._open.get(part.folder) or self._start(part)
        assert self._layout is not None
        rows = self._layout.fitted(part.rows)
        target = f"{self._directory}/{file.path}"
        _environment(target, lambda: file.writer.write_table(rows, ROW_GROUP_ROWS))
        if file.sink.tell() > FILE_BYTES:
            self._close(part.folder, keep=True)

    def _start(self, part: _Part) -> _Open:
        assert self._layout is not None
        layout = self._layout
        number = self._numbers.get(part.folder, 0)
        self._numbers[part.folder] = number + 1
        path = f"{part.folder}/{self._name}-{number:05d}.parquet".lstrip("/")
        target = f"{self._directory}/{path}"
        collected: list[Any] = []

        def opened() -> _Open:
            (self._directory / part.folder).mkdir(parents=True, exist_ok=True)
            sink = pa.OSFile(target, "wb")
            writer = pq.ParquetWriter(
                sink,
                layout.schema,
                compression=CODEC,
                use_dictionary=layout.repetitive,
                write_statistics=layout.measured,
                store_schema=False,
                metadata_collector=collected,
            )
            return _Open(path, part.values, writer, collected, sink)

        self._open[part.folder] = _environment(target, opened)
        return self._open[part.folder]

    def _close_all(self, *, keep: bool) -> None:
        self._each(lambda folder: self._close(folder, keep=keep), list(self._open))
        self._row_groups = 0

    def _each(self, action: Callable[[_Item], None], items: Sequence[_Item]) -> None:
        if self._threads == 1 or len(items) == 1:
            for item in items:
                action(item)
            return
        # Encoding lets go of the interpreter lock. What fails is raised once all have ended.
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(action, items))

    def _close(self, folder: str, *, keep: bool) -> None:
        file = self._open.pop(folder)
        target = self._directory / file.path
        if not keep:
            _leave(file.writer)
            file.sink.close()
            target.unlink(missing_ok=True)
            return

        def closed() -> int:
            try:
                file.writer.close()
                return int(file.sink.tell())
            finally:
                _leave(file.writer)
                file.sink.close()

        size = _environment(str(target), closed)
        metadata = file.collected[0]
        minimum, maximum = _extremes(metadata)
        self.files.append(
            DataFile(
                path=file.path,
                rows=metadata.num_rows,
                size=size,
                partition=file.values,
                minimum=minimum,
                maximum=maximum,
            )
        )

    def _discard(self) -> None:
        for file in self.files:
            (self._directory / file.path).unlink(missing_ok=True)
        self.files.clear()


def _leave(writer: pq.ParquetWriter) -> None:
    """Else it would write its footer when it is thrown away, and complain that it can't."""
    writer.is_open = False


def partition_folder(column: str, value: str | None) -> str:
    """Return the folder name of one partition value, safe on every file system.

    Different values never share a folder. What Delta readers believe is the table's log,
    not this name.
    """
    if value is None:
        return f"{column}=__HIVE_DEFAULT_PARTITION__"
    # Letters beyond ASCII stay as they are: escaped, a name may get longer than it can be.
    text = "".join(char if ord(char) > 127 else quote(char, safe="") for char in value)
    text = text.replace("~", "%7E")
    if len(text.encode()) > _NAME_BYTES or value == "__HIVE_DEFAULT_PARTITION__":
        text = f"{text[:100]}~{hashlib.sha256(value.encode()).hexdigest()[:32]}"
    return f"{column}={text}"


def _as_text(value: pa.Scalar) -> str | None:
    found = value.as_py()
    if found is None:
        return None
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)


def _extremes(metadata: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Smallest and largest value of the integer columns of a written file, as JSON text."""
    minimum: dict[str, int] = {}
    maximum: dict[str, int] = {}
    integers = [
        index
        for index in range(metadata.num_columns)
        if metadata.schema.column(index).physical_type == "INT64"
    ]
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in integers:
            column = row_group.column(index)
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max:
                continue
            name, least, most = column.path_in_schema, statistics.min, statistics.max
            if isinstance(least, int):
                minimum[name] = min(least, minimum.get(name, least))
                maximum[name] = max(most, maximum.get(name, most))
    return (
        {name: json.dumps(value) for name, value in minimum.items()},
        {name: json.dumps(value) for name, value in maximum.items()},
    )


def _sync(directory: Path, paths: Sequence[str]) -> None:
    """Sync files and then their folders, many at a time: one by one the disk waits for each."""
    if not paths:
        return
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]

    def synced() -> None:
        with ThreadPoolExecutor(min(_SYNC_THREADS, len(paths))) as pool:
            list(pool.map(_sync_one, (f"{directory}/{path}" for path in paths)))
            list(pool.map(_sync_one, (f"{directory}/{folder}" for folder in folders)))
        _sync_one(str(directory))

    _environment(str(directory), synced)


def _sync_one(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _environment(path: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise EnvironmentFailureError(
            f"file can't be written: {reason}",
            str(error.filename or path),
            "check free space and permissions, then run the command again",
        ) from error
