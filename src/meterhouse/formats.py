"""How values and tables are printed: CSV, JSON, JSON lines and a table for terminals.

The one definition of the canonical text of a value (``text``) and of its JSON form
(``native``), for rows of Python values. Arrow tables are printed alike, and faster, by
``arrow_text``. Imports nothing heavy, since ``meterhouse query`` has 300 ms.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, BinaryIO, Final, Literal, Protocol

from meterhouse.errors import UsageError

__all__ = [
    "BINARY_FORMATS",
    "FORMATS",
    "SUFFIXES",
    "TEXT_FORMATS",
    "Chunk",
    "Column",
    "Kind",
    "Row",
    "RowsChunk",
    "decimal_text",
    "native",
    "refuse_twins",
    "text",
    "timestamp_text",
    "write",
]

Kind = Literal[
    "text", "integer", "decimal", "boolean", "date", "timestamp", "bytes", "json", "real", "other"
]
"""json: a list, map or struct. real: a double, which no shipped table has. other: anything
else (times, intervals), printed as Python prints it."""

Row = Sequence[object]

TEXT_FORMATS: Final = ("table", "csv", "json", "jsonl")
BINARY_FORMATS: Final = ("parquet", "arrow")
FORMATS: Final = TEXT_FORMATS + BINARY_FORMATS
SUFFIXES: Final = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "table",
}
"""Format meant by the name of ``--output FILE`` when ``--format`` is not given."""

_RIGHT: Final = frozenset({"integer", "decimal", "real"})
_SAMPLE_ROWS: Final = 1000
_CELL_WIDTH: Final = 60


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer."""

    name: str
    kind: Kind


class Chunk(Protocol):
    """Some rows of an answer, ready to be printed in any text format."""

    def csv(self) -> bytes:
        """Return the rows as CSV, each ended by a newline."""
        ...

    def json(self, separator: bytes) -> bytes:
        """Return the rows as JSON objects with ``separator`` between them."""
        ...

    def cells(self) -> Iterator[list[str]]:
        """Yield the rows as display text; NULL is empty."""
        ...


