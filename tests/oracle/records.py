"""Bytes of one file to records: values, undeclared fields, problems, bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from oracle import values
from oracle.sources import Source
from oracle.values import WRONG_TYPE, MalformedError, Number

LONGEST = 16 * 1024 * 1024
ROW = re.compile(
    rb'(?:"(?:[^"]|"")*+"[^,\n]*+|(?!")[^,\n]*+)(?:,(?:"(?:[^"]|"")*+"[^,\n]*+|(?!")[^,\n]*+))*+'
    rb"(?=\n|\Z)"
)
"""A row in which each field that begins with a quote has a closing one."""
FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(?=,|\Z)')


@dataclass
class Record:
    """One line of JSONL or one row of CSV."""

    file: str
    line: int
    raw: bytes
    row: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    unreadable: dict[str, Any] = field(default_factory=dict)
    problems: set[tuple[str, str]] = field(default_factory=set)
    """(problem, column); ("malformed", "") alone when it is no record of its format."""

    @property
    def malformed(self) -> bool:
        """Whether nothing of it could be read."""
        return ("malformed", "") in self.problems

    @property
    def payload(self) -> Any:
        """What two copies must have in common: numbers by value, null as absent."""
        parts = values.by_value(self.extra), values.by_value(self.unreadable)
        return tuple(self.row.items()), *parts

    def unread(self, columns: tuple[str, ...]) -> bool:
        """Whether one of ``columns`` was delivered but has no value."""
        return any(column in columns and self.row[column] is None for _, column in self.problems)


def read(source: Source, file: str, data: bytes) -> tuple[list[Record], int]:
    """Return the records of a file and how many of its lines are blank."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    return _jsonl(source, file, data) if source.format == "jsonl" else _csv(source, file, data)


def _jsonl(source: Source, file: str, data: bytes) -> tuple[list[Record], int]:
    records, blank = [], 0
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip(b" \t\r"):
            blank += 1
            continue
        record = Record(file, number, line.removesuffix(b"\r"))
        try:
            if len(line) > LONGEST:
                raise MalformedError("too long")
            delivered = values.json_object(line.decode("utf-8"))
        except (MalformedError, UnicodeDecodeError):
            record.problems.add(("malformed", ""))
        else:
            _fill(source, record, delivered)
        records.append(record)
    return records, blank


def _csv(source: Source, file: str, data: bytes) -> tuple[list[Record], int]:
    records, blank = [], 0
    header: list[str] | None = None
    top = b""
    for number, line in _csv_records(data):
        if not line.strip(b" \t\r"):
            blank += 1
            continue
        if header is None:
            header, top = [name.strip(" \t") for name in _cells(line)], line
            continue
        record = Record(file, number, line)
        try:
            cells = _cells(line)
            if len(line) > LONGEST or len(cells) != len(header) or line == top:
                raise MalformedError("not a row of this header")
        except (MalformedError, UnicodeDecodeError):
            record.problems.add(("malformed", ""))
        else:
            row = dict(zip(header, cells, strict=True))
            _fill(source, record, {name: cell or None for name, cell in row.items()}, text=True)
        records.append(record)
    return records, blank


def _csv_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (first line, record): a newline inside quotes ends nothing.

    A quote that never closes costs its own line, not all that follow.
    """
    place, number = 0, 1
    while place < len(data):
        match = ROW.match(data, place)
        end = match.end() if match else len(data)
        if match is None and b"\n" in data[place:]:
            end = data.index(b"\n", place)
        record = data[place:end]
        yield number, record.removesuffix(b"\r")
        number += record.count(b"\n") + 1
        place = end + 1


def _cells(line: bytes) -> list[str]:
    """Split one row by RFC 4180: a quote stands around a field, or twice inside one."""
    text, place, cells = line.decode("utf-8"), 0, []
    while True:
        match = FIELD.match(text, place)
        if match is None:
            raise MalformedError("broken quoting")
        quoted, plain = match[1], match[2]
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        place = match.end()
        if place == len(text):
            return cells
        place += 1
        if place == len(text):
            return [*cells, ""]


def _fill(source: Source, record: Record, delivered: dict[str, Any], *, text: bool = False) -> None:
    declared = {source.delivered(column) for column in source.columns}
    record.extra = {name: item for name, item in delivered.items() if name not in declared}
    for column, kind in source.columns.items():
        item = delivered.get(source.delivered(column))
        value, problem = _value(kind, item, text=text)
        record.row[column] = value
        if problem:
            record.problems.add((problem, column))
            if value is None:
                record.unreadable[source.delivered(column)] = item


def _value(kind: str, item: Any, *, text: bool) -> tuple[Any, str]:
    """Return (value, problem) of one delivered field; ``text``: everything is text (CSV)."""
    if item is None:
        return None, ""
    if isinstance(item, bool):
        return (item, "") if kind == "boolean" else (None, WRONG_TYPE)
    if isinstance(item, Number):
        readers = {"decimal": values.decimal_of, "integer": values.integer_of}
        return readers[kind](item) if kind in readers else (None, WRONG_TYPE)
    if not isinstance(item, str):
        return None, WRONG_TYPE
    if kind == "text":
        return item, ""
    if kind == "boolean":
        lowered = item.lower()
        return (lowered == "true", "") if lowered in ("true", "false") else (None, WRONG_TYPE)
    if not item and (text or kind in ("instant", "date")):
        return None, ""
    parse: Any = {
        "decimal": values.decimal_of,
        "integer": values.integer_of,
        "date": values.day_of,
        "instant": values.instant_of,
    }[kind]
    value, problem = parse(item)
    return value, problem
