"""What a served table looks like: its key from the model's header, its columns, its DDL.

Values are kept as text that says exactly what it means (decimals in plain notation, days
and times in ISO 8601, lists as JSON), since SQLite knows no decimal and a double is none.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from meterhouse.errors import DamageError
from meterhouse.formats import Column, Kind
from meterhouse.ports import Stamp

if TYPE_CHECKING:
    from meterhouse.models.model import Model

__all__ = [
    "NULL_KEY",
    "Condition",
    "Layout",
    "Served",
    "Snapshot",
    "StoredColumn",
    "create_table",
    "decoder",
    "layouts",
    "quoted",
]

NULL_KEY: Final = b""
"""Stands for NULL in a key column: a table without rowid takes no NULL there, and no value
of a column may decide whether a row can be published. No other value is a BLOB."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Order in which a table's rows are found."""

    key: tuple[str, ...] = ()
    """Columns that identify a row: partition key, clustering, what is left of the grain."""
    descending: frozenset[str] = frozenset()


def layouts(models: Iterable[Model]) -> dict[str, Layout]:
    """Return the layout of every gold model by its name, from the headers."""
    return {model.name: _layout(model) for model in models if model.name.startswith("gold.")}


def _layout(model: Model) -> Layout:
    ordered = [term.split() for term in model.clustering]
    names = [*model.partition_key, *(term[0] for term in ordered), *model.grain]
    falling = {term[0] for term in ordered if term[-1].upper() == "DESC"}
    return Layout(tuple(dict.fromkeys(names)), frozenset(falling))


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of a served table."""

    name: str
    kind: Kind
    storage: Literal["TEXT", "INTEGER"]
    """INTEGER for booleans and 64-bit integers; anything else is text."""


def quoted(name: str) -> str:
    """Return ``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def create_table(physical: str, columns: Sequence[StoredColumn], layout: Layout) -> str:
    """Return the DDL of one table of one epoch.

    Without a key (a model that names none) it is a plain table with rowid.
    """
    parts = [f"{quoted(column.name)} {column.storage}" for column in columns]
    if not layout.key:
        return f"CREATE TABLE {quoted(physical)} ({', '.join(parts)})"
    terms = (quoted(name) + (" DESC" if name in layout.descending else "") for name in layout.key)
    parts.append(f"PRIMARY KEY ({', '.join(terms)})")
    return f"CREATE TABLE {quoted(physical)} ({', '.join(parts)}) WITHOUT ROWID"


_DECODERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "integer": int,
    "decimal": Decimal,
    "boolean": bool,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "json": json.loads,
    "bytes": base64.b64decode,
    "real": float,
}


def decoder(column: StoredColumn, where: str) -> Callable[[object], object]:
    """Return what turns a stored value of ``column`` into a Python value.

    The function raises DamageError, naming ``where``, for a value that was not written so.
    """
    read = _DECODERS.get(column.kind)

    def decode(value: object) -> object:
        if value is None or value == NULL_KEY:
            return None
        if read is None:
            return value
        try:
            return read(value)
        except (ValueError, TypeError, InvalidOperation) as error:
            raise DamageError(
                f'served value of "{column.name}" can\'t be read as {column.kind}',
                where,
                "run `meterhouse rebuild`: the serving store is made anew from the lake",
            ) from error

    return decode


@dataclass(frozen=True, slots=True)
class Served:
    """What the visible epoch stands for."""

    epoch: str
    stamp: Stamp
    ingest_ts: datetime
    """When the entry at the stamp's position was taken; UTC."""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a column with a value; NULL meets none."""

    column: str
    operator: Literal["=", ">=", "<="]
    value: str | int
    """As stored: days as ISO text."""


class Snapshot(Protocol):
    """All tables of one epoch, as long as it is open: what a question is answered from."""

    @property
    def served(self) -> Served:
        """Return what the epoch stands for."""
        ...

    def tables(self) -> Mapping[str, Sequence[Column]]:
        """Return the columns of every table by the table's name."""
        ...

    def scan(
        self, table: str, columns: Sequence[str], conditions: Sequence[Condition] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that meet all ``conditions``, as Python values, in no order.

        Raises:
            UsageError: There is no such table or column; the nearest is named.
        """
        ...

    def distinct(self, table: str, column: str) -> Iterator[Any]:
        """Yield the values of ``column`` but NULL, each once."""
        ...
