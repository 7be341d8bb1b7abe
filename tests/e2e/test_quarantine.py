"""What is held: counted with its money, shown with place and reasons, printed back unchanged."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.house import House
from unit.log.house import INVOICES, event, invoice

MODELS = ("gold.finops_by_org_day", "gold.revenue_by_org_month")
HUGE = "9" * 29 + ".5"

ODD = (
    b"garbage",
    b"\x00",
    b'{"event_id": "nul\x00inside"}',
    b"\xff\xfe\xfa not UTF-8 \xc3",
    b'{"a": 1}{"b": 2}',
    b"\x1b[31mred\x1b[0m",
    "ü € \u2028 \U0001f600".encode(),
    b"  spaces around  ",
    b"tab\there",
    b"'quotes\" and , commas",
    b"\xed\xa0\x80",
    b"x" * 70_000,
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Odd bytes, held invoices, amounts whose sum no DECIMAL(38,9) holds; nothing published."""
    house = House.new(tmp_path_factory.mktemp("held") / "project", models=MODELS)
    sound = event(1).encode()
    huge = [event(10 + n).replace("0.25", HUGE, 1).encode() for n in range(3)]
    house.put(
        "events_odd.jsonl",
        b"".join([sound, *(line + b"\n" for line in ODD), event(2, unit=None).encode(), *huge]),
    )
    house.put(
        "billing_monthly.csv",
        INVOICES + invoice(1, "10") + "i-2,o-1,2025-07-01,5,,1,EUR,0\ni-3,o-1,x,7,,1,,1\n",
    )
    house.ingest()
    return house


def raw(house: House, *arguments: str) -> bytes:
    """Standard output of the program, byte for byte."""
    found = subprocess.run(
        [sys.executable, "-m", "meterhouse", "--project", str(house.root), *arguments],
        stdout=subprocess.PIPE,
        check=True,
    )
    return found.stdout


def test_raw_prints_every_held_record_unchanged(house: House) -> None:
    out = raw(house, "quarantine", "show", "--raw", "--reason", "malformed", "--limit", "1000")

    assert out == b"".join(line + b"\n" for line in ODD)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=30))
def test_any_bytes_come_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    capfdbinary: pytest.CaptureFixture[bytes],
    lines: list[bytes],
) -> None:
    house = House.new(tmp_path_factory.mktemp("any"), models=("gold.finops_by_org_day",))
    # A line ends at \n; one \r before it belongs to the line's end.
    lines = [line.replace(b"\n", b"").rstrip(b"\r") or b"?" for line in lines]
    landed = list(dict.fromkeys(line for line in lines if line.strip(b" \t\r")))
    house.ingest(house.put("events_any.jsonl", b"".join(line + b"\n" for line in lines)))

    held = [
        row["raw"]
        for _, batch in house.project.quarantined("usage_events")
        for row in batch.to_pylist()
    ]

    assert held == landed


def test_counts_and_money_by_source_and_reason(house: House) -> None:
    body = json.loads(house.cli("quarantine", "--format", "json").out)

    found = {(group["source"], group["reason"]): group for group in body}
    assert found["usage_events", "malformed"]["records"] == len(ODD)
    assert found["usage_events", "malformed"]["unreadable"] == len(ODD)
    assert found["usage_events", "unit_missing"]["money"] == {"cost_usd_increment USD": "0.25"}
    assert found["billing_monthly", "rate_missing"]["money"] == {
        "subtotal EUR": "5",
        "taxes EUR": "1",
    }
    assert found["billing_monthly", "month_unreadable"]["money"] == {
        "subtotal ?": "7",
        "taxes ?": "1",
    }
    assert all(group["because"] for group in body)


def test_held_amounts_add_up_beyond_what_a_decimal_column_holds(house: House) -> None:
    body = json.loads(house.cli("quarantine", "--format", "json").out)

    money = next(group["money"] for group in body if group["reason"] == "number_out_of_range")
    assert money == {"cost_usd_increment USD": "299999999999999999999999999998.5"}
    house.verified()


