"""A model: one SQL file with a YAML header, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["RATIO_SCALE", "Audit", "CqlKey", "Kind", "Model", "ModelColumn", "Ratio"]

RATIO_SCALE = 6
"""Decimal places of ratios, averages and scores: DECIMAL(38,6), half-even."""

Kind = Literal["rows", "mergeable", "view"]
"""rows: one input fact in, at most one row out, plus joins to dimensions.
mergeable: GROUP BY with count, sum, min, max only; partial results add up.
view: anything else; computed from whole tables."""


@dataclass(frozen=True, slots=True)
class ModelColumn:
    """A column of the result."""

    name: str
    type: str
    """DuckDB type as the SQL casts it."""
    unit: str
    doc: str


@dataclass(frozen=True, slots=True)
class Audit:
    """A condition checked before publication; a failed one publishes nothing."""

    name: str
    sql: str
    """A SELECT over the model's tables; every row it returns is a violation."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A column computed once from stored measures, after they were merged.

    ``times * numerator / denominator`` in exact integers, 6 places, half-even; NULL when
    the denominator is 0 or a side is NULL. The SQL does not hold the column.
    """

    numerator: str
    denominator: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class CqlKey:
    """A way to ask for a gold model's rows in CQL: a table of its own."""

    table: str
    partition_key: tuple[str, ...] = ()
    """Columns, or the period one lies in: "month(ticket_date)". Empty: the serving key's."""
    clustering: tuple[str, ...] = ()
    """"usage_date DESC"; what is left of the grain follows. Empty: the serving key's."""


@dataclass(frozen=True, slots=True)
class Model:
    """One table of silver or gold."""

    name: str
    """"silver.usage_enriched": folder and file name."""
    sql: str
    """One SELECT in DuckDB's dialect; empty lines stand where the header was, so that an
    engine's line numbers are the file's."""
    kind: Kind
    fact: str
    """rows and mergeable: the table whose rows are added up ("bronze.usage_events",
    "silver.usage", …); the others it reads are dimensions. Empty for a view."""
    depends_on: tuple[str, ...]
    """Tables it reads, parsed from the SQL, sorted."""
    grain: tuple[str, ...]
    columns: tuple[ModelColumn, ...]
    """All columns of the finished table, in the header's order."""
    audits: tuple[Audit, ...]
    partition_key: tuple[str, ...]
    """Serving: what questions are asked by (gold only)."""
    clustering: tuple[str, ...]
    """Serving: order within a partition, "usage_date DESC"."""
    partition_by: tuple[str, ...]
    """Lake: partition columns."""
    batch_only: str
    """Why it is not live; empty when it is. Gold that is served follows the log unless its
    header says this; the linter sees to it that it can."""
    stored: bool
    """False: no table. In gold it is computed whenever it is read; in silver it is a step that
    exists only while others are computed."""
    description: str
    owner: str
    path: str
    """File it came from, for messages."""
    sha256: str
    """Of the file's text and of the hashes of the models it reads: what changes when
    its result might."""
    merge: Mapping[str, str]
    """mergeable: column to the function that merges two partials (sum, min, max)."""
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    """Columns that ``finalize`` adds to the SQL's after the merge."""
    finalizer: str = ""
    """Name of a function over the whole table (``finalize.FINALIZERS``) that adds columns
    SQL can't compute exactly, and may drop rows; empty for most."""
    count_column: str = ""
    """mergeable: its count(*): where it is 0 after a merge, the row is gone."""
    own_columns: tuple[str, ...] = ()
    """rows: columns that come from the fact alone, whatever the dimensions hold."""
    stored_columns: tuple[str, ...] = ()
    """What the SQL selects, in order; ``columns`` has these and the finalized ones."""
    keep: str = ""
    """Column of event time by which the serving store holds the latest rows only
    (``serving.keep_windows``); empty: it holds all."""
    live_by: tuple[str, ...] = ()
    """view: columns of the grain; the rows with given values of these come from the rows of
    the mergeable tables with the same values (``live_from``), and from no others. Empty when
    that can't be proved: then it is batch-only."""
    live_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """view: mergeable gold table below it → its columns that ``live_by`` are, in that order."""
    text: str = ""
    """The file as read: what a generation pins."""

    @property
    def live(self) -> bool:
        """Whether its table follows the log between batches."""
        return self.served and not self.batch_only

    @property
    def served(self) -> bool:
        """Whether the serving store, and replicas of it, hold its rows."""
        return self.stored and self.name.startswith("gold.")

    @property
    def on_read(self) -> bool:
        """Whether it is computed when it is read, from the tables it reads, as they are then."""
        return not self.stored and self.name.startswith("gold.")

    cql: tuple[CqlKey, ...] = ()
    """Its tables in Cassandra; empty: one of the model's name by the serving key."""
