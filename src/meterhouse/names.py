"""Names that more than one module must spell alike. Data only."""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "ACCEPTED",
    "CHECKS",
    "DUPLICATE",
    "ENTRY_DIGITS",
    "LAYERS",
    "PARSER_VERSION",
    "QUARANTINED",
    "REMOVED",
    "SCALE",
    "TECHNICAL",
    "LoadMode",
    "Verdict",
    "entry_name",
]

Verdict = Literal["accepted", "quarantined", "duplicate", "removed"]

ACCEPTED: Final = "accepted"
QUARANTINED: Final = "quarantined"
DUPLICATE: Final = "duplicate"
REMOVED: Final = "removed"
"""Not a landed record: a key that a snapshot no longer holds (judged rows only)."""

LoadMode = Literal["append", "upsert", "snapshot"]

LAYERS: Final = ("bronze", "silver", "gold")

SCALE: Final = 9
"""Decimal places of money, quantities and carbon: DECIMAL(38,9)."""

PARSER_VERSION: Final = 1
"""Written into every entry; raise it when the same bytes would be judged differently."""

ENTRY_DIGITS: Final = 12

TECHNICAL: Final = ("log_position", "row_number", "source_file", "source_line", "ingest_ts")
"""Columns that every bronze and judged table carries."""

CHECKS: Final = (
    "malformed",
    "wrong_type",
    "unreadable",
    "key_unusable",
    "number_out_of_range",
    "conflicting_duplicate",
)
"""Rules of a contract that the parser or the deduplication decides, not SQL."""


def entry_name(position: int) -> str:
    """Return the file stem of log entry ``position``: twelve digits, sortable."""
    return f"{position:0{ENTRY_DIGITS}d}"
