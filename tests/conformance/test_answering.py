"""The embedded store answers as the one in memory does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.answering import Answering, in_memory
from e2e.generated import generated
from e2e.house import House
from meterhouse.serving.schema import Snapshot
from meterhouse.serving.snapshot import opened
from meterhouse.testing_serving import MemorySnapshot


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return generated(tmp_path_factory)


@pytest.fixture(scope="module")
def truth(house: House) -> MemorySnapshot:
    return in_memory(house)


@pytest.fixture(scope="module")
def store(house: House) -> Iterator[Snapshot]:
    with opened(Path(house.root) / "serving.db") as snapshot:
        yield snapshot


class TestSqlite(Answering):
    """The embedded store."""
