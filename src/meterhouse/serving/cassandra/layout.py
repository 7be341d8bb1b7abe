"""The shape of the replica's tables, as frozen data that travels with it.

Cheap to import: a reader takes it from the replica itself and needs no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from meterhouse.formats import Kind

__all__ = [
    "AS_OF",
    "ORGS",
    "REPLICA",
    "WRITERS",
    "Bucketed",
    "CqlColumn",
    "CqlTable",
    "quoted",
    "tables_from_text",
    "tables_text",
]

AS_OF: Final = "as_of"
"""Column of every table: log position up to which the row was written; it is unchanged since."""
REPLICA: Final = "replica"
"""Table with one row: up to where the log is in the others."""
ORGS: Final = "orgs"
"""Table of organisations, for questions over all of them."""
WRITERS: Final = "replica_writers"
"""Table of who is writing, and of what has to be written over because two were."""


@dataclass(frozen=True, slots=True)
class CqlColumn:
    """A column of a table; all but the key may be NULL."""

    name: str
    kind: Kind
    type: str
    """CQL type. Times are ISO 8601 text, for CQL's timestamp keeps milliseconds only; the
    event time of a window, which is whole seconds, is a timestamp."""


@dataclass(frozen=True, slots=True)
class Bucketed:
    """A column of a partition key: a column of the model, or the period it lies in."""

    name: str
    column: str
    cut: Literal["", "day", "month"] = ""


@dataclass(frozen=True, slots=True)
class CqlTable:
    """One table: the rows of one gold model by one key."""

    name: str
    model: str
    """"gold.finops_by_org_day"."""
    columns: tuple[CqlColumn, ...]
    """Of the model, in its order."""
    partition: tuple[Bucketed, ...]
    clustering: tuple[tuple[str, bool], ...]
    """Column, and whether it falls."""

    @property
    def key(self) -> tuple[str, ...]:
        """Columns of the primary key, as CQL names them."""
        return (*(part.name for part in self.partition), *(name for name, _ in self.clustering))

    @property
    def all_columns(self) -> tuple[CqlColumn, ...]:
        """Those of the model, before them the periods of the partition key."""
        cut = [CqlColumn(part.name, "date", "date") for part in self.partition if part.cut]
        return (*cut, *self.columns)


_PLAIN: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
_RESERVED: Final = frozenset(
    (
        "add",
        "allow",
        "alter",
        "and",
        "apply",
        "asc",
        "authorize",
        "batch",
        "begin",
        "by",
        "columnfamily",
        "create",
        "default",
        "delete",
        "desc",
        "describe",
        "drop",
        "entries",
        "execute",
        "from",
        "full",
        "grant",
        "if",
        "in",
        "index",
        "infinity",
        "insert",
        "into",
        "is",
        "keyspace",
        "limit",
        "materialized",
        "mbean",
        "mbeans",
        "modify",
        "nan",
        "norecursive",
        "not",
        "null",
        "of",
        "on",
        "or",
        "order",
        "primary",
        "rename",
        "replace",
        "revoke",
        "schema",
        "select",
        "set",
        "table",
        "to",
        "token",
        "truncate",
        "unlogged",
        "unset",
        "update",
        "use",
        "using",
        "view",
        "where",
        "with",
    )
)
"""CQL's reserved words (Apache Cassandra documentation, CQL, appendix A)."""


def quoted(name: str) -> str:
    """Return ``name`` as a CQL identifier, in quotes where it needs them."""
    if _PLAIN.match(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def tables_text(tables: Mapping[str, Sequence[CqlTable]]) -> str:
    """Return ``tables`` as JSON that ``tables_from_text`` reads."""
    return json.dumps(
        {model: [asdict(table) for table in found] for model, found in tables.items()},
        sort_keys=True,
    )


def tables_from_text(text: str) -> dict[str, tuple[CqlTable, ...]]:
    """Return the tables that ``tables_text`` wrote."""
    return {
        model: tuple(
            CqlTable(
                one["name"],
                one["model"],
                tuple(CqlColumn(**column) for column in one["columns"]),
                tuple(Bucketed(**part) for part in one["partition"]),
                tuple((name, falls) for name, falls in one["clustering"]),
            )
            for one in found
        )
        for model, found in json.loads(text).items()
    }
