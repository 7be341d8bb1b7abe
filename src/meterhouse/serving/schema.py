"""What a served table looks like: its layout from the model's header, its columns, its DDL.

Values are kept as text that says exactly what it means (decimals in plain notation, days
and times in ISO 8601, lists as JSON), since SQLite knows no decimal and a double is none.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from meterhouse.errors import DamageError
from meterhouse.formats import Column, Kind
from meterhouse.models.model import Ratio
from meterhouse.ports import Stamp

if TYPE_CHECKING:
    from meterhouse.models.model import Model

__all__ = [
    "CHANGED_AT",
    "GONE",
    "NULL_KEY",
    "Condition",
    "Layout",
    "Served",
    "Snapshot",
    "StoredColumn",
    "StoredTable",
    "create_live",
    "create_table",
    "decoder",
    "layout_from_text",
    "layout_text",
    "layouts",
    "quoted",
]

NULL_KEY: Final = b""
"""Stands for NULL in a key column: a table without rowid takes no NULL there, and no value
of a column may decide whether a row can be published. No other value is a BLOB."""


CHANGED_AT: Final = "@changed_at"
"""Column of live rows: log position of their last change. No model can name a column so."""
GONE: Final = "@gone"
"""Column of live rows: 1 where the key has no row any more, whatever the epoch holds."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table's rows are found, and how a new part of one is merged in."""

    key: tuple[str, ...] = ()
    """Columns that identify a row: partition key, clustering, what is left of the grain."""
    descending: frozenset[str] = frozenset()
    merge: Mapping[str, str] = field(default_factory=dict)
    """Column to the function that merges two parts of it: sum, min, max. Empty for a view."""
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    """Columns computed from merged ones."""
    count_column: str = ""
    """Where it is 0 after a merge, the row is gone."""
    keep: str = ""
    """Column of event time: the epoch holds its latest values only; empty: it holds all."""
    batch_only: bool = False
    """Its rows stand where the epoch stands: they do not follow the log in between."""


def layouts(models: Iterable[Model]) -> dict[str, Layout]:
    """Return the layout of every served model by its name, from the headers."""
    return {model.name: _layout(model) for model in models if model.served}


def _layout(model: Model) -> Layout:
    ordered = [term.split() for term in model.clustering]
    names = [*model.partition_key, *(term[0] for term in ordered), *model.grain]
    falling = {term[0] for term in ordered if term[-1].upper() == "DESC"}
    return Layout(
        key=tuple(dict.fromkeys(names)),
        descending=frozenset(falling),
        merge=dict(model.merge),
        ratios=dict(model.ratios),
        count_column=model.count_column,
        keep=model.keep,
        batch_only=bool(model.batch_only),
    )


def layout_text(layout: Layout) -> str:
    """Return ``layout`` as JSON that ``layout_from_text`` reads."""
    found = asdict(layout) | {"descending": sorted(layout.descending)}
    return json.dumps(found, sort_keys=True)


def layout_from_text(text: str) -> Layout:
    """Return the layout that ``layout_text`` wrote."""
    found = json.loads(text)
    found["key"] = tuple(found["key"])
    found["descending"] = frozenset(found["descending"])
    found["ratios"] = {name: Ratio(**parts) for name, parts in found["ratios"].items()}
    return Layout(**found)


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of a served table."""

    name: str
    kind: Kind
    storage: Literal["TEXT", "INTEGER"]
    """INTEGER for booleans and 64-bit integers; anything else is text."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One table of one epoch, as the file's own table of tables has it."""

    name: str
    physical: str
    columns: tuple[StoredColumn, ...]
    layout: Layout
    arrow_schema: str
    """Arrow IPC schema, base64."""
    rows: int
    """How many the epoch has."""
    live: str
    """Table of its live rows; empty for one without a key, which can't be live."""
    image: str
    """Table of the rows that changed after the frozen position; empty while none is."""


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
    parts.append(_primary_key(layout))
    return f"CREATE TABLE {quoted(physical)} ({', '.join(parts)}) WITHOUT ROWID"


def create_live(physical: str, columns: Sequence[StoredColumn], layout: Layout) -> str:
    """Return the DDL of a table of live rows, or of what they were at a frozen position."""
    parts = [f"{quoted(column.name)} {column.storage}" for column in columns]
    parts += [f"{quoted(name)} INTEGER NOT NULL" for name in (CHANGED_AT, GONE)]
    parts.append(_primary_key(layout))
    return f"CREATE TABLE {quoted(physical)} ({', '.join(parts)}) WITHOUT ROWID"


def _primary_key(layout: Layout) -> str:
    terms = (quoted(name) + (" DESC" if name in layout.descending else "") for name in layout.key)
    return f"PRIMARY KEY ({', '.join(terms)})"


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
    """What the answers stand for."""

    epoch: str
    stamp: Stamp
    """Position of the answers: the epoch's, or later where rows are live."""
    ingest_ts: datetime
    """When the entry at the stamp's position was taken; UTC."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The epoch's, with those of the live answers over them."""
    epoch_position: int = 0
    """Position of the epoch."""
    behind: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    """Tables that stand where the epoch stands while the others are ahead: batch-only ones.
    With that position and the time of its entry."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a column with a value; NULL meets none."""

    column: str
    operator: Literal["=", ">=", "<="]
    value: str | int
    """As stored: days as ISO text."""


class Snapshot(Protocol):
    """All tables at one position, as long as it is open: what a question is answered from."""

    @property
    def served(self) -> Served:
        """Return what the answers stand for."""
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
