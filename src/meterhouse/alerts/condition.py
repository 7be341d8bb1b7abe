"""Conditions of alert rules: a part of SQL whose every value is exact.

What is not on the list is refused, so that a condition means the same on any machine: columns,
plain decimals, texts, days and times, comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, + - *,
and over groups sum, min, max and count(*). NULL is neither true nor false: such a condition
does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from meterhouse.errors import nearest
from meterhouse.intake.document import Value
from meterhouse.names import SCALE

__all__ = ["Condition", "column_kind", "read_condition"]

Kind = Literal["number", "text", "day", "time", "flag", "other"]

KINDS: Final[Mapping[str, Kind]] = {
    "BIGINT": "number",
    "VARCHAR": "text",
    "DATE": "day",
    "TIMESTAMPTZ": "time",
    "BOOLEAN": "flag",
}
COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
AGGREGATES: Final = (exp.Sum, exp.Min, exp.Max, exp.Count)
LARGEST_DIGITS: Final = 18
ALLOWED: Final = (
    "a condition may hold columns, numbers, texts, = <> < <= > >=, AND, OR, NOT, IN, BETWEEN, "
    "IS NULL, + - *; and sum, min, max, count(*) where rows are grouped"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition."""

    sql: str
    """In DuckDB's dialect, columns quoted."""
    text: str
    """As it was written."""
    columns: tuple[str, ...]
    """Columns it names, in order of appearance."""
    measures: tuple[tuple[str, str], ...]
    """(name, SQL) of every number it looks at: what an alert tells beside its key."""
    grouped: bool
    """True when it holds an aggregate."""


def read_condition(value: Value, columns: Mapping[str, str], *, grouping: bool) -> Condition:
    """Return the condition that ``value`` holds.

    Args:
        value: One SQL expression.
        columns: Name to DuckDB type, of the table.
        grouping: Whether it may look at groups of rows: ``sum(cost_usd) > 50``.

    Raises:
        ContractError: It is no such condition; the message names file, line and column.
    """
    reader = _Reader(value, columns, grouping=grouping)
    tree = reader.parsed()
    if reader.kind(tree) != "flag":
        raise value.error("condition is neither true nor false", "compare it, as cost_usd > 50")
    if reader.grouped and reader.single:
        raise value.error(
            f'condition mixes groups of rows with single ones ("{reader.single}")',
            "put what single rows must meet under where:",
        )
    measures = {
        node.sql("duckdb", normalize_functions="lower"): _exact(node).sql("duckdb", identify=True)
        for node in reader.numbers
    }
    return Condition(
        _exact(tree).sql("duckdb", identify=True),
        value.text(),
        tuple(reader.columns),
        tuple(measures.items()),
        reader.grouped,
    )


def _exact(tree: exp.Expr) -> exp.Expr:
    """Return ``tree`` with sums kept in decimals, which no engine widens to a double."""

    def kept(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Sum) and node.args.get("whole"):
            plain = exp.Sum(this=node.this.copy())
            return exp.Cast(this=plain, to=exp.DataType.build("DECIMAL(38, 0)", dialect="duckdb"))
        return node

    return tree.copy().transform(kept)


