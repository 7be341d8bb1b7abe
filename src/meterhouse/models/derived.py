"""A mergeable model over another one: sums of its sums, minima of its minima, by its keys.

Such a model is linear, so run over a partial result of the table below it gives a partial
result of its own: ``f(a) + f(b)`` of the table below is taken to ``g(f(a)) + g(f(b))``.
That holds when nothing but keys decides what is added up where.
"""

from __future__ import annotations

from typing import Final, cast

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from meterhouse.models.model import Model
from meterhouse.models.origin import cast_type, origins, stripped
from meterhouse.models.shape import Shape

__all__ = ["check_derived"]

_MERGED: Final[dict[type[exp.Expr], str]] = {exp.Sum: "sum", exp.Min: "min", exp.Max: "max"}


def check_derived(shape: Shape, scope: Scope, below: Model) -> None:
    """Refuse what would not add up over the mergeable model ``below``; find the count.

    Args:
        shape: Of the model; its count column is set.
        scope: Of its SELECT.
        below: What its fact table is computed by.
    """
    shape.count_column = ""
    for inner in scope.traverse():
        for column in inner.columns:
            _check_column(shape, inner, column, below, root=inner is scope)
    for count in scope.expression.find_all(exp.Count, exp.CountIf):
        shape.refuse(
            count,
            f"rows of {below.name} are merged already: how many there are is no sum of parts",
            f"add its counts up: coalesce(sum({below.count_column}), 0)::BIGINT AS …",
        )
    for projection in cast(exp.Select, scope.expression).selects:
        if _is_total(scope, projection, below):
            shape.count_column = projection.alias_or_name
            break
    if not shape.count_column:
        shape.refuse(
            scope.expression,
            "a mergeable model that doesn't count can't tell when a row has to go",
            f"add coalesce(sum({below.count_column}), 0)::BIGINT AS …_count",
        )


def _measure(scope: Scope, column: exp.Column, below: Model) -> str | None:
    """Return the measure of ``below`` that ``column`` holds, None for a key of its.

    Empty when the branches of a union hold different things in it, or casts change it.
    """
    found = [name for _, name, _ in origins(scope, column)]
    types = {column.name: column.type for column in below.columns}
    casts = {kind for _, _, all_casts in origins(scope, column) for kind in all_casts}
    measures = [name for name in found if name not in below.grain]
    if not measures:
        return None
    if set(found) != {measures[0]} or not casts <= {types.get(measures[0])}:
        return ""
    return measures[0]


def _check_column(
    shape: Shape, scope: Scope, column: exp.Column, below: Model, *, root: bool
) -> None:
    measure = _measure(scope, column, below)
    if measure is None:
        return
    holder, casts = _around(column)
    types = {one.name: one.type for one in below.columns}
    plain = measure and set(casts) <= {types[measure]}
    if plain and not root and isinstance(holder, (exp.Alias, exp.Select)):
        return
    how = _MERGED.get(type(holder)) if holder is not None else None
    if plain and root and how is not None and how == below.merge.get(measure):
        return
    merges = below.merge.get(measure or column.name, "")
    shape.refuse(
        column,
        f'"{column.name}" of {below.name} is merged by {merges or "nothing"}, so nothing else '
        "adds up: it decides no rows and no groups, and is no part of an expression",
        f"use {merges}({column.name}) as it is" if merges else "group by keys, add up measures",
    )


def _around(column: exp.Column) -> tuple[exp.Expr | None, list[str]]:
    """Return what holds the column, casts and parentheses left out, and these casts."""
    casts, holder = [], column.parent
    while isinstance(holder, (exp.Cast, exp.Paren)):
        if isinstance(holder, exp.Cast):
            casts.append(cast_type(holder))
        holder = holder.parent
    return holder, casts


def _is_total(scope: Scope, projection: exp.Expr, below: Model) -> bool:
    """Return whether a result column is the bare sum of the counts of ``below``."""
    inner, _ = stripped(projection)
    if isinstance(inner, exp.Coalesce):
        inner = inner.this
    if not isinstance(inner, exp.Sum):
        return False
    counted, _ = stripped(inner.this)
    return isinstance(counted, exp.Column) and _measure(scope, counted, below) == below.count_column
