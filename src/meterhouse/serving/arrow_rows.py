"""Arrow batches as rows of served values, and back, exactly."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from meterhouse.arrow_text import kind_of, text_array
from meterhouse.formats import text
from meterhouse.serving.schema import NULL_KEY, StoredColumn

__all__ = [
    "schema_from_text",
    "schema_text",
    "stored_columns",
    "stored_rows",
    "stored_values",
    "to_batch",
]

_FEW: Final = 100
"""Rows up to which values are printed one by one: a column at a time costs 0.1 ms to begin."""
_SCALAR: Final = frozenset({"text", "decimal", "date", "timestamp"})


def stored_columns(schema: pa.Schema) -> tuple[StoredColumn, ...]:
    """Return how each column of ``schema`` is kept."""
    return tuple(
        StoredColumn(item.name, kind_of(item.type), "INTEGER" if _small(item.type) else "TEXT")
        for item in schema
    )


def _small(data_type: pa.DataType) -> bool:
    """Tell whether every value fits SQLite's 64-bit integer."""
    if pa.types.is_boolean(data_type):
        return True
    return bool(pa.types.is_integer(data_type) and data_type != pa.uint64())


def stored_rows(
    batch: pa.RecordBatch, columns: Sequence[StoredColumn], key: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of ``batch`` as they are stored; NULL in the key is ``NULL_KEY``."""
    return zip(*(values for _, values in stored_values(batch, columns, key)), strict=True)


def stored_values(
    batch: pa.RecordBatch, columns: Sequence[StoredColumn], key: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Yield each column's name and values as they are stored."""
    for column, array in zip(columns, batch.columns, strict=True):
        items = _stored(array, column)
        if column.name in key and array.null_count:
            items = [NULL_KEY if item is None else item for item in items]
        yield column.name, items


def _stored(array: pa.Array, column: StoredColumn) -> list[Any]:
    if column.storage == "INTEGER":
        if array.null_count:
            return list(array.cast(pa.int64()).to_pylist())
        return list(array.cast(pa.int64()).to_numpy(zero_copy_only=False).tolist())
    if len(array) < _FEW and column.kind in _SCALAR:
        return [None if value is None else text(value) for value in array.to_pylist()]
    return list(text_array(array).to_pylist())


def to_batch(
    rows: Sequence[tuple[Any, ...]], columns: Sequence[StoredColumn], schema: pa.Schema
) -> pa.RecordBatch:
    """Return stored rows as a batch of ``schema``; what else a row has at its end is left.

    Raises:
        ValueError: A value was not written so (pyarrow's errors are ValueErrors).
    """
    arrays = []
    # Not strict: what is at the end of the rows has no column.
    for column, item, values in zip(columns, schema, zip(*rows, strict=True), strict=False):
        arrays.append(_array(values, column, item.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], column: StoredColumn, data_type: pa.DataType) -> pa.Array:
    expected = int if column.storage == "INTEGER" else str
    if set(map(type, values)) != {expected}:
        values = [None if value is None or value == NULL_KEY else value for value in values]
        if not set(map(type, values)) <= {expected, type(None)}:
            raise TypeError(f'a value of "{column.name}" is not kept as {column.storage}')
    if column.storage == "INTEGER":
        return pa.array(values, pa.int64()).cast(data_type)
    if column.kind == "json":
        read = _reader(data_type)
        loaded = [None if value is None else read(json.loads(value)) for value in values]
        return pa.array(loaded, data_type)
    if column.kind == "bytes":
        return pa.array([None if v is None else base64.b64decode(v) for v in values], data_type)
    texts = pa.array(values, pa.string())
    if pa.types.is_timestamp(data_type) and not data_type.tz:
        return texts.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us")).cast(data_type)
    return texts.cast(data_type)


def _reader(data_type: pa.DataType) -> Callable[[Any], Any]:
    """Return what turns the JSON form of a value into what ``pa.array`` takes."""
    if pa.types.is_map(data_type):
        key, item = _optional(data_type.key_type), _optional(data_type.item_type)
        return lambda value: [(key(name), item(held)) for name, held in value.items()]
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        item = _optional(data_type.value_type)
        return lambda value: [item(held) for held in value]
    if pa.types.is_struct(data_type):
        items = {child.name: _optional(child.type) for child in data_type}
        return lambda value: {name: read(value[name]) for name, read in items.items()}
    if pa.types.is_decimal(data_type):
        return Decimal
    if pa.types.is_date(data_type):
        return date.fromisoformat
    if pa.types.is_timestamp(data_type):
        return datetime.fromisoformat
    return base64.b64decode if kind_of(data_type) == "bytes" else _as_is


def _optional(data_type: pa.DataType) -> Callable[[Any], Any]:
    read = _reader(data_type)
    return lambda value: None if value is None else read(value)


def _as_is(value: Any) -> Any:
    return value


def schema_text(schema: pa.Schema) -> str:
    """Return ``schema`` as text that ``schema_from_text`` reads."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def schema_from_text(text: str) -> pa.Schema:
    """Return the schema that ``schema_text`` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
