"""What has to have happened over many seeds, so that they are worth something."""

from __future__ import annotations

from simulation.aims import AIMS

__all__ = ["EXPECTED"]

EXPECTED: frozenset[str] = frozenset(
    {
        *(f"crash at: {aim}" for aim in AIMS),
        *(f"power loss at: {aim}" for aim in AIMS),
        "power loss left: torn",
        "power loss left: gone",
        "power loss left: former",
        "power loss left: not what was put",
        "clock back",
        "clock on",
        "edit: audit",
        "edit: broken",
        "edit: descending",
        "edit: factor",
        "edit: threshold",
        "contract changed",
        "file: copies",
        "file: cuts",
        "file: delivers",
        "file: grows",
        "file: tampers",
        "file: writes",
        "half a line",
        "follow",
        "follow once",
        "ingest",
        "batch",
        "full batch",
        "rebuild",
        "read",
        "verify",
        "lake published",
        "promotion",
        "promotion refused",
        "live answers",
        "sealed",
        "packed",
        "joined judged files",
    }
)
"""Of ``Outcome.happened``: each of them at least once."""
