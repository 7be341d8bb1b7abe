"""What to generate, checked before the first byte is written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Literal

from meterhouse.errors import UsageError

__all__ = ["Options"]

MOST_EVENTS = 36**6
"""Event ids are unique up to here."""
SHARES = ("duplicates", "late", "poison", "conflicts")


@dataclass(frozen=True, slots=True)
class Options:
    """One delivery. The same options and version give the same bytes on any machine."""

    events: int = 43_200
    """Lines of usage events, planted ones included."""
    orgs: int = 80
    days: int = 60
    start: date = date(2025, 7, 3)
    seed: int = 7
    duplicates: float = 0.01
    """Share of event lines that repeat an earlier one."""
    late: float = 0.02
    """Share of event lines that arrive a week or more after their day."""
    poison: float = 0.01
    """Share of event lines that are broken, in varied ways."""
    conflicts: float = 0.001
    """Share of event lines with an earlier line's id and another amount."""
    drift: bool = False
    """True: the last third of the stream has schema version 3 and a new column."""
    format: Literal["jsonl", "jsonl.gz"] = "jsonl"
    files: int = 120
    """Files of usage events; never more than there are events."""

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            UsageError: A number is out of its range, or the shares add up to too much.
        """
        for name, most in (
            ("events", MOST_EVENTS),
            ("orgs", 1_000_000),
            ("days", 3650),
            ("files", 99_999),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(
                    f'option "{name}" is {getattr(self, name)}, not between 1 and {most}',
                    "synth",
                    f"give --{name} a number from 1 to {most}",
                )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative", "synth", "use 0 or a positive number")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    f'share "{name}" is {getattr(self, name)}, not between 0 and 1',
                    "synth",
                    f"0.02 means two in a hundred: --{name} 0.02",
                )
        if self.duplicates + self.poison + self.conflicts > 1:
            raise UsageError(
                "the shares of duplicates, poison and conflicts add up to more than 1",
                "synth",
                "each line can be one of them only; lower a share",
            )
        try:
            _ = self.start + timedelta(self.days + 60)
        except OverflowError:
            raise UsageError(
                f"{self.days} days from {self.start} reach beyond the year 9999",
                "synth",
                "choose an earlier --start",
            ) from None

    @property
    def file_count(self) -> int:
        """Files of usage events that are written."""
        return min(self.files, self.events)

    def as_text(self) -> dict[str, str]:
        """Return every option as text, for the record of what was planted."""
        return {item.name: str(getattr(self, item.name)) for item in fields(self)}
