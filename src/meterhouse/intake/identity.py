"""What makes two records the same: 128-bit hashes of keys and bytes, 64-bit ones of payloads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.intake.contract import ColumnType
from meterhouse.intake.jsontext import Number, canonical, read_value
from meterhouse.intake.values import ARROW_TYPES, exact, exact_array

__all__ = ["Hashes", "bytes_hash", "key_hash", "payload_hash"]

Hashes: TypeAlias = npt.NDArray[np.uint64]

_NOT_PAYLOAD: Final = frozenset({"source_line", "problems", "payload_hash"})
_OBJECTS: Final = frozenset({"extra", "unreadable"})
"""JSON objects of delivered values, by field."""

_read_number = exact("decimal")

_LONG = 64
"""Bytes of a text beyond which it is hashed on its own, not word by word."""
_PROBE = 1024
"""Rows looked at to guess whether a text column repeats itself."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S27, _S29, _S30, _S31 = (np.uint64(shift) for shift in (27, 29, 30, 31))
_KEEP = np.array([(1 << (8 * count)) - 1 for count in range(9)], dtype=np.uint64)


def key_hash(rows: pa.Table, key: Sequence[str]) -> Hashes:
    """Return the identity of each row's key, shape (n, 2): high and low word.

    The first 16 bytes of SHA-256 over the key's canonical text: the UTF-8 bytes of a single
    text key, else each value with its length before it. A row in which a single text
    key is NULL gets zeros; other NULLs count as a value of their own.
    """
    columns = [rows[name] for name in key]
    if len(columns) == 1 and pa.types.is_string(columns[0].type):
        texts = columns[0].cast(pa.binary()).to_pylist()
        sha256 = hashlib.sha256
        if not columns[0].null_count:
            return _words([sha256(text).digest() for text in texts])
        none = b"\0" * 32
        return _words([none if text is None else sha256(text).digest() for text in texts])
    parts = [_canonical_bytes(column) for column in columns]
    return _words([hashlib.sha256(b"".join(row)).digest() for row in zip(*parts, strict=True)])


def bytes_hash(records: pa.LargeBinaryArray, indices: Sequence[int] | npt.NDArray[Any]) -> Hashes:
    """Return the identity of some records' raw bytes, shape (n, 2), made as ``key_hash`` is.

    The bytes are hashed behind a prefix, so no record's bytes are taken for a key.
    """
    bodies = records.take(pa.array(indices, pa.int64())).to_pylist()
    return _words([hashlib.sha256(b"\0raw\0" + body).digest() for body in bodies])


def _words(digests: list[bytes]) -> Hashes:
    words = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 4)
    return words[:, :2].astype(np.uint64)


def _canonical_bytes(column: pa.ChunkedArray) -> list[bytes]:
    if pa.types.is_string(column.type):
        values = column.cast(pa.binary()).to_pylist()
    elif pa.types.is_decimal(column.type):
        values = [None if value is None else _plain(value) for value in column.to_pylist()]
    elif pa.types.is_timestamp(column.type):
        values = [_ascii(value) for value in column.cast(pa.int64()).to_pylist()]
    else:
        values = [_ascii(value) for value in column.to_pylist()]
    return [b"-" if value is None else b"%d:%b" % (len(value), value) for value in values]


def _plain(value: Any) -> bytes:
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return b"0" if text == "-0" else text.encode("ascii")


def _ascii(value: Any) -> bytes | None:
    return None if value is None else str(value).encode("ascii")


