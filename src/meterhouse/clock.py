"""The one place that asks the machine what time it is."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["system_clock"]


def system_clock() -> datetime:
    """Return now in UTC, microseconds."""
    return datetime.now(UTC)  # noqa: TID251 - this is the clock
