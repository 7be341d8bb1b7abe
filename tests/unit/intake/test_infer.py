"""`contract infer`: a draft says what the values say, and asks for the rest."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from meterhouse.errors import UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract, recognise
from meterhouse.intake.infer import SHIPPED_CONTRACTS, infer

EVENTS = [
    {
        "eventId": f"e{number}",
        "occurredAt": f"2025-07-03T10:00:{number:02}Z",
        "customerId": "c1",
        "productName": "compute",
        "meter": "requests",
        "quantity": 12.5,
        "uom": "count",
        "costUSD": 0.1,
        "debug": {"a": [1]},
    }
    for number in range(30)
]


def delivered(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    data = text.encode()
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def drafted(path: Path, source: str) -> Contract:
    return parse_contract(infer(path, source), "draft.yaml")


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_shipped_source_keeps_its_columns_and_reads_them_from_the_users_fields(
    ending: str, tmp_path: Path
) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in EVENTS)
    contract = drafted(delivered(tmp_path, f"meter-2025.jsonl{ending}", lines), "usage_events")

    source = {column.name: column.source for column in contract.columns}
    assert source["event_id"] == "eventId"
    assert source["timestamp"] == source["event_ts"] == "occurredAt"
    assert source["org_id"] == "customerId"
    assert source["value_num"] == "quantity"
    assert source["unit"] == "uom"
    assert source["cost_usd_increment"] == "costUSD"
    assert source["carbon_kg"] == "carbon_kg"
    assert recognise({"usage_events": contract}, "meter-2026.jsonl.gz") is contract


def test_a_field_is_recognised_by_the_values_that_its_column_is_known_to_hold(
    tmp_path: Path,
) -> None:
    rows = [
        {
            "eventId": f"e{n}",
            "eventTime": "2025-07-03T10:00:00Z",
            "sku": "genai",
            "kind": "requests",
        }
        for n in range(3)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)

    contract = drafted(delivered(tmp_path, "cur.jsonl", lines), "usage_events")

    source = {column.name: column.source for column in contract.columns}
    assert (source["service"], source["metric"]) == ("sku", "kind")


def test_what_one_choice_is_left_for_is_taken_and_put_to_the_author(tmp_path: Path) -> None:
    text = "account,day,score\nacme,2025-07-01,9\nacme,2025-08-01,\n"
    survey = infer(delivered(tmp_path, "survey.csv", text), "nps_surveys")
    text = "uid,customer_id,mail\nu1,c1,a@x\nu2,c1,\n"
    users = infer(delivered(tmp_path, "people.csv", text), "users")

    assert parse_contract(survey, "draft").by_name["survey_date"].source == "day"
    assert parse_contract(users, "draft").by_name["user_id"].source == "uid"
    assert survey.count("found by its values") == users.count("found by its values") == 1


def test_fields_and_columns_without_a_partner_are_put_to_the_author(tmp_path: Path) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in EVENTS)
    text = infer(delivered(tmp_path, "usage.jsonl", lines), "usage_events")

    assert '#   debug: {type: json, doc: "DECIDE"}' in text
    carbon = next(line for line in text.splitlines() if line.startswith("  carbon_kg:"))
    assert carbon.endswith("# DECIDE: no field of the file looks like this: stays NULL")


def test_a_shipped_source_in_another_format_gets_that_format(tmp_path: Path) -> None:
    rows = "event_id,timestamp,cost\na,2025-07-03T10:00:00Z,1\n"
    contract = drafted(delivered(tmp_path, "usage.csv", rows), "usage_events")

    assert contract.format == "csv"
    assert contract.files == ("usage*.csv",)


@pytest.mark.parametrize(
    "source",
    sorted(path.stem for path in SHIPPED_CONTRACTS.glob("*.yaml") if path.stem != "usage_events"),
)
def test_a_delivery_that_looks_like_the_shipped_one_leaves_nothing_to_decide(
    source: str, tmp_path: Path
) -> None:
    shipped = parse_contract((SHIPPED_CONTRACTS / f"{source}.yaml").read_text("utf-8"), source)
    values = {"text": "a", "decimal": "1.5", "date": "2025-07-03", "boolean": "True"}
    header = ",".join(column.name for column in shipped.columns)
    row = ",".join(values[column.type] for column in shipped.columns)

    text = infer(delivered(tmp_path, f"{source}.csv", f"{header}\n{row}\n"), source)

    assert "DECIDE:" not in text
    assert parse_contract(text, source).columns == shipped.columns


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "integer"),
        (["1", "2.50"], "decimal"),
        (["123456789012345678.123456789"], "decimal"),
        (["0.30000000000000004"], "decimal"),
        (["9223372036854775807"], "integer"),
        (["9223372036854775808"], "decimal"),
        (["007", "008"], "text"),
        (["1_000"], "text"),
        (["NaN"], "text"),
        (["True", "false"], "boolean"),
        (["2025-07-03"], "date"),
        (["2025-02-30"], "text"),
        (["2025-07-03T10:00:00.5+02:00"], "timestamp"),
        (["2025-07-03", "2025-07-03T10:00:00Z"], "text"),
        (["", ""], "text"),
        ([*["1.5"] * 99, "n/a"], "decimal"),
    ],
)
def test_types_are_guessed_from_the_text(values: list[str], kind: str, tmp_path: Path) -> None:
    rows = "".join(f"k{number},{value}\n" for number, value in enumerate(values))
    contract = drafted(delivered(tmp_path, "own.csv", f"my_id,amount\n{rows}"), "own")

    assert contract.by_name["amount"].type == kind


def test_numbers_with_too_many_digits_and_odd_values_are_told_to_the_author(
    tmp_path: Path,
) -> None:
    rows = "".join(f"k{number},0.5,1\n" for number in range(98))
    path = delivered(
        tmp_path, "own.csv", f"my_id,fee,n\n{rows}x,0.30000000000000004,1\ny,0.5,many\n"
    )
    text = infer(path, "own")

    assert "more than 9 decimals" in text
    assert "1 of 100 values are not integer: they would be held" in text


@pytest.mark.parametrize(
    ("number", "held"),
    [
        ("0.1000000000000000000000000000000000000001", True),
        ("999999999999999999.999999999", False),
        ("1000000000000000000.5", True),
        ("1.5000000000000000000000000000000000000000", False),
        ("15e-10", True),
        ("0e-50", False),
    ],
)
def test_digits_are_counted_exactly(number: str, held: bool, tmp_path: Path) -> None:
    text = infer(delivered(tmp_path, "own.csv", f"my_id,fee\na,{number}\n"), "own")

    assert ("1 of 1 values are not decimal" in text) is held


def test_names_become_snake_case_and_keep_where_they_come_from(tmp_path: Path) -> None:
    rows = "Order-ID,Größe (GB),2nd,verdict,orderId\na,1.5,x,y,b\n"
    contract = drafted(delivered(tmp_path, "own.csv", rows), "own")

    assert {column.name: column.source for column in contract.columns} == {
        "order_id": "Order-ID",
        "groe_gb": "Größe (GB)",
        "column_2nd": "2nd",
        "delivered_verdict": "verdict",
        "order_id_5": "orderId",
    }


@pytest.mark.parametrize(
    ("rows", "key"),
    [
        ("name,order_id\na,1\nb,2\n", ("order_id",)),
        ("order_id,day\n1,2025-07-03\n1,2025-07-04\n2,2025-07-03\n", ("order_id", "day")),
    ],
)
def test_the_key_is_what_tells_records_apart(
    rows: str, key: tuple[str, ...], tmp_path: Path
) -> None:
    assert drafted(delivered(tmp_path, "own.csv", rows), "own").key == key


def test_a_draft_without_a_key_is_refused_until_the_author_decides(tmp_path: Path) -> None:
    text = infer(delivered(tmp_path, "own.csv", "a,b\n1,1\n1,1\n"), "own")

    assert "key: [] # DECIDE: no field tells the records apart" in text


def test_money_has_the_currency_that_the_delivery_states(tmp_path: Path) -> None:
    in_name = drafted(delivered(tmp_path, "a.csv", "id,cost_eur\n1,1.5\n"), "own")
    in_column = drafted(delivered(tmp_path, "b.csv", "id,cost,currency\n1,1.5,EUR\n"), "own")
    unknown = drafted(delivered(tmp_path, "c.csv", "id,cost\n1,1.5\n"), "own")

    assert (in_name.money, in_name.currency) == (("cost_eur",), "EUR")
    assert (in_column.currency, in_column.currency_column) == ("currency", True)
    assert unknown.money == ()


def test_records_that_cant_be_read_are_counted(tmp_path: Path) -> None:
    lines = '{"id": 1}\nnot json\n{"id": NaN}\n[1]\n\n'

    assert "# 3 more could not be read" in infer(delivered(tmp_path, "own.jsonl", lines), "own")


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "missing.csv", "broken.jsonl.gz"])
def test_a_file_without_records_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    if name.startswith("empty"):
        (tmp_path / name).write_text("")
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"\x1f\x8bnothing")

    with pytest.raises(UsageError):
        infer(tmp_path / name, "own")


@pytest.mark.parametrize("source", ["Own", "../users", "", "1st"])
def test_a_source_needs_a_plain_name(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name of a source"):
        infer(delivered(tmp_path, "own.csv", "a\n1\n"), source)
