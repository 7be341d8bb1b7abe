"""Contracts from YAML: what they say, and that every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterhouse.errors import ContractError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts, parse_contract, recognise
from meterhouse.intake.infer import SHIPPED_CONTRACTS

MINIMAL = """\
source: meters
files: ["meters*.csv"]
format: csv
mode: append
key: [meter_id]
money: [cost]
currency: USD
columns:
  meter_id: {type: text, from: Meter ID}
  read_at: {type: timestamp}
  cost: {type: decimal, unit: USD, default: 0}
  unit: {type: text}
derived:
  read_date: {type: date, sql: CAST(read_at AS DATE)}
rules:
  - {name: malformed, check: malformed, severity: quarantine, because: a}
  - {name: wrong_type, check: wrong_type, severity: quarantine, because: b}
  - {name: unreadable, check: unreadable, severity: quarantine, because: c}
  - {name: key_unusable, check: key_unusable, severity: quarantine, because: d}
  - {name: number_out_of_range, check: number_out_of_range, severity: stop, because: e}
  - {name: unit_missing, holds: cost IS NULL OR unit <> '', severity: quarantine, because: f}
  - {name: conflicting_duplicate, check: conflicting_duplicate, severity: quarantine, because: g}
"""


@pytest.fixture(scope="module")
def shipped() -> dict[str, Contract]:
    return load_contracts(SHIPPED_CONTRACTS)


def refusal(old: str, new: str) -> ContractError:
    assert old in MINIMAL
    with pytest.raises(ContractError) as caught:
        parse_contract(MINIMAL.replace(old, new, 1), "contracts/meters.yaml")
    return caught.value


def test_a_contract_says_what_its_text_says() -> None:
    contract = parse_contract(MINIMAL, "meters.yaml")

    assert contract.table == "bronze.meters"
    assert contract.quarantine == "bronze.quarantine_meters"
    assert contract.by_name["meter_id"].source == "Meter ID"
    assert contract.by_name["cost"].default == "CAST('0' AS DECIMAL(38, 9))"
    assert contract.on_new_column == "keep"
    assert contract.text == MINIMAL


def test_columns_of_a_rule_are_those_its_sql_names_or_its_check_is_about() -> None:
    columns = {rule.name: rule.columns for rule in parse_contract(MINIMAL, "m.yaml").rules}

    assert columns["unit_missing"] == ("cost", "unit")
    assert columns["unreadable"] == ("read_at",)
    assert columns["number_out_of_range"] == ("cost",)
    assert columns["key_unusable"] == ("meter_id",)
    assert columns["wrong_type"] == ("meter_id", "read_at", "cost", "unit")


def test_the_same_text_has_the_same_hash_and_another_text_another() -> None:
    first = parse_contract(MINIMAL, "a.yaml")

    assert first.sha256 == parse_contract(MINIMAL, "b.yaml").sha256
    assert first.sha256 != parse_contract(MINIMAL + "# edited\n", "a.yaml").sha256


@pytest.mark.parametrize(
    ("old", "new", "place", "what", "fix"),
    [
        ("mode: append", "mode: apend", "4:7", '"apend" is not a choice', '"append"'),
        ("money:", "mony:", "6:1", 'key "mony" does not exist', '"money"'),
        ("source: meters", "", "2:1", 'key "source" is missing', "source:"),
        ("key: [meter_id]", "key: [metre_id]", "5:7", "is not declared", '"meter_id"'),
        ("key: [meter_id]", "key: []", "5:6", "key is empty", "name the columns"),
        ("currency: USD", "currency: usd", "7:11", "ISO 4217", "three capitals"),
        ("currency: USD", "currency: {column: cost}", "7:20", "of type decimal", "text"),
        ("type: timestamp", "type: time", "10:19", '"time" is not a choice', "timestamp"),
        ("default: 0", "default: zero", "11:45", "not a decimal", "value of the type"),
        ("default: 0", "default: 0.0000000001", "11:45", "not a decimal", "value of the type"),
        (
            "default: 0",
            "default: 5",
            "6:8",
            "a default that is not 0",
            "amounts that were delivered",
        ),
        ("  unit: {", "  Unit Name: {", "12:3", "is not a name", "unit_name"),
        ("  unit: {", "  verdict: {", "12:3", "is taken", "from: verdict"),
        ("  unit: {", "  cost: {", "12:3", "given twice", "remove one"),
        ("money: [cost]", "money: [unit]", "6:8", "of type text", "decimal"),
        ("unit <> ''", "unnit <> ''", "21:49", 'column "unnit"', '"unit"'),
        ("unit <> ''", "cost > now()", "21:33", "same answer for ever", "ingest_ts"),
        ("unit <> ''", "cost > random()", "21:33", "same answer for ever", "chance"),
        ("unit <> ''", "sqrt(cost) > 2", "21:33", "computes a double", "without it"),
        ("unit <> ''", "cost > CAST(cots AS BIGINT)", "21:61", '"cots", which', '"cost"'),
        ("unit <> ''", "cost > 1e-2", "21:33", "uses a double", "decimals"),
        ("unit <> ''", "cost / 2 > 1", "21:33", "divides", "multiply"),
        ("unit <> ''", "sum(cost) > 1", "21:33", "more than one record", "model"),
        ("unit <> ''", "cost > (SELECT 1)", "21:33", "not one expression", "condition"),
        ("unit <> ''", "CAST(unit AS DATE) IS NULL", "21:33", "can't be cast", "TRY_CAST"),
        ("unit <> ''", "m.unit <> ''", "21:51", '"m.unit"', "alone"),
        ("unit <> ''", "unit <", "21:33", "can't be read", "mend"),
        ("severity: stop", "severity: flag", "20:71", "can't be of severity flag", "stop"),
        ("name: wrong_type", "nam: wrong_type", "17:6", 'key "nam"', '"name"'),
        ("name: wrong_type", "name: malformed", "17:12", "two rules", "rename"),
        ('["meters*.csv"]', '["meters*.csv.gz"]', "2:9", "compression", ".gz"),
        ('["meters*.csv"]', '["in/meters*.csv"]', "2:9", "folder", "base name"),
        ("mode: append", "mode: append\nshrink_limit: 0.1", "5:15", "no meaning", "snapshot"),
        ("money: [cost]", "money: [cost", "7:9", "not YAML", "mend the line"),
    ],
)
def test_a_mistake_is_named_with_line_column_and_what_to_do(
    old: str, new: str, place: str, what: str, fix: str
) -> None:
    error = refusal(old, new)

    assert error.where == f"contracts/meters.yaml:{place}"
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize(
    "check",
    [
        "malformed",
        "wrong_type",
        "unreadable",
        "key_unusable",
        "number_out_of_range",
        "conflicting_duplicate",
    ],
)
def test_a_contract_that_leaves_a_record_without_a_verdict_is_refused(check: str) -> None:
    line = next(line for line in MINIMAL.splitlines(keepends=True) if f"check: {check}" in line)

    error = refusal(line, "")

    assert check in error.what + error.fix


def test_a_partition_column_must_be_ruled_to_be_usable() -> None:
    error = refusal("money: [cost]", "partition_by: [read_date, unit]\nmoney: [cost]")

    assert 'partition column "unit"' in error.what


def test_a_repair_mends_declared_columns_but_never_the_key() -> None:
    rule = "unit <> '', severity: repair, repair: {%s}, because: f}"
    old = "unit <> '', severity: quarantine, because: f}"
    mended = parse_contract(MINIMAL.replace(old, rule % "unit: \"'kWh'\""), "m.yaml")

    assert mended.rules[5].repair == {"unit": "'kWh'"}
    assert "repairs key column" in refusal(old, rule % "meter_id: unit").what
    assert '"unit"' in refusal(old, rule % "unt: unit").fix


def test_numbers_and_words_of_yaml_stay_text() -> None:
    text = MINIMAL.replace("unit: {type: text}", "unit: {type: text, known: [no, 010, 1e3, ~x]}")

    assert parse_contract(text, "m.yaml").known_values == {"unit": ("no", "010", "1e3", "~x")}


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "a: \x00\n", "a: 1\n---\nb: 2\n"])
def test_a_file_that_is_no_block_of_yaml_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        parse_contract(text, "m.yaml")


def test_eight_sources_ship(shipped: dict[str, Contract]) -> None:
    modes = {source: contract.mode for source, contract in shipped.items()}

    assert modes == {
        "billing_monthly": "upsert",
        "customers_orgs": "snapshot",
        "marketing_touches": "append",
        "nps_surveys": "append",
        "resources": "snapshot",
        "support_tickets": "upsert",
        "usage_events": "append",
        "users": "snapshot",
    }


def test_every_shipped_column_has_a_meaning_and_every_number_a_unit(
    shipped: dict[str, Contract],
) -> None:
    columns = [column for contract in shipped.values() for column in contract.columns]

    assert [column.name for column in columns if not column.doc] == []
    numeric = [column for column in columns if column.type in ("decimal", "integer")]
    assert [column.name for column in numeric if not column.unit] == []
    assert [column.name for column in columns if column.personal] == ["comment", "email"]


def test_usage_events_break_rules_under_the_names_and_in_the_order_users_know(
    shipped: dict[str, Contract],
) -> None:
    names = [rule.name for rule in shipped["usage_events"].rules if rule.severity == "quarantine"]

    assert names == [
        "malformed",
        "wrong_type",
        "event_id_missing",
        "timestamp_missing",
        "timestamp_unreadable",
        "key_unusable",
        "number_out_of_range",
        "cost_below_minimum",
        "unit_missing",
        "conflicting_duplicate",
    ]


@pytest.mark.parametrize(
    ("filename", "source"),
    [
        ("events_part_0001.jsonl", "usage_events"),
        ("usage-2025-07.jsonl.gz", "usage_events"),
        ("users.csv", "users"),
        ("users_2025.csv.zst", "users"),
        ("Users.csv", None),
        ("events.csv", None),
        ("notes.txt", None),
    ],
)
def test_a_file_is_recognised_by_its_name(
    shipped: dict[str, Contract], filename: str, source: str | None
) -> None:
    found = recognise(shipped, filename)

    assert (found.source if found else None) == source


def test_two_contracts_for_one_file_are_an_error_that_names_both(
    shipped: dict[str, Contract],
) -> None:
    rival = parse_contract(MINIMAL.replace("meters*.csv", "user*.csv"), "m.yaml")

    with pytest.raises(UsageError, match="meters and users"):
        recognise({**shipped, "meters": rival}, "users.csv")


def test_two_contracts_for_one_source_are_an_error_that_names_both_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yaml").write_text(MINIMAL)

    with pytest.raises(ContractError) as caught:
        load_contracts(tmp_path)

    assert "a.yaml" in caught.value.where
    assert "b.yaml" in caught.value.where
