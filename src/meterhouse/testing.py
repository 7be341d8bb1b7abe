"""Real, small implementations of the ports for tests: yours too, not only ours."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

__all__ = ["FixedClock", "MemoryBlobs", "SimulatedBlobs", "torn"]


class FixedClock:
    """A clock that stands still, or moves by ``step`` each time it is asked."""

    def __init__(
        self,
        start: datetime = datetime(2025, 9, 1, tzinfo=UTC),
        step: timedelta = timedelta(0),
    ) -> None:
        """Start at ``start``; a negative ``step`` goes backwards."""
        self.now = start
        self.step = step

    def __call__(self) -> datetime:
        """Return the time, then move on."""
        now = self.now
        self.now += self.step
        return now


class MemoryBlobs:
    """Blobs in a dictionary. Lost with the process, otherwise with every guarantee."""

    def __init__(self) -> None:
        """Start empty."""
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Store ``data`` unless ``name`` exists."""
        with self._lock:
            if name in self._blobs:
                return False
            self._blobs[name] = bytes(data)
            return True

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Store or replace ``name``."""
        with self._lock:
            self._blobs[name] = bytes(data)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes [lo, hi)."""
        try:
            return self._blobs[name][lo:hi]
        except KeyError:
            raise FileNotFoundError(name) from None

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names below folder ``prefix``, sorted."""
        folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        names = sorted(self._blobs)
        yield from (name for name in names if name.startswith(folder) and name > after)

    def delete(self, name: str) -> None:
        """Remove ``name`` if it exists."""
        with self._lock:
            self._blobs.pop(name, None)

    def uri(self, name: str) -> str:
        """Return an address no engine can open."""
        return f"memory://{name}"


class SimulatedBlobs:
    """Blobs in a dictionary that lose at a power loss what they did not promise to keep.

    What is put is seen at once and durable when the call returns, as on a file system: a
    crash in between leaves a name that others see and that a power loss may take away. The
    end of a durable call makes everything durable that is seen in the same folder, but for
    bytes that were put with ``durable=False``: they may come back cut or as zeros.
    """

    def __init__(self, operation: Callable[[str], None] = lambda what: None) -> None:
        """Start empty.

        Args:
            operation: Called before each step with what it does ("put log/1", "sync log");
                a simulation lets other processes run there, or raises.
        """
        self._operation = operation
        self._lock = threading.RLock()
        self._seen: dict[str, bytes] = {}
        self._kept: dict[str, bytes] = {}
        self._loose: set[str] = set()
        """Names whose bytes were not put durably."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Store ``data`` unless ``name`` exists; either way it is durable then."""
        self._operation(f"put if absent {name}")
        with self._lock:
            added = name not in self._seen
            if added:
                self._seen[name] = bytes(data)
                self._loose.discard(name)
                self.changed(name)
        self._sync(name)
        return added

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Store or replace ``name``."""
        self._operation(f"put {name}")
        with self._lock:
            self._seen[name] = bytes(data)
            self._loose.add(name)
            if durable:
                self._loose.remove(name)
            self.changed(name)
        if durable:
            self._sync(name)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes [lo, hi)."""
        self._operation(f"read {name}")
        try:
            return self._seen[name][lo:hi]
        except KeyError:
            raise FileNotFoundError(name) from None

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names below folder ``prefix``, sorted; those that are there when it begins."""
        self._operation(f"list {prefix}")
        folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        names = sorted(self._seen)
        yield from (name for name in names if name.startswith(folder) and name > after)

    def delete(self, name: str) -> None:
        """Remove ``name`` if it exists; after a power loss it may be back."""
        self._operation(f"delete {name}")
        with self._lock:
            if self._seen.pop(name, None) is not None:
                self.changed(name)

    def uri(self, name: str) -> str:
        """Return an address no engine can open."""
        return f"memory://{name}"

    def changed(self, name: str) -> None:
        """Take note that ``name`` is seen with other bytes, or is gone; for subclasses."""

    def power_loss(self, chance: random.Random) -> Sequence[str]:
        """Forget what need not survive, by ``chance``; return the names that this changed."""
        changed = []
        for name in sorted({*self._seen, *self._kept}):
            seen, kept = self._seen.get(name), self._kept.get(name)
            left = seen
            if seen != kept or name in self._loose:
                loose = [torn(seen, chance)] if seen is not None and name in self._loose else []
                left = chance.choice([seen, kept, *loose])
            if left is None:
                self._seen.pop(name, None)
            else:
                self._seen[name] = left
            if left != seen:
                changed.append(name)
                self.changed(name)
        self._kept = dict(self._seen)
        self._loose.clear()
        return changed

    def _sync(self, name: str) -> None:
        folder = name.rpartition("/")[0]
        self._operation(f"sync {folder or '.'}")
        with self._lock:
            for other in {*self._seen, *self._kept}:
                if other.rpartition("/")[0] != folder or other in self._loose:
                    continue
                if other in self._seen:
                    self._kept[other] = self._seen[other]
                else:
                    del self._kept[other]


def torn(data: bytes, chance: random.Random) -> bytes:
    """Return ``data`` as a power loss may leave what was not synced: cut, or with zeros."""
    cut = chance.randrange(len(data) + 1)
    return chance.choice([data[:cut], data[:cut] + bytes(len(data) - cut), bytes(len(data))])
