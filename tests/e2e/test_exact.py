"""Amounts come out digit for digit as they went in; no double touches them on the way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from e2e.conftest import Computed
from e2e.house import House, delivery
from e2e.records import INVOICES, event
from meterhouse.synth import Options, generate

LARGEST = "999999999999999999.999999999"


def amounts(seed: int) -> list[str]:
    """Amounts of up to 18 integer and 9 fraction digits, none with a needless zero."""
    random = Random(seed)
    edges = [LARGEST, "0.000000001", "123456789012345678.123456789", "0.1", "0.2", "0.3", "1", "0"]
    edges += ["9007199254740993", "9007199254740993.000000001", "0.30000001", "72057594037927937"]
    for _ in range(60):
        whole = str(random.randrange(10 ** random.randint(1, 18)))
        fraction = "".join(random.choices("0123456789", k=random.randint(0, 9))).rstrip("0")
        edges.append(f"{whole}.{fraction}" if fraction else whole)
    return edges


def raw_event(number: int, cost: str, **fields: Any) -> str:
    """An event whose cost is spelled just so."""
    line = event(number, cost_usd_increment=0, **fields)
    return line.replace('"cost_usd_increment": 0', f'"cost_usd_increment": {cost}')


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House.new(tmp_path / "house", models=["gold.finops_by_org_day", "silver.usage_enriched"])


def test_a_tenth_and_two_tenths_are_three_tenths(house: House) -> None:
    house.put("events_1.jsonl", raw_event(1, "0.1") + raw_event(2, "0.2"))
    house.ingest()
    house.batch()

    assert house.cli("query", "daily-cost").out.splitlines()[1:] == ["2025-07-03,o-1,compute,0.3,0"]
    body = json.loads(house.cli("read", "gold.finops_by_org_day", "--format", "json").out)
    assert body["rows"][0]["daily_cost_usd"] == "0.3"
    (row,) = house.rows("gold.finops_by_org_day")
    assert row["daily_cost_usd"] == Decimal("0.3")


def test_cents_added_in_several_batches_come_to_the_whole(
    house: House,
) -> None:
    house.put("events_1.jsonl", raw_event(0, "99999.9"))
    house.ingest()
    house.batch()
    for number in (1, 2):
        house.put(f"events_2{number}.jsonl", raw_event(number, "0.05"))
        house.ingest()
        house.batch()

    assert house.cli("query", "daily-cost").out.splitlines()[1].split(",")[3] == "100000"


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("spelled", ["number", "text"])
def test_every_digit_survives_from_the_line_to_the_answer(
    house: House, seed: int, spelled: str
) -> None:
    wanted = {f"o-{number:03}": text for number, text in enumerate(amounts(seed))}
    lines = [
        raw_event(number, text if spelled == "number" else f'" {text} "', org_id=org)
        for number, (org, text) in enumerate(wanted.items())
    ]
    house.put("events_1.jsonl", "".join(lines))
    house.ingest()
    house.batch()

    def printed(*arguments: str) -> dict[str, str]:
        ran = house.cli(*arguments, "--format", "json")
        assert ran.code == 0, ran.err
        rows = json.loads(ran.out)["rows"]
        return {row["org_id"]: row.get("cost_usd", row.get("daily_cost_usd")) for row in rows}

    assert printed("query", "daily-cost") == wanted
    assert printed("read", "gold.finops_by_org_day") == wanted
    assert printed("sql", "SELECT org_id, daily_cost_usd FROM gold.finops_by_org_day") == wanted
    silver = house.rows("silver.usage_enriched")
    assert {row["org_id"]: row["cost_usd_increment"] for row in silver} == {
        org: Decimal(text) for org, text in wanted.items()
    }
    csv_rows = house.cli("query", "daily-cost", "--format", "csv").out.splitlines()[1:]
    assert {row.split(",")[1]: row.split(",")[3] for row in csv_rows} == wanted
    assert house.verified().terms[-1].landed == f"{sum(map(Decimal, wanted.values()))}"


def test_sums_beyond_any_single_amount_are_exact(house: House) -> None:
    house.put("events_1.jsonl", "".join(raw_event(number, LARGEST) for number in range(1000)))
    house.ingest()
    house.batch()

    total = "999999999999999999999.999999"
    assert house.cli("query", "daily-cost").out.splitlines()[1].split(",")[3] == total
    assert house.verified().terms[-1].accepted == total


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        ("0.0000000001", "number_out_of_range"),
        ("0.30000000000000004", "number_out_of_range"),
        ("1000000000000000000", "number_out_of_range"),
        ("1e999999999", "number_out_of_range"),
        ("-0.0100000001", "number_out_of_range"),
        ("-0.010000001", "cost_below_minimum"),
        ("-0.01", None),
        ("1e-9", None),
        ("0.1000000000000000", None),
        ("1.5E3", None),
        ("-0", None),
    ],
)
def test_what_can_not_be_kept_exactly_is_held_never_rounded(
    house: House, cost: str, verdict: str | None
) -> None:
    house.put("events_1.jsonl", raw_event(1, cost))
    house.ingest()
    house.batch()

    held = house.table("bronze.quarantine_usage").to_pylist()
    assert [row["invalid_reason"] for row in held] == ([verdict] if verdict else [])
    assert cost in (held[0]["raw_text"] if held else raw_event(1, cost))
    if verdict is None:
        (row,) = house.table("bronze.usage_events").to_pylist()
        assert row["cost_usd_increment"] == Decimal(cost)


def test_an_invoice_is_multiplied_exactly_and_rounded_half_to_even_once(tmp_path: Path) -> None:
    house = House.new(tmp_path / "house", models=["gold.revenue_by_org_month"])
    rows = (
        "i-1,o-1,2025-07-01,0.000000001,,0,EUR,0.5\n"  # 0.0000000005: down to even
        "i-2,o-2,2025-07-01,0.000000003,,0,EUR,0.5\n"  # 0.0000000015: up to even
        "i-3,o-3,2025-07-01,123456789.123456789,0.1,0.2,EUR,1.000000001\n"
        "i-4,o-4,2025-07-01,-10.10,,,USD,1.1\n"
    )
    house.put("billing_monthly.csv", INVOICES + rows)
    house.ingest()
    house.batch()

    found = [
        (row["subtotal_usd"], row["credits_usd"], row["taxes_usd"], row["total_cost_usd"])
        for row in house.rows("gold.revenue_by_org_month")
    ]
    assert found == [
        tuple(map(Decimal, row.split()))
        for row in (
            "0 0 0 0",
            "0.000000002 0 0 0.000000002",
            "123456789.246913578 0.1 0.2 123456789.346913578",
            "-11.11 0 0 -11.11",
        )
    ]


def floating(kind: pa.DataType) -> bool:
    """Whether a type holds a double anywhere within it."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return pa.types.is_floating(kind) or any(map(floating, inner))


