"""Reading the tables: one, or one SELECT over all of them, at one position.

SQL that somebody typed runs in an engine that is locked: it sees the published files of
the tables it names, nothing else of disk or network, and can change no setting.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from meterhouse.engines.statements import check_one_select
from meterhouse.errors import ModelError, SqlError, UsageError, nearest
from meterhouse.models.header import read_header
from meterhouse.names import TECHNICAL
from meterhouse.ports import Engine, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Selection",
    "Tables",
    "grain_of",
    "mentioned",
    "named_in",
    "resolve",
    "rows_of",
    "rows_of_sql",
]

_MISSING_TABLE: Final = re.compile(r'Table with name "?(?P<name>[^"!]+?)"? does not exist')
_MISSING_COLUMN: Final = re.compile(
    r'(?:Referenced column|does not have a column named) "(?P<name>[^"]+)"'
)
_CATALOG: Final = ("information_schema", "duckdb_", "show")
"""Words of a text that asks which tables there are: then it sees all of them."""


class Tables(Protocol):
    """Tables at one position of the log."""

    @property
    def tables(self) -> Collection[str]:
        """Return the names of all of them."""
        ...

    def schema(self, name: str) -> pa.Schema:
        """Return the columns of table ``name``.

        Raises:
            UsageError: There is no such table; names the nearest.
        """
        ...

    def session(self, engine: Engine, names: Sequence[str]) -> AbstractContextManager[Session]:
        """Open a session in which ``names`` can be read by these names."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a table to read."""

    columns: tuple[str, ...] = ()
    """In this order; empty for all."""
    where: str = ""
    """One boolean SQL expression over the table's columns; empty for all rows."""
    limit: int | None = None


def resolve(published: Tables, name: str) -> str:
    """Return the full name of a table; its layer may be left out where that is clear.

    Raises:
        UsageError: There is no such table (the nearest is named), or there are several.
    """
    folded = name.strip().casefold()
    if folded in published.tables:
        return folded
    short = _named(published, folded)
    if len(short) == 1:
        return short[0]
    if short:
        raise _several(name, short, "")
    layer, dot, _ = folded.partition(".")
    beside = [full for full in published.tables if full.startswith(f"{layer}.")] if dot else []
    near = nearest(folded, published.tables) if dot else None
    names = [near] if near else beside or _short_names(published)
    raise UsageError.unknown("table", name, names)


def _several(name: str, tables: Sequence[str], where: str) -> UsageError:
    found = " and ".join(sorted(tables))
    return UsageError(f'table "{name}" could be {found}', where, "write its layer too")


def _named(published: Tables, short: str) -> list[str]:
    return [full for full in published.tables if full.partition(".")[2] == short.casefold()]


def _short_names(published: Tables) -> list[str]:
    return [full.partition(".")[2] for full in published.tables]


def grain_of(published: Tables, root: Path, table: str) -> tuple[str, ...]:
    """Return the columns that rows of ``table`` are sorted by.

    The grain of its model; the log's order for bronze; else all columns that can be sorted.
    """
    columns = {item.name: item.type for item in published.schema(table)}
    place = TECHNICAL[:2]
    if table.startswith("bronze.") and set(place) <= set(columns):
        return place
    grain = tuple(name for name in _header_grain(root, table) if name in columns)
    return grain or tuple(name for name, kind in columns.items() if kind.num_fields == 0)


def _header_grain(root: Path, table: str) -> tuple[str, ...]:
    layer, _, name = table.partition(".")
    path = root / "models" / layer / f"{name}.sql"
    try:
        return read_header(path.read_text("utf-8"), table, str(path)).grain
    except (OSError, UnicodeDecodeError, ModelError):
        # The table is published; that its file is gone or broken now does not hide its rows.
        return ()


@contextmanager
def rows_of(
    published: Tables, engine: Engine, table: str, grain: Sequence[str], wanted: Selection
) -> Iterator[pa.RecordBatchReader]:
    """Open the rows of ``table``, sorted by ``grain``, as a stream in bounded memory.

    Args:
        published: The tables, at one position.
        engine: A locked one, for ``wanted.where`` is a user's SQL.
        table: Full name.
        grain: Columns to sort by (``grain_of``).
        wanted: Columns, rows and how many.

    Raises:
        UsageError: There is no such table or column, or ``where`` is not one expression.
    """
    known = published.schema(table).names
    for name in wanted.columns:
        if name not in known:
            hint = nearest(name, known)
            raise UsageError(
                f'column "{name}" of {table} does not exist',
                "",
                f'did you mean "{hint}"?' if hint else f"use one of {', '.join(known)}",
            )
    sql = f"SELECT {_listed(wanted.columns or known)} FROM {table}"
    if wanted.where:
        _check_condition(wanted.where)
        sql += f" WHERE (\n{wanted.where}\n)"
    if grain:
        sql += " ORDER BY " + ", ".join(f"{_quoted(name)} NULLS LAST" for name in grain)
    if wanted.limit is not None and wanted.limit < 0:
        raise UsageError(f"limit can't be {wanted.limit}", "", "write a whole number from 0")
    if wanted.limit is not None:
        sql += f" LIMIT {wanted.limit}"
    if wanted.where:
        check_one_select(sql)
    seen = dict.fromkeys([table, *mentioned(published, wanted.where)])
    with _session(published, engine, list(seen)) as session:
        yield session.stream(sql)


