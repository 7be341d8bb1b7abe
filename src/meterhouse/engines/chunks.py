"""Rows held back in memory until they can be split among partitions, in as few bytes as can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Chunk", "chunks", "partition_order", "repetitive"]

_SAMPLE_ROWS = 4096
_RADIX = 1 << 16
"""NumPy sorts 16-bit numbers in linear time."""


class Chunk:
    """Rows of several batches, as columns that are let go one by one while they are copied."""

    def __init__(self, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> None:
        """Hold ``batches`` of one schema, which may have dictionaries for columns of ``schema``."""
        self.schema = schema
        self.rows = sum(batch.num_rows for batch in batches)
        self.columns: dict[str, pa.ChunkedArray] = {
            name: pa.chunked_array([batch.column(index) for batch in batches])
            for index, name in enumerate(schema.names)
        }

    def table(self) -> pa.Table:
        """Return the rows; for a chunk without dictionaries."""
        return pa.Table.from_arrays(list(self.columns.values()), schema=self.schema)

    def reordered(self, order: np.ndarray) -> pa.Table:
        """Return the rows in another order; nothing is left in this chunk."""
        indices = pa.array(order)
        taken = []
        for name in self.schema.names:
            taken.append(self._whole(name).take(indices))
            # Else the allocator keeps what was just freed: a second chunk's worth.
            pa.default_memory_pool().release_unused()
        return pa.Table.from_arrays(taken, self.schema.names)

    def _whole(self, name: str) -> pa.Array:
        column = self.columns.pop(name)
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        return column.combine_chunks()


def chunks(batches: pa.RecordBatchReader, *, size: int, encode: bool) -> Iterator[Chunk]:
    """Yield the rows in chunks of about ``size`` bytes.

    Args:
        batches: Where the rows come from.
        size: Bytes in memory, after encoding.
        encode: Keep text that repeats as dictionaries: two to five times smaller, and
            several times faster to bring into another order.
    """
    held: list[pa.RecordBatch] = []
    found: list[str] | None = None
    total = 0
    for given in batches:
        if not given.num_rows:
            continue
        if encode and found is None:
            found = repetitive(given, only_text=True)
        batch = given if found is None else _encoded(given, found)
        held.append(batch)
        total += batch.nbytes
        del given, batch
        if total >= size:
            chunk, held, total = Chunk(batches.schema, held), [], 0
            yield chunk
            del chunk
    if held:
        yield Chunk(batches.schema, held)


def repetitive(batch: pa.RecordBatch | pa.Table, *, only_text: bool = False) -> list[str]:
    """Return the columns whose values repeat; dictionaries cost the others time."""
    sample = batch.slice(0, _SAMPLE_ROWS)
    found = []
    for field in sample.schema:
        if pa.types.is_nested(field.type) or pa.types.is_boolean(field.type):
            continue
        if only_text and not pa.types.is_string(field.type):
            continue
        if pa.types.is_dictionary(field.type):
            found.append(field.name)
            continue
        distinct = pc.count_distinct(sample[field.name], mode="all").as_py()
        if distinct * 2 <= sample.num_rows:
            found.append(field.name)
    return found


def _encoded(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    # A batch that comes from another library is freed as a whole, so nothing of it may stay.
    columns = [
        column.dictionary_encode() if name in names else pa.concat_arrays([column])
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def partition_order(
    columns: Mapping[str, pa.ChunkedArray], partition_by: Sequence[str]
) -> tuple[np.ndarray, list[int]]:
    """Return the row order that brings partitions together, and their bounds in it.

    Rows of one partition keep their order; partitions are sorted by value, NULL last.
    """
    codes = np.zeros(len(columns[partition_by[0]]), dtype=np.int64)
    for name in partition_by:
        ranks, kinds = _ranks(columns[name])
        codes = codes * kinds + ranks
    if codes.max(initial=0) < _RADIX:
        codes = codes.astype(np.uint16)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return order, [0, *starts.tolist(), len(order)]


def _ranks(column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Return a number for each row that sorts like its value, and how many there can be."""
    encoded = column
    if not pa.types.is_dictionary(column.type):
        encoded = column.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    size = len(encoded.dictionary)
    ranks = np.full(size + 1, size, dtype=np.int64)
    ranks[:size] = pc.rank(encoded.dictionary, sort_keys="ascending").to_numpy() - 1
    return ranks[encoded.indices.fill_null(size).to_numpy(zero_copy_only=False)], size + 1
