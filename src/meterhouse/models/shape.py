"""What makes a model mergeable, or row by row: read from its SQL, never believed.

The laws behind it: a mergeable model gives f(a ++ b) = f(a) + f(b), so a partial result
over new rows is added to the stored one. A rows model gives each fact at most one row,
whatever the dimensions hold, so a master that changes late can't break G1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Final, cast

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from meterhouse.models.lint import Refusal, line_of
from meterhouse.models.origin import is_constant, is_table, table_name

__all__ = ["RESULT", "Shape", "mergeable_shape", "own_columns", "rows_shape"]

RESULT: Final = "use kind: view, or keep to count, sum, min and max under one GROUP BY"


@dataclass(slots=True)
class Shape:
    """What was read off a model's SQL."""

    fact: str = ""
    merge: dict[str, str] = field(default_factory=dict)
    count_column: str = ""
    own: tuple[str, ...] = ()
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, node: exp.Expr, what: str, fix: str) -> None:
        """Note one refusal at ``node``'s line; the same one twice is one."""
        refusal = Refusal(line_of(node), what, fix)
        if refusal not in self.refusals:
            self.refusals.append(refusal)


def mergeable_shape(
    scope: Scope,
    grain: tuple[str, ...],
    own: Mapping[str, Set[str]],
    merged: Collection[str] = (),
) -> Shape:
    """Read how the columns of a mergeable model merge, and refuse what would not add up.

    Args:
        scope: Of its SELECT.
        grain: As the header has it.
        own: For every table that is itself rows with dimensions joined on, the columns that
            come from its fact; a table that is not in it is all fact.
        merged: Tables whose rows are merged already: a model over one of these needs no
            count(*), see ``derived``.
    """
    shape = Shape()
    select = cast(exp.Select, scope.expression)
    _one_fact(shape, scope)
    for clause in ("having", "qualify", "distinct", "limit", "order", "windows"):
        if select.args.get(clause):
            shape.refuse(select, f"a mergeable model has no {clause.upper()}", RESULT)
    _plain_inner_selects(shape, select)
    for inner in scope.traverse():
        for subquery in inner.subquery_scopes:
            shape.refuse(
                subquery.expression, "a subquery may look at any fact, so it doesn't add up", RESULT
            )
    keys = _group_keys(shape, select)
    for position, projection in enumerate(select.selects, start=1):
        _merge_of(shape, projection, position, keys)
    found = {name or key for key, name in keys.items()}
    if found != set(grain) and not shape.refusals:
        shape.refuse(
            select,
            f"the grain is {', '.join(grain)}, but the SQL groups by {', '.join(sorted(found))}",
            "let grain: list the columns of GROUP BY",
        )
    if not shape.count_column and shape.fact not in merged:
        shape.refuse(
            select,
            "a mergeable model without count(*) can't tell when a row has to go",
            "add count(*)::BIGINT AS …_count",
        )
    _only_own(shape, scope, own)
    return shape


def _one_fact(shape: Shape, scope: Scope) -> None:
    tables = {
        table_name(table): table
        for inner in scope.traverse()
        for table in inner.sources.values()
        if isinstance(table, exp.Table) and is_table(table)
    }
    if len(tables) == 1:
        shape.fact = next(iter(tables))
    else:
        shape.refuse(
            scope.expression,
            f"a mergeable model adds up one fact table, this one reads {len(tables)}: "
            f"{', '.join(sorted(tables)) or 'none'}",
            "group by the keys that are on the fact; join attributes in a view afterwards",
        )


def _plain_inner_selects(shape: Shape, root: exp.Select) -> None:
    for select in root.find_all(exp.Select):
        for join in select.args.get("joins") or ():
            # With constants each fact is there as often as there are constants, always.
            if is_constant(join.this) and not join.side and not join.args.get("on"):
                continue
            shape.refuse(
                join,
                "facts aggregated across a join: a dimension that changes late would change them",
                "group by the keys that are on the fact; join attributes in a view afterwards",
            )
        if select is root:
            continue
        bad = ("group", "having", "distinct", "limit", "qualify")
        grouped = next((part for part in bad if select.args.get(part)), None)
        if grouped or list(select.find_all(exp.AggFunc, exp.Window)):
            shape.refuse(select, "an aggregate of an aggregate doesn't add up", RESULT)
    for union in root.find_all(exp.SetOperation):
        if union.args.get("distinct") or not isinstance(union, exp.Union):
            shape.refuse(union, "only UNION ALL keeps every row", "use UNION ALL")


def _group_keys(shape: Shape, select: exp.Select) -> dict[str, str]:
    """Return each GROUP BY expression (as SQL) → column name, "" until a column shows it."""
    group = select.args.get("group")
    if not group:
        shape.refuse(select, "a mergeable model needs a GROUP BY", RESULT)
        return {}
    sets = list(group.find_all(exp.Rollup, exp.Cube, exp.GroupingSets))
    if sets or group.args.get("all") is not None:
        shape.refuse(group, "this GROUP BY doesn't name its keys", "list the keys")
    return {
        expression.sql(dialect="duckdb", comments=False): "" for expression in group.expressions
    }


def _merge_of(shape: Shape, projection: exp.Expr, position: int, keys: dict[str, str]) -> None:
    name = projection.alias_or_name
    inner = projection.unalias()
    while isinstance(inner, (exp.Cast, exp.Paren)):
        inner = inner.this
    if not list(inner.find_all(exp.AggFunc)):
        for spelled in _spellings(projection, inner, position):
            if spelled in keys:
                keys[spelled] = name
                return
        shape.refuse(
            projection, f'column "{name}" is neither a key of GROUP BY nor an aggregate', RESULT
        )
        return
    _merge_of_aggregate(shape, name, inner)


