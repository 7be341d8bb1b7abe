"""A user's own delivery: other column names, other file names, CSV where we have JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.house import House, assert_ledger, assert_oracle, assert_same, cli, delivery
from e2e.records import event
from meterhouse.synth import Options, generate
from oracle import Oracle

USAGE = {
    "event_id": "id",
    "timestamp": "Occurred At",
    "org_id": "customer",
    "resource_id": "resource",
    "service": "product",
    "region": "zone",
    "metric": "meter",
    "value": "quantity",
    "unit": "uom",
    "cost_usd_increment": "chargeUSD",
    "schema_version": "v",
    "carbon_kg": "co2",
    "genai_tokens": "tokens",
}
INVOICES = {
    "invoice_id": "Invoice No.",
    "org_id": "customer",
    "month": "período",
    "subtotal": "net",
    "credits": "less",
    "taxes": "vat",
    "currency": "ccy",
    "exchange_rate_to_usd": "fx",
}
ORGS = {"org_id": "customer", "org_name": "Name", "plan_tier": "plan"}
MODELS = ("gold.finops_by_org_day", "gold.genai_tokens_by_org_date")
OPTIONS = Options(events=500, orgs=6, days=12, seed=8, poison=0, conflicts=0.02, files=3)


def rename(house: House, source: str, names: Mapping[str, str], **changes: str) -> None:
    """Change a contract as its author would: ``from:`` beside each column's type."""
    path = house.root / "contracts" / f"{source}.yaml"
    lines = []
    for line in path.read_text().splitlines(keepends=True):
        column, mark, rest = line.partition(": {type: ")
        delivered = column.strip()
        if mark and ", from: " in rest:
            kind, _, after = rest.partition(", from: ")
            delivered, comma, after = after.partition(",")
            line = f"{column}{mark}{kind}, from: {names.get(delivered, delivered)!r}{comma}{after}"
        elif mark and delivered in names and ", sql: " not in rest:
            kind, comma, after = rest.partition(",")
            line = f"{column}{mark}{kind}, from: {names[delivered]!r}{comma}{after}"
        lines.append(line)
    text = "".join(lines)
    for old, new in changes.items():
        text = text.replace(f"\n{old}: ", f"\n{old}: {new} # ")
    path.write_text(text)


def renamed_lines(data: bytes, names: Mapping[str, str]) -> bytes:
    """JSON lines with other keys, number texts untouched."""
    text = data.decode()
    for old, new in names.items():
        text = re.sub(f'"{old}"( ?:)', rf"{json.dumps(new, ensure_ascii=False)}\1", text)
    return text.encode()


def renamed_csv(data: bytes, names: Mapping[str, str]) -> bytes:
    """CSV under another header, its columns in the reverse order."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    rows[0] = [names.get(name, name) for name in rows[0]]
    return written(row[::-1] for row in rows)


def written(rows: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    folder = tmp_path_factory.mktemp("renamed") / "delivery"
    generate(folder, OPTIONS)
    return delivery(folder)


def test_the_whole_path_with_other_column_names_gives_the_same_tables(
    calm: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    house = House.new(tmp_path / "house")
    rename(house, "usage_events", USAGE, files='["metering-*.ndjson"]')
    rename(house, "billing_monthly", INVOICES, files='["facturas*.csv"]')
    rename(house, "customers_orgs", ORGS)
    for name, data in calm:
        base = name.rpartition("/")[2]
        if base.startswith("events"):
            name = base.replace("events", "metering-").replace(".jsonl", ".ndjson")
            data = renamed_lines(data, USAGE)
        elif base.startswith("billing_monthly"):
            name, data = base.replace("billing_monthly", "facturas"), renamed_csv(data, INVOICES)
        elif base.startswith("customers_orgs"):
            data = renamed_csv(data, ORGS)
        house.put(name, data)
    assert house.cli("contract", "check").code == 0

    house.ingest()
    house.batch()

    oracle = Oracle(calm)
    assert_oracle(house, oracle)
    assert_ledger(house, oracle)
    bronze = house.table("bronze.usage_events")
    assert {"event_id", "cost_usd_increment", "event_ts"} <= set(bronze.schema.names)
    assert bronze["extra"].null_count == bronze.num_rows


def test_events_delivered_as_csv_are_the_events_delivered_as_json_lines(
    calm: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    lines, table = (
        House.new(
            tmp_path / name, models=["gold.finops_by_org_day", "gold.genai_tokens_by_org_date"]
        )
        for name in ("lines", "table")
    )
    rename(table, "usage_events", USAGE, files='["meter*.csv"]', format="csv")
    for name, data in calm:
        base = name.rpartition("/")[2]
        if base.startswith("events"):
            lines.put(base, data)
            table.put(base.replace("events", "meter").replace(".jsonl", ".csv"), as_csv(data))
    for house in (lines, table):
        house.ingest()
        house.batch()

    assert_same(table.tables(), lines.tables())
    assert table.ledger() == lines.ledger()


def as_csv(data: bytes) -> bytes:
    """Events as a user's CSV: numbers as they are written in the JSON."""
    columns = list(USAGE)
    rows = [[USAGE[column] for column in columns]]
    for line in data.splitlines():
        body = json.loads(line, parse_float=str, parse_int=str)
        rows.append(["" if body.get(column) is None else body[column] for column in columns])
    return written(rows)


def test_a_contract_drafted_from_a_users_file_takes_that_file(tmp_path: Path) -> None:
    house = House.new(tmp_path / "house", models=["gold.finops_by_org_day"])
    path = house.put("seats-2025.csv", "Seat ID,Team Name,Price (USD)\ns1,red,12.50\ns2,blue,0.1\n")

    draft = house.cli("contract", "infer", str(path), "--source", "seats")
    assert draft.code == 0, draft.err
    (house.root / "contracts" / "seats.yaml").write_text(draft.out)

    assert house.cli("contract", "check").code == 0
    ran = house.cli("ingest", str(path))
    assert ran.code == 0, ran.err
    house.batch()
    printed = house.cli("read", "bronze.seats", "--columns", "seat_id,team_name,price_usd")
    assert printed.out.splitlines()[1:] == ["s1,red,12.5", "s2,blue,0.1"]
    house.verified()


def test_an_unrecognised_file_is_taken_when_its_source_is_named(tmp_path: Path) -> None:
    house = House.new(tmp_path / "house", models=["gold.finops_by_org_day"])
    path = house.put("july.log", event(1))

    unnamed = house.cli("ingest", str(path))
    named = house.cli("ingest", str(path), "--source", "usage_events")

    assert unnamed.code == 2
    assert "july.log" in unnamed.err
    assert named.code == 0
    house.batch()
    assert [row["event_count"] for row in house.rows("gold.finops_by_org_day")] == [1]


def test_a_file_that_two_contracts_recognise_is_refused_with_both_named(tmp_path: Path) -> None:
    house = House.new(tmp_path / "house", models=["gold.revenue_by_org_month"])
    house.edit("contracts/customers_orgs.yaml", '["customers_orgs*.csv"]', '["*.csv"]')
    house.put("billing_monthly.csv", "x\n")

    ran = cli("--project", str(house.root), "ingest", str(house.inbox))

    assert ran.code == 2
    assert "customers_orgs" in ran.err
    assert "billing_monthly" in ran.err
    assert "Traceback" not in ran.err
