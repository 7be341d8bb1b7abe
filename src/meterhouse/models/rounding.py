"""Sums that would be rounded: what is rounded in parts is not what is rounded as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from meterhouse.models.lint import Refusal, line_of
from meterhouse.models.origin import cast_type, is_table, source_of, table_name

__all__ = ["Types", "rounded_sums"]

Types = Mapping[str, Mapping[str, str]]
"""Table → column → type as models write it."""

_SAME = (exp.Add, exp.Sub, exp.Mod, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least, exp.Case)


def rounded_sums(scope: Scope, types: Types) -> list[Refusal]:
    """Refuse sums of a mergeable model that are cast to fewer decimal places than they have.

    Partial results would be rounded one by one. What can't be told from the text passes: the
    comparison of batch and live answers would show it.
    """
    return [
        Refusal(
            line_of(projection),
            f'"{projection.alias_or_name}" is a sum with {places} decimal places, rounded to '
            f"{kept}: partial results, each rounded, would not add up to the whole",
            f"round each value before it is summed: sum((…)::DECIMAL(38, {kept}))",
        )
        for projection in cast(exp.Select, scope.expression).selects
        for places, kept in _rounded(scope, projection, types)
    ]


def _rounded(scope: Scope, projection: exp.Expr, types: Types) -> Iterator[tuple[int, int]]:
    outer = projection.unalias()
    summed = outer.find(exp.Sum)
    if not isinstance(outer, exp.Cast) or summed is None:
        return
    kept, places = _of_type(cast_type(outer)), _places(scope, summed.this, types)
    if kept is not None and places is not None and places > kept:
        yield places, kept


def _of_type(kind: str) -> int | None:
    """Return the decimal places of a type, None for one that is no exact number."""
    found = re.fullmatch(r"DECIMAL\(\d+, (\d+)\)", kind)
    if found:
        return int(found[1])
    return 0 if kind in ("BIGINT", "INT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT") else None


def _places(scope: Scope, expression: exp.Expr, types: Types) -> int | None:
    """Return the decimal places that an expression has at most, None when it can't be told."""
    if isinstance(expression, exp.Cast):
        return _of_type(cast_type(expression))
    if isinstance(expression, (exp.Paren, exp.Neg, exp.Abs)):
        return _places(scope, expression.this, types)
    if isinstance(expression, exp.Literal) and not expression.is_string:
        return len(str(expression.this).partition(".")[2])
    if isinstance(expression, exp.Null):
        return 0
    if isinstance(expression, exp.Column):
        return _of_column(scope, expression, types)
    if isinstance(expression, exp.Mul):
        sides = [_places(scope, side, types) for side in (expression.this, expression.expression)]
        return None if None in sides else sum(side for side in sides if side is not None)
    if isinstance(expression, _SAME):
        parts = [_places(scope, part, types) for part in _values(expression)]
        return None if None in parts else max(part for part in parts if part is not None)
    return None


def _values(expression: exp.Expr) -> list[exp.Expr]:
    """Return the expressions that may be the value of ``expression``."""
    if isinstance(expression, exp.Case):
        values = [branch.args["true"] for branch in expression.args["ifs"]]
        return [*values, expression.args.get("default") or exp.Null()]
    if isinstance(expression, exp.Nullif):
        return [expression.this]
    if isinstance(expression, exp.Binary):
        return [expression.this, expression.expression]
    return [expression.this, *expression.expressions]


def _of_column(scope: Scope, column: exp.Column, types: Types) -> int | None:
    alias = column.table or (
        next(iter(scope.selected_sources)) if len(scope.selected_sources) == 1 else ""
    )
    source = source_of(scope, alias)
    if isinstance(source, exp.Table):
        known = types.get(table_name(source), {}) if is_table(source) else {}
        return _of_type(known[column.name]) if column.name in known else None
    return _of_result(source, column.name, types) if isinstance(source, Scope) else None


def _of_result(scope: Scope, name: str, types: Types) -> int | None:
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        names = query.named_selects
        parts = [
            _of_result(branch, branch.expression.named_selects[names.index(name)], types)
            for branch in scope.set_operation_scopes
            if name in names and isinstance(branch.expression, exp.Query)
        ]
        return None if None in parts else max((one for one in parts if one is not None), default=0)
    if isinstance(query, exp.Select):
        for projection in query.selects:
            if projection.alias_or_name == name:
                return _places(scope, projection.unalias(), types)
    return None
