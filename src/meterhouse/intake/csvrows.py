r"""CSV: the header, and rows read in bulk where their form is sure, else one by one.

RFC 4180 and nothing beyond it: a field is quoted whole or has no quote in it, a quote
inside is doubled. Line ends may be ``\n`` or ``\r\n``. An empty field is NULL.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.jsontext import MAX_RECORD_BYTES, dump
from meterhouse.intake.lines import BOM, Spans

__all__ = ["CsvRows", "Header"]

_SURE_FIELD = r'(?:[^",\r\n]*|"(?:[^"\r]|"")*")'
_MOST_SURE_FIELDS = 100
"""RE2 repeats the pattern of a field that often before it gets too large."""

_FIELD = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^",]*+))(,|\Z)')
_BULK = 1
_EXACT = 0


@dataclass(frozen=True, slots=True)
class Header:
    """The names of a CSV file's columns, in its order."""

    text: str
    """The header record as delivered."""
    names: tuple[str, ...]

    @staticmethod
    def of(spans: Spans) -> str:
        """Return the text of the header record, the first of a file's records.

        Raises:
            SourceRefusedError: There is none, or it is not UTF-8.
        """
        if not len(spans):
            raise SourceRefusedError(
                "CSV file is empty: it has no header",
                "line 1",
                "deliver the header row too, also when there are no records; nothing was taken",
            )
        try:
            return spans.body(0).decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceRefusedError(
                "CSV header is not UTF-8",
                f"line {int(spans.lines[0]) + 1}, byte {error.start + 1}",
                "save the file as UTF-8; nothing was taken",
            ) from error

    @classmethod
    def read(cls, text: str, contract: Contract) -> Header:
        """Take a header apart and check that records can be read by it.

        Raises:
            SourceRefusedError: Broken quoting, a name given twice, or a key column missing.
        """
        fields = _fields(text.removeprefix(BOM.decode("utf-8")))
        fix = f'deliver a header as contract "{contract.source}" declares it; nothing was taken'
        if fields is None:
            raise SourceRefusedError("CSV header has broken quoting", "header", fix)
        names = tuple(name.strip(" \t") for name in fields)
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise SourceRefusedError(f'CSV header names column "{twice[0]}" twice', "header", fix)
        for key in contract.key:
            name = contract.by_name[key].source
            if name not in names:
                raise SourceRefusedError(
                    f'CSV header lacks key column "{name}"',
                    "header",
                    f"deliver the column, or give its own name under from: of {key} in the"
                    " contract; nothing was taken",
                )
        return cls(text, names)


class CsvRows:
    """Reads the records of one contract's CSV, under one header."""

    def __init__(self, contract: Contract, header: Header) -> None:
        self._names = header.names
        self._header = header.text.encode("utf-8")
        self._known = contract.by_source.keys()
        more = len(self._names) - 1
        self._sure = rf"^{_SURE_FIELD}(?:,{_SURE_FIELD}){{{more}}}$"
        self._too_wide = len(self._names) > _MOST_SURE_FIELDS

    def shaped(self, spans: Spans) -> None:
        """Return nothing: rows of CSV have no names in them to tell a shape by."""

    def classes(self, spans: Spans) -> npt.NDArray[np.uint8]:
        """Return how each record can be read; 0 where only ``delivered`` can."""
        classes = np.zeros(len(spans), np.uint8)
        if self._too_wide or not len(spans):
            return classes
        bodies = spans.bodies()
        sure = pc.match_substring_regex(bodies, self._sure).to_numpy(zero_copy_only=False)
        classes[sure] = _BULK
        classes[pc.equal(bodies, self._header).to_numpy(zero_copy_only=False)] = _EXACT
        classes[spans.ends - spans.starts > MAX_RECORD_BYTES] = _EXACT
        if not spans.data.isascii():
            for index in np.flatnonzero(classes).tolist():
                if not _is_utf8(spans.body(index)):
                    classes[index] = _EXACT
        return classes

    def fields(
        self, spans: Spans, classes: npt.NDArray[np.uint8]
    ) -> tuple[dict[str, pa.Array], pa.StringArray | None] | None:
        """Return the delivered fields of a run of records and their undeclared ones.

        As many rows as records; those of class 0 come out NULL. None when the reader
        does not agree with the classes.
        """
        text = self._readable(spans, classes)
        places = [f"f{index}" for index in range(len(self._names))]
        try:
            table = pcsv.read_csv(
                pa.BufferReader(text),
                read_options=pcsv.ReadOptions(
                    use_threads=False, block_size=len(text) + 1, column_names=places
                ),
                parse_options=pcsv.ParseOptions(newlines_in_values=True),
                convert_options=pcsv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            ).combine_chunks()
        except pa.ArrowInvalid:
            return None
        if table.num_rows != len(spans):
            return None
        columns = [column.chunk(0) for column in table.columns]
        fields = dict(zip(self._names, columns, strict=True))
        return fields, _extra({k: v for k, v in fields.items() if k not in self._known})

    def _readable(self, spans: Spans, classes: npt.NDArray[np.uint8]) -> bytes:
        """Return CSV of the run with the odd records emptied, in place."""
        if not spans.blank and classes.all():
            return spans.data[spans.starts[0] : spans.ends[-1]]
        empty = b'""' + b"," * (len(self._names) - 1)
        rows = [spans.body(index) if sure else empty for index, sure in enumerate(classes.tolist())]
        return b"\n".join(rows)

    def delivered(self, body: bytes) -> dict[str, Any] | None:
        """Return the filled fields of one record by column name; None when it is malformed.

        The header repeated among the records is malformed.
        """
        if len(body) > MAX_RECORD_BYTES or body == self._header:
            return None
        try:
            fields = _fields(body.decode("utf-8"))
        except UnicodeDecodeError:
            return None
        if fields is None or len(fields) != len(self._names):
            return None
        return {name: text for name, text in zip(self._names, fields, strict=True) if text}


def _fields(record: str) -> list[str] | None:
    """Return the fields of a record, None when its quoting is broken."""
    found = []
    position = 0
    while True:
        match = _FIELD.match(record, position)
        if match is None:
            return None
        quoted, bare, end = match.groups()
        found.append(bare if quoted is None else quoted.replace('""', '"'))
        if not end:
            return found
        position = match.end()


def _extra(columns: dict[str, pa.Array]) -> pa.StringArray | None:
    """Return the undeclared fields of each row as one JSON object, NULL where all are."""
    if all(column.null_count == len(column) for column in columns.values()):
        return None
    rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
    filled = [{k: v for k, v in zip(columns, row, strict=True) if v is not None} for row in rows]
    return pa.array([dump(fields) if fields else None for fields in filled], pa.string())


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
