"""The matrix of bad and odd records, as data: bytes, the problems and values they must have."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

MALFORMED = ["malformed"]
OUT_OF_RANGE = ["number_out_of_range:cost_usd_increment"]
WRONG_COST = ["wrong_type:cost_usd_increment"]
WRONG_VALUE = ["wrong_type:value_num"]
UNREADABLE = ["unreadable:event_ts"]
D = Decimal


def deep(levels: int) -> bytes:
    """An object of that many levels."""
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


def cost(text: str) -> bytes:
    return b'{"cost_usd_increment": %b}' % text.encode()


def at(text: str) -> bytes:
    return b'{"timestamp": "%b"}' % text.encode()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


MALFORMED_LINES = {
    "garbage": b"garbage",
    "truncated": b'{"event_id": "e-1", "val',
    "truncated after a number": b'{"value": 1',
    "two objects": b'{"event_id": "a"}{"event_id": "b"}',
    "two objects with a space": b'{"event_id": "a"} {"event_id": "b"}',
    "two objects with a lone carriage return": b'{"event_id": "a"}\r{"event_id": "b"}',
    "text after the object": b'{"event_id": "a"} x',
    "array": b'[{"event_id": "a"}]',
    "string": b'"event_id"',
    "number": b"12",
    "null": b"null",
    "true": b"true",
    "comma at the end": b'{"value":1,}',
    "comma at the start": b'{,"value":1}',
    "no colon": b'{"value" 1}',
    "no value": b'{"value":}',
    "single quotes": b"{'value': 1}",
    "bare key": b"{value: 1}",
    "comment": b'{"value": 1 /* one */}',
    "NaN": b'{"value": NaN}',
    "Infinity": b'{"value": Infinity}',
    "minus Infinity": b'{"value": -Infinity}',
    "a number with an underscore": b'{"value": 1_000}',
    "a leading zero": b'{"value": 01}',
    "a plus sign": b'{"value": +1}',
    "no digit before the point": b'{"value": .5}',
    "no digit after the point": b'{"value": 5.}',
    "hexadecimal": b'{"value": 0x10}',
    "Arabic digits": '{"value": ٣}'.encode(),
    "capital NULL": b'{"value": NULL}',
    "invalid UTF-8": b'{"event_id": "\xff"}',
    "Latin-1": b'{"event_id": "caf\xe9"}',
    "overlong UTF-8": b'{"event_id": "\xc0\xaf"}',
    "a surrogate as UTF-8": b'{"event_id": "\xed\xa0\x80"}',
    "UTF-8 beyond Unicode": b'{"event_id": "\xf4\x90\x80\x80"}',
    "invalid UTF-8 outside strings": b'{"value": 1}\xff',
    "NUL alone": b"\x00",
    "NUL in a string": b'{"event_id": "a\x00b"}',
    "NUL after the object": b'{"event_id": "a"}\x00',
    "raw tab in a string": b'{"event_id": "a\tb"}',
    "raw escape character in a string": b'{"event_id": "\x1b"}',
    "lone high surrogate": rb'{"event_id": "\ud800"}',
    "lone low surrogate": rb'{"event_id": "\udc00"}',
    "surrogates the wrong way round": rb'{"event_id": "\ude00\ud83d"}',
    "lone surrogate in an undeclared key": rb'{"\udfff": 1}',
    "a bad escape": rb'{"event_id": "\x41"}',
    "a short escape": rb'{"event_id": "\u12"}',
    "a key given twice": b'{"value": 1, "value": 1}',
    "a key given twice, once escaped": rb'{"value": 1, "valu\u0065": 1}',
    "an undeclared key given twice": b'{"new": 1, "new": 2}',
    "a key given twice inside": b'{"new": {"a": 1, "a": 1}}',
    "65 levels": deep(65),
    "many levels": b'{"a":' + b"[" * 100_000,
    "over 16 MiB": b'{"event_id": "%b"}' % (b"x" * 20_000_000),
    "byte order mark in the middle of a file": b'\xef\xbb\xbf{"event_id": "a"}',
    "form feed": b"\x0c",
    "vertical tab beside the object": b'\x0b{"event_id": "a"}',
    "no-break space": b"\xc2\xa0",
    "next line character": '\u0085{"event_id": "a"}'.encode(),
}

LINES: dict[str, tuple[bytes, list[str] | None, dict[str, Any]]] = {
    # name: (line, problems, values that must come out)
    "no fields": (b"{}", None, {"event_id": None, "value_num": None}),
    "nulls": (b'{"event_id": null, "value": null}', None, {"event_id": None, "value_num": None}),
    "spaces and tabs between": (b' {\t"value" :\t1 , "unit":"h" } ', None, {"value_num": D(1)}),
    "64 levels": (deep(64), None, {"event_id": None}),
    "brackets in a string": (b'{"event_id": "%b"}' % (b"[" * 99), None, {"event_id": "[" * 99}),
    "unknown fields": (
        b'{"event_id": "a", "b": 1.50, "a": {"y": [1, true, null], "x": "\xc3\xa9"}}',
        None,
        {"event_id": "a", "extra": '{"a":{"x":"é","y":[1,true,null]},"b":1.50}'},
    ),
    "an unknown null field": (b'{"new": null}', None, {"extra": '{"new":null}'}),
    "escapes": (rb'{"event_id": "\u0041\"\\\/\n\u00e9"}', None, {"event_id": 'A"\\/\né'}),
    "an escaped NUL": (rb'{"event_id": "a\u0000b"}', None, {"event_id": "a\0b"}),
    "a surrogate pair": (rb'{"event_id": "\ud83d\ude00"}', None, {"event_id": "😀"}),
    "an escaped key": (rb'{"event\u005fid": "a"}', None, {"event_id": "a", "extra": None}),
    "line separators in a string": (
        '{"event_id": "a\u2028\u0085b"}'.encode(),
        None,
        {"event_id": "a\u2028\u0085b"},
    ),
    "DEL in a string": (b'{"event_id": "a\x7f"}', None, {"event_id": "a\x7f"}),
    "an empty text": (b'{"org_id": "", "service": " "}', None, {"org_id": "", "service": " "}),
    "300 characters": (b'{"org_id": "%b"}' % (b"x" * 300), None, {"org_id": "x" * 300}),
    "100 times é": (b'{"org_id": "%b"}' % ("é" * 100).encode(), None, {"org_id": "é" * 100}),
    "an object for text": (
        b'{"org_id": {"b": 1, "a": 2}}',
        ["wrong_type:org_id"],
        {"org_id": None, "unreadable": '{"org_id":{"a":2,"b":1}}'},
    ),
    "a list for text": (b'{"org_id": ["a"]}', ["wrong_type:org_id"], {"org_id": None}),
    "a number for text": (b'{"org_id": 7}', ["wrong_type:org_id"], {"unreadable": '{"org_id":7}'}),
    "a boolean for text": (b'{"org_id": true}', ["wrong_type:org_id"], {"org_id": None}),
    "true for a number": (b'{"value": true}', WRONG_VALUE, {"unreadable": '{"value":true}'}),
    "a list for a number": (b'{"value": [1]}', WRONG_VALUE, {"value_num": None}),
    "two wrong types": (
        b'{"value": "x", "org_id": 1}',
        ["wrong_type:org_id", "wrong_type:value_num"],
        {"unreadable": '{"org_id":1,"value":"x"}'},
    ),
    "a quoted number": (b'{"value": "12.5"}', None, {"value_num": D("12.5")}),
    "a quoted number with spaces": (b'{"value": " 12.5 "}', None, {"value_num": D("12.5")}),
    "a quoted number without a space": (b'{"value":"12.5"}', None, {"value_num": D("12.5")}),
    "a quoted number far off": (b'{"value" :  "12.5"}', None, {"value_num": D("12.5")}),
    "a quoted number with an escaped tab": (rb'{"value": "\t1"}', None, {"value_num": D(1)}),
    "a quoted signed number": (b'{"value": "+007.50"}', None, {"value_num": D("7.5")}),
    "a quoted number without digits before": (b'{"value": ".5"}', None, {"value_num": D("0.5")}),
    "quoted numbers everywhere": (
        b'{"event_id": "1", "value": "2", "cost_usd_increment": "-3", "schema_version": "4"}',
        None,
        {"event_id": "1", "value_num": D(2), "cost_usd_increment": D(-3), "schema_version": 4},
    ),
    "text with an underscore for a number": (b'{"value": "1_000"}', WRONG_VALUE, {}),
    "text with a comma for a number": (b'{"value": "1,5"}', WRONG_VALUE, {}),
    "letters for a number": (b'{"value": "abc"}', WRONG_VALUE, {"unreadable": '{"value":"abc"}'}),
    "quoted NaN": (b'{"value": "NaN"}', WRONG_VALUE, {}),
    "quoted infinity": (b'{"value": "infinity"}', WRONG_VALUE, {}),
    "quoted hexadecimal": (b'{"value": "0x10"}', WRONG_VALUE, {}),
    "quoted Arabic digits": ('{"value": "٣"}'.encode(), WRONG_VALUE, {}),
    "no text for a number": (b'{"value": ""}', WRONG_VALUE, {"unreadable": '{"value":""}'}),
    "a space for a number": (b'{"value": " "}', WRONG_VALUE, {}),
    "a point for a number": (b'{"value": "."}', WRONG_VALUE, {}),
    "1e400": (cost("1e400"), OUT_OF_RANGE, {"unreadable": '{"cost_usd_increment":1e400}'}),
    "1e999999999": (cost("1e999999999"), OUT_OF_RANGE, {"cost_usd_increment": None}),
    "1e-999999999": (cost("1e-999999999"), OUT_OF_RANGE, {"cost_usd_increment": None}),
    "an exponent of twenty digits": (cost("1e99999999999999999999"), OUT_OF_RANGE, {}),
    "zero with an exponent": (cost("0e999999999999"), None, {"cost_usd_increment": D(0)}),
    "a number of a megabyte": (cost("9" * 1_000_000), OUT_OF_RANGE, {"cost_usd_increment": None}),
    "a fraction of a megabyte of zeros": (
        cost("0." + "0" * 1_000_000),
        None,
        {"cost_usd_increment": D(0)},
    ),
    "quoted 1e999999999": (cost('"1e999999999"'), OUT_OF_RANGE, {}),
    "-0": (cost("-0"), None, {"cost_usd_increment": D(0)}),
    "-0.0": (cost("-0.0"), None, {"cost_usd_increment": D(0)}),
    "18 whole digits": (
        cost("999999999999999999.999999999"),
        None,
        {"cost_usd_increment": D("999999999999999999.999999999")},
    ),
    "1e18": (cost("1e18"), OUT_OF_RANGE, {"cost_usd_increment": D("1e18"), "unreadable": None}),
    "-1e18": (cost("-1e18"), OUT_OF_RANGE, {"cost_usd_increment": D("-1e18")}),
    "28 digits": (cost("1" * 28), OUT_OF_RANGE, {"cost_usd_increment": D("1" * 28)}),
    "29 digits": (cost("9" * 29), OUT_OF_RANGE, {"cost_usd_increment": D("9" * 29)}),
    "30 digits": (cost("1" * 30), OUT_OF_RANGE, {"cost_usd_increment": None}),
    "38 digits": (cost("1" * 38), OUT_OF_RANGE, {"cost_usd_increment": None}),
    "28 digits, half of them decimals": (cost("1" * 14 + "." + "1" * 14), OUT_OF_RANGE, {}),
    "9 decimals": (cost("0.123456789"), None, {"cost_usd_increment": D("0.123456789")}),
    "10 decimals": (cost("0.1234567891"), OUT_OF_RANGE, {"cost_usd_increment": None}),
    "10 decimals, a zero": (cost("0.1234567890"), None, {"cost_usd_increment": D("0.123456789")}),
    "a small exponent": (cost("8.9e-05"), None, {"cost_usd_increment": D("0.000089")}),
    "an exponent beyond the scale": (cost("1.5e-9"), OUT_OF_RANGE, {}),
    "a large exponent": (cost("1.5E+3"), None, {"cost_usd_increment": D(1500)}),
    "a float's rubbish": (cost("0.30000000000000004"), OUT_OF_RANGE, {}),
    "cost -0.01": (cost("-0.01"), None, {"cost_usd_increment": D("-0.01")}),
    "cost -0.0100000001": (cost("-0.0100000001"), OUT_OF_RANGE, {}),
    "0.1": (cost("0.1"), None, {"cost_usd_increment": D("0.1")}),
    "schema version 3": (b'{"schema_version": 3}', None, {"schema_version": 3}),
    "schema version 2.0": (b'{"schema_version": 2.0}', None, {"schema_version": 2}),
    "schema version 2.5": (b'{"schema_version": 2.5}', ["wrong_type:schema_version"], {}),
    "schema version x": (b'{"schema_version": "x"}', ["wrong_type:schema_version"], {}),
    "schema version -0": (b'{"schema_version": -0}', None, {"schema_version": 0}),
    "schema version 1e2": (b'{"schema_version": 1e2}', None, {"schema_version": 100}),
    "the largest integer": (
        b'{"schema_version": 9223372036854775807}',
        None,
        {"schema_version": 2**63 - 1},
    ),
    "a larger integer": (
        b'{"schema_version": 9223372036854775808}',
        ["number_out_of_range:schema_version"],
        {"schema_version": None},
    ),
    "no timestamp": (b'{"timestamp": null}', None, {"event_ts": None}),
    "an empty timestamp": (at(""), None, {"timestamp": "", "event_ts": None}),
    "UTC": (at("2025-08-18T14:04:00Z"), None, {"event_ts": utc(2025, 8, 18, 14, 4)}),
    "no zone": (at("2025-08-18T14:04:00"), None, {"event_ts": utc(2025, 8, 18, 14, 4)}),
    "an offset": (at("2025-08-18T14:04:00+05:30"), None, {"event_ts": utc(2025, 8, 18, 8, 34)}),
    "an offset over midnight": (
        at("2025-12-31T23:30:00-01:00"),
        None,
        {"event_ts": utc(2026, 1, 1, 0, 30)},
    ),
    "a fraction": (
        at("2025-08-18T14:04:00.123456Z"),
        None,
        {"event_ts": utc(2025, 8, 18, 14, 4, 0, 123456)},
    ),
    "nanoseconds are cut": (
        at("2025-08-18T14:04:00.123456999Z"),
        None,
        {"event_ts": utc(2025, 8, 18, 14, 4, 0, 123456)},
    ),
    "a fraction and an offset": (
        at("2025-08-18T14:04:00.5+02:00"),
        None,
        {"event_ts": utc(2025, 8, 18, 12, 4, 0, 500000)},
    ),
    "a space between": (at("2025-08-18 14:04:00Z"), None, {"event_ts": utc(2025, 8, 18, 14, 4)}),
    "no seconds": (at("2025-08-18T14:04Z"), None, {"event_ts": utc(2025, 8, 18, 14, 4)}),
    "basic format": (at("20250818T140400Z"), None, {"event_ts": utc(2025, 8, 18, 14, 4)}),
    "29 February": (at("2024-02-29T00:00:00Z"), None, {"event_ts": utc(2024, 2, 29)}),
    "far future": (at("2999-01-01T00:00:00Z"), None, {"event_ts": utc(2999, 1, 1)}),
    "the last second": (
        at("9999-12-31T23:59:59Z"),
        None,
        {"event_ts": utc(9999, 12, 31, 23, 59, 59)},
    ),
    "the first second": (at("0001-01-01T00:00:00Z"), None, {"event_ts": utc(1, 1, 1)}),
    "a timestamp that is a number": (
        b'{"timestamp": 1755525840}',
        ["wrong_type:timestamp"],
        {"timestamp": None, "event_ts": None, "unreadable": '{"timestamp":1755525840}'},
    ),
}
UNREADABLE_TIMES = [
    "2025-08-18",
    "2025-08-18T24:00:00Z",
    "2025-08-18T23:59:60Z",
    "2025-08-18T14:60:00Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-01:00",
    "0001-01-01T00:00:00+01:00",
    "2025-02-30T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "2025-13-01T00:00:00Z",
    "2025-00-01T00:00:00Z",
    "2025-08-18T14:04:00+24:00",
    "2025-08-18T14:04:00 UTC",
    "2025-08-18T14:04:00Zx",
    " 2025-08-18T14:04:00Z",
    "2025-8-18T14:04:00Z",
    "18/08/2025 14:04:00",
    "1755525840",
    "yesterday",
    "٢٠٢٥-08-18T14:04:00Z",
    "2025-08-18T14:04:0\\u0000Z",
]

HEADER = b"invoice_id,org,month,subtotal,paid,items,issued_at,tags"
ROW = b"i-1,o-1,2025-06-01,12.50,True,3,2025-08-18T14:04:00Z,\n"
VALUES = {
    "invoice_id": "i-1",
    "org_id": "o-1",
    "month": date(2025, 6, 1),
    "subtotal": D("12.5"),
    "paid": True,
    "items": 3,
    "issued_at": utc(2025, 8, 18, 14, 4),
    "tags": None,
    "extra": None,
    "problems": None,
}

CSV_ROWS: dict[str, tuple[bytes, dict[str, Any]]] = {
    # name: (row, values that must come out instead of VALUES); None: a malformed row
    "a good row": (ROW, {}),
    "CRLF": (ROW.replace(b"\n", b"\r\n"), {}),
    "quoted fields": (ROW.replace(b"o-1", b'"o,""1"""'), {"org_id": 'o,"1"'}),
    "a quoted newline": (ROW.replace(b"o-1", b'"o\n1"'), {"org_id": "o\n1"}),
    "a quoted CRLF": (ROW.replace(b"o-1", b'"o\r\n1"'), {"org_id": "o\r\n1"}),
    "a lone carriage return": (ROW.replace(b"o-1", b"o\r1"), {"org_id": "o\r1"}),
    "empty fields": (b"i-1,,,,,,,\n", dict.fromkeys(list(VALUES)[1:])),
    "quoted empty fields": (b'"i-1","","",,,,,\n', dict.fromkeys(list(VALUES)[1:])),
    "too few fields": (b"i-1,o-1\n", dict.fromkeys(VALUES) | {"problems": MALFORMED}),
    "too many fields": (b"x" + ROW[:-1] + b",\n", dict.fromkeys(VALUES) | {"problems": MALFORMED}),
    "a quote inside a field": (
        ROW.replace(b"o-1", b'5" pipe'),
        dict.fromkeys(VALUES) | {"problems": MALFORMED},
    ),
    "text after a quoted field": (
        ROW.replace(b"o-1", b'"o"1'),
        dict.fromkeys(VALUES) | {"problems": MALFORMED},
    ),
    "a quote never closed": (
        ROW.replace(b"o-1", b'"o-1'),
        dict.fromkeys(VALUES) | {"problems": MALFORMED},
    ),
    "Latin-1": (ROW.replace(b"o-1", b"\xe9"), dict.fromkeys(VALUES) | {"problems": MALFORMED}),
    "the header again": (HEADER + b"\n", dict.fromkeys(VALUES) | {"problems": MALFORMED}),
    "UTF-8": (ROW.replace(b"o-1", "é😀".encode()), {"org_id": "é😀"}),
    "the words NULL and nan": (
        ROW.replace(b"o-1", b"NULL").replace(b"i-1", b"nan"),
        {"org_id": "NULL", "invoice_id": "nan"},
    ),
    "a number with spaces": (ROW.replace(b"12.50", b" 12.50 "), {}),
    "a number with zeros before": (ROW.replace(b"12.50", b"+0012.5"), {}),
    "a number with an exponent": (ROW.replace(b"12.50", b"125e-1"), {}),
    "no number": (
        ROW.replace(b"12.50", b'"12,50"'),
        {
            "subtotal": None,
            "problems": ["wrong_type:subtotal"],
            "unreadable": '{"subtotal":"12,50"}',
        },
    ),
    "spaces for a number": (
        ROW.replace(b"12.50", b"  "),
        {"subtotal": None, "problems": ["wrong_type:subtotal"]},
    ),
    "a number out of range": (
        ROW.replace(b"12.50", b"1e999999999"),
        {"subtotal": None, "problems": ["number_out_of_range:subtotal"]},
    ),
    "no day": (
        ROW.replace(b"2025-06-01", b"2025-06-31"),
        {"month": None, "problems": ["unreadable:month"]},
    ),
    "29 February": (ROW.replace(b"2025-06-01", b"2024-02-29"), {"month": date(2024, 2, 29)}),
    "another way to write a day": (
        ROW.replace(b"2025-06-01", b"01/06/2025"),
        {"month": None, "problems": ["unreadable:month"]},
    ),
    "a boolean in capitals": (ROW.replace(b"True", b"FALSE"), {"paid": False}),
    "a boolean in odd case": (ROW.replace(b"True", b"tRUE"), {"paid": True}),
    "no boolean": (
        ROW.replace(b"True", b"yes"),
        {"paid": None, "problems": ["wrong_type:paid"]},
    ),
    "no time": (
        ROW.replace(b"T14:04:00Z", b""),
        {"issued_at": None, "problems": ["unreadable:issued_at"]},
    ),
    "JSON": (
        ROW.replace(b"Z,", b'Z,"{""b"": 1.0, ""a"": [true]}"'),
        {"tags": '{"a":[true],"b":1.0}'},
    ),
    "no JSON": (ROW.replace(b"Z,", b"Z,{"), {"tags": None, "problems": ["wrong_type:tags"]}),
    "NUL": (ROW.replace(b"o-1", b"o\x001"), {"org_id": "o\x001"}),
}
