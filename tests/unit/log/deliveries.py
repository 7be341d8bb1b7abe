"""Deliveries in memory, and contracts in few words, for tests of the log."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.scaffold import SHIPPED


@cache
def shipped(source: str = "usage_events") -> Contract:
    return load_contracts(SHIPPED / "contracts")[source]


def contract(
    mode: Literal["append", "upsert", "snapshot"] = "append",
    form: Literal["csv", "jsonl"] = "jsonl",
) -> Contract:
    return replace(shipped("nps_surveys"), mode=mode, format=form)


class MemoryReading(io.BytesIO):
    """What is read; ``written`` says that somebody wrote meanwhile."""

    written = False

    def changed(self) -> bool:
        return self.written

    def shrunk(self) -> bool:
        return self.written


@dataclass
class MemoryDelivery:
    """A file that is bytes; ``meanwhile`` is called with each reading."""

    data: bytes
    contract: Contract
    identity: str = "inbox/a"
    compression: Literal["", "gz", "zst"] = ""
    meanwhile: Callable[[MemoryReading], None] = lambda reading: None

    @property
    def size(self) -> int:
        return len(self.data)

    @contextmanager
    def open(self) -> Iterator[MemoryReading]:
        reading = MemoryReading(self.data)
        self.meanwhile(reading)
        yield reading
