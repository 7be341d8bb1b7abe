"""The strict parser: a range of landed bytes into rows, each with its problems.

Two paths judge every record alike. The exact one reads records one by one and is the
definition. The fast one reads records together: JSONL by the shapes its lines have
(``shapes``), and what has none, like CSV, by a conservative classification and PyArrow's
reader. Whatever it is not sure of, or turns out to be refused, goes the exact way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
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
from meterhouse.intake.lines import Spans, joined, records
from meterhouse.intake.values import ARROW_TYPES, exact, exact_array, vectorised

__all__ = ["Parsed", "Text", "parse", "parse_all", "rows_schema"]

_BLOCK_BYTES: Final = 4 << 20
_FEW: Final = 64
"""Records of a refused block that are not worth splitting again."""

_Classes: TypeAlias = npt.NDArray[np.uint8]
_Sure: TypeAlias = npt.NDArray[np.bool_]
_Fields: TypeAlias = Mapping[str, pa.Array | pa.ChunkedArray]


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
    """What a format does: read by shape, say how sure it is, read in bulk, read one."""

    def shaped(self, spans: Spans) -> tuple[dict[str, pa.Array], _Sure] | None: ...

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


@dataclass(frozen=True, slots=True)
class Text:
    """A range of a delivery that begins and ends between records."""

    data: bytes
    """Decoded (decompressed)."""
    header: str = ""
    """CSV: header text of the file, where ``data`` begins after it."""
    first_line: int = 1
    """Physical line of the file at which ``data`` begins, from 1."""
    start_of_file: bool = True
    """``data`` begins where its file does: a byte order mark is passed over and, for CSV,
    the first record is the header."""


def parse(
    data: bytes,
    contract: Contract,
    *,
    header: str = "",
    first_line: int = 1,
    start_of_file: bool = True,
    path: Literal["auto", "slow"] = "auto",
) -> Parsed:
    """Read one range; see ``parse_all`` and ``Text``.

    Raises:
        SourceRefusedError: CSV whose header is missing or can't be used.
    """
    return parse_all([Text(data, header, first_line, start_of_file)], contract, path=path)[0]


def parse_all(
    texts: Sequence[Text], contract: Contract, *, path: Literal["auto", "slow"] = "auto"
) -> list[Parsed]:
    """Read ranges of deliveries, as if each were read alone: many small ones cost less together.

    Any bytes are accepted: what can't be read is a row with its problems, in its place.

    Args:
        texts: The ranges.
        contract: What the columns are.
        path: ``slow`` reads every record one by one, for tests.

    Raises:
        SourceRefusedError: CSV whose header is missing or can't be used.
    """
    parsed: list[Parsed] = []
    if contract.format == "jsonl":
        reading = _Rows(contract, JsonlRows(contract), path)
        for group in _groups(texts):
            found = [_records(text, contract) for text in group]
            rows = reading.read(joined(found, [text.first_line for text in group]))
            ends = accumulate(map(len, found))
            parsed += [
                Parsed(rows.slice(end - len(spans), len(spans)), spans)
                for spans, end in zip(found, ends, strict=True)
            ]
        return parsed
    for text in texts:
        spans = _records(text, contract)
        head = Header.of(spans) if text.start_of_file else text.header
        reader = CsvRows(contract, Header.read(head, contract))
        spans = spans.only(1) if text.start_of_file else spans
        rows = _Rows(contract, reader, path).read(joined([spans], [text.first_line]))
        parsed.append(Parsed(rows, spans, head))
    return parsed


def _records(text: Text, contract: Contract) -> Spans:
    return records(text.data, contract.format, start_of_file=text.start_of_file)


def _groups(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Put small ranges together up to the size of a block; a large one stays alone."""
    group: list[Text] = []
    size = 0
    for text in texts:
        if group and size + len(text.data) > _BLOCK_BYTES:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text.data)
    if group:
        yield group