def payload_hash(
    rows: pa.Table, json_columns: Sequence[str] = (), fields: Mapping[str, str] | None = None
) -> Hashes:
    """Return a hash of what each row says, shape (n,).

    Equal for equal payloads however they were written: numbers by value, NULL as absent,
    JSON (``extra``, ``unreadable`` and ``json_columns``) with keys sorted. A field counts the
    same whether it is a column or undeclared (in ``extra``), as long as its JSON type says
    what the column's type says: so a copy is known as one after a field was declared. Which
    line a row is from and what is wrong with it are not part of it. Not a secure hash: it
    is compared between rows of one key only.

    Args:
        rows: Parsed records.
        json_columns: Columns that hold JSON text.
        fields: Column to the delivered field that feeds it, where they differ.
    """
    hashed = _one_column_a_field(rows.schema, fields or {})
    json_names = frozenset(json_columns)
    parts = [_batch_hash(batch, hashed, json_names) for batch in rows.select(hashed).to_batches()]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _one_column_a_field(schema: pa.Schema, fields: Mapping[str, str]) -> dict[str, str]:
    """Return column to field, one for each field: text before what was read from it."""
    chosen: dict[str, str] = {}
    for item in schema:
        field = fields.get(item.name, item.name)
        if item.name not in (*_NOT_PAYLOAD, *_OBJECTS) and (
            field not in chosen
            or (pa.types.is_string(item.type) and schema.field(chosen[field]).type != item.type)
        ):
            chosen[field] = item.name
    objects = {name: "" for name in schema.names if name in _OBJECTS}
    return {column: field for field, column in chosen.items()} | objects


def _batch_hash(
    batch: pa.RecordBatch, fields: Mapping[str, str], json_names: frozenset[str]
) -> Hashes:
    total = np.zeros(batch.num_rows, np.uint64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count == len(column):
            continue
        seed = _seed(fields[name], "json" if name in json_names else _kind(column.type))
        encoded = name in json_names or name in _OBJECTS
        distinct = column.dictionary_encode() if encoded else _repeating(column)
        if distinct is None:
            hashes = _mixed(_column_hashes(column) ^ seed)
        else:
            codes = pc.fill_null(distinct.indices, 0).to_numpy()
            if name in _OBJECTS:
                hashes = _object_hashes(distinct.dictionary)[codes]
            elif encoded:
                hashes = _json_hashes(distinct.dictionary, seed)[codes]
            else:
                hashes = _mixed(_word_hashes(distinct.dictionary) ^ seed)[codes]
        if column.null_count:
            hashes[column.is_null().to_numpy(zero_copy_only=False)] = 0
        total += hashes
    return _mixed(total)


def _kind(type_: pa.DataType) -> str:
    """Return which values may be equal: "", 0 and false are not, 7 and 7.0 are."""
    if pa.types.is_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "boolean"
    return "time" if pa.types.is_temporal(type_) else "decimal"


def _seed(field: str, kind: str) -> Hashes:
    return np.frombuffer(_digest(f"{kind}:{field}".encode()), np.uint64)


def _object_hashes(texts: pa.StringArray) -> Hashes:
    """Return for each JSON object the sum over its fields, hashed as columns of them would be."""
    totals = np.zeros(len(texts), np.uint64)
    members: dict[str, tuple[list[int], list[str], list[Any]]] = {}
    for place, text in enumerate(texts.to_pylist()):
        for field, value in read_value(text.encode("utf-8")).items():
            if value is None:
                continue  # absent
            kind, told = _told(value)
            places, names, values = members.setdefault(kind, ([], [], []))
            places.append(place)
            names.append(field)
            values.append(told)
    for kind, (places, names, values) in members.items():
        seeds = {name: _seed(name, kind)[0] for name in set(names)}
        hashes = _member_hashes(kind, values) ^ np.array([seeds[name] for name in names])
        hashes = _mixed(hashes)
        np.add.at(totals, places, hashes)
    return totals


def _told(value: Any) -> tuple[str, Any]:
    """Return the type of a column that would say the same, and the value as it would have it."""
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, Number):
        unscaled, _ = _read_number(value)
        return ("json", canonical(value)) if unscaled is None else ("decimal", unscaled)
    return ("text", value) if isinstance(value, str) else ("json", canonical(value))


