"""Bronze: judged rows by verdict, with defaults and derived columns, bytes printed as text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.intake.contract import Contract
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    bronze_schemas,
    bronze_sha256,
    current_sql,
    quarantine_sql,
    removed_sql,
)
from unit.layers.house import (
    START,
    event,
    few_contracts,
    judged_schema,
    org,
    ticket,
    with_contract,
)

CONTRACTS = few_contracts()
USAGE, ORGS, TICKETS = (
    CONTRACTS[name] for name in ("usage_events", "customers_orgs", "support_tickets")
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(256 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield engine
    engine.close()


def judged(contract: Contract, *rows: dict[str, Any]) -> pa.Table:
    base = {"log_position": 2, "ingest_ts": START, "verdict": "accepted", "source_file": "f"}
    listed = [{**base, "row_number": n, "source_line": n + 1, **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(listed, schema=judged_schema(contract))


def accepted(engine: DuckDBEngine, contract: Contract, table: pa.Table) -> pa.Table:
    with engine.session({"judged": table}) as session:
        return session.query(accepted_sql(contract, "judged", table.schema.names))


def held(engine: DuckDBEngine, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    table = judged(USAGE, *({"verdict": "quarantined", **row} for row in rows))
    with engine.session({"judged": table}) as session:
        sql = quarantine_sql(USAGE, "judged", table.schema.names)
        found: list[dict[str, Any]] = session.query(f"{sql} ORDER BY row_number").to_pylist()
    return found


def test_only_accepted_rows_are_in_the_table(engine: DuckDBEngine) -> None:
    table = judged(
        USAGE,
        event(1),
        event(2, verdict="quarantined"),
        event(3, verdict="duplicate"),
        event(4),
    )

    assert sorted(accepted(engine, USAGE, table)["event_id"].to_pylist()) == ["e-1", "e-4"]


def test_defaults_and_derived_columns_are_there(engine: DuckDBEngine) -> None:
    row = event(1, cost_usd_increment=None, schema_version=None, value_num=Decimal("12.50"))

    [found] = accepted(engine, USAGE, judged(USAGE, row)).to_pylist()

    assert found["cost_usd_increment"] == 0
    assert found["schema_version"] == 1
    assert found["event_date"] == date(2025, 7, 3)
    assert found["value"] == "12.5"
    assert (found["log_position"], found["row_number"], found["source_line"]) == (2, 0, 1)


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_the_columns_are_those_announced(engine: DuckDBEngine, name: str) -> None:
    contract = CONTRACTS[name]
    schemas = bronze_schemas(CONTRACTS)
    table = judged(contract)

    with engine.session({"judged": table}) as session:
        names = table.schema.names
        rows = session.query(accepted_sql(contract, "judged", names))
        waiting = session.query(quarantine_sql(contract, "judged", names))

    for found, expected in ((rows, contract.table), (waiting, contract.quarantine)):
        assert found.schema.names == schemas[expected].names
        # The engine names the items of a list otherwise.
        kinds = [str(one).replace("<l:", "<item:") for one in found.schema.types]
        assert kinds == [str(one) for one in schemas[expected].types]


def test_a_column_declared_later_is_null_in_older_rows(engine: DuckDBEngine) -> None:
    table = judged(USAGE, event(1)).drop_columns(["carbon_kg", "schema_version"])

    [found] = accepted(engine, USAGE, table).to_pylist()

    assert found["carbon_kg"] is None
    assert found["schema_version"] == 1


def test_held_rows_keep_their_bytes_and_reasons(engine: DuckDBEngine) -> None:
    [found] = held(
        engine,
        {"raw": b"\xff{}", "invalid_reason": "malformed", "broken_rules": ["malformed", "other"]},
    )

    assert found["raw"] == b"\xff{}"
    assert (found["invalid_reason"], found["broken_rules"]) == ("malformed", ["malformed", "other"])


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"a": "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"}', '{"a": "é€😀"}'),
        (b"tab\there, nul\x00, delete\x7f", "tab\\x09here, nul\\x00, delete\\x7f"),
        (b"latin \xe9 and \xc3\xa9", "latin \\xe9 and é"),
        (b"surrogate \xed\xa0\x80", "surrogate \\xed\\xa0\\x80"),
        (b"overlong \xc0\xaf", "overlong \\xc0\\xaf"),
        (b"cut \xe2\x82", "cut \\xe2\\x82"),
        (b"bad and control \xff\n", "bad and control \\xff\\x0a"),
        (b"quotes ' \" and \\", "quotes ' \" and \\"),
        (b"", ""),
        (b"a'\"\\\xff" * 300_000, "a'\"\\\\xFF" * 300_000),
    ],
    ids=[
        "text",
        "controls",
        "latin-1",
        "surrogate",
        "overlong",
        "cut",
        "both",
        "quotes",
        "empty",
        "large",
    ],
)
def test_bytes_are_printed_as_text(engine: DuckDBEngine, raw: bytes, text: str) -> None:
    [found] = held(engine, {"raw": raw})

    assert found["raw_text"] == text


def current(engine: DuckDBEngine, contract: Contract, *rows: dict[str, Any]) -> list[Any]:
    table = judged(contract, *rows)
    with engine.session({"judged": table}) as session:
        session.view(contract.table, accepted_sql(contract, "judged", table.schema.names))
        session.view(REMOVED_KEYS, removed_sql(contract, "judged"))
        found: list[Any] = session.query(current_sql(contract)).to_pylist()
    return found


def test_the_last_logged_version_is_current(engine: DuckDBEngine) -> None:
    rows = (
        ticket(1, severity="low", log_position=2),
        ticket(1, severity="high", log_position=3),
        ticket(2, severity="low", log_position=3),
    )

    found = current(engine, TICKETS, *rows)

    assert {row["ticket_id"]: row["severity"] for row in found} == {"t-1": "high", "t-2": "low"}


def test_within_an_entry_the_last_row_is_current(engine: DuckDBEngine) -> None:
    found = current(engine, TICKETS, ticket(1, severity="low"), ticket(1, severity="high"))

    assert [row["severity"] for row in found] == ["high"]


def test_a_key_that_vanished_is_not_current_until_it_comes_back(engine: DuckDBEngine) -> None:
    gone = {"org_id": "org-1", "verdict": "removed", "log_position": 3}

    assert current(engine, ORGS, org(1), gone) == []
    [back] = current(engine, ORGS, org(1), gone, org(1, org_name="New", log_position=4))
    assert back["org_name"] == "New"


def test_removed_keys_are_json_lists(engine: DuckDBEngine) -> None:
    table = judged(ORGS, {"org_id": 'a"b', "verdict": "removed"})

    with engine.session({"judged": table}) as session:
        [found] = session.query(removed_sql(ORGS, "judged")).to_pylist()

    assert (found["source"], found["key"]) == ("customers_orgs", '["a\\"b"]')


def test_a_changed_rule_restates_nothing_but_a_changed_default_does() -> None:
    rule = with_contract(USAGE, "cost_usd_increment >= -0.01", "cost_usd_increment >= -0.02")
    default = with_contract(USAGE, "unit: version, default: 1", "unit: version, default: 2")

    assert bronze_sha256(rule) == bronze_sha256(USAGE)
    assert bronze_sha256(default) != bronze_sha256(USAGE)
