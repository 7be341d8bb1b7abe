"""Which rows of CSV are read in bulk, and how a header is taken apart."""

from __future__ import annotations

import pytest

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.csvrows import CsvRows, Header
from meterhouse.intake.lines import records
from unit.intake.contracts_for_tests import invoices, single

HEADER = "id,x,more"


def classes(data: bytes) -> list[int]:
    reader = CsvRows(single("text", "csv"), Header.read(HEADER, single("text", "csv")))
    found: list[int] = reader.classes(records(data, "csv", start_of_file=False)).tolist()
    return found


@pytest.mark.parametrize(
    ("row", "sure"),
    [
        (b"1,2,3", 1),
        (b",,", 1),
        (b'"1","2,""","3\n"', 1),
        ("é,é,é".encode(), 1),
        (b"1,2", 0),
        (b"1,2,3,4", 0),
        (b'1,2"2,3', 0),
        (b'1,"2"2,3', 0),
        (b"1,\r2,3", 0),
        (b"1,\xe9,3", 0),
        (b"id,x,more", 0),
    ],
)
def test_only_rows_of_sure_form_are_read_in_bulk(row: bytes, sure: int) -> None:
    assert classes(b"a,b,c\n" + row + b"\r\na,b,c\n") == [1, sure, 1]


def test_rows_too_wide_for_one_expression_are_read_alone() -> None:
    names = ["id", *(f"c{number}" for number in range(200))]
    header = Header.read(",".join(names), single("text", "csv"))
    spans = records(b"1" + b"," * 200 + b"\n", "csv", start_of_file=False)

    reader = CsvRows(single("text", "csv"), header)

    assert reader.classes(spans).tolist() == [0]
    assert reader.delivered(spans.body(0)) == {"id": "1"}


def test_names_in_a_header_may_be_quoted_and_have_spaces_around_them() -> None:
    header = Header.read('"invoice_id", org ,"a ""b"", c"', invoices())

    assert header.names == ("invoice_id", "org", 'a "b", c')


def test_a_header_names_what_is_missing_as_the_delivery_calls_it() -> None:
    keyed = invoices(key=("org_id",))

    with pytest.raises(SourceRefusedError, match='lacks key column "org"'):
        Header.read("invoice_id,org_id", keyed)
