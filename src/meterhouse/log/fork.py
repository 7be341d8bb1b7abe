"""Going on with an older log: the entry that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.ports import Stamp

__all__ = ["go_on_without", "lost_generation"]


def go_on_without(log: Log, lost: Stamp, generation: int, now: datetime) -> Entry | None:
    """Commit that ``log`` goes on without the entries that ``lost`` was made from.

    From here on its fork is higher than that of any view of the lost future, which therefore
    is not this log's, however far this log grows. Returns the entry; None where the log says
    so already: whoever was interrupted may do it again.

    Args:
        log: The older log.
        lost: Where the newest view stands that was made from more.
        generation: Number of the last generation that a view tells of, 0 where none does.
        now: Time of the entry where it is the first; else it has that of the one before, since
            no data came with it.
    """
    while True:
        head = log.head()
        if head is not None and head.fork > lost.fork:
            log.settle()
            return None
        entry = log.following(head.time if head is not None else now)
        entry = replace(
            entry,
            kind="fork",
            project=lost.project if head is None else "",
            # A backup of a backup: the lost future may have been a fork itself.
            fork=max(entry.fork, lost.fork) + 1,
            details={
                "lost": {
                    "fork": lost.fork,
                    "generation": generation,
                    "position": lost.position,
                    "head": lost.head,
                }
            },
        )
        if log.append(entry):
            return entry


def lost_generation(log: Log) -> int:
    """Return the last generation that ``log`` was told of when it lost entries; 0 for none."""
    head = log.head()
    if head is None or not head.fork:
        return 0
    forks = (entry for entry in log.entries() if entry.kind == "fork")
    return max(int(entry.details["lost"]["generation"]) for entry in forks)
