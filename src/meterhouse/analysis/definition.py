"""What a table's cells mean: the expression of each column, as its model has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from meterhouse.models.graph import Models
from meterhouse.models.model import Model, Ratio

__all__ = ["KEY", "Definition", "definition", "passed_on", "ratio_text", "ungrouped"]

KEY: str = "fact key {}"
"""Name under which ``ungrouped`` carries a column of its facts."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Where a table's columns come from."""

    file: str
    reads: tuple[str, ...]
    """Every table on the way down, the nearest first."""
    expressions: dict[str, str]
    """Column → SQL, or the ratio that is computed after the merge."""


def definition(models: Models, model: Model) -> Definition:
    """Return the definition of ``model``."""
    found: list[str] = []
    waiting = list(model.depends_on)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            waiting += models[name].depends_on if name in models else ()
    return Definition(model.path, tuple(found), _expressions(model))


def ratio_text(ratio: Ratio) -> str:
    """Return a ratio as people write it."""
    factor = f"{ratio.times} * " if ratio.times != 1 else ""
    return f"{factor}{ratio.numerator} / {ratio.denominator}, after the merge, 6 places, half-even"


def _expressions(model: Model) -> dict[str, str]:
    found: dict[str, str] = {}
    for projection in _select(model).selects:
        found[projection.alias_or_name] = _bare(projection).sql(dialect="duckdb")
    found |= {name: ratio_text(ratio) for name, ratio in model.ratios.items()}
    for column in model.columns:
        if column.name not in found:
            found[column.name] = f"computed over the whole table by {model.finalizer}"
    return {column.name: found[column.name] for column in model.columns if column.name in found}


def _bare(projection: exp.Expr) -> exp.Expr:
    """Return a projection without its name and without the type it is cast to."""
    inner = projection.unalias()
    if isinstance(inner, exp.Cast):
        inner = inner.this
    while isinstance(inner, exp.Paren):
        inner = inner.this
    return inner


def _select(model: Model) -> exp.Select:
    select = sqlglot.parse_one(model.sql, dialect="duckdb")
    assert isinstance(select, exp.Select), "the linter takes nothing but one SELECT"
    return select


def passed_on(model: Model) -> tuple[str, ...]:
    """Return the columns of a view that are those of what it reads, as they are or added up.

    None where rows are left out on the way: then the parts are more than the whole.
    """
    select = _select(model)
    clauses = ("where", "having", "qualify", "limit")
    if any(part.args.get(clause) for part in select.find_all(exp.Select) for clause in clauses):
        return ()
    found = []
    for projection in select.selects:
        inner = _bare(projection)
        if isinstance(inner, exp.Sum):
            inner = inner.this
        if isinstance(inner, exp.Column) and inner.name == projection.alias_or_name:
            found.append(inner.name)
    return tuple(found)


def ungrouped(model: Model, carried: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return a model's SELECT before its GROUP BY, and the columns that its rows add up to.

    None when it is not one SELECT from one table with a GROUP BY. Columns that neither group
    nor add up (a smallest, a largest) are left out.

    Args:
        model: Groups its facts.
        carried: Columns of the facts to carry along, named ``KEY.format(name)``.
    """
    select = _select(model)
    source = select.args.get("from_") or select.args.get("from")
    if source is None or select.args.get("group") is None or select.args.get("with_"):
        return None
    table = source.this.alias_or_name
    select.set("group", None)
    measures = []
    projections: list[exp.Expr] = []
    for projection in select.selects:
        if projection.find(exp.AggFunc) is None:
            projections.append(projection)
            continue
        name, added = projection.alias_or_name, _added(projection)
        if added is not None:
            projections.append(exp.alias_(added, name))
            measures.append(name)
    for name in carried:
        column = exp.column(name, table=table, quoted=True)
        projections.append(exp.alias_(column, KEY.format(name), quoted=True))
    select.set("expressions", projections)
    return select.sql(dialect="duckdb"), tuple(measures)


def _added(projection: exp.Expr) -> exp.Expr | None:
    """Return what one row adds: a sum's argument, or 1 for a count; None for anything else."""
    kind = projection.find(exp.Cast)
    inner = projection.unalias()
    while isinstance(inner, exp.Cast | exp.Paren | exp.Coalesce):
        inner = inner.this
    condition = None
    if isinstance(inner, exp.Filter):
        condition, inner = inner.expression.this, inner.this
    one = exp.Literal.number(1)
    value: exp.Expr
    if isinstance(inner, exp.CountIf):
        value = exp.case().when(inner.this.copy(), one)
    elif isinstance(inner, exp.Count):
        star = isinstance(inner.this, exp.Star)
        value = one if star else exp.case().when(inner.this.copy().is_(exp.null()).not_(), one)
    elif isinstance(inner, exp.Sum):
        value = inner.this.copy()
    else:
        return None
    if condition is not None:
        value = exp.case().when(condition.copy(), value)
    return exp.cast(value, kind.to.copy()) if kind is not None else value