def _member_hashes(kind: str, values: list[Any]) -> Hashes:
    if kind == "json":
        return np.frombuffer(b"".join(_digest(text.encode()) for text in values), np.uint64)
    return _column_hashes(exact_array(cast(ColumnType, kind), values))


def _repeating(column: pa.Array) -> pa.DictionaryArray | None:
    """Return the column's distinct texts where they seem to be few, to hash each of them once."""
    if not pa.types.is_string(column.type) or len(column) < 2 * _PROBE:
        return None
    if len(column.slice(0, _PROBE).unique()) > _PROBE // 4:
        return None
    return column.dictionary_encode()


def _column_hashes(column: pa.Array) -> Hashes:
    """Return a fresh array of hashes of values; those under NULL mean nothing."""
    if pa.types.is_int64(column.type):
        column = column.cast(ARROW_TYPES["decimal"])  # 1 and 1.0 are one number
    kind = column.type
    if pa.types.is_string(kind):
        return _word_hashes(column)
    if pa.types.is_decimal(kind):
        words = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, 2)
        words = words[column.offset : column.offset + len(column)]
        low: Hashes = _mixed(words[:, 0] * _GOLDEN)
        low ^= words[:, 1]
        return low
    if pa.types.is_boolean(kind):
        bits: Hashes = pc.fill_null(column, False).cast(pa.uint8()).to_numpy().astype(np.uint64)
        return bits
    width = np.int32 if pa.types.is_date32(kind) else np.int64
    values = np.frombuffer(column.buffers()[1], width)[column.offset : column.offset + len(column)]
    hashes: Hashes = values.astype(np.int64).view(np.uint64)
    return hashes


def _mixed(values: Hashes) -> Hashes:
    """Spread each value over all bits (the finalizer of SplitMix64), in a fresh array."""
    mixed = values >> _S30
    mixed ^= values
    mixed *= _FIRST
    mixed ^= mixed >> _S27
    mixed *= _SECOND
    mixed ^= mixed >> _S31
    return mixed


def _json_hashes(texts: pa.StringArray, seed: Hashes) -> Hashes:
    same = [canonical(read_value(text.encode("utf-8"))) for text in texts.to_pylist()]
    digests = b"".join([_digest(text.encode("utf-8")) for text in same])
    hashes: Hashes = _mixed(np.frombuffer(digests, np.uint64) ^ seed)
    return hashes


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).digest()


def _word_hashes(column: pa.StringArray) -> Hashes:
    _, offsets_buffer, value_buffer = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[
        column.offset : column.offset + len(column) + 1
    ]
    base, end = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(end - base + 8, np.uint8)
    if value_buffer is not None:
        padded[:-8] = np.frombuffer(value_buffer, np.uint8)[base:end]
    sizes = np.diff(offsets).astype(np.int64)
    hashes = sizes.astype(np.uint64) * _GOLDEN
    largest = int(sizes.max(initial=0))
    even = largest <= _LONG and bool((sizes == largest).all())
    words = np.ndarray(end - base + 1, "S8", padded, strides=(1,))
    starts = offsets[:-1].astype(np.int64) - base
    for lo in range(0, min(largest, _LONG), 8):
        if even:
            rows: slice | npt.NDArray[np.int64] = slice(None)
            picked = np.ndarray(len(sizes), "S8", padded, lo, (largest,)).copy().view(np.uint64)
            picked &= _KEEP[min(largest - lo, 8)]
        else:
            rows = np.flatnonzero(sizes > lo)
            picked = words[starts[rows] + lo].view(np.uint64)
            picked &= _KEEP[np.minimum(sizes[rows] - lo, 8)]
        picked ^= hashes[rows]
        picked *= _FIRST
        picked ^= picked >> _S29
        hashes[rows] = picked
    for row in np.flatnonzero(sizes > _LONG).tolist():
        text = padded[starts[row] : starts[row] + sizes[row]].tobytes()
        hashes[row] = np.frombuffer(_digest(text), np.uint64)[0]
    return hashes
