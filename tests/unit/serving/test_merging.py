"""How two parts of a stored row become one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from meterhouse.errors import ModelError
from meterhouse.serving.arrow_rows import schema_text, stored_columns
from meterhouse.serving.merging import Merger
from meterhouse.serving.schema import Layout, StoredTable


def merger(data_type: pa.DataType, how: str, *, count: str = "") -> Merger:
    schema = pa.schema([("key", pa.string()), ("value", data_type)])
    layout = Layout(("key",), merge={"value": how} if how else {}, count_column=count)
    columns = stored_columns(schema)
    table = StoredTable("gold.t", "t", columns, layout, schema_text(schema), 0, "l", "")
    return Merger(table, schema)


@pytest.mark.parametrize(
    ("data_type", "how", "before", "part", "expected"),
    [
        (pa.decimal128(38, 9), "sum", "0.5", "-0.5", "0"),
        (pa.decimal128(38, 9), "max", "9", "10", "10"),
        (pa.decimal128(38, 0), "sum", "99", "1", "100"),
        (pa.uint64(), "sum", "18446744073709551614", "1", "18446744073709551615"),
        (pa.int64(), "sum", -3, 4, 1),
        (pa.int64(), "min", -3, 4, -3),
        (pa.bool_(), "max", 0, 1, 1),
        (pa.string(), "min", "b", "ab", "ab"),
        (pa.date32(), "max", "2025-01-31", "2024-12-31", "2025-01-31"),
        # A text sorts the whole second after its fractions; time does not.
        (
            pa.timestamp("us", "UTC"),
            "min",
            "2025-01-01T00:00:00Z",
            "2025-01-01T00:00:00.000001Z",
            "2025-01-01T00:00:00Z",
        ),
        # Base 64 sorts otherwise than the bytes it stands for.
        (pa.binary(), "min", "/w==", "AA==", "AA=="),
        (pa.decimal128(38, 9), "sum", None, "1", "1"),
        (pa.decimal128(38, 9), "sum", "1", None, "1"),
        (pa.int64(), "min", None, None, None),
    ],
)
@pytest.mark.parametrize("rows", [1, 300])
def test_a_column_merges_by_its_kind(
    data_type: pa.DataType, how: str, before: Any, part: Any, expected: Any, rows: int
) -> None:
    found = merger(data_type, how).merged([("a", before)] * rows, [("a", part)] * rows)

    assert found == [("a", expected)] * rows


def test_where_nothing_was_before_the_part_stays() -> None:
    sums = merger(pa.int64(), "sum")

    assert sums.merged([None, ("b", 2)], [("a", 1), ("b", 3)]) == [("a", 1), ("b", 5)]
    assert sums.merged([], []) == []


def test_a_row_whose_count_is_zero_is_gone() -> None:
    counts = merger(pa.int64(), "sum", count="value")

    assert counts.merged([("a", 1), None], [("a", -1), ("b", 0)]) == [None, None]


@pytest.mark.parametrize("rows", [1, 300])
@pytest.mark.parametrize(
    ("data_type", "most"), [(pa.decimal128(38, 9), "9" * 29), (pa.int64(), 2**63 - 1)]
)
def test_a_sum_that_its_type_can_not_hold_is_refused(
    data_type: pa.DataType, most: Any, rows: int
) -> None:
    one = "1" if isinstance(most, str) else 1

    with pytest.raises(ModelError, match=r'"value" of gold\.t has more digits'):
        merger(data_type, "sum").merged([("a", most)] * rows, [("a", one)] * rows)


@pytest.mark.parametrize(
    ("data_type", "how"),
    [(pa.string(), "sum"), (pa.float64(), "sum"), (pa.list_(pa.int64()), "min"), (pa.int64(), "")],
)
def test_a_column_without_a_merge_is_refused(data_type: pa.DataType, how: str) -> None:
    with pytest.raises(ModelError, match=r'column "value" of gold\.t has no way to be merged'):
        merger(data_type, how)
