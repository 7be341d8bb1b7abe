"""Two parts of a row made one: sums, minima and maxima of stored values, then the ratios.

The same laws as ``layers.compute.merge_sql``, on values as the serving store keeps them. A
NULL side gives the other one; sums can be taken back (a part may be negative).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import ModelError
from meterhouse.serving.exact_text import DIGITS, fits, quotient, total, totals
from meterhouse.serving.schema import StoredColumn, StoredTable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Merger", "Row"]

Row = tuple[Any, ...]
"""Stored values of all columns of a finished table, in its order."""

_Columns = Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]]
"""Values of before and new ones → merged; of a column, row by row."""
_MANY: Final = 100
"""Rows from which sums of decimals are computed a column at a time."""


class Merger:
    """Merges rows of one table: stored values in, stored values out."""

    def __init__(self, table: StoredTable, schema: pa.Schema) -> None:
        """Decide by the layout how each column merges.

        Args:
            table: Columns and layout.
            schema: Of the finished table, for how many digits a sum may have.

        Raises:
            ModelError: A column has no way to be merged.
        """
        layout = table.layout
        self._table = table.name
        self._places: dict[str, int] = {item.name: n for n, item in enumerate(table.columns)}
        self._ratios = [
            (self._places[name], self._places[it.numerator], self._places[it.denominator], it.times)
            for name, it in layout.ratios.items()
        ]
        self._digits = [_digits_of(item.type) for item in schema]
        self._merges: list[tuple[int, _Columns]] = []
        for number, column in enumerate(table.columns):
            how = layout.merge.get(column.name)
            if how is not None:
                self._merges.append((number, self._merge(column, how, schema.field(number).type)))
            elif column.name not in layout.key and column.name not in layout.ratios:
                raise self._unmergeable(column.name)
        self._count = self._places.get(layout.count_column)

    @property
    def computes(self) -> bool:
        """Whether a row has a ratio: then a part alone is not the row yet."""
        return bool(self._ratios)

    def merged(self, before: Sequence[Row | None], parts: Sequence[Row]) -> list[Row | None]:
        """Return each of ``parts`` added to the row before it, with its ratios.

        None where no rows are behind the result any more.

        Raises:
            ModelError: A sum or a ratio has more digits than its column.
        """
        if not parts:
            return []
        columns = [list(values) for values in zip(*parts, strict=True)]
        both = [number for number, row in enumerate(before) if row is not None]
        if both:
            self._add([row for row in before if row is not None], both, columns)
        for place, up, down, times in self._ratios:
            try:
                columns[place] = [
                    quotient(left, right, times)
                    for left, right in zip(columns[up], columns[down], strict=True)
                ]
            except OverflowError as error:
                raise self._overflow(place) from error
        rows: list[Row | None] = list(zip(*columns, strict=True))
        if self._count is not None:
            for number, count in enumerate(columns[self._count]):
                if count == 0:
                    rows[number] = None
        return rows

    def _add(self, before: Sequence[Row], at: Sequence[int], columns: list[list[Any]]) -> None:
        """Merge ``before`` into the rows of ``columns`` whose numbers are ``at``."""
        everywhere = len(at) == len(columns[0])
        for place, merge in self._merges:
            lefts, new = list(map(itemgetter(place), before)), columns[place]
            rights = new if everywhere else [new[number] for number in at]
            if None in lefts or None in rights:
                found = _with_nulls(merge, lefts, rights)
            else:
                found = merge(lefts, rights)
            if everywhere:
                columns[place] = list(found)
            else:
                for number, value in zip(at, found, strict=True):
                    new[number] = value

    def _merge(self, column: StoredColumn, how: str, data_type: pa.DataType) -> _Columns:
        if how == "sum":
            return self._sum(column, data_type)
        order = _ORDERS.get(column.kind)
        if how not in ("min", "max") or order is None:
            raise self._unmergeable(column.name)
        choose = min if how == "min" else max

        def chosen(lefts: Sequence[Any], rights: Sequence[Any]) -> Sequence[Any]:
            return [choose(pair, key=order) for pair in zip(lefts, rights, strict=True)]

        return chosen

    def _sum(self, column: StoredColumn, data_type: pa.DataType) -> _Columns:
        place = self._places[column.name]
        if column.kind not in ("integer", "decimal"):
            raise self._unmergeable(column.name)
        if column.storage == "INTEGER":
            bound = 2 ** (data_type.bit_width - 1)

            def integers(lefts: Sequence[int], rights: Sequence[int]) -> Sequence[int]:
                found = [left + right for left, right in zip(lefts, rights, strict=True)]
                if not -bound <= min(found) <= max(found) < bound:
                    raise self._overflow(place)
                return found

            return integers

        def texts(lefts: Sequence[str], rights: Sequence[str]) -> Sequence[str]:
            # Most measures are reported by some services only: nothing is added to nothing.
            found = [
                right if left == "0" else left for left, right in zip(lefts, rights, strict=True)
            ]
            both = [
                number
                for number, (left, right) in enumerate(zip(lefts, rights, strict=True))
                if left != "0" and right != "0"
            ]
            some = [lefts[number] for number in both], [rights[number] for number in both]
            for number, value in zip(both, self._totals(place, *some), strict=True):
                found[number] = value
            return found

        return texts

    def _totals(self, place: int, lefts: Sequence[str], rights: Sequence[str]) -> Sequence[str]:
        digits, scale = self._digits[place]
        if len(lefts) >= _MANY and digits == DIGITS:
            try:
                return totals(lefts, rights, scale)
            except OverflowError as error:
                raise self._overflow(place) from error
        found = list(map(total, lefts, rights))
        if not all(fits(value, digits - scale) for value in found):
            raise self._overflow(place)
        return found

    def _unmergeable(self, column: str) -> ModelError:
        return ModelError(
            f'column "{column}" of {self._table} has no way to be merged, so the table can\'t '
            "follow the log between batches",
            self._table,
            "say batch_only: and why in the model's header; nothing was changed",
        )

    def _overflow(self, place: int) -> ModelError:
        name = next(name for name, number in self._places.items() if number == place)
        return ModelError(
            f'column "{name}" of {self._table} has more digits than its type holds',
            self._table,
            "nothing was changed; let the model leave such rows out",
        )


def _digits_of(data_type: pa.DataType) -> tuple[int, int]:
    """Return precision and scale; those of an unsigned 64-bit integer where it has none."""
    return getattr(data_type, "precision", 20), getattr(data_type, "scale", 0)


def _with_nulls(merge: _Columns, lefts: Sequence[Any], rights: Sequence[Any]) -> Sequence[Any]:
    """Merge where both sides have a value; else take the one that has."""
    found = [right if left is None else left for left, right in zip(lefts, rights, strict=True)]
    pairs = list(zip(lefts, rights, strict=True))
    both = [n for n, (left, right) in enumerate(pairs) if left is not None and right is not None]
    if both:
        merged = merge([lefts[n] for n in both], [rights[n] for n in both])
        for number, value in zip(both, merged, strict=True):
            found[number] = value
    return found


def _as_is(value: Any) -> Any:
    return value


def _without_zone(value: str) -> str:
    """With the Z, a whole second would sort after its own fractions."""
    return value[:-1]


_ORDERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": _as_is,
    "integer": int,
    "decimal": Decimal,
    "boolean": _as_is,
    "date": _as_is,
    "timestamp": _without_zone,
    "bytes": base64.b64decode,
}
"""Kind to what its stored values are compared by: the order of the engine's min and max."""
