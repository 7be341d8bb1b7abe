"""What a follower is made of, and what a user may choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meterhouse.follow.say import Say
from meterhouse.log.apply import Apply
from meterhouse.log.chain import Log
from meterhouse.log.state import State
from meterhouse.log.upkeep import Upkeep
from meterhouse.ports import Blobs, Clock, Stamp
from meterhouse.sources.watch import Watch

__all__ = ["Answers", "Options", "Parts"]


class Answers(Protocol):
    """What follows the log: the speed layer, then what looks at its answers."""

    def catch_up(self, upto: Stamp) -> object:
        """Bring the answers to ``upto``, up to which entries are applied."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a follower works with."""

    root: Path
    """The project folder."""
    blobs: Blobs
    log: Log
    state: State
    apply: Apply
    clock: Clock
    watch: Watch
    answers: Sequence[Answers]
    """In this order."""
    say: Say
    ticks: Callable[[], float] = time.monotonic
    upkeep: Upkeep | None = None
    """Seals the log; None where it is to stay as it is."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose."""

    paths: Sequence[Path]
    once: bool = False
    """End when there is nothing more to take."""
    settle: float = 2.0
    """Seconds."""
    piece_bytes: int = 32 << 20
    batch: Sequence[str] = ()
    """Command that publishes; empty: none."""
    batch_every: float = 0.0
    """Seconds."""
    replicas: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Store → command that keeps a replica up in it."""