class _Reader:
    """Walks one tree; what it meets and does not know is an error."""

    def __init__(self, value: Value, columns: Mapping[str, str], *, grouping: bool) -> None:
        self._value = value
        self._types = columns
        self._grouping = grouping
        self._inside = False
        self.columns: dict[str, None] = {}
        self.numbers: list[exp.Expr] = []
        self.grouped = False
        self.single = ""

    def parsed(self) -> exp.Expr:
        """Return the one expression of the text."""
        try:
            trees = sqlglot.parse(self._value.text(), dialect="duckdb")
        except SqlglotError as error:
            raise self._value.error("condition can't be read as SQL", ALLOWED) from error
        if len(trees) != 1 or trees[0] is None:
            raise self._value.error("condition is not one expression", "leave out the semicolon")
        return trees[0]

    def kind(self, node: exp.Expr) -> Kind:
        """Return what ``node`` is, and refuse it where it can't be told exactly."""
        if isinstance(node, exp.Paren):
            return self.kind(node.this)
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Literal):
            return self._literal(node)
        if isinstance(node, exp.Boolean):
            return "flag"
        if isinstance(node, AGGREGATES):
            return self._aggregate(node)
        if isinstance(node, exp.And | exp.Or | exp.Not):
            return self._parts(node, "flag")
        if isinstance(node, exp.Neg | exp.Add | exp.Sub | exp.Mul):
            return self._parts(node, "number")
        return self._comparison(node)

    def _comparison(self, node: exp.Expr) -> Kind:
        if isinstance(node, COMPARISONS):
            self._alike(node.this, [node.expression])
        elif isinstance(node, exp.Between):
            self._alike(node.this, [node.args["low"], node.args["high"]])
        elif isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
            self._alike(node.this, node.expressions)
        elif isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            self.kind(node.this)
        else:
            raise self._value.error(
                f'condition holds "{node.sql("duckdb")}", which is not on the list', ALLOWED
            )
        return "flag"

    def _alike(self, one: exp.Expr, others: list[exp.Expr]) -> None:
        """Refuse to compare what is of two kinds; a text is a day or time where one belongs."""
        nodes = [one, *others]
        kinds = {
            self.kind(node)
            for node in nodes
            if not (isinstance(node, exp.Literal) and node.is_string)
        }
        texts = [node for node in nodes if isinstance(node, exp.Literal) and node.is_string]
        kind = kinds.pop() if kinds else "text"
        if kinds or kind == "other":
            raise self._value.error(
                "condition compares what can't be compared: "
                + " with ".join(f'"{node.sql("duckdb")}"' for node in nodes),
                "compare numbers with numbers, texts with texts, days with '2025-07-03'",
            )
        for node in texts:
            if not _reads_as(node.name, kind):
                raise self._value.error(
                    f"condition compares {node.sql('duckdb')} with a {kind}",
                    {
                        "number": "write the number without quotes",
                        "day": "write the day as '2025-07-03'",
                        "time": "write the time as '2025-07-03T12:00:00Z'",
                    }.get(kind, "write true or false without quotes"),
                )

    def _parts(self, node: exp.Expr, wanted: Kind) -> Kind:
        for part in node.iter_expressions():
            if self.kind(part) != wanted:
                said = "a number" if wanted == "number" else "true or false"
                raise self._value.error(f'"{part.sql("duckdb")}" is not {said}', ALLOWED)
        return wanted

    def _column(self, node: exp.Column) -> Kind:
        name = node.name
        if node.table or name not in self._types:
            hint = nearest(name, self._types)
            raise self._value.error(
                f'condition names column "{node.sql("duckdb")}", which the table does not have',
                f'did you mean "{hint}"?' if hint else f"use one of {', '.join(self._types)}",
                offset=node.this.meta.get("start"),
            )
        self.columns[name] = None
        kind = column_kind(self._types[name])
        if not self._inside:
            self.single = name
            if kind == "number":
                self.numbers.append(node)
        return kind

    def _aggregate(self, node: exp.Expr) -> Kind:
        text = node.sql("duckdb")
        if not self._grouping or self._inside:
            raise self._value.error(
                f'condition holds "{text}", which looks at more than one row',
                "put it under when:, which looks at all rows of a key and window",
            )
        self.grouped = True
        if isinstance(node, exp.Count):
            if not isinstance(node.this, exp.Star):
                raise self._value.error(f'condition holds "{text}"', "write count(*)")
        elif not isinstance(node.this, exp.Column):
            raise self._value.error(f'condition holds "{text}"', "aggregate one column")
        else:
            self._inside = True
            kind = self.kind(node.this)
            self._inside = False
            if isinstance(node, exp.Sum) and kind != "number":
                raise self._value.error(f'"{text}" is no number', "sum a number")
            node.set("whole", self._types[node.this.name] == "BIGINT")
            if kind != "number":
                return kind
        self.numbers.append(node)
        return "number"

    def _literal(self, node: exp.Literal) -> Kind:
        if node.is_string:
            return "text"
        digits = re.fullmatch(r"([0-9]*)(?:\.([0-9]*))?", node.name)
        if digits is None or len(digits[1]) > LARGEST_DIGITS or len(digits[2] or "") > SCALE:
            raise self._value.error(
                f'number "{node.name}" is not exact here',
                f"write it plainly, with at most {LARGEST_DIGITS} digits before the point and "
                f"{SCALE} after it",
            )
        return "number"


def column_kind(type_: str) -> Kind:
    """Return the kind of a column by its DuckDB type."""
    return "number" if type_.startswith("DECIMAL(") else KINDS.get(type_, "other")


def _reads_as(text: str, kind: Kind) -> bool:
    """Return whether a text literal can stand where ``kind`` belongs."""
    if kind == "text":
        return True
    try:
        if kind == "day":
            return len(text) == 10 and bool(date.fromisoformat(text))
        return kind == "time" and bool(datetime.fromisoformat(text))
    except ValueError:
        return False