def _blocks(spans: Spans) -> Iterator[tuple[int, int]]:
    """Cut records into runs of up to four megabytes, alike in size, which the caches like."""
    if not len(spans):
        return
    size = int(spans.ends[-1] - spans.starts[0])
    count = -(-size // _BLOCK_BYTES)
    edges = spans.starts[0] + np.arange(1, count) * (size // count)
    cuts = np.unique([0, *np.searchsorted(spans.starts, edges), len(spans)]).tolist()
    yield from pairwise(cuts)


class _Rows:
    """Turns runs of records into tables: bulk first, then the odd ones one by one."""

    def __init__(self, contract: Contract, reader: _Reader, path: Literal["auto", "slow"]) -> None:
        schema = rows_schema(contract)
        self._schema = schema.remove(len(schema) - 1)
        self._contract = contract
        self._reader = reader
        self._read = self._shaped if path == "auto" else self._one_by_one
        self._exact = [
            exact(
                column.type,
                rounding=contract.round_decimals,
                json_text=contract.format == "csv",
            )
            for column in contract.columns
        ]

    def read(self, spans: Spans) -> pa.Table:
        """Return ``rows_schema`` of all records, in order."""
        blocks = [self._read(spans.only(lo, hi)) for lo, hi in _blocks(spans)]
        table = pa.concat_tables([self._schema.empty_table(), *blocks])
        json_columns = [item.name for item in self._contract.columns if item.type == "json"]
        fields = {item.name: item.source for item in self._contract.columns}
        hashes = payload_hash(table, json_columns, fields)
        return table.append_column("payload_hash", pa.array(hashes, pa.uint64()))

    def _shaped(self, spans: Spans) -> pa.Table:
        """Return the rows of a run: by shape, what that leaves in bulk, the rest one by one."""
        found = self._reader.shaped(spans)
        if found is None or not found[1].any():
            return self._unshaped(spans)
        fields, sure = found
        return self._mended(self._table(spans, fields, None, sure), spans, sure, self._unshaped)

    def _unshaped(self, spans: Spans) -> pa.Table:
        if len(spans) <= _FEW:
            return self._one_by_one(spans)
        return pa.concat_tables(self._bulk(spans, self._reader.classes(spans)))

    def _bulk(self, spans: Spans, classes: _Classes) -> Iterator[pa.Table]:
        """Yield the rows of a run, as one table or more."""
        read = self._reader.fields(spans, classes) if classes.any() else None
        if read is not None:
            fields, extra = read
            sure = classes != EXACT
            table = self._table(spans, fields, extra, sure)
            yield self._mended(table, spans, sure, self._one_by_one)
        elif len(spans) <= _FEW or not classes.any():
            yield self._one_by_one(spans)
        else:
            half = len(spans) // 2
            yield from self._bulk(spans.only(0, half), classes[:half])
            yield from self._bulk(spans.only(half), classes[half:])

    def _table(
        self, spans: Spans, fields: _Fields, extra: pa.StringArray | None, sure: _Sure
    ) -> pa.Table:
        """Return a table of what was read; take out of ``sure`` the rows it is not sure of."""
        columns = [pa.array(spans.lines)]
        for column in self._contract.columns:
            values = fields.get(column.source)
            array: pa.Array = pa.nulls(len(spans), ARROW_TYPES[column.type])
            if values is not None:
                array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
                if array.type == pa.string():
                    array, decided = vectorised(column.type, array)
                    if decided is not None:
                        sure &= decided
            columns.append(array)
        columns.append(pa.nulls(len(spans), pa.string()) if extra is None else extra)
        columns.append(pa.nulls(len(spans), pa.string()))
        columns.append(pa.nulls(len(spans), self._schema.field("problems").type))
        return pa.Table.from_arrays(columns, schema=self._schema)

    @staticmethod
    def _mended(
        table: pa.Table, spans: Spans, sure: _Sure, read: Callable[[Spans], pa.Table]
    ) -> pa.Table:
        """Return ``table`` with the rows that are not sure read anew."""
        odd = np.flatnonzero(~sure)
        return _interleaved(table, read(spans.picked(odd)), odd) if len(odd) else table

    def _one_by_one(self, spans: Spans) -> pa.Table:
        """Return the rows of a run, each read exactly."""
        delivered = [self._reader.delivered(spans.body(index)) for index in range(len(spans))]
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
        lost_texts = [
            dump(unreadable[row]) if row in unreadable else None for row in range(len(found))
        ]
        extra = pa.array([self._extra(fields) for fields in found], pa.string())
        lost = pa.array(lost_texts, pa.string())
        arrays = [pa.array(spans.lines), *columns, extra, lost]
        arrays.append(pa.array(problems, self._schema.field("problems").type))
        return pa.Table.from_arrays(arrays, schema=self._schema)

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
