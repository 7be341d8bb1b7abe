"""The six questions from Cassandra: the digits of SQLite and of the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Computed
from e2e.house import House
from integration.replicas import Replicated
from meterhouse.clock import system_clock
from meterhouse.serving.cassandra.snapshot import CassandraSnapshot
from meterhouse.serving.queries import ask
from oracle import canonical_rows
from servers.cassandra import Node

pytestmark = pytest.mark.sample

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("daily-cost", {}),
    ("daily-cost", {"from_": "2025-08-01", "to": "2025-08-31"}),
    ("daily-cost", {"service": "genai"}),
    ("top-services", {}),
    ("top-services", {"days": 30, "limit": 2}),
    ("ticket-sla", {}),
    ("ticket-sla", {"severity": "low", "days": 7}),
    ("monthly-revenue", {}),
    ("genai-usage", {}),
    ("genai-usage", {"by": "month"}),
    ("anomalies", {}),
]


@pytest.fixture(scope="module")
def sample_replica(sample_house: House, cassandra_node: Node) -> Replicated:
    replica = Replicated(sample_house, cassandra_node.settings())
    assert replica.cli("serving", "sync").code == 0
    return replica


def named(given: dict[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in given.items()}


@pytest.mark.parametrize(("name", "given"), ASKED)
@pytest.mark.parametrize("of_one", [False, True], ids=["all", "one organisation"])
def test_an_answer_is_that_of_the_embedded_store(
    sample_replica: Replicated, name: str, given: dict[str, Any], of_one: bool
) -> None:
    with sample_replica.both() as (replica, snapshot):
        org = next(iter(sorted(snapshot.distinct("gold.org_daily_usage_by_service", "org_id"))))
        asked = {**named(given), **({"org": org} if of_one else {})}
        now = system_clock()

        found = ask(CassandraSnapshot(replica.session), name, asked, now)
        expected = ask(snapshot, name, asked, now)

    assert found == expected


@pytest.mark.parametrize(
    "name",
    ["daily-cost", "top-services", "ticket-sla", "monthly-revenue", "genai-usage", "anomalies"],
)
def test_an_answer_is_that_of_the_oracle(
    sample_replica: Replicated, sample_oracle: Computed, name: str
) -> None:
    expected = sample_oracle.question(name)

    with sample_replica.both() as (replica, _):
        found = ask(CassandraSnapshot(replica.session), name, {}, system_clock())

    columns = [column.name for column in found.columns]
    rows = [dict(zip(columns, row, strict=True)) for row in found.rows]
    assert expected
    assert canonical_rows(rows, list(expected[0])) == canonical_rows(expected, list(expected[0]))


def test_every_cell_of_every_table_is_the_embedded_stores(sample_replica: Replicated) -> None:
    found = sample_replica.compared()

    assert found.agrees, found.shown
    assert found.rows > 10_000
    assert found.waiting == 0


def test_the_program_prints_the_same_bytes_from_either_store(sample_replica: Replicated) -> None:
    for name in ("daily-cost", "monthly-revenue", "anomalies"):
        one = sample_replica.cli("query", name, "--store", "cassandra", "--format", "csv")
        two = sample_replica.cli("query", name, "--format", "csv")

        assert (one.code, one.out) == (0, two.out)
        assert len(one.out.splitlines()) > 1


def test_an_organisation_that_does_not_exist_is_refused_alike(sample_replica: Replicated) -> None:
    one = sample_replica.cli("query", "daily-cost", "--org", "nobody", "--store", "cassandra")
    two = sample_replica.cli("query", "daily-cost", "--org", "nobody")

    assert one.code == two.code == 2
    assert one.err.splitlines()[0] == two.err.splitlines()[0]


def test_a_month_of_one_organisation_is_one_partition(
    sample_replica: Replicated, tmp_path: Path
) -> None:
    with sample_replica.both() as (replica, snapshot):
        org = next(snapshot.distinct("gold.org_daily_usage_by_service", "org_id"))
        asked = {"org": org, "from": "2025-08-01", "to": "2025-08-31"}
        reader = CassandraSnapshot(replica.session)
        seen: list[str] = []
        plain = replica.session.rows

        def counted(cql: str, values: Any = ()) -> Any:
            seen.append(cql)
            return plain(cql, values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replica.session, "rows", counted)
            answer = reader.scan(
                "gold.org_daily_usage_by_service",
                ["usage_date", "daily_cost_usd"],
                _month(asked),
            )
            rows = list(answer)

    assert len(rows) > 1
    assert len(seen) == 1
    assert "ALLOW FILTERING" not in seen[0]


def _month(asked: dict[str, str]) -> list[Any]:
    from meterhouse.serving.schema import Condition

    return [
        Condition("org_id", "=", asked["org"]),
        Condition("usage_date", ">=", asked["from"]),
        Condition("usage_date", "<=", asked["to"]),
    ]
