"""A contract: what one source delivers, as frozen data. Loading it is ``contracts.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from meterhouse.names import LoadMode

__all__ = ["SQL_TYPES", "Column", "ColumnType", "Contract", "Derived", "Rule", "Severity"]

ColumnType = Literal["text", "decimal", "integer", "boolean", "date", "timestamp", "json"]
"""decimal: DECIMAL(38,9). integer: BIGINT. date: UTC day. timestamp: UTC, microseconds.
json: any JSON value, kept as its text."""

SQL_TYPES: Final[Mapping[ColumnType, str]] = {
    "text": "VARCHAR",
    "decimal": "DECIMAL(38, 9)",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "json": "VARCHAR",
}
"""How an engine names the types."""

Severity = Literal["quarantine", "repair", "flag", "stop"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the source, named as the product names it."""

    name: str
    type: ColumnType
    source: str
    """The field's name in the delivery (``from:``); two columns may share one."""
    unit: str = ""
    doc: str = ""
    personal: bool = False
    default: str | None = None
    """SQL literal that bronze shows where the delivered value is NULL."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A bronze column computed from the others; not stored in judged files."""

    name: str
    type: ColumnType
    sql: str
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named condition that a record must hold."""

    name: str
    severity: Severity
    because: str
    holds: str = ""
    """Boolean SQL over the columns; NULL condemns nobody. Empty when ``check`` decides."""
    check: str = ""
    """One of ``names.CHECKS``, decided by the parser or the deduplication."""
    columns: tuple[str, ...] = ()
    """Columns a ``check`` looks at; for ``holds`` those its SQL names."""
    repair: Mapping[str, str] | None = None
    """For severity repair: column to SQL expression that mends it."""


@dataclass(frozen=True)
class Contract:
    """Everything that decides how one source's bytes become judged rows."""

    source: str
    """Name of the source, also of its folder below judged/."""
    table: str
    """Bronze table of accepted records, "bronze.usage_events"."""
    quarantine: str
    """Bronze table of held records, "bronze.quarantine_usage"."""
    files: tuple[str, ...]
    """Glob patterns over the file's base name without .gz or .zst."""
    format: Literal["csv", "jsonl"]
    mode: LoadMode
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    derived: tuple[Derived, ...]
    rules: tuple[Rule, ...]
    """In the contract's order: the first broken one is the invalid_reason."""
    money: tuple[str, ...]
    """Columns whose sums the ledger keeps."""
    currency: str
    """A column name, or an ISO 4217 code when ``currency_column`` is False."""
    currency_column: bool
    version_column: str
    """For upsert: the column whose larger value is newer; empty: last logged wins."""
    partition_by: tuple[str, ...]
    """Bronze partition columns (may be derived)."""
    on_new_column: Literal["keep", "quarantine", "stop"]
    shrink_limit: str
    """Snapshot: largest share of keys (decimal text, "0.2") that may vanish at once."""
    round_decimals: bool
    """True: more than 9 decimals are rounded half-even and counted, not held."""
    schema_version: str
    """Column that carries the schema version; empty when there is none."""
    known_schema_versions: tuple[int, ...]
    known_values: Mapping[str, Sequence[str]]
    """Column to values known; others are accepted and counted by ``status``."""
    description: str
    owner: str
    text: str
    """The YAML text as read: pinned in the log."""
    sha256: str
    """Of ``text``: what entries name the contract by."""

    @property
    def tables(self) -> tuple[str, str]:
        """The bronze tables that no other source may have."""
        return self.table, self.quarantine

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """Columns by product name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def by_source(self) -> Mapping[str, tuple[Column, ...]]:
        """Columns by delivered field name, in declared order."""
        found: dict[str, tuple[Column, ...]] = {}
        for column in self.columns:
            found[column.source] = (*found.get(column.source, ()), column)
        return found
