"""Which keys and windows are over, by the rows that changed or by all of them.

The engine compares; every value stays a decimal. What is looked at is one position of the
store: when it moves meanwhile, nothing of the look counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

import pyarrow as pa

from meterhouse.alerts.rule import TableQuery
from meterhouse.formats import native
from meterhouse.models.finalize import finalize, needs_finalizing
from meterhouse.ports import Engine, LiveStore, Session

__all__ = ["Group", "Look", "Numbers", "look_at_all", "look_at_changes", "window_end"]

Numbers: TypeAlias = dict[str, object]
"""Name of a number that a condition names → its value, exact."""

ROWS: Final = 200_000
"""Rows that are looked at together where a table is looked at whole."""


@dataclass(frozen=True, slots=True)
class Group:
    """One key and window of a rule."""

    key: str
    """Canonical JSON object: column to value."""
    window: str
    """Canonical text of the window column; empty without one."""


@dataclass(slots=True)
class Look:
    """What a rule sees at one position."""

    over: dict[Group, Numbers] = field(default_factory=dict)
    """Groups that are over → what they have of the numbers that the condition names."""
    touched: frozenset[Group] | None = None
    """Groups that were looked at; None: all there are."""


def look_at_changes(
    store: LiveStore,
    engine: Engine,
    queries: Mapping[str, TableQuery],
    after: int,
    opened: Mapping[str, frozenset[Group]],
) -> dict[str, Look]:
    """Look at what changed after log position ``after``; rule → what it sees.

    Of the groups that changed those count as looked at that are over, or were so far: about
    no others is there anything to decide.

    Args:
        store: The live answers.
        engine: Compares.
        queries: Rule → its query; all of one table.
        after: Not before the position of the store's epoch.
        opened: Rule → the groups that are over so far.
    """
    table = next(iter(queries.values())).table
    columns = dict.fromkeys(name for query in queries.values() for name in query.columns)
    changed = store.changed(table, after, tuple(columns))
    if not changed.num_rows:
        return {rule: Look(touched=frozenset()) for rule in queries}
    found = {}
    with engine.session({"changed": changed}) as session:
        session.view("looked_at", "SELECT * FROM changed WHERE NOT gone")
        for rule, query in queries.items():
            if query.when.grouped:
                groups = session.query(f"SELECT DISTINCT {_listed(query.groups)} FROM changed")
                of = groups if query.groups else None
                over = _over_rows(engine, query, store.rows(table, of=of).read_all())
            else:
                over = _over(session, query)
            held: set[Group] = set()
            if opened[rule]:
                session.replace("opened", _typed(query, opened[rule], changed.schema))
                held = _held(session, query, "changed")
            found[rule] = Look(over, frozenset(held | over.keys()))
    return found


def look_at_all(
    store: LiveStore, engine: Engine, query: TableQuery, opened: frozenset[Group]
) -> Look:
    """Look at every row of a table.

    Where the store holds the latest windows only, what it does not hold says nothing: of
    ``opened``, the groups that are over so far, those count as looked at that it holds.
    """
    found = Look()
    held: set[Group] = set()
    for rows in _pieces(store, engine, query):
        relations = {"looked_at": rows, "opened": _typed(query, opened, rows.schema)}
        with engine.session(relations) as session:
            found.over |= _over(session, query)
            # Of the same rows: a later look at the store might find more of them.
            held |= _held(session, query, "looked_at") if query.keeps_windows and opened else set()
    if query.keeps_windows:
        found.touched = frozenset(held) | found.over.keys()
    return found


def _typed(query: TableQuery, groups: frozenset[Group], schema: pa.Schema) -> pa.Table:
    """Return ``groups`` as rows of the table's own types."""
    values = [{**json.loads(one.key), query.window: one.window} for one in groups]
    columns = {
        name: pa.array([row[name] for row in values], pa.string() if not values else None)
        for name in query.groups
    }
    typed = {name: array.cast(schema.field(name).type) for name, array in columns.items()}
    return pa.table(typed or {"one": pa.array([1] * len(values), pa.int64())})


