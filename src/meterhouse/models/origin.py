"""Where a column of a query comes from, as far as it is passed on unchanged."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

__all__ = ["cast_type", "is_constant", "is_table", "origins", "source_of", "stripped", "table_name"]


def table_name(table: exp.Table) -> str:
    """Return "schema.table" in lower case, or the bare name."""
    return f"{table.db}.{table.name}".lower() if table.db else table.name.lower()


def is_table(table: exp.Table) -> bool:
    """Return whether ``table`` names a table, and is no table function."""
    return isinstance(table.this, exp.Identifier)


def is_constant(source: exp.Expr) -> bool:
    """Return whether a joined source has the same rows always: VALUES, unnest, range."""
    made = isinstance(source, (exp.Values, exp.Unnest)) or (
        isinstance(source, exp.Table) and not is_table(source)
    )
    return made and not list(source.find_all(exp.Column, exp.Select))


def cast_type(cast: exp.Cast) -> str:
    """Return the type a cast gives, as models write it ("DECIMAL(38, 9)")."""
    return cast.to.sql(dialect="duckdb").replace("TEXT", "VARCHAR").replace("INT128", "HUGEINT")


def stripped(expression: exp.Expr) -> tuple[exp.Expr, tuple[str, ...]]:
    """Return an expression without its alias, parentheses and casts, and the types of these."""
    inner = expression.unalias()
    types = []
    while isinstance(inner, (exp.Cast, exp.Paren)):
        if isinstance(inner, exp.Cast):
            types.append(cast_type(inner))
        inner = inner.this
    return inner, tuple(types)


def source_of(scope: Scope, alias: str) -> exp.Expr | Scope | None:
    """Return the source that ``alias`` names in a SELECT, those of semi joins too."""
    if alias in scope.selected_sources:
        found: exp.Expr | Scope = scope.selected_sources[alias][1]
        return found
    return scope.sources.get(alias)


def origins(scope: Scope, column: exp.Column) -> Iterator[tuple[exp.Table, str, tuple[str, ...]]]:
    """Yield the table columns that ``column`` is: one for each branch of a set operation.

    With each the types it is cast to on the way. A branch that computes it yields nothing.
    """
    alias = column.table or (
        next(iter(scope.selected_sources)) if len(scope.selected_sources) == 1 else ""
    )
    source = source_of(scope, alias)
    if isinstance(source, exp.Table):
        if is_table(source):
            yield source, column.name, ()
    elif isinstance(source, Scope):
        yield from _of_result(source, column.name)


def _of_result(scope: Scope, name: str) -> Iterator[tuple[exp.Table, str, tuple[str, ...]]]:
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        names = query.named_selects
        for branch in scope.set_operation_scopes:
            selected = branch.expression
            listed = selected.named_selects if isinstance(selected, exp.Query) else []
            if name in names and names.index(name) < len(listed):
                yield from _of_result(branch, listed[names.index(name)])
    elif isinstance(query, exp.Select):
        for projection in query.selects:
            inner, types = stripped(projection)
            if projection.alias_or_name == name and isinstance(inner, exp.Column):
                for table, column, more in origins(scope, inner):
                    yield table, column, (*types, *more)
