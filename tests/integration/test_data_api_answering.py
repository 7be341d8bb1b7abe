"""The Data API's two forms answer as the store in memory does; by the stand-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.answering import Answering, in_memory
from e2e.generated import generated
from e2e.house import House
from integration.data_api_replicas import own, replica_of
from meterhouse.serving.schema import Snapshot
from meterhouse.testing_serving import MemorySnapshot
from servers.cassandra import Node
from servers.data_api import StandIn, stand_in


@pytest.fixture(scope="module")
def api(cassandra_node: Node) -> Iterator[StandIn]:
    with stand_in(cassandra_node) as found:
        yield found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return own(generated(tmp_path_factory), tmp_path_factory)


@pytest.fixture(scope="module")
def truth(house: House) -> MemorySnapshot:
    return in_memory(house)


@pytest.fixture(scope="module")
def store(house: House, api: StandIn, request: pytest.FixtureRequest) -> Iterator[Snapshot]:
    replica = replica_of(house, api, request.param)
    ran = replica.serving("sync")
    assert ran.code == 0, ran.err
    with replica.answers() as answers:
        yield answers


@pytest.mark.parametrize("store", ["tables"], indirect=True)
class TestTables(Answering):
    """Typed tables."""


@pytest.mark.parametrize("store", ["collections"], indirect=True)
class TestCollections(Answering):
    """JSON documents."""
