"""The columns of a model: those its SQL selects, those its header adds, those it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Final, cast

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from meterhouse.errors import nearest
from meterhouse.models.header import Header
from meterhouse.models.lint import Refusal, line_of
from meterhouse.models.model import RATIO_SCALE, ModelColumn
from meterhouse.models.origin import table_name

__all__ = ["FINALIZER_COLUMNS", "check_columns", "result_columns"]

TYPES: Final = re.compile(
    r"\A(VARCHAR(\[\])?|BIGINT|BOOLEAN|DATE|TIMESTAMPTZ|BLOB|DECIMAL\(\d+, \d+\)"
    r"|MAP\(VARCHAR, VARCHAR(\[\])?\))\Z"
)
SCORE: Final = f"DECIMAL(38, {RATIO_SCALE})"
FINALIZER_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "anomaly": {
        "z_score": SCORE,
        "mad_score": SCORE,
        "p99_usd": "DECIMAL(38, 9)",
        "flag_zscore": "BOOLEAN",
        "flag_mad": "BOOLEAN",
        "flag_p99": "BOOLEAN",
        "anomaly_score": "BIGINT",
    }
}
"""Finalizer → the columns it adds, with their types."""


def result_columns(
    tree: exp.Select, header: Header
) -> tuple[tuple[ModelColumn, ...], list[Refusal]]:
    """Hold the SELECT list against the header; every column needs a type, a name, a meaning."""
    found: list[Refusal] = []
    types: dict[str, str] = {}
    for projection in tree.selects:
        name = projection.alias_or_name
        typed = projection.unalias()
        kind = _type_name(typed) if isinstance(typed, exp.Cast) else ""
        if not name or not TYPES.match(kind):
            found.append(
                Refusal(
                    line_of(projection),
                    f'column "{name or projection.sql(dialect="duckdb")}" has '
                    + (f"type {kind}, which no table holds" if kind else "no type or no name"),
                    "write expression::TYPE AS name; types are VARCHAR, BIGINT, BOOLEAN, DATE, "
                    "TIMESTAMPTZ, DECIMAL(38, 9), BLOB, VARCHAR[], MAP(VARCHAR, VARCHAR[])",
                )
            )
        if name in types:
            found.append(Refusal(line_of(projection), f'column "{name}" is there twice', "rename"))
        types[name] = kind
    found += _header_additions(header, types)
    found += _undocumented(header, types)
    if found:
        return (), found
    columns = tuple(
        ModelColumn(name, types[name], said.unit, said.doc) for name, said in header.columns.items()
    )
    return columns, []


def _type_name(cast: exp.Cast) -> str:
    return cast.to.sql(dialect="duckdb").replace("TEXT", "VARCHAR").replace("INT128", "HUGEINT")


def _header_additions(header: Header, types: dict[str, str]) -> list[Refusal]:
    """Add ratio and finalizer columns to ``types``; refuse what they can't be made of."""
    found = []
    stored = set(types)
    line = header.lines.get("ratios", 1)
    for name, ratio in header.ratios.items():
        for part in (ratio.numerator, ratio.denominator):
            if not re.match(r"BIGINT|DECIMAL", types.get(part, "") if part in stored else ""):
                found.append(
                    Refusal(
                        line,
                        f'ratio "{name}" needs "{part}", which is not a number the SQL selects',
                        "select it as BIGINT or DECIMAL",
                    )
                )
        if name in stored:
            found.append(
                Refusal(line, f'"{name}" is in the SQL and in ratios', "take it out of the SQL")
            )
        types[name] = SCORE
    if header.finalizer:
        added = FINALIZER_COLUMNS.get(header.finalizer)
        if added is None:
            found.append(
                Refusal(
                    header.lines.get("finalizer", 1),
                    f'finalizer "{header.finalizer}" does not exist',
                    f"use {', '.join(FINALIZER_COLUMNS)}",
                )
            )
        types.update(added or {})
    return found


def _undocumented(header: Header, types: Mapping[str, str]) -> list[Refusal]:
    found = []
    at = header.lines.get("columns", 1)
    for name in types:
        if name and name not in header.columns:
            found.append(
                Refusal(at, f'column "{name}" is not in the header', "say there what it means")
            )
    for name, said in header.columns.items():
        if name not in types:
            hint = nearest(name, types)
            found.append(
                Refusal(
                    said.line,
                    f'the header describes "{name}", which the SQL does not select',
                    f'did you mean "{hint}"?' if hint else "take it out, or select it",
                )
            )
    wanted = {
        "grain": header.grain,
        "serving": (*header.partition_key, *(item.split()[0] for item in header.clustering)),
        "partition_by": header.partition_by,
    }
    for part, names in wanted.items():
        missing = [name for name in names if name not in types]
        if missing:
            found.append(
                Refusal(
                    header.lines.get(part, 1),
                    f"{part} names {', '.join(missing)}, which the SQL does not select",
                    f"use columns of the result: {', '.join(types)}",
                )
            )
    found += _keep(header, types)
    found += _cql(header, types)
    keys = (*header.partition_key, *(item.split()[0] for item in header.clustering))
    if keys and set(keys) != set(header.grain):
        found.append(
            Refusal(
                header.lines.get("serving", 1),
                "partition_key and clustering together must be the grain, so that a key is one row",
                f"use each of {', '.join(header.grain)} once",
            )
        )
    return found


