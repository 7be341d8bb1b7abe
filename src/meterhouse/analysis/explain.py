"""Where a number comes from: the records that add up to each cell of one row.

What a cell means is the model's own expression; which records it is made of, and what was
held, doubled or superseded beside them, is asked of the model's own SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from meterhouse.analysis.definition import Definition, definition, passed_on
from meterhouse.analysis.records import Lake, matches, origins, rows_behind, rows_beside
from meterhouse.errors import UsageError
from meterhouse.models.model import Model

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BESIDE", "Beside", "Explained", "Lake", "Part", "explain"]

BESIDE: Final = ("quarantined", "duplicate", "superseded")
_EXACT: Final = Context(prec=120)


@dataclass(frozen=True, slots=True)
class Beside:
    """Records that would belong to the row and do not count in it."""

    verdict: str
    """quarantined, duplicate or superseded."""
    records: pa.Table
    """Place, reason, and what each would have added; the first ``limit``."""
    count: int
    sums: Mapping[str, Decimal]
    """What they would have added, by measure."""


@dataclass(frozen=True, slots=True)
class Part:
    """The records of one source behind the row."""

    model: str
    """The model whose measures they add up to."""
    source: str
    records: pa.Table
    """Place (entry, row, file, line) and what each record adds to each measure; the first
    ``limit``, in the order of the log."""
    count: int
    sums: Mapping[str, Decimal]
    """By measure, over all records, not only those shown."""
    beside: tuple[Beside, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """One row of one table, and everything behind it."""

    model: Model
    definition: Definition
    row: Mapping[str, Any] | None
    """The row as readers see it; None when there is none (what is held may say why)."""
    parts: tuple[Part, ...]
    compared: tuple[str, ...] = field(default=())
    """Columns whose cell was held against what the records add up to."""
    mismatches: tuple[str, ...] = field(default=())
    """Those of them where it is another number: never, or it is a bug."""


def explain(lake: Lake, table: str, key: Mapping[str, str], limit: int = 20) -> Explained:
    """Return where the row of ``table`` with ``key`` comes from.

    Args:
        lake: What readers see.
        table: A silver or gold table.
        key: Column → value as text, for every column of the table's grain; empty for NULL.
        limit: How many records of each kind to show; sums are over all.

    Raises:
        UsageError: Unknown table or column, a value that can't be one, or a grain column
            without a value.
    """
    if table.startswith("bronze."):
        raise UsageError(
            f'"{table}" holds the records themselves',
            table,
            f"read them: meterhouse read {table}; explain a table of silver or gold",
        )
    model = lake.models[table]
    _check_key(lake, model, key)
    row = _published_row(lake, model, key)
    found = origins(lake, model, key)
    parts = []
    for origin in found:
        behind = rows_behind(lake, origin, limit)
        beside = []
        for verdict in BESIDE:
            rows = rows_beside(lake, origin, verdict, limit)
            if rows is not None:
                beside.append(Beside(verdict, rows.records, rows.count, rows.sums))
        parts.append(
            Part(
                origin.model.name,
                origin.contract.source,
                behind.records,
                behind.count,
                behind.sums,
                tuple(beside),
            )
        )
    compared: tuple[str, ...] = ()
    odd: list[str] = []
    if row is not None:
        compared = _compared(model, parts)
        odd = [name for name in compared if _differs(row, name, parts[0])]
        of_one = model.kind == "rows" or any(origin.history is model for origin in found)
        if of_one and parts[0].count != 1:
            odd.append("number of records")
    meaning = definition(lake.models, model)
    return Explained(model, meaning, row, tuple(parts), compared, tuple(odd))


def _check_key(lake: Lake, model: Model, key: Mapping[str, str]) -> None:
    for name in key:
        if name not in model.grain:
            raise UsageError.unknown("key column", name, model.grain, where=model.name)
    missing = [name for name in model.grain if name not in key]
    if missing:
        raise UsageError(
            f'a row of "{model.name}" needs {", ".join(missing)} too',
            model.name,
            f"give {' '.join(f'{name}=…' for name in model.grain)}",
        )
    types = {column.name: column.type for column in model.columns}
    with lake.engine.session({}) as session:
        for name, value in key.items():
            text = "'" + value.replace("'", "''") + "'"
            sql = f"SELECT TRY_CAST({text} AS {types[name]}) IS NULL AS odd"
            if value and session.query(sql)["odd"][0].as_py():
                raise UsageError(
                    f'"{value}" is no {types[name]}, as column "{name}" needs',
                    model.name,
                    "write days as YYYY-MM-DD, and numbers in plain digits",
                )


def _published_row(lake: Lake, model: Model, key: Mapping[str, str]) -> Mapping[str, Any] | None:
    if model.name not in lake.at.tables:
        return None
    with lake.at.session(lake.engine, [model.name]) as session:
        rows = session.query(f"SELECT * FROM {model.name} WHERE {matches(model, key)}").to_pylist()
    return rows[0] if rows else None


def _compared(model: Model, parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the cells that must be what the records of the one part add up to."""
    if len(parts) != 1:
        return ()
    sums = parts[0].sums
    if model.kind == "mergeable" or parts[0].model == model.name:
        return tuple(name for name in sums if model.merge.get(name, "sum") == "sum")
    return tuple(name for name in passed_on(model) if name in sums)


def _differs(row: Mapping[str, Any], name: str, part: Part) -> bool:
    cell = row[name] if row[name] is not None else Decimal(0)
    return _EXACT.subtract(Decimal(cell), part.sums[name]) != 0
