"""The files of ``cql/`` in the real cqlsh: they run, and show what the program answers."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from docs_pages.cql import KEYSPACE, ORG
from e2e.house import House, cli
from integration.replicas import Replicated
from meterhouse.serving.queries import QUESTIONS
from servers.cassandra import ROOT, Node, run_cqlsh

DDL = str(ROOT / "cql" / "ddl_keyspace_tables.cql")
QUERIES = str(ROOT / "cql" / "demo_queries.cql")
AUGUST = {"org": ORG, "from": "2025-08-01", "to": "2025-08-31"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, cassandra_node: Node) -> Replicated:
    """The demo's project and its replica, in the keyspace that the files name."""
    folder = tmp_path_factory.mktemp("demo")
    assert cli("demo", str(folder)).code == 0
    settings = {**cassandra_node.settings(), "cassandra.keyspace": KEYSPACE}
    return Replicated(House(folder / "project"), settings)


@pytest.fixture(scope="module")
def shown(
    demo: Replicated, cassandra_node: Node, tmp_path_factory: pytest.TempPathFactory
) -> list[list[dict[str, str]]]:
    """What cqlsh shows of each query: its rows."""
    home = tmp_path_factory.mktemp("home")
    run_cqlsh(cassandra_node, "-f", DDL, home=home)
    run_cqlsh(cassandra_node, "-f", DDL, home=home)
    synced = demo.cli("serving", "sync")
    assert (synced.code, "it was empty" in synced.out) == (0, True), synced.err
    return tables_of(run_cqlsh(cassandra_node, "-f", QUERIES, home=home))


def tables_of(text: str) -> list[list[dict[str, str]]]:
    found = []
    for head, _, rows in re.findall(r"^( .+)\n(-+[-+]*)\n((?: .*\n)*)", text, re.M):
        names = [name.strip() for name in head.split("|")]
        lines = [[cell.strip() for cell in line.split("|")] for line in rows.splitlines()]
        found.append([dict(zip(names, line, strict=True)) for line in lines])
    return found


def answered(demo: Replicated, name: str, **given: Any) -> list[dict[str, Any]]:
    return demo.house.project.query(name, **given).table().to_pylist()


def test_the_tables_that_are_made_by_hand_are_those_of_the_program(
    demo: Replicated, shown: object
) -> None:
    again = demo.cli("serving", "sync")

    assert (again.code, again.out[:11]) == (0, "nothing new")
    assert demo.compared().agrees


def test_each_of_the_six_questions_has_rows(shown: list[list[dict[str, str]]]) -> None:
    assert len(shown) == 1 + len(QUESTIONS)
    assert all(shown)


def test_they_show_the_digits_that_the_program_answers(
    demo: Replicated, shown: list[list[dict[str, str]]]
) -> None:
    position, daily, fortnight, _, revenue, genai, anomalies = shown

    assert position[0]["position"] == str(demo.house.project.head)
    august = {**AUGUST, "from_": AUGUST["from"]}
    del august["from"]
    for rows, name, cost in (
        (daily, "daily-cost", "daily_cost_usd"),
        (genai, "genai-usage", "genai_cost_usd"),
    ):
        expected = answered(demo, name, **august)
        column = next(one for one in expected[0] if one.endswith("cost_usd"))
        # The newest first there, the oldest first here.
        assert sorted(Decimal(row[cost]) for row in rows) == sorted(row[column] for row in expected)
    totals: dict[str, Decimal] = {}
    for row in fortnight:
        cost = Decimal(row["daily_cost_usd"])
        totals[row["service"]] = totals.get(row["service"], Decimal(0)) + cost
    top = answered(demo, "top-services", org=ORG, days=14)
    assert {row["service"]: row["cost_usd"] for row in top} == totals
    invoiced = answered(demo, "monthly-revenue", org=ORG)
    assert sorted(Decimal(row["total_cost_usd"]) for row in revenue) == sorted(
        row["total_cost_usd"] for row in invoiced
    )
    assert {row["anomaly_score"] for row in anomalies} <= {"0", "1", "2", "3"}


def test_no_query_filters(tmp_path: Path) -> None:
    for name in (DDL, QUERIES):
        text = Path(name).read_text("utf-8").upper()
        assert "ALLOW FILTERING" not in text
        assert "COUNTER" not in text