@contextmanager
def rows_of_sql(published: Tables, engine: Engine, text: str) -> Iterator[pa.RecordBatchReader]:
    """Open the result of one SELECT over the published tables, in its own order.

    Args:
        published: The tables, at one position.
        engine: A locked one.
        text: One SELECT in DuckDB's dialect; tables by their names ("gold.finops_by_org_day").

    Raises:
        UsageError: It is not one SELECT, or names what does not exist; the nearest is named.
    """
    check_one_select(text)
    with _session(published, engine, mentioned(published, text)) as session:
        yield session.stream(text)


@contextmanager
def _session(published: Tables, engine: Engine, tables: Sequence[str]) -> Iterator[Session]:
    """Open a session over ``tables``; what it refuses comes in the words of who wrote the SQL."""
    try:
        with published.session(engine, tables) as session:
            yield session
    except SqlError as error:
        raise _explained(error, published, tables) from error


def mentioned(published: Tables, text: str) -> list[str]:
    """Return the tables whose names are in ``text``: all it reads, perhaps more."""
    return named_in(published.tables, text)


def named_in(names: Collection[str], text: str) -> list[str]:
    """Return those of ``names`` that are in ``text``, with or without their layer.

    All of them when it asks which tables there are.
    """
    folded = text.casefold()
    if any(word in folded for word in _CATALOG):
        return list(names)
    return [name for name in names if name.partition(".")[2] in folded]


def _check_condition(where: str) -> None:
    """Refuse text that is more than one expression: a second clause, a second statement."""
    import sqlglot
    from sqlglot import exp

    advice = (
        "write one condition, as --where \"org_id = 'org_0001' AND usage_date >= '2025-08-01'\""
    )
    try:
        found = sqlglot.parse(f"SELECT 1 FROM t WHERE {where}\n", dialect="duckdb")
        alone = sqlglot.parse(f"SELECT (\n{where}\n)", dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"condition can't be read: {said}", f"--where {where}", advice) from error
    clauses = {"expressions", "from_", "from", "where", "kind", "operation_modifiers"}
    whole = (
        len(found) == len(alone) == 1
        and isinstance(found[0], exp.Select)
        and isinstance(alone[0], exp.Select)
        and {name for name, value in found[0].args.items() if value} <= clauses
        and len(alone[0].expressions) == 1
        and isinstance(alone[0].expressions[0], exp.Paren)
    )
    if not whole:
        raise UsageError("condition is more than one expression", f"--where {where}", advice)


def _explained(error: SqlError, published: Tables, tables: Sequence[str]) -> UsageError:
    where = "\n".join(line for line in error.where.splitlines() if line.startswith("LINE "))
    if missing := _MISSING_TABLE.search(error.what):
        return _no_table(missing["name"], published, where)
    if missing := _MISSING_COLUMN.search(error.what):
        columns = {name for table in tables for name in published.schema(table).names}
        return UsageError.unknown("column", missing["name"], columns, where=where)
    if error.what.startswith("Permission Error"):
        listed = ", ".join(sorted(published.tables)[:8])
        return UsageError(
            "SQL reaches no files and no network, only tables", where, f"name one of {listed}, …"
        )
    _, _, message = error.what.partition(": ")
    return UsageError(f"SQL can't be run: {message or error.what}", where, "correct the SQL")


def _no_table(name: str, published: Tables, where: str) -> UsageError:
    short = _named(published, name)
    if len(short) > 1:
        return _several(name, short, where)
    if short:
        return UsageError(
            f'table "{name}" does not exist', where, f"write its layer too: {short[0]}"
        )
    # The engine names a table without its layer.
    near = nearest(name.casefold(), _short_names(published))
    known: Collection[str] = _named(published, near) if near else published.tables
    return UsageError.unknown("table", name, known, where=where)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(_quoted, columns))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
