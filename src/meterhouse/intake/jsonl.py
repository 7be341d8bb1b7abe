"""JSON Lines: by shape; else, where a regular expression is sure, in bulk; else one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from meterhouse.intake.contract import Column, ColumnType, Contract
from meterhouse.intake.jsontext import MAX_RECORD_BYTES, read_object
from meterhouse.intake.lines import Spans
from meterhouse.intake.shapes import shaped_lines
from meterhouse.intake.values import ARROW_TYPES, INTEGER, PLAIN_NUMBER

__all__ = ["EXACT", "JsonlRows"]

EXACT: Final = 0
"""Class of a record that has to be read one by one."""
_PLAIN: Final = 1
_QUOTED_NUMBERS: Final = 2

_SPACE = r"[ \t]*"
_HEX = "[0-9a-fA-F]"
_TEXT = (
    r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]'
    rf'|u(?:[0-9a-ce-fA-CE-F]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}})))*"'
)
"""Any string without raw control characters and without surrogates."""
_UNESCAPED_TEXT = r'"[^"\\\x00-\x1f]*"'
_AS_TEXT: Final[frozenset[ColumnType]] = frozenset({"text", "timestamp", "date"})


class JsonlRows:
    """Reads the records of one contract's JSONL."""

    def __init__(self, contract: Contract) -> None:
        kinds = {
            name: _field_type(columns)
            for name, columns in contract.by_source.items()
            if json.dumps(name, ensure_ascii=False) == f'"{name}"'
        }
        self._schema = pa.schema([(name, kind) for name, kind in kinds.items() if kind is not None])
        self._shaped = shaped_lines(self._schema)
        self._numeric = [field.name for field in self._schema if _is_number(field.type)]

    @cached_property
    def _plain(self) -> str:
        return self._line_pattern(_TEXT, quoted=False)

    @cached_property
    def _quoted(self) -> str:
        return self._line_pattern(_UNESCAPED_TEXT, quoted=True) if self._numeric else ""

    @cached_property
    def _openings(self) -> list[tuple[bytes, re.Pattern[bytes], bytes]]:
        return [
            (opening, re.compile(re.escape(opening) + rb'([^"]*)"'), opening[:-1] + rb" \1 ")
            for name in self._numeric
            for opening in (f'"{name}": "'.encode(), f'"{name}":"'.encode())
        ]

    def _line_pattern(self, text: str, *, quoted: bool) -> str:
        values = {
            pa.string(): text,
            ARROW_TYPES["decimal"]: PLAIN_NUMBER,
            ARROW_TYPES["integer"]: INTEGER,
            ARROW_TYPES["boolean"]: "true|false",
        }
        pairs = []
        for kind, value in values.items():
            names = _names(field.name for field in self._schema if field.type == kind)
            if names:
                pairs.append(rf'"(?:{names})"{_SPACE}:{_SPACE}(?:{value}|null)')
            if names and quoted and _is_number(kind):
                pairs.append(rf'"(?:{names})": ?" *(?:{value}) *"')
        pair = rf"(?:{'|'.join(pairs)})"
        inner = rf"(?:{pair}(?:{_SPACE},{_SPACE}{pair})*)?" if pairs else ""
        return rf"^{_SPACE}\{{{_SPACE}{inner}{_SPACE}\}}[ \t\r\n]*$"

    def shaped(self, spans: Spans) -> tuple[dict[str, pa.Array], npt.NDArray[np.bool_]]:
        """Return what can be read of a run by the shapes of its lines, and where that is sure."""
        return self._shaped.read(spans)

    def classes(self, spans: Spans) -> npt.NDArray[np.uint8]:
        """Return how each record can be read; 0 where only ``delivered`` can.

        What is sure here is sure whatever stands around it, but for a key given twice:
        ``fields`` refuses that.
        """
        lines = _lines(spans)
        classes = _matches(lines, self._plain).astype(np.uint8)
        odd = np.flatnonzero(classes == EXACT)
        if len(odd) and self._quoted:
            classes[odd[_matches(lines.take(pa.array(odd)), self._quoted)]] = _QUOTED_NUMBERS
        classes[spans.ends - spans.starts > MAX_RECORD_BYTES] = EXACT
        if not spans.data.isascii():
            classes[~_valid_utf8(spans, lines)] = EXACT
        return classes

    def fields(
        self, spans: Spans, classes: npt.NDArray[np.uint8]
    ) -> tuple[dict[str, pa.ChunkedArray], None] | None:
        """Return the delivered fields of a run of records, as many rows as records.

        Rows of class ``EXACT`` come out NULL. None when any other row is not what its class
        promised; nothing is known of the run then.
        """
        if not len(self._schema):
            return ({}, None)
        text = self._readable(spans, classes)
        try:
            table = pj.read_json(
                pa.BufferReader(text),
                read_options=pj.ReadOptions(use_threads=False, block_size=max(len(text), 64)),
                parse_options=pj.ParseOptions(
                    explicit_schema=self._schema, unexpected_field_behavior="error"
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != len(spans):
            return None
        return dict(zip(table.column_names, table.columns, strict=True)), None

    def _readable(self, spans: Spans, classes: npt.NDArray[np.uint8]) -> pa.Buffer | bytes:
        """Return JSONL of the run with odd records mended or emptied, in place."""
        stop = int(spans.ends[-1])
        odd = np.flatnonzero(classes != _PLAIN)
        if not len(odd):
            return pa.py_buffer(spans.data).slice(int(spans.starts[0]), stop - int(spans.starts[0]))
        mended = iter(self._unquoted(spans, np.flatnonzero(classes == _QUOTED_NUMBERS)))
        view = memoryview(spans.data)
        parts: list[bytes | memoryview] = []
        position = int(spans.starts[0])
        for index, start, end in zip(
            odd.tolist(), spans.starts[odd].tolist(), spans.ends[odd].tolist(), strict=True
        ):
            parts.append(view[position:start])
            parts.append(b"{}" if classes[index] == EXACT else next(mended))
            position = end
        parts.append(view[position:stop])
        return b"".join(parts)

    def _unquoted(self, spans: Spans, chosen: npt.NDArray[np.int64]) -> list[bytes]:
        if not len(chosen):
            return []
        # The class promises that these strings are numbers and that no string has an escape.
        text = b"\n".join([spans.body(index) for index in chosen.tolist()])
        for opening, quoted, bare in self._openings:
            if opening in text:
                text = quoted.sub(bare, text)
        return text.split(b"\n")

    def delivered(self, body: bytes) -> dict[str, Any] | None:
        """Return the fields of one record as JSON has them; None when it is malformed."""
        return read_object(body)


def _field_type(columns: Iterable[Column]) -> pa.DataType | None:
    """Return the type a field is read as in bulk; None when its columns leave no single one."""
    kinds = {column.type for column in columns}
    if kinds <= _AS_TEXT:
        return pa.string()
    only = kinds.pop() if len(kinds) == 1 else None
    return None if only in (None, "json") else ARROW_TYPES[only]


def _is_number(kind: pa.DataType) -> bool:
    return kind in (ARROW_TYPES["decimal"], ARROW_TYPES["integer"])


def _names(names: Iterable[str]) -> str:
    """Return an RE2 alternation of the names' bytes."""
    return "|".join(
        "".join(
            chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}"
            for byte in name.encode("utf-8")
        )
        for name in names
    )


def _lines(spans: Spans) -> pa.LargeBinaryArray:
    """Return the records with their line ends (and blank lines after them), not copied."""
    if not len(spans):
        return pa.array([], pa.large_binary())
    edges = np.append(spans.starts, spans.ends[-1])
    return pa.Array.from_buffers(
        pa.large_binary(), len(spans), [None, pa.py_buffer(edges), pa.py_buffer(spans.data)]
    )


def _matches(lines: pa.LargeBinaryArray, pattern: str) -> npt.NDArray[np.bool_]:
    matched = pc.match_substring_regex(lines, pattern)
    return np.asarray(matched.to_numpy(zero_copy_only=False), np.bool_)


def _valid_utf8(spans: Spans, lines: pa.LargeBinaryArray) -> npt.NDArray[np.bool_]:
    valid = np.ones(len(spans), np.bool_)
    try:
        lines.cast(pa.large_string())
    except pa.ArrowInvalid:
        for index in range(len(spans)):
            try:
                spans.body(index).decode("utf-8")
            except UnicodeDecodeError:
                valid[index] = False
    return valid
