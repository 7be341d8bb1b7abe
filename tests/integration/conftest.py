"""The sample, published once, and real servers, for tests that take minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from e2e.conftest import sample_house, sample_oracle
from servers.cassandra import Node, shared_node

collect_ignore = [] if os.environ.get("ASTRA_DB_TEST") else ["test_real_astra.py"]
"""A real Astra is nobody's by accident: it is asked for, or not known of."""

__all__ = ["cassandra_node", "sample_house", "sample_oracle"]


@pytest.fixture(scope="session")
def cassandra_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One Cassandra for all workers of the run; each test has a keyspace of its own."""
    base = tmp_path_factory.getbasetemp()
    with shared_node(base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) as node:
        yield node
