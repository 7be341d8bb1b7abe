"""Going on with an older log: the entry that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.ports import Stamp

__all__ = ["go_on_without"]


def go_on_without(log: Log, lost: Stamp, now: datetime) -> Entry:
    """Commit that ``log`` goes on without the entries that ``lost`` was made from.

    From here on its fork is higher than that of any view of the lost future, which therefore
    is not this log's, however far this log grows. Returns the entry; the head, where it says
    so already: whoever was interrupted may do it again.
    """
    while True:
        head = log.head()
        if head is not None and head.kind == "fork" and head.fork > lost.fork:
            log.settle()
            return head
        entry = log.following(now)
        entry = replace(
            entry,
            kind="fork",
            project=lost.project if entry.position == 1 else "",
            # A backup of a backup: the lost future may have been a fork itself.
            fork=max(entry.fork, lost.fork) + 1,
            details={"lost": {"fork": lost.fork, "position": lost.position, "head": lost.head}},
        )
        if log.append(entry):
            return entry
