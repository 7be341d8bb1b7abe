"""What a delivery looks like: its fields, and which types their values fit.

Only for drafting a contract. Values are compared as text, never through a double; the
strict parser decides later what is what.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Final, Literal, cast

import zstandard

from meterhouse.errors import UsageError
from meterhouse.intake.contract import ColumnType
from meterhouse.names import SCALE

__all__ = ["Cell", "Field", "Sample", "fits", "is_number", "read_sample", "unique"]

SAMPLE_BYTES: Final = 32 * 2**20
SAMPLE_RECORDS: Final = 100_000
MOSTLY: Final = 95
"""Per cent of values that must fit a type for it to be guessed in spite of the others."""

GUESSES: Final[tuple[ColumnType, ...]] = ("boolean", "integer", "decimal", "date", "timestamp")
INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
DECIMAL: Final = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TIMESTAMP: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
    r"\s?(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)?"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One delivered value that is not null."""

    kind: Literal["text", "number", "boolean", "json"]
    text: str
    """As delivered; JSON text for objects and lists."""


@dataclass(slots=True)
class Field:
    """One delivered field and its values; None where a record lacks it."""

    name: str
    cells: list[Cell | None] = field(default_factory=list)

    @property
    def filled(self) -> list[Cell]:
        """Values that are not null."""
        return [cell for cell in self.cells if cell is not None]

    def misfits(self, kind: ColumnType) -> int:
        """Return how many values would not be read as ``kind``."""
        return sum(not fits(cell, kind) for cell in self.filled)

    @property
    def guess(self) -> ColumnType:
        """The narrowest type that (nearly) all values fit; text when there are none."""
        filled = self.filled
        if not filled:
            return "text"
        misfits = {kind: self.misfits(kind) for kind in GUESSES}
        # A number with too many digits is still a number: it will be held, and the draft says so.
        misfits["decimal"] = sum(not is_number(cell) for cell in filled)
        for allowed in (0, len(filled) * (100 - MOSTLY) // 100):
            for kind in GUESSES:
                if misfits[kind] <= allowed:
                    return kind
        return "json" if any(cell.kind == "json" for cell in filled) else "text"


@dataclass(frozen=True, slots=True)
class Sample:
    """The beginning of a delivery, or all of it."""

    format: Literal["csv", "jsonl"]
    fields: tuple[Field, ...]
    """In the order of first appearance."""
    records: int
    malformed: int
    """Records that could not be read; their values are in no field."""
    whole: bool
    """True when the file holds nothing more."""


def read_sample(path: Path) -> Sample:
    """Read the beginning of ``path`` (CSV or JSONL, also .gz and .zst).

    Raises:
        UsageError: It holds no records, or can't be decompressed.
    """
    data, whole = read_start(path)
    text = data.decode("utf-8-sig", "replace")
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    lines = name.endswith((".jsonl", ".ndjson", ".json")) or text.lstrip().startswith("{")
    sample = sample_jsonl(text, whole) if lines else sample_csv(text, whole)
    if not sample.fields or not sample.records:
        raise UsageError(
            "file holds no records to draft a contract from",
            str(path),
            "choose a delivery with a header and rows (CSV), or an object per line (JSONL)",
        )
    return sample


def read_start(path: Path) -> tuple[bytes, bool]:
    """Return the decoded beginning of a file, cut at a line's end, and whether it is all."""
    try:
        with path.open("rb") as raw:
            opened: IO[bytes] = raw
            if path.name.endswith(".gz"):
                opened = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
            elif path.name.endswith(".zst"):
                opened = cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(raw))
            data = opened.read(SAMPLE_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError("file does not exist", str(path), "name one delivered file") from error
    except (EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise UsageError(
            "file can't be decompressed", str(path), "deliver it again; it is damaged"
        ) from error
    if len(data) <= SAMPLE_BYTES:
        return data, True
    return data[: data.rfind(b"\n", 0, SAMPLE_BYTES) + 1], False


def sample_csv(text: str, whole: bool) -> Sample:
    """Read CSV: the first row names the fields; empty fields are null."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    records = malformed = 0
    fields: list[Field] = []
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error:
            malformed += 1
            continue
        if not row:
            continue
        if not fields:
            fields = [Field(name.strip()) for name in row]
            continue
        if records + malformed >= SAMPLE_RECORDS:
            whole = False
            break
        if len(row) != len(fields):
            malformed += 1
            continue
        records += 1
        for column, value in zip(fields, row, strict=True):
            column.cells.append(Cell("text", value) if value else None)
    return Sample("csv", tuple(fields), records, malformed, whole)


class Number(str):
    """A JSON number as the digits that were delivered."""


def sample_jsonl(text: str, whole: bool) -> Sample:
    """Read one JSON object per line; numbers keep their text."""
    fields: dict[str, Field] = {}
    records = malformed = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        if records + malformed >= SAMPLE_RECORDS:
            whole = False
            break
        try:
            record = json.loads(line, parse_float=Number, parse_int=Number, parse_constant=refused)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            malformed += 1
            continue
        for name, value in record.items():
            column = fields.setdefault(name, Field(name))
            column.cells += [None] * (records - len(column.cells))
            column.cells.append(json_cell(value))
        records += 1
    for column in fields.values():
        column.cells += [None] * (records - len(column.cells))
    return Sample("jsonl", tuple(fields.values()), records, malformed, whole)


def refused(token: str) -> None:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(token)


def json_cell(value: object) -> Cell | None:
    """Return a decoded JSON value as a cell, None for null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return Cell("boolean", str(value).lower())
    if isinstance(value, Number):
        return Cell("number", str(value))
    if isinstance(value, str):
        return Cell("text", value)
    return Cell("json", json.dumps(value))


def fits(cell: Cell, kind: ColumnType) -> bool:
    """Return whether a value would be read as ``kind`` (nearly as strictly as the parser does)."""
    text = cell.text.strip()
    if kind == "text":
        return cell.kind == "text"
    if kind == "json":
        return True
    if kind == "boolean":
        return cell.kind in ("boolean", "text") and text.lower() in ("true", "false")
    if kind == "decimal":
        return is_number(cell) and in_range(text)
    if kind == "integer":
        whole = cell.kind in ("text", "number") and INTEGER.fullmatch(text)
        return bool(whole) and -(2**63) <= int(text) < 2**63
    return cell.kind == "text" and is_time(text, kind)


def is_number(cell: Cell) -> bool:
    """Return whether a value is a number, in range or not."""
    return cell.kind in ("text", "number") and DECIMAL.fullmatch(cell.text.strip()) is not None


def in_range(text: str) -> bool:
    """Return whether a number is below 1e18 and has at most nine decimals that count."""
    if len(text) > 400:
        return False
    number = Decimal(text)
    _, digits, exponent = number.as_tuple()
    # Counted, not normalized: Decimal's own functions round to 28 digits.
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    counting = -cast(int, exponent) - zeros
    return number.is_zero() or (number.adjusted() < 18 and counting <= SCALE)


def is_time(text: str, kind: ColumnType) -> bool:
    """Return whether text is a day (date) or a moment (timestamp) that exists."""
    pattern = DATE if kind == "date" else TIMESTAMP
    if not pattern.fullmatch(text):
        return False
    try:
        date.fromisoformat(text[:10])
        if kind == "timestamp":
            datetime.fromisoformat(f"{text[:10]}T{text[11:16]}:00+00:00")
    except ValueError:
        return False
    return True


def unique(columns: Sequence[Field]) -> bool:
    """Return whether the fields together are never null and never the same twice."""
    rows: Iterable[tuple[Cell | None, ...]] = zip(*(c.cells for c in columns), strict=True)
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        texts = tuple(cell.text for cell in row if cell is not None)
        if len(texts) < len(columns) or texts in seen:
            return False
        seen.add(texts)
    return True
