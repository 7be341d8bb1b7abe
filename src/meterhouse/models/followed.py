"""Which columns of a view its rows can be told apart by: read from its SQL, never believed.

The law behind it: for a column c of the result and every value v,
``rows(view(tables)) where c = v`` are ``rows(view(tables where c' = v)) where c = v``, with
c' the column of each table that c comes from. So when rows of a table change, the view's
rows with their values of c have to be computed again, from the rows with these values, and
no others. What holds for two columns one by one holds for both together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from meterhouse.models.origin import is_table, source_of, stripped, table_name

__all__ = ["Followed", "NotFollowedError", "follow"]

Member = tuple[str, str]
"""A column within one SELECT: alias of its source, name."""

_WHOLE: Final = {
    "limit": "LIMIT looks at all rows",
    "offset": "OFFSET looks at all rows",
    "fetch": "FETCH looks at all rows",
    "sample": "a sample looks at all rows",
}


class NotFollowedError(Exception):
    """A column does not tell rows apart; ``node`` is the place that shows it."""

    def __init__(self, node: exp.Expr, why: str) -> None:
        super().__init__(why)
        self.node = node
        self.why = why


@dataclass(frozen=True, slots=True)
class Followed:
    """Where a column comes from."""

    columns: Mapping[str, str]
    """Every table that is read → its column."""
    casts: frozenset[str]
    """Types it is cast to on the way; each must be the type it has in the tables."""


def follow(scope: Scope, name: str, keys: Mapping[str, Collection[str]]) -> Followed:
    """Return the columns of the tables that column ``name`` of a query is, unchanged.

    Args:
        scope: Of the query: a SELECT or a set operation.
        name: Of the result.
        keys: Tables that can be followed, with their columns that can.

    Raises:
        NotFollowedError: Rows with one value of the column may come from rows with others.
    """
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        return _through_branches(scope, query, name, keys)
    if not isinstance(query, exp.Select):
        raise NotFollowedError(query, "it is not read from a table")
    _check_clauses(scope, query)
    projection = next((one for one in query.selects if one.alias_or_name == name), None)
    column, casts = stripped(projection) if projection is not None else (None, ())
    if projection is None or not isinstance(column, exp.Column):
        raise NotFollowedError(
            projection or query, f'"{name}" is computed, not taken as it is from a table'
        )
    start = _member(scope, column)
    members = _equal_columns(scope, query, start)
    _check_groups(scope, query, members, projection)
    _check_windows(scope, query, members, name)
    found = _through_sources(scope, query, members, name, keys)
    return Followed(found.columns, found.casts.union(casts))


def _through_branches(
    scope: Scope, query: exp.SetOperation, name: str, keys: Mapping[str, Collection[str]]
) -> Followed:
    names = query.named_selects
    if query.args.get("by_name") or name not in names:
        raise NotFollowedError(query, f'"{name}" is not at one place of each branch')
    for clause, why in _WHOLE.items():
        if query.args.get(clause):
            raise NotFollowedError(query, why)
    found = []
    for branch in scope.set_operation_scopes:
        selected = branch.expression
        listed = selected.named_selects if isinstance(selected, exp.Query) else []
        if len(listed) != len(names):
            raise NotFollowedError(query, f'"{name}" is not at one place of each branch')
        found.append(follow(branch, listed[names.index(name)], keys))
    return _united(query, found)


def _united(node: exp.Expr, parts: list[Followed]) -> Followed:
    columns: dict[str, str] = {}
    for part in parts:
        for table, column in part.columns.items():
            if columns.setdefault(table, column) != column:
                raise NotFollowedError(
                    node, f"{table} is read by its {columns[table]} and by its {column}"
                )
    return Followed(columns, frozenset().union(*(part.casts for part in parts)))


def _check_clauses(scope: Scope, select: exp.Select) -> None:
    for clause, why in _WHOLE.items():
        if select.args.get(clause):
            raise NotFollowedError(select.args[clause], why)
    if scope.subquery_scopes:
        raise NotFollowedError(
            scope.subquery_scopes[0].expression, "a subquery may look at any row"
        )
    given = select.args.get("with_")
    if given is not None and given.args.get("recursive"):
        raise NotFollowedError(select, "a recursive query may look at any row")
    joins = select.args.get("joins") or []
    for join in select.find_all(exp.Join):
        if join.find_ancestor(exp.Select) is select and join not in joins:
            raise NotFollowedError(join, "joins in parentheses are not looked into")
    for node, _ in scope.selected_sources.values():
        if node.args.get("pivots"):
            raise NotFollowedError(node, "PIVOT looks at other rows")
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on"):
        raise NotFollowedError(distinct, "DISTINCT ON looks at other rows")


def _member(scope: Scope, column: exp.Column) -> Member:
    if column.table:
        return column.table, column.name
    if len(scope.selected_sources) != 1:
        raise NotFollowedError(column, f'it is not said which table "{column.name}" is of')
    return next(iter(scope.selected_sources)), column.name


def _equal_columns(scope: Scope, select: exp.Select, start: Member) -> set[Member]:
    """Return the columns that have the value of ``start`` in every row that counts.

    An inner join (or WHERE) makes both sides equal. Of an outer, semi or anti join only the
    joined side follows, and ``start`` must not be of it: there NULL may stand for any value.
    """
    both: list[tuple[Member, Member]] = []
    towards: list[tuple[Member, Member, str]] = []
    where = select.args.get("where")
    both += _equalities(scope, where.this) if where is not None else []
    for join in select.args.get("joins") or ():
        alias = join.this.alias_or_name
        outer = _how(join, alias, start)
        pairs = [*_equalities(scope, join.args.get("on")), *_using(scope, join, alias)]
        if outer:
            towards += [(one, other, alias) for one, other in pairs]
            towards += [(other, one, alias) for one, other in pairs]
        else:
            both += pairs
    members = {start}
    while True:
        found = {other for one, other in both if one in members}
        found |= {one for one, other in both if other in members}
        found |= {
            other
            for one, other, alias in towards
            if one in members and one[0] != alias and other[0] == alias
        }
        if found <= members:
            return members
        members |= found


def _how(join: exp.Join, alias: str, start: Member) -> bool:
    """Return whether only the joined side follows; refuse joins that prove nothing."""
    side, kind = join.side.upper(), join.kind.upper()
    if join.method:
        raise NotFollowedError(join, f"a {join.method.upper()} JOIN doesn't say what is equal")
    if side in ("RIGHT", "FULL"):
        raise NotFollowedError(join, f"a {side} JOIN keeps rows without a partner")
    if side == "LEFT" and start[0] == alias:
        raise NotFollowedError(join, "it is of the side of a LEFT JOIN that may be missing")
    return side == "LEFT" or kind in ("SEMI", "ANTI")


def _equalities(scope: Scope, condition: exp.Expr | None) -> list[tuple[Member, Member]]:
    if condition is None:
        return []
    terms = condition.flatten() if isinstance(condition, exp.And) else [condition]
    found = []
    for term in terms:
        while isinstance(term, exp.Paren):
            term = term.this
        if isinstance(term, exp.And):
            found += _equalities(scope, term)
        elif isinstance(term, (exp.EQ, exp.NullSafeEQ)):
            one, other = term.this, term.expression
            if isinstance(one, exp.Column) and isinstance(other, exp.Column):
                found.append((_member(scope, one), _member(scope, other)))
    return found


def _using(scope: Scope, join: exp.Join, alias: str) -> Iterator[tuple[Member, Member]]:
    for name in join.args.get("using") or ():
        before = [other for other in scope.selected_sources if other != alias]
        if len(before) == 1:
            yield (before[0], name.name), (alias, name.name)


def _check_groups(
    scope: Scope, select: exp.Select, members: set[Member], projection: exp.Expr
) -> None:
    group = select.args.get("group")
    name = projection.alias_or_name
    if group is None or group.args.get("all"):
        return
    if list(group.find_all(exp.Rollup, exp.Cube, exp.GroupingSets)):
        raise NotFollowedError(group, "ROLLUP, CUBE and GROUPING SETS add up over all values")
    for key in group.expressions:
        if name in (key.sql(), _numbered(select, key)) or key == projection.unalias():
            return
        if isinstance(key, exp.Column) and _member(scope, key) in members:
            return
    raise NotFollowedError(group, f'"{name}" is not in GROUP BY')


def _numbered(select: exp.Select, key: exp.Expr) -> str:
    if not isinstance(key, exp.Literal) or key.is_string:
        return ""
    place = int(key.this) - 1
    return str(select.selects[place].alias_or_name) if 0 <= place < len(select.selects) else ""


def _check_windows(scope: Scope, select: exp.Select, members: set[Member], name: str) -> None:
    named = {window.name: window for window in select.args.get("windows") or ()}
    looked_at = [*select.selects, select.args.get("qualify"), select.args.get("order")]
    for part in looked_at:
        for window in part.find_all(exp.Window) if part is not None else ():
            used = named.get(getattr(window.args.get("alias"), "name", ""), window)
            if not any(
                isinstance(key, exp.Column) and _member(scope, key) in members
                for key in used.args.get("partition_by") or ()
            ):
                raise NotFollowedError(window, f'"{name}" is not in PARTITION BY of a window')


def _through_sources(
    scope: Scope,
    select: exp.Select,
    members: set[Member],
    name: str,
    keys: Mapping[str, Collection[str]],
) -> Followed:
    parts = [Followed({}, frozenset())]
    joined = {join.this.alias_or_name: join for join in select.args.get("joins") or ()}
    for alias in dict.fromkeys([*scope.selected_sources, *joined]):
        at = joined.get(alias, select)
        source = source_of(scope, alias)
        if source is None:
            raise NotFollowedError(at, f'"{alias}" is not a table')
        if not _reads_tables(source):
            continue
        columns = sorted(column for of, column in members if of == alias)
        if not columns:
            raise NotFollowedError(at, f'"{alias}" is not joined by "{name}"')
        parts.append(_first(at, source, columns, keys))
    return _united(select, parts)


def _reads_tables(source: exp.Expr | Scope) -> bool:
    """Return whether a source is a table or a query: not constants, nor made of another row."""
    if isinstance(source, Scope):
        tree = source.expression
        return isinstance(tree, exp.Query) or bool(list(tree.find_all(exp.Select)))
    return isinstance(source, exp.Table) and is_table(source)


def _first(
    at: exp.Expr,
    source: exp.Expr | Scope,
    columns: list[str],
    keys: Mapping[str, Collection[str]],
) -> Followed:
    """Return where the first of ``columns`` that can be followed comes from."""
    if isinstance(source, exp.Table):
        table = table_name(source)
        if table not in keys:
            raise NotFollowedError(source, f"the live answers don't hold {table}")
        found = [column for column in columns if column in keys[table]]
        if not found:
            raise NotFollowedError(at, f'"{columns[0]}" does not tell the rows of {table} apart')
        return Followed({table: found[0]}, frozenset())
    assert isinstance(source, Scope)
    refused = None
    for column in columns:
        try:
            return follow(source, column, keys)
        except NotFollowedError as error:
            refused = refused or error
    assert refused is not None
    raise refused
