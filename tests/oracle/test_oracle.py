"""The oracle's own reading of the rules, case by case."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from oracle import Oracle, canonical, differences

SOUND = (
    '{"event_id": "e1", "timestamp": "2025-07-03T10:00:00Z", "org_id": "o1", "resource_id": "r1",'
    ' "service": "compute", "region": "eu", "metric": "requests", "value": 2, "unit": "count",'
    ' "cost_usd_increment": 0.1, "schema_version": 1}'
)


def events(*lines: str | bytes) -> tuple[str, bytes]:
    data = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return "events_1.jsonl", b"\n".join(data) + b"\n"


def judged(*deliveries: tuple[str, bytes]) -> list[tuple[str, str | None]]:
    return [(item.verdict, item.invalid_reason) for item in Oracle(deliveries).verdicts]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("", "garbage", "malformed"),
        ("}", "", "malformed"),
        ("}", "}{}", "malformed"),
        ("}", ",}", "malformed"),
        ("2,", "NaN,", "malformed"),
        ('"eu"', '"\\ud800"', "malformed"),
        ('"eu"', '"e\x01u"', "malformed"),
        ('"eu"', '"eu", "region": "us"', "malformed"),
        ('"eu"', '"eu", "x": ' + "[" * 64 + "]" * 64, "malformed"),
        ('"eu"', '"eu", "x": ' + "[" * 63 + "]" * 63, None),
        ('"o1"', "{}", "wrong_type"),
        ("2,", "true,", "wrong_type"),
        ("2,", '"1_000",', "wrong_type"),
        ("2,", '"",', "wrong_type"),
        ("2,", '" 12.5 ",', None),
        ("2,", "-0,", None),
        ("2,", "1e400,", "number_out_of_range"),
        ("2,", "1e999999999,", "number_out_of_range"),
        ("2,", "1e-9,", None),
        ("2,", "1e-10,", "number_out_of_range"),
        ("2,", "0.1000000000000,", None),
        ("2,", "999999999999999999.999999999,", None),
        ("2,", "1000000000000000000,", "number_out_of_range"),
        ('"e1"', '""', "event_id_missing"),
        ('"2025-07-03T10:00:00Z"', "null", "timestamp_missing"),
        ('"2025-07-03T10:00:00Z"', '""', "timestamp_missing"),
        ("T10:00:00Z", "", "timestamp_unreadable"),
        ("T10:00", "T24:00", "timestamp_unreadable"),
        (":00:00Z", ":59:60Z", "timestamp_unreadable"),
        ("2025-07-03", "2025-02-30", "timestamp_unreadable"),
        ("2025-07-03", "0000-07-03", "timestamp_unreadable"),
        ("Z", ".123456789-03:00", None),
        ('"o1"', "null", "key_unusable"),
        ('"o1"', '"' + "é" * 65 + '"', "key_unusable"),
        ('"o1"', '"' + "é" * 64 + '"', None),
        ('"requests"', '"a\\u0007b"', "key_unusable"),
        ("0.1,", "-0.01,", None),
        ("0.1,", "-0.0100000001,", "number_out_of_range"),
        ("0.1,", "-0.010000001,", "cost_below_minimum"),
        ('"count"', "null", "unit_missing"),
        ("1}", "3}", None),
    ],
    ids=str,
)
def test_an_event_gets_the_verdict_of_the_matrix(old: str, new: str, reason: str | None) -> None:
    line = SOUND.replace(old, new, 1) if old else new

    assert judged(events(line)) == [("quarantined" if reason else "accepted", reason)]


def test_broken_utf8_and_blank_lines() -> None:
    oracle = Oracle([events(b"\xef\xbb\xbf" + SOUND.encode(), b" \t\r", b'{"a": "\xff"}', "")])

    assert oracle.ledger["usage_events"]["records"] == {
        "landed": 2,
        "accepted": 1,
        "quarantined": 1,
        "duplicate": 0,
        "blank": 2,
        "removed": 0,
    }


def test_copies_are_told_by_value_and_conflicts_held_once() -> None:
    spelt_anew = SOUND.replace("0.1,", '"0.10",').replace(", ", ",")
    conflict = SOUND.replace("0.1,", "0.2,")
    broken = SOUND.replace('"o1"', "null")

    assert judged(events(broken, SOUND, spelt_anew, conflict, conflict, broken, "x", "x")) == [
        ("quarantined", "key_unusable"),
        ("accepted", None),
        ("duplicate", None),
        ("quarantined", "conflicting_duplicate"),
        ("duplicate", None),
        ("duplicate", None),
        ("quarantined", "malformed"),
        ("duplicate", None),
    ]


def test_a_file_that_grew_continues_and_a_changed_one_is_refused() -> None:
    name, data = events(SOUND)
    more = data + SOUND.replace("e1", "e2").encode() + b"\n"

    assert len(judged((name, data), (name, data), (name, more), (name, b"x\n"))) == 2


HEADER = b"invoice_id,org_id,month,subtotal,credits,taxes,currency,exchange_rate_to_usd\n"


def test_an_invoice_corrected_and_back_counts_once() -> None:
    first, second = (
        HEADER + b"i,o,2025-07-01,10,,1,EUR,1.1\n",
        HEADER + b"i,o,2025-07-01,20,,2,EUR,1.1\n",
    )
    back = HEADER + b"\ni,o,2025-07-01,10.0,,1,EUR,1.1\n"

    oracle = Oracle(
        [
            ("billing_monthly.csv", first),
            ("billing_monthly_2.csv", second),
            ("billing_monthly_3.csv", first),
            ("billing_monthly_4.csv", back),
        ]
    )

    assert [item.verdict for item in oracle.verdicts] == [
        "accepted",
        "accepted",
        "duplicate",  # bytes taken before, under another name
        "accepted",
    ]
    assert oracle.question("monthly-revenue") == [
        {
            "org_id": "o",
            "month": date(2025, 7, 1),
            "subtotal_usd": Decimal("11"),
            "credits_usd": Decimal(0),
            "taxes_usd": Decimal("1.1"),
            "total_cost_usd": Decimal("12.1"),
        }
    ]
    records = oracle.ledger["billing_monthly"]["records"]
    assert (records["accepted"], records["current"], records["superseded"]) == (3, 1, 2)


def test_who_is_absent_from_a_snapshot_is_gone_until_it_returns() -> None:
    head = b"user_id,org_id,email,role,active,created_at,last_login\n"
    ann, bob = b"a,o,a@x,dev,True,2025-01-01,\n", b"b,o,b@x,dev,True,2025-01-01,\n"

    oracle = Oracle(
        [
            ("users.csv", head + ann + bob),
            ("users_2.csv", head + ann),
            ("users_3.csv", head + bob + ann),
        ]
    )

    assert Counter(
        (row["user_id"], row["is_current"]) for row in oracle.tables["silver.users"]
    ) == {("a", True): 1, ("b", False): 1, ("b", True): 1}
    assert oracle.ledger["users"]["records"]["removed"] == 1


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (b"m1,o,c,ads,2025-01-01,True,false", ("accepted", None)),
        (b'm1,o,"a ""b"", c",ads,2025-01-01,True,', ("accepted", None)),
        (b'm1,o,"a\nc",ads,2025-01-01,True,', ("quarantined", "key_unusable")),
        (b"m1,o,c,ads,2025-01-01,True", ("quarantined", "malformed")),
        (b"m1,o,c,ads,2025-01-01,True,False,1", ("quarantined", "malformed")),
        (b'm1,o,c"d,ads,2025-01-01,True,False', ("quarantined", "malformed")),
        (b'm1,o,"c"d,ads,2025-01-01,True,False', ("quarantined", "malformed")),
        (b'm1,o,"c,ads,2025-01-01,True,False', ("quarantined", "malformed")),
        (b"m1,o,caf\xe9,ads,2025-01-01,True,False", ("quarantined", "malformed")),
        (
            b"touch_id,org_id,campaign,channel,timestamp,clicked,converted",
            ("quarantined", "malformed"),
        ),
        (b"m1,o,c,ads,2025-02-30,True,False", ("quarantined", "timestamp_unreadable")),
        (b"m1,o,c,ads,,True,False", ("quarantined", "timestamp_missing")),
        (b"m1,o,c,ads,2025-01-01,yes,False", ("quarantined", "wrong_type")),
        (b",o,c,ads,2025-01-01,True,False", ("quarantined", "touch_id_missing")),
    ],
    ids=str,
)
def test_a_row_gets_the_verdict_of_the_matrix(row: bytes, verdict: tuple[str, str | None]) -> None:
    head = b"touch_id,org_id,campaign,channel,timestamp,clicked,converted\r\n"
    last = b"\nm2,o,c,ads,2025-01-01,True,False"

    found = judged(("marketing_touches.csv", b"\xef\xbb\xbf" + head + row + last))

    assert found == [verdict, ("accepted", None)]


def test_columns_are_found_by_name() -> None:
    data = b"survey_date,extra,org_id\n2025-01-01,x,o\n"

    assert Oracle([("nps_surveys.csv", data)]).tables["silver.nps_enriched"] == [
        {
            "org_id": "o",
            "survey_date": date(2025, 1, 1),
            "nps_score": None,
            "comment": None,
            "nps_class": None,
        }
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.500"), "1.5"),
        (Decimal("100"), "100"),
        (Decimal("-0.000"), "0"),
        (Decimal("1E+3"), "1000"),
        (True, "true"),
        (7, "7"),
        (date(2025, 7, 3), "2025-07-03"),
        (datetime(2025, 7, 3, 10, tzinfo=UTC), "2025-07-03T10:00:00Z"),
        (datetime(2025, 7, 3, 10, 0, 0, 500_000, tzinfo=UTC), "2025-07-03T10:00:00.5Z"),
        (["b", "a"], '["b","a"]'),
        (None, None),
    ],
    ids=str,
)
def test_values_are_printed_one_way(value: Any, text: str | None) -> None:
    assert canonical(value) == text


def test_rows_are_compared_whatever_their_order_and_spelling() -> None:
    expected: list[dict[str, Any]] = [{"a": Decimal("1.50"), "b": ["x"]}, {"a": None, "b": []}]

    assert differences(expected, [{"b": "[]", "a": ""}, {"b": '["x"]', "a": "1.5", "c": 1}]) == []
    assert differences(expected, [{"a": "1.5", "b": ["x"]}]) == [
        "1 rows, 2 expected",
        "missing: {'b': '[]'}",
    ]
    assert differences(expected, [{"a": 1}]) == ["columns missing: b"]
