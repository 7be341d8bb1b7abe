"""What a running ``follow`` has done, counted once, for lines, status and metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow.compute as pc

from meterhouse.intake.judge import Judged
from meterhouse.log.entry import Entry
from meterhouse.names import QUARANTINED

__all__ = ["BUCKETS", "Delays", "Rate", "SourceTally", "Tally"]

_MEMORY_S: Final = 10.0

BUCKETS: Final = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, seconds."""


@dataclass
class SourceTally:
    """What came of one source since the process began."""

    entries: int = 0
    bytes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """landed, accepted, quarantined, duplicate, blank, removed: records."""
    rules: Counter[str] = field(default_factory=Counter)
    """First broken rule → records newly held."""


class Rate:
    """How much there was a second, over the last ten."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._seen: deque[tuple[float, int]] = deque()
        self._since: float | None = None

    def add(self, now: float, amount: int) -> None:
        """Note ``amount`` at the time ``now`` (seconds)."""
        self._since = now if self._since is None else self._since
        self._seen.append((now, amount))

    def per_second(self, now: float) -> float:
        """Return the mean of the last ten seconds, or since the first, one at least."""
        while self._seen and self._seen[0][0] < now - _MEMORY_S:
            self._seen.popleft()
        age = now - self._since if self._since is not None else _MEMORY_S
        return sum(amount for _, amount in self._seen) / min(max(age, 1.0), _MEMORY_S)


@dataclass
class Delays:
    """How long it took from noticing bytes to having them in the answers."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """Per bucket, not summed up; the last is for everything longer."""
    total: float = 0.0
    """Seconds."""

    def add(self, seconds: float) -> None:
        """Note one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass
class Tally:
    """What came of everything since the process began."""

    sources: dict[str, SourceTally] = field(default_factory=dict)
    events: Rate = field(default_factory=Rate)
    delays: Delays = field(default_factory=Delays)
    entries: int = 0
    bytes: int = 0
    failures: int = 0
    """How often the machine said no."""

    def judged(self, entry: Entry, judged: Judged, now: float) -> None:
        """Count an entry that was put into the log."""
        source = self.sources.setdefault(entry.source, SourceTally())
        source.entries += 1
        size = sum(item.hi - item.lo for item in entry.inputs)
        source.bytes += size
        self.bytes += size
        source.counts.update(entry.counts)
        self.entries += 1
        self.events.add(now, entry.counts.get("landed", 0))
        if entry.counts.get(QUARANTINED):
            held = judged.table.filter(pc.equal(judged.table["verdict"], QUARANTINED))
            for one in pc.value_counts(held["invalid_reason"]).to_pylist():
                source.rules[one["values"] or ""] += one["counts"]

    def total(self, name: str) -> int:
        """Return how many records there were of one kind, of all sources."""
        return sum(source.counts[name] for source in self.sources.values())

    def held(self) -> Mapping[tuple[str, str], int]:
        """Return (source, rule) → records newly held."""
        return {
            (name, rule): count
            for name, source in self.sources.items()
            for rule, count in source.rules.items()
        }
