"""Model files as parsed, before it is known whether what they read exists; and their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from meterhouse.errors import ModelError
from meterhouse.models.header import Header, read_header
from meterhouse.models.origin import table_name

__all__ = ["Draft", "draft_of", "in_order", "reads_broken", "tables_read"]


@dataclass(slots=True)
class Draft:
    """A parsed file, before it is known whether what it reads exists."""

    name: str
    path: str
    text: str
    header: Header
    tree: exp.Select
    scopes: list[Scope]
    reads: tuple[str, ...]
    lines: dict[str, int] = field(default_factory=dict)
    """Table read → line of its first mention."""


def draft_of(name: str, text: str, path: str) -> Draft:
    """Parse the text of model ``name``.

    Raises:
        ModelError: Its header or its SQL can't be read.
    """
    header = read_header(text, name, path)
    try:
        parsed = sqlglot.parse(header.sql, read="duckdb")
        statements = [one for one in parsed if one and not isinstance(one, exp.Semicolon)]
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        line = details[0].get("line") or 1
        said = details[0].get("description") or str(error).splitlines()[0]
        raise ModelError(
            f'model "{name}" is not valid SQL: {said}', f"{path}:{line}", "see the line named"
        ) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise ModelError(
            f'model "{name}" is not one SELECT', f"{path}:1", "keep one SELECT (WITH … is fine)"
        )
    scopes = traverse_scope(statements[0])
    lines: dict[str, int] = {}
    for scope in scopes:
        for table in scope.sources.values():
            if isinstance(table, exp.Table) and isinstance(table.this, exp.Identifier):
                lines.setdefault(table_name(table), table.this.meta.get("line", 1))
    return Draft(name, path, text, header, statements[0], scopes, tuple(sorted(lines)), lines)


@lru_cache(maxsize=1024)
def tables_read(sql: str) -> tuple[str, ...]:
    """Return the tables that a SELECT reads ("schema.table"), CTEs left out, sorted."""
    found = {
        table_name(table)
        for scope in traverse_scope(sqlglot.parse_one(sql, read="duckdb"))
        for table in scope.sources.values()
        if isinstance(table, exp.Table) and isinstance(table.this, exp.Identifier)
    }
    return tuple(sorted(found))


def in_order(drafts: Mapping[str, Draft]) -> tuple[list[str], list[ModelError]]:
    """Return every model after those it reads, and one error for each that has no place."""
    order: list[str] = []
    waiting = dict(drafts)
    while waiting:
        ready = [
            name
            for name, draft in waiting.items()
            if not any(read in waiting for read in draft.reads)
        ]
        if not ready:
            break
        order += ready
        for name in ready:
            del waiting[name]
    circular = _on_a_circle(waiting)
    problems = [
        ModelError(
            f'model "{name}" reads itself through {", ".join(sorted(circular - {name})) or name}',
            draft.path,
            "remove one of the reads",
        )
        if name in circular
        else reads_broken(draft, next(read for read in draft.reads if read in waiting))
        for name, draft in waiting.items()
    ]
    return order, problems


def _on_a_circle(waiting: Mapping[str, Draft]) -> set[str]:
    circle = set(waiting)
    while True:
        read = {table for name in circle for table in waiting[name].reads}
        if circle <= read:
            return circle
        circle &= read


def reads_broken(draft: Draft, read: str) -> ModelError:
    """Return that a model can't be used because one that it reads is not valid."""
    return ModelError(
        f'model "{draft.name}" reads "{read}", which is not valid',
        f"{draft.path}:{draft.lines.get(read, 1)}",
        f'mend "{read}" first',
    )
