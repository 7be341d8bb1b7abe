"""Which versions of a Delta table stay readable: every recent one, then one of each day."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

__all__ = ["RECENT", "Kept", "kept"]

RECENT: Final = timedelta(hours=1)
"""How long every version stays, for readers under way."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Versions of one table that stay, and the part of its log that opens them.

    Commits stay without gaps, as Delta wants them: a version whose data files are gone opens,
    and can't be read, as after any VACUUM.
    """

    recent: int
    """From this version on, every one can be read."""
    days: frozenset[int]
    """Earlier versions that can be read: the first of each day, UTC."""
    first: int
    """From this version on, every commit stays."""
    checkpoints: frozenset[int]
    """Versions whose checkpoint stays."""


def kept(
    times: Mapping[int, datetime], checkpoints: Collection[int], now: datetime, keep: timedelta
) -> Kept:
    """Return what stays of a table.

    A version that is no longer recent has to stand by itself, because the commits before it
    may go: it needs a checkpoint, or is the first of all. What stays is chosen again and again
    while the rest is deleted, and comes out the same: of each day the earliest such version,
    whatever is left of the later ones.

    Args:
        times: Version → time of its commit, UTC; not empty.
        checkpoints: Versions with a checkpoint.
        now: The time.
        keep: How long the versions of days stay, and every version if that is less than
            ``RECENT``.
    """
    versions = sorted(times)
    window = min(keep, RECENT)
    # A version is needed until its successor is there, and for that time longer.
    recent = next(
        (version for version, after in pairwise(versions) if times[after] > now - window),
        versions[-1],
    )
    alone = [version for version in versions if version in checkpoints or version == 0]
    base = max((version for version in alone if version <= recent), default=versions[0])
    first: dict[date, int] = {}
    for version in alone:
        first.setdefault(times[version].date(), version)
    days = frozenset(version for version in first.values() if times[version] > now - keep)
    stay = days | {version for version in checkpoints if version >= base}
    return Kept(recent, days, min(days | {base}), frozenset(stay.intersection(checkpoints)))
