"""Real, small implementations of the ports for tests: yours too, not only ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

__all__ = ["FixedClock", "MemoryBlobs"]


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
