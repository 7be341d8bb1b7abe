"""The strict parser: a range of landed bytes into rows, each with its problems.

Two paths judge every record alike. The exact one reads records one by one and is the
definition. The fast one reads in bulk those records that a conservative classification
is sure of; whatever it is not sure of, or turns out to be refused, goes the exact way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.intake.contract import Contract
from meterhouse.intake.csvrows import CsvRows, Header
from meterhouse.intake.identity import payload_hash
from meterhouse.intake.jsonl import EXACT, JsonlRows
from meterhouse.intake.jsontext import dump
from meterhouse.intake.lines import Offsets, Spans, records
from meterhouse.intake.values import ARROW_TYPES, exact, exact_array, vectorised

__all__ = ["Parsed", "parse", "rows_schema"]

_BLOCK_BYTES: Final = 2 << 20
_FEW: Final = 64
"""Records of a refused block that are not worth splitting again."""

_Classes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Parsed:
    """The records of one range, in order."""

    rows: pa.Table
    """One row per record, ``rows_schema(contract)``."""
    spans: Spans
    """Where each record's bytes lie in the range."""
    header: str = ""
    """CSV: the header in force, to hand to ``parse`` with the ranges that follow."""

    @property
    def lines(self) -> int:
        """Physical lines of the range, a CSV header and blank ones included."""
        return self.spans.physical

    @property
    def blank(self) -> int:
        """Lines of spaces, tabs and carriage returns only, which are no records."""
        return self.spans.blank

    @cached_property
    def records(self) -> pa.LargeBinaryArray:
        """Each record's bytes exactly as landed, without its line end; a copy of them all."""
        return self.spans.bodies()

    def raw(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> pa.LargeBinaryArray:
        """Return the bytes of some records; cheaper than ``records`` where they are few."""
        return pa.array([self.spans.body(int(index)) for index in indices], pa.large_binary())


class _Reader(Protocol):
    """What a format does: say how sure it is, read in bulk, read one."""

    def classes(self, spans: Spans) -> _Classes: ...

    def fields(
        self, spans: Spans, classes: _Classes
    ) -> tuple[dict[str, pa.ChunkedArray], pa.StringArray | None] | None: ...

    def delivered(self, body: bytes) -> dict[str, Any] | None: ...


def rows_schema(contract: Contract) -> pa.Schema:
    """Return the schema of ``Parsed.rows``.

    ``problems`` names what is wrong with a record (``malformed``, ``wrong_type:COLUMN``,
    ``unreadable:COLUMN``, ``number_out_of_range:COLUMN``) or was mended
    (``rounded:COLUMN``), in the contract's order of columns; NULL when there is nothing.
    ``extra`` and ``unreadable`` hold JSON objects of delivered values, by field.
    """
    return pa.schema(
        [
            ("source_line", pa.int64()),
            *((column.name, ARROW_TYPES[column.type]) for column in contract.columns),
            ("extra", pa.string()),
            ("unreadable", pa.string()),
            ("problems", pa.list_(pa.string())),
            ("payload_hash", pa.uint64()),
        ]
    )


def parse(
    data: bytes,
    contract: Contract,
    *,
    header: str = "",
    first_line: int = 1,
    start_of_file: bool = True,
    path: Literal["auto", "slow"] = "auto",
    offsets: Offsets | None = None,
) -> Parsed:
    """Read a range of a delivery that begins and ends between records.

    Any bytes are accepted: what can't be read is a row with its problems, in its place.

    Args:
        data: The decoded (decompressed) bytes.
        contract: What the columns are.
        header: CSV: header text of the file, where ``data`` begins after it.
        first_line: Physical line of the file at which ``data`` begins, from 1.
        start_of_file: ``data`` begins where its file does: a byte order mark is passed
            over and, for CSV, the first record is the header.
        path: ``slow`` reads every record one by one, for tests.
        offsets: The ``split`` of ``data``, where the caller has it already.

    Raises:
        SourceRefusedError: CSV whose header is missing or can't be used.
    """
    spans = records(data, contract.format, start_of_file=start_of_file, offsets=offsets)
    head = ""
    reader: _Reader
    if contract.format == "jsonl":
        reader = JsonlRows(contract)
    else:
        head = Header.of(spans) if start_of_file else header
        reader = CsvRows(contract, Header.read(head, contract))
        spans = spans.only(1) if start_of_file else spans
    rows = _Rows(contract, reader, first_line)
    classes = reader.classes(spans) if path == "auto" else np.zeros(len(spans), np.uint8)
    tables = [rows.schema.empty_table()]
    for lo, hi in _blocks(spans):
        tables.extend(rows.read(spans.only(lo, hi), classes[lo:hi]))
    table = pa.concat_tables(tables)
    json_columns = [column.name for column in contract.columns if column.type == "json"]
    fields = {column.name: column.source for column in contract.columns}
    hashes = payload_hash(table, json_columns, fields)
    rows_table = table.append_column("payload_hash", pa.array(hashes, pa.uint64()))
    return Parsed(rows_table, spans, head)


def _blocks(spans: Spans) -> Iterator[tuple[int, int]]:
    """Cut records into runs of about two megabytes, so that work stays in the caches."""
    lo = 0
    while lo < len(spans):
        hi = int(np.searchsorted(spans.ends, spans.starts[lo] + _BLOCK_BYTES))
        hi = min(max(hi, lo + 1), len(spans))
        yield lo, hi
        lo = hi


class _Rows:
    """Turns runs of records into tables: bulk first, then the odd ones one by one."""

    def __init__(self, contract: Contract, reader: _Reader, first_line: int) -> None:
        schema = rows_schema(contract)
        self.schema = schema.remove(len(schema) - 1)
        self._contract = contract
        self._reader = reader
        self._first_line = first_line
        self._exact = [
            exact(
                column.type,
                rounding=contract.round_decimals,
                json_text=contract.format == "csv",
            )
            for column in contract.columns
        ]

    def read(self, spans: Spans, classes: _Classes) -> Iterator[pa.Table]:
        """Yield the rows of a run, in order, as one table or more."""
        if not classes.any():
            yield self._one_by_one(spans, range(len(spans)))
            return
        bulk = self._bulk(spans, classes)
        if bulk is not None:
            yield bulk
        elif len(spans) <= _FEW:
            yield self._one_by_one(spans, range(len(spans)))
        else:
            half = len(spans) // 2
            yield from self.read(spans.only(0, half), classes[:half])
            yield from self.read(spans.only(half), classes[half:])

    def _bulk(self, spans: Spans, classes: _Classes) -> pa.Table | None:
        read = self._reader.fields(spans, classes)
        if read is None:
            return None
        fields, extra = read
        sure = classes != EXACT
        columns = [pa.array(spans.lines + self._first_line)]
        for column in self._contract.columns:
            values = fields.get(column.source)
            array: pa.Array = pa.nulls(len(spans), ARROW_TYPES[column.type])
            if values is not None:
                array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
                if array.type == pa.string():
                    array, decided = vectorised(column.type, array)
                    sure = sure if decided is None else sure & decided
            columns.append(array)
        columns.append(pa.nulls(len(spans), pa.string()) if extra is None else extra)
        columns.append(pa.nulls(len(spans), pa.string()))
        columns.append(pa.nulls(len(spans), self.schema.field("problems").type))
        bulk = pa.Table.from_arrays(columns, schema=self.schema)
        odd = np.flatnonzero(~sure)
        if not len(odd):
            return bulk
        return _interleaved(bulk, self._one_by_one(spans, odd.tolist()), odd)

    def _one_by_one(self, spans: Spans, chosen: Sequence[int]) -> pa.Table:
        delivered = [self._reader.delivered(spans.body(index)) for index in chosen]
        found = [{} if fields is None else fields for fields in delivered]
        problems: list[list[str] | None] = [["malformed"] if x is None else None for x in delivered]
        unreadable: dict[int, dict[str, Any]] = {}
        columns = []
        for column, read in zip(self._contract.columns, self._exact, strict=True):
            values: list[Any] = []
            for row, fields in enumerate(found):
                given = fields.get(column.source)
                if given is None:
                    values.append(None)
                    continue
                value, problem = read(given)
                values.append(value)
                if problem is None:
                    continue
                if value is None:
                    lost = unreadable.setdefault(row, {})
                    # A value of another type is one mistake, however many columns it feeds.
                    if problem == "wrong_type" and column.source in lost:
                        continue
                    lost[column.source] = given
                problems[row] = [*(problems[row] or ()), f"{problem}:{column.name}"]
            columns.append(exact_array(column.type, values))
        lines = spans.lines[np.asarray(chosen, np.int64)] + self._first_line
        lost_texts = [
            dump(unreadable[row]) if row in unreadable else None for row in range(len(found))
        ]
        extra = pa.array([self._extra(fields) for fields in found], pa.string())
        arrays = [pa.array(lines), *columns, extra, pa.array(lost_texts, pa.string())]
        arrays.append(pa.array(problems, self.schema.field("problems").type))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _extra(self, fields: dict[str, Any]) -> str | None:
        known = self._contract.by_source.keys()
        if known >= fields.keys():
            return None
        return dump({name: value for name, value in fields.items() if name not in known})


def _interleaved(bulk: pa.Table, single: pa.Table, places: npt.NDArray[np.int64]) -> pa.Table:
    """Put the rows of ``single`` into ``bulk`` at ``places``."""
    if len(places) > bulk.num_rows // 64:
        order = np.arange(bulk.num_rows)
        order[places] = bulk.num_rows + np.arange(len(places))
        return pc.take(pa.concat_tables([bulk, single]).combine_chunks(), pa.array(order))
    parts = []
    position = 0
    for row, place in enumerate(places.tolist()):
        parts += [bulk.slice(position, place - position), single.slice(row, 1)]
        position = place + 1
    return pa.concat_tables([*parts, bulk.slice(position)]).combine_chunks()