def stored(path: Path) -> Iterator[tuple[str, str, str]]:
    """Every (table, column, storage class) that occurs in a SQLite file."""
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        for (table,) in tables:
            for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                kinds = connection.execute(f'SELECT DISTINCT typeof("{column}") FROM "{table}"')
                yield from ((table, column, kind) for (kind,) in kinds)
    finally:
        connection.close()


def assert_no_double(house: House) -> None:
    published = house.project.published()
    assert published is not None
    assert len(published.tables) > 30
    for name, table in published.tables.items():
        for item in (*table.arrow_schema(), *house.table(name).schema):
            assert not floating(item.type), (name, item)
    kinds = list(stored(house.root / "serving.db"))
    assert {kind for _, _, kind in kinds} <= {"text", "integer", "null", "blob"}
    amounts = {"daily_cost_usd", "requests", "z_score", "click_rate", "total_cost_usd"}
    assert amounts <= {column for _, column, _ in kinds}
    assert {kind for _, column, kind in kinds if column in amounts} <= {"text", "null"}
    for path in (house.root / "judged").rglob("*.parquet"):
        assert not any(floating(item.type) for item in pa.parquet.read_schema(path))
    entries = "".join(path.read_text() for path in (house.root / "log").rglob("*.json"))
    assert not any(isinstance(value, float) for value in numbers(entries))


def numbers(text: str) -> Iterator[object]:
    found: list[object] = []
    decoder = json.JSONDecoder(parse_float=lambda value: found.append(float(value)))
    place = 0
    while place < len(text):
        _, place = decoder.raw_decode(text, place)
        while place < len(text) and text[place].isspace():
            place += 1
    return iter(found)


def test_no_table_column_or_stored_value_is_a_double(tmp_path: Path) -> None:
    house = House.new(tmp_path / "house")
    generate(tmp_path / "delivery", Options(events=300, orgs=5, days=10, seed=2, files=2))
    for name, data in delivery(tmp_path / "delivery"):
        house.put(name, data)
    house.ingest()
    house.batch()

    assert_no_double(house)


@pytest.mark.sample
def test_nothing_of_the_sample_is_a_double(sample_house: House, sample_oracle: Computed) -> None:
    assert_no_double(sample_house)


def test_days_are_utc_wherever_the_machine_stands(house: House) -> None:
    zone = "America/Argentina/Buenos_Aires"
    late = event(1, timestamp="2025-07-03T23:30:00Z") + event(
        2, timestamp="2025-07-03T22:30:00-03:00", org_id="o-2"
    )
    house.put("events_1.jsonl", late)

    for arguments in (["ingest", str(house.inbox)], ["batch"]):
        running = house.program(*arguments, TZ=zone)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
    reading = house.program(
        "sql",
        "SELECT org_id, event_ts, CAST(event_ts AS DATE) AS day, event_date "
        "FROM silver.usage_enriched ORDER BY org_id",
        TZ=zone,
    )
    out, err = reading.communicate(timeout=60)

    assert reading.returncode == 0, err
    assert out.splitlines()[1:] == [
        "o-1,2025-07-03T23:30:00Z,2025-07-03,2025-07-03",
        "o-2,2025-07-04T01:30:00Z,2025-07-04,2025-07-04",
    ]