def _held(session: Session, query: TableQuery, among: str) -> set[Group]:
    """Return the groups of the relation ``opened`` that relation ``among`` has rows of."""
    same = " AND ".join(
        f"one.{_quoted(name)} IS NOT DISTINCT FROM other.{_quoted(name)}" for name in query.groups
    )
    rows = session.query(
        f"SELECT DISTINCT * FROM opened AS one WHERE EXISTS "
        f"(SELECT 1 FROM {among} AS other WHERE {same or 'TRUE'})"
    )
    return {_group(query, row) for row in rows.to_pylist()}


def _pieces(store: LiveStore, engine: Engine, query: TableQuery) -> Iterator[pa.Table]:
    """Yield the columns that are needed; all rows at once where they belong in groups."""
    if query.views:
        yield _computed(store, engine, query)
        return
    reader = store.rows(query.table)
    columns = list(query.columns) or reader.schema.names[:1]
    waiting = [reader.schema.empty_table().select(columns)]
    for batch in reader:
        waiting.append(pa.Table.from_batches([batch]).select(columns))
        if not query.when.grouped and sum(one.num_rows for one in waiting) >= ROWS:
            yield pa.concat_tables(waiting)
            waiting = waiting[:1]
    yield pa.concat_tables(waiting)


def _computed(store: LiveStore, engine: Engine, query: TableQuery) -> pa.Table:
    """Return the rows of a table that is computed when it is read.

    Where the tables below hold their latest windows only, the first day of these is left out:
    what a row of that day is made from may be gone in part.
    """
    with engine.session({name: store.rows(name).read_all() for name in query.reads}) as session:
        for model in query.views:
            if needs_finalizing(model):
                session.replace(model.name, finalize(model, session.query(model.sql)))
            else:
                session.view(model.name, model.sql)
        sql = f"SELECT * FROM {query.table}"
        if query.keeps_windows and query.window and (first := _first_whole_day(store, query)):
            sql += f" WHERE {_quoted(query.window)} >= DATE '{first}'"
        return session.query(sql)


def _first_whole_day(store: LiveStore, query: TableQuery) -> str:
    """Return the day after the first of which all tables below hold something; "" for all."""
    answers = store.answers()
    kept = answers.details.get("keep_from", {}) if answers is not None else {}
    days = [kept[name] for name in query.reads if name in kept]
    return (date.fromisoformat(max(days)) + timedelta(days=1)).isoformat() if days else ""


def _over_rows(engine: Engine, query: TableQuery, rows: pa.Table) -> dict[Group, Numbers]:
    with engine.session({"looked_at": rows}) as session:
        return _over(session, query)


def _over(session: Session, query: TableQuery) -> dict[Group, Numbers]:
    """Return the groups of the relation ``looked_at`` that are over, with their numbers."""
    measures = dict(query.when.measures)
    picked = [_quoted(name) for name in query.groups]
    picked += [f"{sql} AS {_quoted(_measure(n))}" for n, sql in enumerate(measures.values())]
    statement = f"SELECT {', '.join(picked) or '1 AS one'} FROM looked_at"
    if query.where is not None:
        statement += f" WHERE ({query.where.sql})"
    if not query.when.grouped:
        statement += f" {'WHERE' if query.where is None else 'AND'} ({query.when.sql})"
    elif query.groups:
        statement += f" GROUP BY {_listed(query.groups)} HAVING ({query.when.sql})"
    else:
        statement += f" HAVING ({query.when.sql})"
    return {
        _group(query, row): {name: row[_measure(number)] for number, name in enumerate(measures)}
        for row in session.query(statement).to_pylist()
    }


def _measure(number: int) -> str:
    """Return a column name that no table has."""
    return f"@{number}"


def _group(query: TableQuery, row: Mapping[str, object]) -> Group:
    key = {name: native(row[name]) for name in sorted(query.key)}
    text = json.dumps(key, ensure_ascii=False, separators=(",", ":"))
    return Group(text, _text(row[query.window]) if query.window else "")


def _text(value: object) -> str:
    return str(native(value)) if value is not None else ""


def window_end(query: TableQuery, window: str) -> datetime | None:
    """Return when a window ended or will end; None when there is none, or no known time."""
    if not window:
        return None
    day = len(window) == len("2025-07-03")
    start = datetime.fromisoformat(f"{window}T00:00:00Z" if day else window)
    try:
        return start + query.length
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names)) or "1 AS one"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
