"""Rules: what SQL, the parser and the look at keys say about a record, and repairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from judging import COLUMNS, INGESTED, RULES, Bench, contract, lines, reading, reasons, verdicts
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import ContractError
from meterhouse.intake.parse import parse
from meterhouse.intake.rules import broken_rules, compile_rules
from meterhouse.ports import Engine

MENDED = """
  - name: currency_missing
    holds: currency IS NOT NULL
    severity: repair
    repair: {currency: "CASE org WHEN 'us' THEN 'USD' WHEN 'ar' THEN 'ARS' END"}
    because: The organisation determines the currency.
  - {name: not_pesos, holds: currency <> 'ARS', severity: quarantine, because: Sees the repair.}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    adapter = DuckDBEngine(256 << 20, 2, tmp_path_factory.mktemp("spill"))
    yield adapter
    adapter.close()


def test_a_repair_mends_is_counted_and_is_seen_by_later_rules(
    engine: Engine, tmp_path: Path
) -> None:
    judging = Bench(engine, contract(rules=RULES + MENDED), tmp_path)
    data = lines(
        reading("a", org="us"),
        reading("b", org="ar"),
        reading("c", org="xx"),
        reading("d", currency="EUR"),
        reading("a", org="us"),
    )

    judged = judging.take(data)

    assert verdicts(judged) == ["accepted", "quarantined", "quarantined", "accepted", "duplicate"]
    assert reasons(judged) == [None, ["not_pesos"], ["currency_missing"], None, None]
    assert judged.table["currency"].to_pylist() == ["USD", "ARS", None, "EUR", "USD"]
    assert judged.table["flags"].to_pylist() == [
        ["currency_missing"],
        ["currency_missing"],
        ["currency_missing"],
        None,
        None,
    ]
    assert verdicts(judging.take(data)) == ["duplicate"] * 5


def test_a_rule_over_a_value_that_could_not_be_read_says_nothing(engine: Engine) -> None:
    strict = (
        "  - {name: cost_missing, holds: cost IS NOT NULL, severity: quarantine, because: N.}\n"
    )
    given = contract(rules=RULES + strict)
    parsed = parse(
        lines(reading("a", None), reading("b", "x"), reading("c", "1e40"), b"{", reading("d", 1)),
        given,
    )

    found = broken_rules(parsed.rows, given, ingest_ts=INGESTED, engine=engine)

    missing = found.held[:, found.names.index("cost_missing")]
    assert missing.tolist() == [True, False, False, False, False]
    assert found.malformed.tolist() == [False, False, False, True, False]
    assert found.unreadable["cost"].tolist() == [False, True, True, False, False]


def test_an_amount_out_of_range_that_still_can_be_read_is_judged_by_other_rules(
    engine: Engine, tmp_path: Path
) -> None:
    judged = Bench(engine, contract(), tmp_path).take(lines(reading("a", "-1e20")))

    assert reasons(judged) == [["out_of_range", "cost_low"]]


def test_a_field_that_feeds_two_columns_is_one_mistake(engine: Engine, tmp_path: Path) -> None:
    columns = COLUMNS + '  at_text: {type: text, from: at, doc: "As delivered."}\n'
    late = (
        "  - {name: at_missing, holds: at_text IS NOT NULL AND at_text <> '',"
        " severity: quarantine, because: No day.}\n"
    )
    judging = Bench(engine, contract(rules=RULES + late, columns=columns), tmp_path)

    judged = judging.take(
        lines(*(reading(f"i{at}", at=at) for at in (None, "", {}, "soon", "2025-01-01T00:00")))
    )

    assert reasons(judged) == [
        ["at_missing"],
        ["at_missing"],
        ["wrong_type"],
        ["at_unreadable"],
        None,
    ]


def test_the_usual_case_is_one_select_that_returns_only_broken_rows(engine: Engine) -> None:
    given = contract()
    rows = parse(lines(reading("a"), reading("b", -1), reading("")), given).rows
    record = rows.select(["id", "cost"]).append_column("_row", [[0, 1, 2]])
    record = record.append_column("ingest_ts", pa.array([INGESTED] * 3))

    with engine.session({"record": record}) as session:
        found = session.query(compile_rules(given)).to_pylist()

    assert found == [
        {"_row": 1, "_broken_0": False, "_broken_1": True},
        {"_row": 2, "_broken_0": True, "_broken_1": False},
    ]


def test_sql_that_the_engine_refuses_is_an_error_in_the_contract(engine: Engine) -> None:
    odd = "  - {name: odd, holds: no_such(cost), severity: flag, because: Typed wrong.}\n"
    given = contract(rules=RULES + odd)
    parsed = parse(lines(reading("a")), given)

    with pytest.raises(ContractError, match="no_such"):
        broken_rules(parsed.rows, given, ingest_ts=INGESTED, engine=engine)
