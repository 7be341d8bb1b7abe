"""The same against a real Astra database; only who has one runs it (docs/astra.md).

Collected only where ASTRA_DB_TEST says how to reach it: tables, collections or cql. The
keyspace that ASTRA_DB_KEYSPACE names is written over.
"""

from __future__ import annotations

import os
import shutil

import pytest

from e2e.generated import generated
from e2e.house import House
from integration.data_api_replicas import InApi
from integration.replicas import Replicated
from meterhouse.serving.queries import QUESTIONS

# The driver asks for TLS in a way that Python 3.10 and newer call old.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning")

HOW = os.environ["ASTRA_DB_TEST"]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> InApi | Replicated:
    """A project whose replica is in the database that the environment names."""
    root = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(generated(tmp_path_factory).root, root)
    if HOW == "cql":
        return Replicated(House(root), {})
    return InApi(House(root), {"astra.form": HOW}, {})


def test_the_replica_is_made_twice_and_agrees(replica: InApi | Replicated) -> None:
    store = "cassandra" if HOW == "cql" else "astra"

    for command in ("rebuild", "sync", "compare"):
        ran = replica.cli("serving", command, "--store", store)

        assert ran.code == 0, ran.err


def test_the_six_questions_have_the_embedded_stores_answers(replica: InApi | Replicated) -> None:
    store = "cassandra" if HOW == "cql" else "astra"

    for name in QUESTIONS:
        one = replica.cli("query", name, "--store", store, "--format", "csv")
        two = replica.cli("query", name, "--format", "csv")

        assert (one.code, one.out) == (0, two.out), one.err
