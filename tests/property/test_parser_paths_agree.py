"""Whatever the bytes, the fast and the exact path of the parser judge each record alike."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.intake.contract import Contract
from meterhouse.intake.lines import complete_prefix
from meterhouse.intake.parse import Parsed, parse, rows_schema
from unit.intake.bad_lines import (
    CSV_ROWS,
    HEADER,
    LINES,
    MALFORMED_LINES,
    ROW,
    UNREADABLE_TIMES,
    at,
)
from unit.intake.contracts_for_tests import events, invoices

USUAL = (
    b'{"event_id": "evt_1", "timestamp": "2025-08-18T14:04:00Z", "org_id": "org_1", "value": 2.45,'
    b' "unit": null, "cost_usd_increment": "0.34", "schema_version": 2, "carbon_kg": 8.9e-05}'
)
SHORT = 5000
MATRIX = [
    line
    for line in (
        *MALFORMED_LINES.values(),
        *(line for line, _, _ in LINES.values()),
        *map(at, UNREADABLE_TIMES),
    )
    if len(line) < SHORT
]
NUMBERS = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,11})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
TEXTS = st.text(max_size=8).map(lambda text: '"' + text.replace('"', "") + '"')
TIMES = st.from_regex(
    r'"(19|20)[0-9]{2}-(02|0[1-9]|1[0-3])-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9])?'
    r'(\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-5][0-9])?"',
    fullmatch=True,
)
TOKENS = st.one_of(
    NUMBERS,
    NUMBERS.map(lambda number: f'"{number}"'),
    TEXTS,
    TIMES,
    st.sampled_from(["null", "true", "{}", "[1]", '""', '" 1 "', "NaN", r'"\u0041"', r'"\ud800"']),
)
FIELDS = [column.source for column in events().columns]
OBJECTS = st.lists(
    st.tuples(st.sampled_from([*FIELDS, "new"]), st.sampled_from([": ", ":", " :\t"]), TOKENS),
    max_size=6,
).map(
    lambda pairs: (
        "{" + ", ".join(f'"{name}"{colon}{token}' for name, colon, token in pairs) + "}"
    ).encode("utf-8", "surrogatepass")
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` with some bytes taken out and others put in."""
    line = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(line)))
        gone = draw(st.integers(0, 3))
        piece = st.binary(max_size=2) | st.sampled_from(
            [b'"', b"\\", b"}{", b",", b"\xc3\xa9", b"\r"]
        )
        line[at : at + gone] = draw(piece)
    return bytes(line)


LINES_OF_JSON = st.lists(
    st.one_of(
        st.just(USUAL),
        st.sampled_from(MATRIX),
        OBJECTS,
        damaged(USUAL),
        st.binary(max_size=6),
    ),
    max_size=12,
)
ROWS_OF_CSV = st.lists(
    st.one_of(
        st.just(ROW[:-1]),
        st.sampled_from([row.rstrip(b"\r\n") for row, _ in CSV_ROWS.values()]),
        damaged(ROW[:-1]),
        st.binary(max_size=6),
    ),
    max_size=12,
)
NEWLINES = st.sampled_from([b"\n", b"\r\n"])


def check(data: bytes, contract: Contract, header: str = "") -> Parsed:
    """Parse on both paths; both must say the same of the same records."""
    fast = parse(data, contract, header=header, start_of_file=not header)
    slow = parse(data, contract, header=header, start_of_file=not header, path="slow")

    assert fast.rows.to_pylist() == slow.rows.to_pylist()
    assert fast.rows.equals(slow.rows)
    assert fast.records.equals(slow.records)
    assert (fast.lines, fast.blank) == (slow.lines, slow.blank)
    assert fast.rows.schema == rows_schema(contract)
    fast.rows.validate(full=True)
    return fast


@settings(max_examples=150, deadline=None)
@given(
    lines=LINES_OF_JSON,
    times=st.sampled_from([1, 20]),
    newline=NEWLINES,
    ended=st.booleans(),
    cut=st.integers(0, 2000),
)
def test_every_line_of_jsonl_is_judged_alike(
    lines: list[bytes], times: int, newline: bytes, ended: bool, cut: int
) -> None:
    # Twenty of a kind are enough to be read by their shape.
    data = newline.join(lines * times) + (newline if ended else b"")

    whole = check(data, events())

    assert whole.rows.num_rows + whole.blank == whole.lines
    size = data.rfind(b"\n", 0, cut) + 1
    first = parse(data[:size], events())
    second = parse(
        data[size:], events(), first_line=1 + first.lines, start_of_file=size == 0, path="slow"
    )
    assert pa.concat_tables([first.rows, second.rows]).equals(whole.rows)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS_OF_CSV, newline=NEWLINES, ended=st.booleans(), cut=st.integers(0, 1000))
def test_every_row_of_csv_is_judged_alike(
    rows: list[bytes], newline: bytes, ended: bool, cut: int
) -> None:
    data = newline.join([HEADER, *rows]) + (newline if ended else b"")

    whole = check(data, invoices())

    size = complete_prefix(data[: len(HEADER) + 2 + cut], "csv")
    if size:
        first = parse(data[:size], invoices())
        second = parse(
            data[size:],
            invoices(),
            header=first.header,
            first_line=1 + first.lines,
            start_of_file=False,
        )
        assert pa.concat_tables([first.rows, second.rows]).equals(whole.rows)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_get_a_verdict_and_keep_their_bytes(data: bytes) -> None:
    parsed = check(data, events(round_decimals=True))
    check(data, invoices(), header="invoice_id,org")

    lines = [line.removesuffix(b"\r") for line in data.removesuffix(b"\n").split(b"\n")]
    if not data.endswith(b"\n"):
        lines[-1] = data.split(b"\n")[-1]
    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    assert parsed.records.to_pylist() == [line for line in lines if line.strip(b" \t\r")]


def test_the_whole_matrix_in_one_range_is_judged_alike() -> None:
    lines = [line for bad in MATRIX for line in (USUAL, bad)]

    check(b"\n".join(lines * 3), events())
    check(b"\n".join([HEADER, *(row.rstrip(b"\n") for row, _ in CSV_ROWS.values())]), invoices())