def decimal_text(value: Decimal) -> str:
    """Return plain notation: no exponent, no trailing zeros, no negative zero."""
    if not value:
        return "0"
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def timestamp_text(value: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z``; a zone-less value is UTC already."""
    utc = value.astimezone(UTC) if value.tzinfo else value
    return utc.replace(tzinfo=None).isoformat() + "Z"


def native(value: object) -> object:
    """Return what stands for ``value`` in JSON: decimals, days and times are strings.

    A map is an object; its keys are their canonical text. NaN and infinities, which JSON
    has no word for, are strings.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(_scalar_text(key)): native(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [native(item) for item in value]
    if isinstance(value, float):
        finite = value == value and value not in (float("inf"), float("-inf"))
        return value if finite else _scalar_text(value)
    return _scalar_text(value)


def text(value: object) -> str | None:
    """Return the canonical text of ``value``, as CSV shows it; None for NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list | tuple):
        return _json(native(value))
    return _scalar_text(value)


def _scalar_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


_ODD: Final = re.compile(r'[",\n\r]').search


def csv_field(value: str | None) -> str:
    """Return one CSV field: NULL is empty, an empty text is ``""``."""
    if value is None:
        return ""
    if value == "" or _ODD(value):
        return '"' + value.replace('"', '""') + '"'
    return value


@dataclass(frozen=True, slots=True)
class RowsChunk:
    """Rows of Python values."""

    columns: Sequence[Column]
    rows: Sequence[Row]

    def csv(self) -> bytes:
        """Return the rows as CSV, each ended by a newline."""
        fields = [_field(column.kind) for column in self.columns]
        lines = (
            ",".join([field(value) for field, value in zip(fields, row, strict=True)])
            for row in self.rows
        )
        # A line with nothing on it would be no row to most readers.
        return "".join(f"{line or _EMPTY_ROW}\n" for line in lines).encode()

    def json(self, separator: bytes) -> bytes:
        """Return the rows as JSON objects with ``separator`` between them."""
        names = [column.name for column in self.columns]
        return separator.join(
            _json(dict(zip(names, map(native, row), strict=True))).encode() for row in self.rows
        )

    def cells(self) -> Iterator[list[str]]:
        """Yield the rows as display text; NULL is empty."""
        for row in self.rows:
            yield [text(value) or "" for value in row]


_EMPTY_ROW: Final = '""'
_PLAIN: Final[Mapping[str, Callable[[Any], str]]] = {
    "integer": str,
    "decimal": decimal_text,
    "date": date.isoformat,
}
"""Kinds whose text never needs quotes: most values of most answers."""


def _field(kind: Kind) -> Callable[[Any], str]:
    """Return what makes a CSV field of a value of ``kind``."""
    plain = _PLAIN.get(kind)
    if plain is None:
        return lambda value: csv_field(text(value))
    return lambda value: "" if value is None else plain(value)


def write(
    out: BinaryIO,
    name: str,
    columns: Sequence[Column],
    chunks: Iterable[Chunk],
    extras: Mapping[str, object],
) -> None:
    """Write an answer to ``out`` in text format ``name``, UTF-8, in the order given.

    Args:
        out: Where the bytes go.
        name: One of ``TEXT_FORMATS``.
        columns: The columns, in order.
        chunks: The rows; consumed once, one chunk in memory at a time.
        extras: What the one JSON object holds beside ``columns`` and ``rows``: ``as_of``, …

    Raises:
        UsageError: JSON was asked for and two columns share a name.
    """
    _WRITERS[name](out, columns, chunks, extras)


_Writer = Callable[[BinaryIO, Sequence[Column], Iterable[Chunk], Mapping[str, object]], None]


def _write_csv(
    out: BinaryIO, columns: Sequence[Column], chunks: Iterable[Chunk], extras: Mapping[str, object]
) -> None:
    out.write((",".join(csv_field(column.name) for column in columns) + "\n").encode())
    for chunk in chunks:
        out.write(chunk.csv())


def _write_jsonl(
    out: BinaryIO, columns: Sequence[Column], chunks: Iterable[Chunk], extras: Mapping[str, object]
) -> None:
    refuse_twins(columns)
    for chunk in chunks:
        rows = chunk.json(b"\n")
        if rows:
            out.write(rows)
            out.write(b"\n")


def _write_json(
    out: BinaryIO, columns: Sequence[Column], chunks: Iterable[Chunk], extras: Mapping[str, object]
) -> None:
    refuse_twins(columns)
    names = _json([column.name for column in columns])
    out.write(f'{{"columns":{names},\n"rows":['.encode())
    before = b"\n"
    for chunk in chunks:
        rows = chunk.json(b",\n")
        if rows:
            out.write(before)
            out.write(rows)
            before = b",\n"
    out.write(b"]")
    for name, value in extras.items():
        out.write(f",\n{_json(name)}:{_json(native(value))}".encode())
    out.write(b"}\n")


def refuse_twins(columns: Sequence[Column]) -> None:
    """Refuse columns that share a name, for formats which could show only one of them."""
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise UsageError(
                f'two columns are named "{column.name}"', "", "give one another name with AS"
            )
        seen.add(column.name)


def _write_table(
    out: BinaryIO, columns: Sequence[Column], chunks: Iterable[Chunk], extras: Mapping[str, object]
) -> None:
    right = [column.kind in _RIGHT for column in columns]
    names = [_shown(column.name) for column in columns]
    waiting: list[list[str]] = []
    widths: list[int] = []
    for chunk in chunks:
        for cells in chunk.cells():
            row = [_shown(cell) for cell in cells]
            if widths:
                out.write(_line(row, widths, right))
                continue
            waiting.append(row)
            if len(waiting) == _SAMPLE_ROWS:
                widths = _start_table(out, names, waiting, right)
    if not widths:
        _start_table(out, names, waiting, right)


def _start_table(
    out: BinaryIO, names: list[str], rows: list[list[str]], right: list[bool]
) -> list[int]:
    """Write the head and the first rows, which decide the widths; return the widths."""
    widths = [max(map(_width, column)) for column in zip(names, *rows, strict=True)]
    out.write(_line(names, widths, right))
    out.write(_line(["─" * width for width in widths], widths, right))
    for row in rows:
        out.write(_line(row, widths, right))
    return widths


def _line(row: list[str], widths: list[int], right: list[bool]) -> bytes:
    padded = []
    for cell, width, to_right in zip(row, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if to_right else cell + space)
    return ("  ".join(padded).rstrip() + "\n").encode()


def _shown(cell: str) -> str:
    """Return ``cell`` safe for a terminal: no control characters, no endless lines."""
    if not cell.isprintable():
        cell = "".join(mark if mark.isprintable() else _escaped(mark) for mark in cell)
    return cell if len(cell) <= _CELL_WIDTH else cell[: _CELL_WIDTH - 1] + "…"


def _escaped(mark: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in mark.encode())


def _width(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    return sum(
        0 if unicodedata.combining(mark) else 2 if unicodedata.east_asian_width(mark) in "WF" else 1
        for mark in cell
    )


_WRITERS: Final[Mapping[str, _Writer]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "jsonl": _write_jsonl,
}
