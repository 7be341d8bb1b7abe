"""The simulated machine: a disk, a clock, processes; what dies with it and what is left."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from meterhouse.config import load_settings
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.log.segments import Span
from meterhouse.ports import Blobs, Engine
from meterhouse.project import Project
from meterhouse.storage.folder import FolderBlobs
from meterhouse.testing import SimulatedBlobs
from simulation.disk import Disk
from simulation.scheduler import Process, Scheduler

__all__ = ["SETTINGS", "Machine", "SimulatedProject"]

SETTINGS: Final = {
    "ingest.piece_bytes": "600B",
    "engine.threads": "1",
    "lake.file_bytes": "64KiB",
    "follow.settle": "1s",
}
"""Small pieces, so that a file of a few lines is several ranges."""

_USERS: Final = frozenset({"inbox", "contracts", "models", "meterhouse.toml"})
"""Not the product's: they survive."""
_REAL: Final = ("lake/", ".locks/")
"""Blobs that lie among files which libraries write: on the disk, not in memory."""


_unlink = os.unlink
"""Not the one that hands over: the copy of a blob is no operation of its own."""


class Clock:
    """Moves on a little at each look, and now and then back."""

    def __init__(self, chance: random.Random) -> None:
        self.now = datetime(2025, 7, 10, 12, tzinfo=UTC)
        self._chance = chance

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=self._chance.randint(1, 3000))
        return self.now

    def jump(self) -> timedelta:
        """Set it wrong, or right; return by how much."""
        by = timedelta(minutes=self._chance.choice([-600, -60, -5, 5, 60]))
        self.now += by
        return by


class _Mirrored(SimulatedBlobs):
    """Blobs in memory, with a copy in files for those who open them by their path."""

    def __init__(self, root: Path, operation: Callable[[str], None]) -> None:
        super().__init__(operation)
        self._root = root
        self._real = FolderBlobs(root)
        self.copied: set[str] = set()
        """First parts of the names of all copies ever made: what the disk cannot lose, nor
        bring back when the blob itself was lost."""
        self.on_put: Callable[[str, bytes], None] = lambda name, data: None

    def put_if_absent(self, name: str, data: bytes) -> bool:
        done = super().put_if_absent(name, data)
        if done:
            self.on_put(name, data)
        return done

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        if name.startswith(_REAL):
            self._real.put(name, data, durable=durable)
        else:
            super().put(name, data, durable=durable)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        if name.startswith(_REAL):
            return self._real.read(name, lo, hi)
        return super().read(name, lo, hi)

    def uri(self, name: str) -> str:
        return self._real.uri(name)

    def changed(self, name: str) -> None:
        self.copied.add(name.partition("/")[0])
        path = self._root / name
        if name in self._seen:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._seen[name])
        elif path.exists():
            _unlink(path)


class _Folder(FolderBlobs):
    """The blobs of the product on the simulated disk."""

    def __init__(self, root: Path, operation: Callable[[str], None]) -> None:
        super().__init__(root)
        self._operation = operation
        self.on_put: Callable[[str, bytes], None] = lambda name, data: None

    def put_if_absent(self, name: str, data: bytes) -> bool:
        done = super().put_if_absent(name, data)
        if done:
            self.on_put(name, data)
        return done

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        self._operation(f"read {name}")
        return super().read(name, lo, hi)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        self._operation(f"list {prefix}")
        return super().list(prefix, after=after)


class SimulatedProject(Project):
    """A project as one process opens it; blobs and engine are the machine's."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.root, load_settings(machine.root, {}, SETTINGS), machine.clock)
        self._machine = machine
        if machine.seals:
            self.span, self.seal_margin = Span(entries=4), 2

    def ticks(self) -> float:
        return self._machine.ticks()

    @cached_property
    def blobs(self) -> Blobs:
        return self._machine.blobs

    @cached_property
    def engine(self) -> Engine:
        return self._machine.engine


class Machine:
    """One machine with one project on it."""

    def __init__(self, root: Path, engine: DuckDBEngine, seed: int) -> None:
        """Start it; ``root`` holds contracts, models and settings already."""
        self.root = root
        self.engine = engine
        self.chance = random.Random(seed)
        self.names = random.Random(seed + 1)
        self.scheduler = Scheduler(random.Random(seed + 2), str(root))
        self.clock = Clock(random.Random(seed + 3))
        self.lockless = self.chance.random() < 0.3
        self.in_memory = self.chance.random() < 0.5
        self.seals = self.chance.random() < 0.6
        """Entries are sealed by the four, soon; else by the thousand, which is never."""
        self.blobs: _Mirrored | _Folder = (_Mirrored if self.in_memory else _Folder)(
            root, self.scheduler.operation
        )
        self.disk = Disk(root, self._ours)
        self.locked: dict[int, Process] = {}
        self._slept = 0.0
        self.commits: list[str] = []
        """Databases committed to since somebody looked."""

    def open(self) -> SimulatedProject:
        """Return the project as a new process opens it."""
        return SimulatedProject(self)

    def synced(self, descriptor: int) -> None:
        self.disk.synced(descriptor)

    def committed(self, path: Path, image: bytes, *, durable: bool) -> None:
        if path.exists():
            self.disk.committed(path, image, durable=durable)
        self.commits.append(path.name)

    def slept(self, seconds: float) -> None:
        self._slept += max(seconds, 0.0)
        self.clock.now += timedelta(seconds=max(seconds, 0.0))

    def ticks(self) -> float:
        """Return seconds since the start: a millisecond for each operation, and all sleep."""
        return self.scheduler.steps / 1000 + self._slept

    def power_loss(self) -> list[str]:
        """Pull the plug: everybody dies, and of what was not synced chance leaves some."""
        self.scheduler.kill_all()
        changed = self.disk.power_loss(self.chance)
        if isinstance(self.blobs, _Mirrored):
            changed += [f"{name}: not what was put" for name in self.blobs.power_loss(self.chance)]
        return changed

    def _ours(self, name: str) -> bool:
        copies = self.blobs.copied if isinstance(self.blobs, _Mirrored) else set()
        return name not in _USERS and name not in copies