def test_the_table_has_a_line_for_each_reason(house: House) -> None:
    out = house.cli("quarantine").out

    assert "money held" in out
    assert "subtotal EUR 5, taxes EUR 1" in out
    assert f"{len(ODD)} unreadable" in out


def test_a_record_is_shown_as_text_with_place_reasons_and_what_could_be_read(
    house: House,
) -> None:
    shown = house.cli("quarantine", "show", "--reason", "month_unreadable").out.splitlines()

    assert shown[0].startswith("inbox/billing_monthly.csv:4  (log entry ")
    assert shown[1] == "  broken:   month_unreadable"
    assert "invoice_id=i-3" in shown[2]
    assert shown[3] == '  unread:   {"month":"x"}'
    assert shown[4] == "  record:   i-3,o-1,x,7,,1,,1"


def test_shown_text_carries_no_control_characters(house: House) -> None:
    out = house.cli("quarantine", "show", "--limit", "1000").out

    assert all(char.isprintable() for line in out.split("\n") for char in line)
    assert r"\x00" in out
    assert r"\x1b[31mred\x1b[0m" in out
    assert r"\xff\xfe\xfa not UTF-8 \xc3" in out


@pytest.mark.parametrize("limit", [1, 5])
def test_limit_holds_over_all_sources(house: House, limit: int) -> None:
    out = house.cli("quarantine", "show", "--limit", str(limit)).out

    assert out.count("  broken:   ") == limit


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet", "arrow"])
def test_export_holds_the_bytes_in_every_format(house: House, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"held.{form}"

    ran = house.cli(
        *("quarantine", "export", "--source", "usage_events", "--reason", "malformed"),
        *("--format", form, "--output", str(file)),
    )

    assert ran.code == 0
    assert sorted(bytes_of(file, form)) == sorted(ODD)


def bytes_of(file: Path, form: str) -> list[bytes]:
    if form == "parquet":
        return list(pq.read_table(file)["raw"].to_pylist())
    if form == "arrow":
        return list(pa.ipc.open_file(file).read_all()["raw"].to_pylist())
    text = file.read_text()
    if form == "csv":
        csv.field_size_limit(1 << 20)
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = (
            json.loads(text)["rows"]
            if form == "json"
            else [json.loads(line) for line in text.split("\n") if line]
        )
    return [base64.b64decode(row["raw"]) for row in rows]


def test_export_as_a_table_names_every_column(house: House) -> None:
    ran = house.cli("quarantine", "export", "--source", "billing_monthly", "--format", "table")

    assert ran.code == 0
    assert "invalid_reason" in ran.out
    assert "2 held records" in ran.err


def test_an_export_of_nothing_has_the_columns(house: House) -> None:
    ran = house.cli("quarantine", "export", "--source", "customers_orgs", "--format", "csv")

    assert (ran.code, ran.err) == (0, "nothing is held\n")
    assert ran.out.startswith("log_position,row_number,source_file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "--source", "usage_event"), 'did you mean "usage_events"?'),
        (("show", "--reason", "malformd"), 'did you mean "malformed"?'),
        (("export",), "name one of billing_monthly"),
        (("export", "--source", "customer_orgs"), 'did you mean "customers_orgs"?'),
        (("shw",), "show"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(
    house: House, words: tuple[str, ...], said: str
) -> None:
    ran = house.cli("quarantine", *words)

    assert ran.code == 2
    assert said in ran.err


def test_a_project_without_a_log_holds_nothing(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project")

    assert house.cli("quarantine").out == "nothing is held\n"
    assert house.cli("quarantine", "show").err == "nothing is held\n"


def test_a_file_name_with_odd_characters_is_shown_printably(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    name = os.fsencode(house.inbox) + b"/events_\xff\nline\x1b.jsonl"
    Path(os.fsdecode(name)).write_bytes(b"garbage\n")
    house.ingest()

    out = house.cli("quarantine", "show").out

    assert r"inbox/events_\xff\x0aline\x1b.jsonl:1" in out
