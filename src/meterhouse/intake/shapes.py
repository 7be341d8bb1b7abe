"""Lines of JSONL that differ in nothing but their values, cut at their quotes all at once.

A program writes its records in one or a few *shapes*: the same fields in the same order,
spaced alike. The shape of one line is learned by looking at it closely; of all others it
only has to be seen that the text around their values is the same, byte by byte. It is:
then their quotes are where the shape says, and so are their values.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from meterhouse.intake.jsontext import MAX_RECORD_BYTES
from meterhouse.intake.lines import Spans
from meterhouse.intake.slices import MARGIN, Block, Mask, Places
from meterhouse.intake.values import vectorised
from meterhouse.names import SCALE

__all__ = ["ShapedLines", "shaped_lines"]

_OPENING = re.compile(rb"[ \t]*\{")
_PAIR = re.compile(
    rb'[ \t]*"([^"]*)"[ \t]*:[ \t]*(?:"([^"]*)"|([^",{}\[\] \t]+))[ \t]*(?:,|\}[ \t]*(\Z))'
)
_QUOTE, _ESCAPE = 0x22, 0x5C
_FIRST_TEXT, _FIRST_BEYOND_ASCII = 0x20, 0x80

_WORTH: Final = 16
"""Lines that a shape must fit to be kept: fewer are read one by one as fast."""
_MISSES: Final = 2
"""Lines of a block that are looked at closely in vain."""
_MOST: Final = 64
"""Shapes kept."""


@dataclass(frozen=True, slots=True)
class _Literal:
    """The text between two values."""

    text: bytes
    quote: int
    """Its first quote is that one of the line."""
    at: int
    """Where in the text that is; -1 when there is none: it ends with the line."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """How lines look: literal, value, literal, …, value, literal."""

    quotes: int
    literals: tuple[_Literal, ...]
    values: tuple[tuple[str, bool], ...]
    """Field of each value, and whether it stands in quotes."""

    def find(
        self, block: Block, quotes: Places, first: Places, starts: Places, ends: Places
    ) -> tuple[Mask, list[tuple[Places, Places]]]:
        """Return which lines have this shape, and where the values of these are.

        Args:
            block: Holds the lines, each with as many quotes as the shape.
            quotes: Where quotes are.
            first: Which of them is the first of each line.
            starts: Where each line begins.
            ends: Where it ends.
        """
        places = [
            quotes[first + literal.quote] - literal.at
            if literal.at >= 0
            else ends - len(literal.text)
            for literal in self.literals
        ]
        fits = (places[0] == starts) & (places[-1] + len(self.literals[-1].text) == ends)
        for place, literal in zip(places, self.literals, strict=True):
            fits &= block.holds(place, literal.text)
        values = []
        for place, literal, end in zip(places, self.literals, places[1:], strict=False):
            start = place + len(literal.text)
            fits &= start <= end
            values.append((start, end))
        if not fits.all():
            values = [(start[fits], end[fits]) for start, end in values]
        return fits, values


def _learned(line: bytes, fields: Mapping[bytes, str]) -> _Shape | None:
    """Return the shape of a line without escapes; None when it holds other than ``fields``."""
    opening = _OPENING.match(line)
    literals: list[_Literal] = []
    values: list[tuple[str, bool]] = []
    begin, at, quotes = 0, opening.end() if opening else 0, 0
    ended = False
    while opening and not ended:
        pair = _PAIR.match(line, at)
        name = fields.get(pair[1]) if pair else None
        if pair is None or name is None:
            return None
        group = 2 if pair[2] is not None else 3
        text = line[begin : pair.start(group)]
        literals.append(_Literal(text, quotes, text.find(b'"')))
        values.append((name, group == 2))
        quotes += text.count(b'"')
        begin, at, ended = pair.end(group), pair.end(), pair[4] is not None
    literals.append(_Literal(line[begin:], quotes, line[begin:].find(b'"')))
    names = {name for name, _ in values}
    if not values or len(names) < len(values) or max(len(x.text) for x in literals) > MARGIN:
        return None
    return _Shape(quotes + literals[-1].text.count(b'"'), tuple(literals), tuple(values))


class _Column:
    """One field of all lines of a block, filled in shape by shape."""

    def __init__(self, kind: pa.DataType, lines: Places) -> None:
        """Begin without a value in any of ``lines``: NULL, of which we are sure."""
        self._kind = kind
        self._starts, self._ends = lines.copy(), lines.copy()
        self._there = np.zeros(len(lines), np.bool_)
        self._bare = np.zeros(len(lines), np.bool_)

    def fill(self, rows: Places, slices: tuple[Places, Places], *, quoted: bool) -> None:
        """Say where the values of ``rows`` are."""
        self._starts[rows], self._ends[rows] = slices
        self._there[rows] = True
        self._bare[rows] = not quoted

    def read(self, block: Block) -> tuple[pa.Array, Mask]:
        """Return the column, and of which rows it is sure."""
        starts, ends = self._starts, self._ends
        null = ~self._there
        bare = np.flatnonzero(self._bare)
        if len(bare):
            null[bare] = block.are(b"null", starts[bare], ends[bare])
        if pa.types.is_string(self._kind):
            return block.texts(starts, ends, null), null | ~self._bare
        if pa.types.is_boolean(self._kind):
            true, false = (block.are(word, starts, ends) for word in (b"true", b"false"))
            return pa.array(true, self._kind, mask=null), null | (self._bare & (true | false))
        words, sure = self._numbers(block)
        sure |= null
        validity = pa.py_buffer(np.packbits(~null, bitorder="little")) if null.any() else None
        buffers = [validity, pa.py_buffer(words)]
        return pa.Array.from_buffers(self._kind, len(null), buffers), sure

    def _numbers(self, block: Block) -> tuple[Places, Mask]:
        """Return the words that the numbers are stored as, and which of them are sure."""
        whole = pa.types.is_integer(self._kind)
        units, sure = block.numbers(self._starts, self._ends)
        if whole:
            units, rest = np.divmod(units, 10**SCALE)
            sure &= rest == 0
        words = units if whole else np.stack([units, units >> 63], axis=1)
        odd = np.flatnonzero(~sure & (self._ends > self._starts))
        if len(odd):
            texts = block.texts(self._starts[odd], self._ends[odd])
            values, decided = vectorised("integer" if whole else "decimal", texts)
            words[odd] = np.frombuffer(values.buffers()[1], np.int64).reshape(-1, *words.shape[1:])
            sure[odd] = True if decided is None else decided
        return words, sure


@functools.lru_cache(maxsize=16)
def shaped_lines(schema: pa.Schema) -> ShapedLines:
    """Return the reader of lines with the fields of ``schema``; the same for the same fields.

    What was learned in one file is known in the next. It decides how fast a line is read,
    never what is read.
    """
    return ShapedLines(schema)


class ShapedLines:
    """Reads lines by their shapes; remembers the shapes it has learned."""

    def __init__(self, schema: pa.Schema) -> None:
        """Read fields of these Arrow types: text, decimal, int64 or boolean."""
        self._kinds = {field.name: field.type for field in schema}
        self._fields = {name.encode("utf-8"): name for name in self._kinds}
        self._shapes: list[_Shape] = []

    def read(self, spans: Spans) -> tuple[dict[str, pa.Array], Mask]:
        """Return the fields of a run of records, and of which records they are all sure.

        Whatever a record is not sure of must be read in another way, as a whole.
        """
        base = int(spans.starts[0])
        block = Block(memoryview(spans.data)[base : int(spans.ends[-1])])
        starts, ends = spans.starts + (MARGIN - base), spans.ends + (MARGIN - base)
        plain = _plain(block, starts, ends)
        quotes = np.flatnonzero(block.view == _QUOTE)
        first = np.searchsorted(quotes, starts)
        counts = np.searchsorted(quotes, ends) - first
        columns: dict[str, _Column] = {}
        todo, sure = plain, np.zeros(len(spans), np.bool_)

        def claim(shape: _Shape) -> int:
            rows = np.flatnonzero(todo & (counts == shape.quotes))
            if not len(rows):
                return 0
            fits, values = shape.find(block, quotes, first[rows], starts[rows], ends[rows])
            rows = rows[fits]
            todo[rows], sure[rows] = False, True
            for (name, quoted), slices in zip(shape.values, values, strict=True):
                if name not in columns:
                    columns[name] = _Column(self._kinds[name], starts)
                columns[name].fill(rows, slices, quoted=quoted)
            return len(rows)

        for shape in self._shapes:
            claim(shape)
        self._learn(spans, todo, claim)
        fields = {}
        for name, column in columns.items():
            fields[name], certain = column.read(block)
            sure &= certain
        return fields, sure

    def _learn(self, spans: Spans, todo: Mask, claim: Callable[[_Shape], int]) -> None:
        misses = 0
        while misses < _MISSES and len(self._shapes) < _MOST:
            left = np.flatnonzero(todo)
            if len(left) < _WORTH:
                return
            example = left[len(left) // 2]
            shape = _learned(spans.body(example), self._fields)
            if shape is not None and claim(shape) >= _WORTH:
                self._shapes.append(shape)
            else:
                misses += 1
                todo[example] = False


def _plain(block: Block, starts: Places, ends: Places) -> Mask:
    """Return which lines are UTF-8 without escapes and control characters."""
    plain: Mask = ends - starts <= MAX_RECORD_BYTES
    text, view = block.text, block.view[MARGIN:-MARGIN]
    if b"\\" in text:
        _strike(plain, np.flatnonzero(view == _ESCAPE), starts, ends)
    between = len(view) - int((ends - starts).sum())
    # When all that is between lines is one line end each, no other control may be there.
    if between != len(starts) - 1 or np.count_nonzero(view < _FIRST_TEXT) != between:
        _strike(plain, np.flatnonzero(view < _FIRST_TEXT), starts, ends)
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            _strike(plain, np.flatnonzero(view >= _FIRST_BEYOND_ASCII), starts, ends)
    return plain


def _strike(plain: Mask, places: Places, starts: Places, ends: Places) -> None:
    """Take out the lines that hold one of ``places`` (of the block's text)."""
    places = places + MARGIN
    lines = np.searchsorted(starts, places, side="right") - 1
    plain[lines[places < ends[lines]]] = False