def _spellings(projection: exp.Expr, inner: exp.Expr, position: int) -> Iterator[str]:
    """Yield how a GROUP BY may name a column."""
    yield inner.sql(dialect="duckdb", comments=False)
    yield projection.unalias().sql(dialect="duckdb", comments=False)
    yield projection.alias_or_name
    yield str(position)


def _merge_of_aggregate(shape: Shape, name: str, inner: exp.Expr) -> None:
    whole = inner
    zero = isinstance(inner, exp.Coalesce)
    if zero:
        others = inner.expressions
        if len(others) != 1 or others[0].sql() != "0":
            shape.refuse(inner, "only coalesce(…, 0) merges", RESULT)
        inner = inner.this
    filtered = isinstance(inner, exp.Filter)
    if filtered:
        inner = inner.this
    if isinstance(inner.this, exp.Distinct):
        shape.refuse(inner, "an aggregate over DISTINCT values doesn't add up", RESULT)
    if isinstance(inner, exp.Sum) and not zero:
        shape.refuse(
            inner,
            f'"{name}" would be NULL, not 0, where nothing was reported',
            "write coalesce(sum(…), 0), and count the rows behind it in a …_reported_count",
        )
    if isinstance(inner, (exp.Sum, exp.Count, exp.CountIf)):
        shape.merge[name] = "sum"
        if isinstance(inner.this, exp.Star) and not filtered and not shape.count_column:
            shape.count_column = name
    elif isinstance(inner, (exp.Min, exp.Max)) and not zero and not inner.expressions:
        shape.merge[name] = inner.key
    else:
        shape.refuse(
            whole,
            f'column "{name}" is not a bare count, sum, min or max, so partial results '
            "can't be added up",
            RESULT,
        )


def _only_own(shape: Shape, scope: Scope, own: Mapping[str, Set[str]]) -> None:
    if shape.fact not in own:
        return
    for inner in scope.traverse():
        for column in inner.columns:
            source = _source(inner, column)
            if isinstance(source, exp.Table) and column.name not in own[shape.fact]:
                shape.refuse(
                    column,
                    f'"{column.name}" of {shape.fact} is an attribute of a dimension: '
                    "a master that changes late would change what was added up",
                    "group by the keys that are on the fact; join attributes in a view afterwards",
                )


def rows_shape(scope: Scope, fact: str, own: Mapping[str, Set[str]]) -> Shape:
    """Check that each fact gives at most one row, decided by the fact alone."""
    shape = Shape()
    select = cast(exp.Select, scope.expression)
    shape.fact = fact or _leftmost(scope)
    for clause in ("group", "having", "distinct", "qualify", "limit"):
        if select.args.get(clause):
            shape.refuse(select, f"a rows model has no {clause.upper()}", "use kind: view")
    if any(list(part.find_all(exp.AggFunc, exp.Window)) for part in select.selects):
        shape.refuse(select, "a rows model has no aggregates or windows", "use kind: view")
    for join in select.args.get("joins") or ():
        if join.side != "LEFT" and not isinstance(join.this, (exp.Lateral, exp.Unnest)):
            shape.refuse(
                join,
                "only LEFT JOIN keeps every fact, whether its master has arrived or not",
                "use LEFT JOIN",
            )
    shape.own = own_columns(scope, shape.fact, own)
    where = select.args.get("where")
    if where and not _expression_own(where, scope, shape.fact, own):
        shape.refuse(
            where,
            "WHERE looks at a dimension: a master that arrives late would change which facts count",
            "filter by columns of the fact",
        )
    return shape


def _leftmost(scope: Scope) -> str:
    source = scope.expression.args["from_"].this
    _, named = scope.selected_sources.get(source.alias_or_name, (None, None))
    if isinstance(named, Scope) and "from_" in named.expression.args:
        return _leftmost(named)
    return table_name(named) if isinstance(named, exp.Table) else ""


def own_columns(scope: Scope, fact: str, own: Mapping[str, Set[str]]) -> tuple[str, ...]:
    """Return the result columns that are computed from ``fact``'s columns alone."""
    select = cast(exp.Select, scope.expression)
    return tuple(
        projection.alias_or_name
        for projection in select.selects
        if _expression_own(projection, scope, fact, own)
    )


def _expression_own(
    expression: exp.Expr, scope: Scope, fact: str, own: Mapping[str, Set[str]]
) -> bool:
    if list(expression.find_all(exp.Subquery, exp.Exists)):
        return False
    return all(_column_own(column, scope, fact, own) for column in expression.find_all(exp.Column))


def _column_own(column: exp.Column, scope: Scope, fact: str, own: Mapping[str, Set[str]]) -> bool:
    source = _source(scope, column)
    if isinstance(source, exp.Table):
        return table_name(source) == fact and (fact not in own or column.name in own[fact])
    if isinstance(source, Scope) and isinstance(source.expression, exp.Select):
        inner = source.expression
        if inner.args.get("group") or inner.args.get("distinct"):
            return False
        return any(
            projection.alias_or_name == column.name
            and _expression_own(projection, source, fact, own)
            for projection in inner.selects
        )
    return False


def _source(scope: Scope, column: exp.Column) -> object:
    chosen = scope.selected_sources
    if column.table:
        return chosen[column.table][1] if column.table in chosen else None
    return next(iter(chosen.values()))[1] if len(chosen) == 1 else None
