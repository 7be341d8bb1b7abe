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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse.errors import EnvironmentFailureError
from meterhouse.ports import DataFile

__all__ = ["PartitionedWriter", "TooManyPartitionsError", "partition_folder"]

CHUNK_BYTES = 128 << 20
"""Rows held back to be split among the partitions: more makes larger row groups."""

ROW_GROUP_ROWS = 122_880
FILE_BYTES = 256 << 20
"""A file is closed when it is larger, and the next one begun."""

OPEN_FILES = 768
"""More partitions than this at a time are sorted first: each open file keeps about 60 KB,
and 20 KB more for every chunk."""

_NAME_BYTES = 200
_SAMPLE_ROWS = 4096
_SYNC_THREADS = 16


class TooManyPartitionsError(Exception):
    """The rows of one chunk belong to more partitions than files may be open."""


@dataclass
class _Open:
    folder: str
    path: str
    """Relative to the directory."""
    values: dict[str, str]
    writer: pq.ParquetWriter
    collected: list[Any]
    sink: Any


class PartitionedWriter:
    """Writes batches as ``[column=value/…]name-NNNNN.parquet``; close it to sync the files.

    Within a file the rows keep the order they came in.
    """

    def __init__(
        self, directory: Path, name: str, partition_by: tuple[str, ...], *, one_at_a_time: bool
    ) -> None:
        """Write below ``directory``.

        Args:
            directory: Made when it does not exist and there are rows.
            name: First part of each file name.
            partition_by: Columns; they stay in the files.
            one_at_a_time: The rows come sorted by partition: a file is closed as soon as
                another partition begins.
        """
        self.files: list[DataFile] = []
        self._directory = directory
        self._name = name
        self._partition_by = partition_by
        self._one_at_a_time = one_at_a_time
        self._open: dict[str, _Open] = {}
        self._numbers: dict[str, int] = {}
        self._dictionaries: list[str] | None = None

    def __enter__(self) -> PartitionedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for folder in list(self._open):
            self._close(folder, keep=kind is None)
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
        for chunk in _chunks(batches):
            self._write_chunk(chunk)
            del chunk

    def _write_chunk(self, chunk: _Chunk) -> None:
        if self._dictionaries is None:
            self._dictionaries = _repetitive(chunk.table().slice(0, _SAMPLE_ROWS))
        if not self._partition_by:
            self._write_rows("", {}, chunk.table())
            return
        order, bounds = _partitions(chunk.columns, self._partition_by)
        if len(bounds) - 1 > OPEN_FILES and not self._one_at_a_time:
            for folder in list(self._open):
                self._close(folder, keep=False)
            self._discard()
            raise TooManyPartitionsError
        rows = chunk.reordered(order)
        for lo, hi in pairwise(bounds):
            part = rows.slice(lo, hi - lo)
            values = {name: _as_text(part[name][0]) for name in self._partition_by}
            folder = "/".join(partition_folder(name, text) for name, text in values.items())
            known = {name: text for name, text in values.items() if text is not None}
            self._write_rows(folder, known, part)

    def _write_rows(self, folder: str, values: dict[str, str], rows: pa.Table) -> None:
        file = self._open.get(folder)
        if file is None:
            if self._one_at_a_time or len(self._open) >= OPEN_FILES:
                for other in list(self._open):
                    self._close(other, keep=True)
            file = self._start(folder, values, rows.schema)
        _environment(file.path, lambda: file.writer.write_table(rows, ROW_GROUP_ROWS))
        if file.sink.tell() > FILE_BYTES:
            self._close(folder, keep=True)

    def _start(self, folder: str, values: dict[str, str], schema: pa.Schema) -> _Open:
        number = self._numbers.get(folder, 0)
        self._numbers[folder] = number + 1
        path = f"{folder}/{self._name}-{number:05d}.parquet".lstrip("/")
        target = self._directory / path
        collected: list[Any] = []

        def opened() -> _Open:
            target.parent.mkdir(parents=True, exist_ok=True)
            sink = pa.OSFile(str(target), "wb")
            writer = pq.ParquetWriter(
                sink,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=self._dictionaries or False,
                write_statistics=_with_statistics(schema),
                store_schema=False,
                metadata_collector=collected,
            )
            return _Open(folder, path, values, writer, collected, sink)

        self._open[folder] = _environment(path, opened)
        return self._open[folder]

    def _close(self, folder: str, *, keep: bool) -> None:
        file = self._open.pop(folder)
        target = self._directory / file.path
        if not keep:
            file.sink.close()
            target.unlink(missing_ok=True)
            return

        def closed() -> None:
            file.writer.close()
            file.sink.close()

        _environment(file.path, closed)
        metadata = file.collected[0]
        minimum, maximum = _extremes(metadata)
        self.files.append(
            DataFile(
                path=file.path,
                rows=metadata.num_rows,
                size=target.stat().st_size,
                partition=file.values,
                minimum=minimum,
                maximum=maximum,
            )
        )

    def _discard(self) -> None:
        for file in self.files:
            (self._directory / file.path).unlink(missing_ok=True)
        self.files.clear()


