"""The judged file of an entry as a table: one row per record, in the entry's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.intake.contract import Contract
from meterhouse.intake.parse import Parsed
from meterhouse.intake.values import ARROW_TYPES
from meterhouse.names import REMOVED

__all__ = ["Decided", "judged_schema", "judged_table", "removed_rows"]

Mask: TypeAlias = npt.NDArray[np.bool_]

_TIMESTAMP: Final = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about the records of an entry; all arrays in their order."""

    verdicts: npt.NDArray[np.int64]
    """Index into ``verdict_names``."""
    verdict_names: tuple[str, ...]
    held: Mask
    """Whose raw bytes are kept."""
    reasons: Mask
    """(records, reason_names): why they are held, in the contract's order."""
    reason_names: tuple[str, ...]
    flags: Mask
    flag_names: tuple[str, ...]


def judged_schema(contract: Contract) -> pa.Schema:
    """Return the schema of the judged files of ``contract``'s source.

    Values are as delivered, or mended by a repair: no defaults, nothing derived.
    """
    return pa.schema(
        [
            ("log_position", pa.int64()),
            ("row_number", pa.int64()),
            ("source_file", pa.string()),
            ("source_line", pa.int64()),
            ("ingest_ts", _TIMESTAMP),
            ("verdict", pa.string()),
            ("invalid_reason", pa.string()),
            ("broken_rules", pa.list_(pa.string())),
            ("flags", pa.list_(pa.string())),
            ("raw", pa.binary()),
            *((column.name, ARROW_TYPES[column.type]) for column in contract.columns),
            ("extra", pa.string()),
            ("unreadable", pa.string()),
        ]
    )


def judged_table(
    contract: Contract,
    rows: pa.Table,
    files: Sequence[tuple[str, Parsed]],
    decided: Decided,
    *,
    position: int,
    ingest_ts: datetime,
) -> pa.Table:
    """Return the judged rows of entry ``position``.

    Args:
        contract: Names the columns.
        rows: The parsed records of all files, in order.
        files: The inputs, by their identity.
        decided: The verdicts.
        position: The entry's number.
        ingest_ts: The entry's time.
    """
    count = rows.num_rows
    reasons = _names(decided.reasons, decided.reason_names)
    columns = {
        "log_position": _constant(position, count, pa.int64()),
        "row_number": pa.array(np.arange(count)),
        "source_file": pa.chunked_array(
            [_constant(file, parsed.rows.num_rows, pa.string()) for file, parsed in files],
            pa.string(),
        ),
        "source_line": rows["source_line"],
        "ingest_ts": _constant(ingest_ts, count, _TIMESTAMP),
        "verdict": _chosen(decided.verdicts, decided.verdict_names),
        "invalid_reason": _first(decided.reasons, decided.reason_names),
        "broken_rules": reasons,
        "flags": _names(decided.flags, decided.flag_names),
        "raw": _raw([parsed for _, parsed in files], decided.held),
    }
    for name in (*contract.by_name, "extra", "unreadable"):
        columns[name] = rows[name]
    return pa.table(columns, schema=judged_schema(contract))


def removed_rows(
    contract: Contract,
    keys: pa.Table,
    file: str,
    *,
    position: int,
    first_row: int,
    ingest_ts: datetime,
) -> pa.Table:
    """Return judged rows for keys that the snapshot ``file`` no longer holds.

    They are no landed records: only the key columns are set, and they come after the last
    record of the entry.
    """
    count = keys.num_rows
    schema = judged_schema(contract)
    columns: dict[str, Any] = {field.name: pa.nulls(count, field.type) for field in schema}
    columns |= {
        "log_position": _constant(position, count, pa.int64()),
        "row_number": pa.array(np.arange(first_row, first_row + count)),
        "source_file": _constant(file, count, pa.string()),
        "ingest_ts": _constant(ingest_ts, count, _TIMESTAMP),
        "verdict": _constant(REMOVED, count, pa.string()),
        **{name: keys[name] for name in contract.key},
    }
    return pa.table(columns, schema=schema)


def _constant(value: Any, count: int, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), count)


def _chosen(codes: npt.NDArray[np.int64], names: Sequence[str]) -> pa.Array:
    indices = pa.array(codes.astype(np.int8))
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string())).cast(pa.string())


def _first(chosen: Mask, names: Sequence[str]) -> pa.Array:
    if not chosen.any():
        return pa.nulls(len(chosen), pa.string())
    first = np.argmax(chosen, axis=1).astype(np.int32)
    indices = pa.array(first, mask=~chosen.any(axis=1))
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string())).cast(pa.string())


def _names(chosen: Mask, names: Sequence[str]) -> pa.Array:
    """Return for each row the list of names chosen, NULL where there is none."""
    kind = pa.list_(pa.string())
    if not chosen.any():
        return pa.nulls(len(chosen), kind)
    sizes = chosen.sum(axis=1)
    offsets = np.zeros(len(chosen) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    _, which = np.nonzero(chosen)
    values = _chosen(which, names)
    nulls = pa.array(sizes == 0)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=nulls).cast(kind)


def _raw(inputs: Sequence[Parsed], held: Mask) -> pa.ChunkedArray:
    parts = []
    lo = 0
    for parsed in inputs:
        count = parsed.rows.num_rows
        parts.append(_only(parsed, held[lo : lo + count]))
        lo += count
    return pa.chunked_array(parts, pa.binary())


def _only(parsed: Parsed, held: Mask) -> pa.Array:
    """Return the bytes of the records that are held, NULL for the others.

    Put together from its buffers: taking 130,000 NULLs costs more than all else here.
    """
    if not held.any():
        return pa.nulls(len(held), pa.binary())
    taken = parsed.raw(np.flatnonzero(held)).cast(pa.binary())
    _, bounds, data = taken.buffers()
    offsets = np.zeros(len(held) + 1, np.int32)
    offsets[1:][held] = np.diff(np.frombuffer(bounds, np.int32)[: len(taken) + 1])
    buffers = [pa.array(held).buffers()[1], pa.py_buffer(np.cumsum(offsets, dtype=np.int32)), data]
    return pa.BinaryArray.from_buffers(pa.binary(), len(held), buffers)
