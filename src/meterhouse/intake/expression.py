"""SQL expressions in contracts: which columns they name, and what they may not do.

An expression sees one record. The log is replayed, so it must give the same answer
for ever (G2): no clock, no chance, no other rows, and no doubles near amounts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from meterhouse.errors import ContractError, nearest
from meterhouse.intake.contract import ColumnType
from meterhouse.intake.document import Value

__all__ = ["INGEST_TS", "expression_columns"]

INGEST_TS: Final = "ingest_ts"
"""The one column an expression may name that the contract does not declare: when the
record was taken, from its log entry."""

REFUSED: Final[tuple[tuple[tuple[type[exp.Expr], ...], str, str], ...]] = (
    (
        (exp.Query, exp.Subquery, exp.DDL, exp.DML, exp.Command, exp.Alias, exp.Star),
        "is not one expression over a record",
        "write a condition over the columns, without SELECT, AS or *",
    ),
    (
        (exp.AggFunc, exp.Window),
        "looks at more than one record",
        "a rule sees one record; compare records in a model instead",
    ),
    (
        (
            exp.CurrentDate,
            exp.CurrentTime,
            exp.CurrentTimestamp,
            exp.CurrentUser,
            exp.Localtime,
            exp.Localtimestamp,
        ),
        "does not give the same answer for ever",
        f"name {INGEST_TS} instead of the clock; the log must replay to the same verdicts",
    ),
    (
        (exp.Rand, exp.Randn, exp.Uuid),
        "does not give the same answer for ever",
        "leave chance out; the log must replay to the same verdicts",
    ),
    (
        (exp.Sqrt, exp.Cbrt, exp.Exp, exp.Ln, exp.Log, exp.Pow),
        "computes a double",
        "doubles lose digits: compare without it, as x * x < y * y",
    ),
    (
        (exp.Div,),
        "divides, which gives a double",
        "multiply both sides instead, or use // for whole numbers",
    ),
    ((exp.Placeholder, exp.Parameter), "has a placeholder", "write the value itself"),
)
"""Node types, what is wrong with them, what to do instead."""

UNSTABLE: Final = frozenset(
    [
        "now",
        "transaction_timestamp",
        "get_current_time",
        "get_current_timestamp",
        "current_setting",
        "getenv",
        "nextval",
        "currval",
        "setseed",
        "txid_current",
        "version",
        "current_schema",
        "current_database",
    ]
)
"""Functions that sqlglot has no type for and that may answer otherwise tomorrow."""

DOUBLES: Final = (exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT)


def expression_columns(value: Value, known: Mapping[str, ColumnType]) -> tuple[str, ...]:
    """Return the columns of ``known`` that the SQL of ``value`` names, in order of appearance.

    Raises:
        ContractError: It is not one expression, names a column that is neither in
            ``known`` nor ``ingest_ts``, may not give the same answer for ever, or may
            fail on a value.
    """
    tree = parse(value)
    for node in tree.walk():
        refuse(node, value)
    found: list[str] = []
    for column in tree.find_all(exp.Column):
        offset = column.this.meta.get("start")
        if column.table:
            raise value.error(
                f'expression names "{column.table}.{column.name}"',
                "a rule sees one record: name the column alone",
                offset=offset,
            )
        if column.name not in known and column.name != INGEST_TS:
            raise undeclared(column.name, known, value, offset)
        if column.name in known and column.name not in found:
            found.append(column.name)
    # Last: whether a cast is safe depends on the column, and an unknown one is the real mistake.
    for cast in tree.find_all(exp.Cast):
        if not cast_is_safe(cast, known):
            raise value.error(
                f'expression fails on a value that can\'t be cast: "{cast.sql("duckdb")}"',
                "write TRY_CAST: it gives NULL then, and NULL condemns nobody",
            )
    return tuple(found)


def parse(value: Value) -> exp.Expr:
    """Return the one expression of ``value``."""
    text = value.text()
    try:
        trees = sqlglot.parse(text, dialect="duckdb")
    except SqlglotError as error:
        details = getattr(error, "errors", [])
        reason = details[0]["description"] if details else "it does not parse"
        if "Required keyword" in reason:  # names classes of the parser, not of the author
            reason = "something is missing in it"
        raise value.error(f"expression can't be read: {reason}", "mend the SQL") from error
    if len(trees) != 1 or trees[0] is None:
        raise value.error("expression is not one expression", "leave out the semicolon")
    return trees[0]


def refuse(node: exp.Expr, value: Value) -> None:
    """Raise when ``node`` is of a kind that a contract may not hold."""
    for kinds, what, fix in REFUSED:
        if isinstance(node, kinds):
            raise value.error(f'expression {what}: "{node.sql("duckdb")}"', fix)
    if isinstance(node, exp.Anonymous) and str(node.this).lower() in UNSTABLE:
        raise value.error(
            f'expression does not give the same answer for ever: "{node.this}()"',
            f"name {INGEST_TS} instead of the clock; the log must replay to the same verdicts",
        )
    double = isinstance(node, exp.DataType) and node.this in DOUBLES
    exponent = isinstance(node, exp.Literal) and not node.is_string and "e" in node.name.lower()
    if double or exponent:
        raise value.error(
            f'expression uses a double: "{node.sql("duckdb")}"',
            "doubles lose digits: write plain decimals, cast to DECIMAL(38, 9)",
        )


def cast_is_safe(node: exp.Cast, known: Mapping[str, ColumnType]) -> bool:
    """Return whether no value of a column can make the cast fail."""
    if isinstance(node, exp.TryCast) or isinstance(node.this, exp.Literal):
        return True
    target = node.to.this
    if target in exp.DataType.TEXT_TYPES:
        return True
    if not isinstance(node.this, exp.Column):
        return False
    kind = known.get(node.this.name, "timestamp" if node.this.name == INGEST_TS else "text")
    if kind in ("date", "timestamp"):
        return target in exp.DataType.TEMPORAL_TYPES
    return kind == "integer" and target in (exp.DataType.Type.DECIMAL, exp.DataType.Type.BIGINT)


def undeclared(
    column: str, known: Collection[str], value: Value, offset: int | None
) -> ContractError:
    """Return the error for a column that the contract does not declare."""
    hint = nearest(column, known)
    return value.error(
        f'expression names column "{column}", which the contract does not declare',
        f'did you mean "{hint}"?'
        if hint
        else f"declare it under columns:, or use one of {', '.join(sorted(known))}",
        offset=offset,
    )