def partition_folder(column: str, value: str | None) -> str:
    """Return the folder name of one partition value, safe on every file system.

    Different values never share a folder. What Delta readers believe is the table's log,
    not this name.
    """
    if value is None:
        return f"{column}=__HIVE_DEFAULT_PARTITION__"
    text = quote(value, safe=" ").replace(" ", "%20").replace("~", "%7E")
    if len(text) > _NAME_BYTES or value == "__HIVE_DEFAULT_PARTITION__":
        text = f"{text[:100]}~{hashlib.sha256(value.encode()).hexdigest()[:32]}"
    return f"{column}={text}"


class _Chunk:
    """Rows of several batches, as columns that are let go one by one while they are copied."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self.schema = batches[0].schema
        self.columns = {
            name: pa.chunked_array([batch.column(index) for batch in batches])
            for index, name in enumerate(self.schema.names)
        }

    def table(self) -> pa.Table:
        return pa.Table.from_arrays(list(self.columns.values()), schema=self.schema)

    def reordered(self, order: np.ndarray) -> pa.Table:
        """Return the rows in ``order``; nothing is left in this chunk."""
        indices = pa.array(order)
        taken = []
        for name in self.schema.names:
            column = self.columns.pop(name).combine_chunks()
            taken.append(column.take(indices))
        return pa.Table.from_arrays(taken, schema=self.schema)


def _chunks(batches: pa.RecordBatchReader) -> Iterator[_Chunk]:
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            size += batch.nbytes
        del batch
        if size >= CHUNK_BYTES:
            chunk, held, size = _Chunk(held), [], 0
            yield chunk
            del chunk
    if held:
        yield _Chunk(held)


def _partitions(
    columns: Mapping[str, pa.ChunkedArray], partition_by: Sequence[str]
) -> tuple[np.ndarray, list[int]]:
    """Return the row order that brings partitions together, and their bounds in it."""
    codes = np.zeros(len(columns[partition_by[0]]), dtype=np.int64)
    for name in partition_by:
        encoded = columns[name].combine_chunks().dictionary_encode(null_encoding="encode")
        values = encoded.dictionary
        ranks = pc.rank(values, sort_keys="ascending").to_numpy()
        codes = codes * (len(values) + 1) + ranks[encoded.indices.to_numpy()].astype(np.int64)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered)) + 1
    return order, [0, *starts.tolist(), len(order)]


def _repetitive(sample: pa.Table) -> list[str]:
    """Columns whose values repeat: dictionary pages help them and cost the others time."""
    found = []
    for field in sample.schema:
        if pa.types.is_nested(field.type) or pa.types.is_boolean(field.type):
            continue
        distinct = pc.count_distinct(sample[field.name], mode="all").as_py()
        if distinct * 2 <= sample.num_rows:
            found.append(field.name)
    return found


def _with_statistics(schema: pa.Schema) -> list[str] | bool:
    names = [
        field.name
        for field in schema
        if not (
            pa.types.is_nested(field.type)
            or pa.types.is_binary(field.type)
            or pa.types.is_decimal(field.type)
        )
    ]
    return names or False


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
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(metadata.num_columns):
            column = row_group.column(index)
            name = column.path_in_schema
            if column.physical_type != "INT64" or not column.is_stats_set:
                continue
            statistics = column.statistics
            if statistics.has_min_max and isinstance(statistics.min, int):
                minimum[name] = min(statistics.min, minimum.get(name, statistics.min))
                maximum[name] = max(statistics.max, maximum.get(name, statistics.max))
    return (
        {name: json.dumps(value) for name, value in minimum.items()},
        {name: json.dumps(value) for name, value in maximum.items()},
    )


def _sync(directory: Path, paths: Sequence[str]) -> None:
    """Sync files and then their folders, many at a time: one by one the disk waits for each."""
    files = [directory / path for path in paths]
    folders = {parent for file in files for parent in file.parents if directory in parent.parents}
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        _environment(str(directory), lambda: list(pool.map(_sync_one, files)))
        if files:
            _environment(str(directory), lambda: list(pool.map(_sync_one, [*folders, directory])))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _environment(path: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except OSError as error:
        raise EnvironmentFailureError(
            f"file can't be written: {errno.errorcode.get(error.errno or 0, 'EIO')}",
            path,
            "check free space and permissions, then run the command again",
        ) from error
