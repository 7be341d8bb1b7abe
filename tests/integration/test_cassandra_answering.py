"""Cassandra answers as the store in memory does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.answering import Answering, in_memory
from e2e.generated import generated
from e2e.house import House
from integration.replicas import Replicated
from meterhouse.serving.cassandra.snapshot import CassandraSnapshot
from meterhouse.serving.schema import Snapshot
from meterhouse.testing_serving import MemorySnapshot
from servers.cassandra import Node


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return generated(tmp_path_factory)


@pytest.fixture(scope="module")
def truth(house: House) -> MemorySnapshot:
    return in_memory(house)


@pytest.fixture(scope="module")
def store(house: House, cassandra_node: Node) -> Iterator[Snapshot]:
    replica = Replicated(house, cassandra_node.settings())
    assert replica.cli("serving", "sync").code == 0
    with replica.both() as (kept, _):
        yield CassandraSnapshot(kept.session)


class TestCassandra(Answering):
    """The replica by CQL."""