def _cql(header: Header, types: Mapping[str, str]) -> list[Refusal]:
    """Refuse keys in CQL that don't stay with a row, or periods of what is no time."""
    found = []
    line = header.lines.get("serving", 1)
    for key in header.cql:
        parts = [part.rstrip(")").split("(") for part in key.partition_key]
        names = [part[-1] for part in parts] + [term.split()[0] for term in key.clustering]
        if others := [name for name in names if name not in header.grain]:
            found.append(
                Refusal(
                    line,
                    f"cql table {key.table} has {', '.join(others)} in its key, which is not in "
                    "the grain: a row would change its key with its value",
                    f"use columns of the grain: {', '.join(header.grain)}",
                )
            )
        for cut, name in (part for part in parts if len(part) == 2):
            if types.get(name) not in ("DATE", "TIMESTAMPTZ"):
                found.append(
                    Refusal(
                        line,
                        f"cql table {key.table} cuts {name} by {cut}, but it is no time",
                        "cut a DATE or TIMESTAMPTZ",
                    )
                )
    return found


def _keep(header: Header, types: Mapping[str, str]) -> list[Refusal]:
    """Refuse ``serving.keep`` where the newest rows can't be told by it."""
    if not header.keep:
        return []
    line = header.lines.get("serving", 1)
    if header.keep not in header.grain or types.get(header.keep) not in ("TIMESTAMPTZ", "DATE"):
        return [
            Refusal(
                line,
                f'keep names "{header.keep}", which is no TIMESTAMPTZ or DATE of the grain',
                "name the column of event time that is part of the key",
            )
        ]
    if header.kind != "mergeable":
        return [
            Refusal(
                line,
                "keep holds the latest rows only, and rows of a view may come from older ones",
                "keep the latest rows of a mergeable model",
            )
        ]
    return []


def check_columns(
    scopes: Sequence[Scope],
    known: Mapping[str, Sequence[str]],
    finalized: Mapping[str, Set[str]],
) -> list[Refusal]:
    """Refuse columns that the tables read do not have, or have only after the merge."""
    found = []
    for scope in scopes:
        available = {
            alias: _columns_of(source, known)
            for alias, (_, source) in scope.selected_sources.items()
        }
        tables = {
            alias: table_name(source)
            for alias, (_, source) in scope.selected_sources.items()
            if isinstance(source, exp.Table)
        }
        for column in scope.columns:
            refusal = _check_column(column, scope, available, tables, finalized)
            if refusal:
                found.append(refusal)
    return found


def _columns_of(source: object, known: Mapping[str, Sequence[str]]) -> Sequence[str] | None:
    """Return the column names of a source, None when they can't be known."""
    if isinstance(source, exp.Table):
        return known.get(table_name(source))
    if isinstance(source, Scope) and isinstance(source.expression, exp.Query):
        outer = getattr(source, "outer_columns", None)
        return list(outer) if outer else source.expression.named_selects
    return None


def _check_column(
    column: exp.Column,
    scope: Scope,
    available: Mapping[str, Sequence[str] | None],
    tables: Mapping[str, str],
    finalized: Mapping[str, Set[str]],
) -> Refusal | None:
    if isinstance(column.this, exp.Star):
        return None
    alias = column.table
    if alias:
        if alias not in available:
            return None  # an outer query's table, or a struct: the engine's check tells
        names = available[alias]
    else:
        query = cast(exp.Query, scope.expression)
        if len(available) != 1 or column.name in query.named_selects:
            return None
        alias, names = next(iter(available.items()))
    table = tables.get(alias, "")
    if column.name in finalized.get(table, ()):
        return Refusal(
            line_of(column),
            f'"{column.name}" of {table} is computed once, after the merge, not stored',
            "compute from the stored measures, and declare a ratio of your own",
        )
    if names is None or column.name in names:
        return None
    hint = nearest(column.name, names)
    return Refusal(
        line_of(column),
        f'"{table or alias}" has no column "{column.name}"',
        f'did you mean "{hint}"?' if hint else f"it has {', '.join(names)}",
    )
