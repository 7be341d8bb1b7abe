"""What a gold model looks like in CQL: one table for each way it is asked for.

Generated from the same header as SQLite's table: ``serving: {partition_key, clustering}``,
and ``cql:`` for other names and further keys of the same rows. Pure: no driver is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meterhouse.arrow_text import kind_of
from meterhouse.errors import ModelError
from meterhouse.formats import Kind
from meterhouse.models.finalize import arrow_schema
from meterhouse.models.model import CqlKey, Model
from meterhouse.serving.cassandra.layout import (
    AS_OF,
    ORGS,
    REPLICA,
    WRITERS,
    Bucketed,
    CqlColumn,
    CqlTable,
    quoted,
)

__all__ = [
    "columns_of",
    "cql_tables",
    "create_orgs",
    "create_replica",
    "create_table",
    "create_writers",
]

_TYPES: Final[Mapping[Kind, str]] = {
    "text": "text",
    "integer": "bigint",
    "decimal": "decimal",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "text",
    "bytes": "blob",
    "json": "text",
}


def cql_tables(models: Iterable[Model]) -> dict[str, tuple[CqlTable, ...]]:
    """Return the tables of every served model by its name; the first has the header's own key.

    Raises:
        ModelError: Two tables have the same name, or a key column is not the model's.
    """
    found: dict[str, tuple[CqlTable, ...]] = {}
    owner: dict[str, Model] = {}
    for model in sorted(models, key=lambda one: one.name):
        if not model.served or not model.grain:
            continue
        keys = model.cql or (CqlKey(model.name.partition(".")[2]),)
        found[model.name] = tuple(_table(model, key) for key in keys)
        for table in found[model.name]:
            other = owner.setdefault(table.name, model)
            if other is not model or table.name in (ORGS, REPLICA, WRITERS):
                raise ModelError(
                    f'CQL table "{table.name}" of {model.name} has a name that is taken',
                    model.path,
                    "give it another one: serving: {cql: [NAME]} in the model's header",
                )
    return found


def _table(model: Model, key: CqlKey) -> CqlTable:
    schema = arrow_schema(model)
    partition = tuple(_bucketed(text) for text in (key.partition_key or _partition(model)))
    ordered = [term.split() for term in (key.clustering or model.clustering)]
    falling = {term[0]: term[-1].upper() == "DESC" for term in ordered}
    taken = {part.column for part in partition if not part.cut}
    names = [name for name in dict.fromkeys([*falling, *model.grain]) if name not in taken]
    for name in (*names, *(part.column for part in partition)):
        if name not in schema.names:
            raise ModelError(
                f'CQL key column "{name}" is not among the columns of {model.name}',
                model.path,
                f"name one of {', '.join(schema.names)}",
            )
    keys = {*taken, *names}
    columns = tuple(
        _column(item.name, kind_of(item.type), key=item.name in keys, window=model.keep)
        for item in schema
    )
    return CqlTable(
        key.table,
        model.name,
        columns,
        partition,
        tuple((name, falling.get(name, False)) for name in names),
    )


def _partition(model: Model) -> Sequence[str]:
    return model.partition_key or model.grain[:1]


def _bucketed(text: str) -> Bucketed:
    """Read ``org_id`` or ``month(ticket_date)``."""
    for cut in ("day", "month"):
        if text.startswith(f"{cut}("):
            return Bucketed(cut, text[len(cut) + 1 : -1], cut)
    return Bucketed(text, text)


def _column(name: str, kind: Kind, *, key: bool, window: str) -> CqlColumn:
    if kind == "timestamp" and name == window:
        return CqlColumn(name, kind, "timestamp")
    if kind == "boolean" and key:
        # A key has to have a value where the row has none, and a boolean has no third one.
        return CqlColumn(name, kind, "text")
    return CqlColumn(name, kind, _TYPES.get(kind, "text"))


def create_table(table: CqlTable) -> str:
    """Return the CQL that makes ``table`` where it is not there."""
    lines = [f"    {quoted(column.name)} {column.type}" for column in table.all_columns]
    lines.append(f"    {quoted(AS_OF)} bigint")
    partition = ", ".join(quoted(part.name) for part in table.partition)
    clustering = "".join(f", {quoted(name)}" for name, _ in table.clustering)
    lines.append(f"    PRIMARY KEY (({partition}){clustering})")
    text = f"CREATE TABLE IF NOT EXISTS {quoted(table.name)} (\n" + ",\n".join(lines) + "\n)"
    if not table.clustering:
        return text
    order = ", ".join(
        f"{quoted(name)} {'DESC' if falls else 'ASC'}" for name, falls in table.clustering
    )
    return f"{text} WITH CLUSTERING ORDER BY ({order})"


def create_orgs() -> str:
    """Return the CQL of the table of organisations: one partition, about 50 bytes a row."""
    return (
        f"CREATE TABLE IF NOT EXISTS {ORGS} (\n"
        "    list text,\n    org_id text,\n    as_of bigint,\n"
        "    PRIMARY KEY ((list), org_id)\n)"
    )


def create_replica() -> str:
    """Return the CQL of the table that says up to where the log is in the others."""
    return (
        f"CREATE TABLE IF NOT EXISTS {REPLICA} (\n"
        "    name text,\n    project text,\n    fork bigint,\n    generation bigint,\n"
        "    position bigint,\n    epoch bigint,\n    head text,\n    ingest_ts text,\n"
        "    tables text,\n    details text,\n    PRIMARY KEY ((name))\n)"
    )


def create_writers() -> str:
    """Return the CQL of the table of who is writing: a row for each project folder."""
    return (
        f"CREATE TABLE IF NOT EXISTS {WRITERS} (\n"
        "    name text,\n    writer text,\n    run text,\n    state text,\n"
        "    PRIMARY KEY ((name), writer)\n)"
    )


def columns_of(cql: str) -> dict[str, str]:
    """Return column → type of a statement that ``create_…`` wrote."""
    body = cql.partition("(\n")[2].partition("    PRIMARY KEY")[0]
    lines = [line.strip().rstrip(",") for line in body.splitlines() if line.strip()]
    return {name.strip('"'): kind for name, kind in (line.rsplit(" ", 1) for line in lines)}
