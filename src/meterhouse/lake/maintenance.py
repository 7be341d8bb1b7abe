"""Which small files of a table to write together, so that appends stay cheap to read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from meterhouse.lake.published import StoredFile

__all__ = ["FAN_IN", "compaction"]

FAN_IN: Final = 8
"""So many files of about one size become one: each row is rewritten once per tier, so
the cost of a batch does not grow with the history."""

_SMALLEST: Final = 64 << 10
"""Bytes; all files below are one tier."""


def compaction(files: Iterable[StoredFile], file_bytes: int) -> list[StoredFile]:
    """Return the files to rewrite: of each partition, tiers that are full.

    A tier holds files whose sizes are within a factor of ``FAN_IN``. Files of
    ``file_bytes`` and more stay as they are. Rewriting the result by partition gives one
    file for each of its partitions.
    """
    by_partition: defaultdict[tuple[tuple[str, str], ...], list[StoredFile]] = defaultdict(list)
    for file in files:
        if file.size < file_bytes:
            by_partition[tuple(sorted(file.partition.items()))].append(file)
    chosen: list[StoredFile] = []
    for group in by_partition.values():
        chosen.extend(_full_tiers(group))
    return sorted(chosen, key=lambda file: file.path)


def _full_tiers(files: list[StoredFile]) -> list[StoredFile]:
    tiers: defaultdict[int, list[StoredFile]] = defaultdict(list)
    for file in files:
        tiers[_tier(file.size)].append(file)
    chosen: list[StoredFile] = []
    for tier in range(max(tiers, default=-1) + 1):
        # What the smaller tiers become counts as one file here, so one pass is enough.
        if len(tiers[tier]) + bool(chosen) >= FAN_IN:
            chosen.extend(tiers[tier])
        elif chosen:
            break
    return chosen


def _tier(size: int) -> int:
    tier, bound = 0, _SMALLEST
    while size >= bound:
        tier, bound = tier + 1, bound * FAN_IN
    return tier
