"""Whatever the values, Arrow's columns print as the definition prints row by row."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.arrow_text import ArrowChunk, columns_of, rows_chunk
from meterhouse.formats import Chunk, write

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
DECIMALS = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda units: Decimal(f"{units}E-9"))
SMALL = st.integers(-2000, 2000).map(lambda units: Decimal(f"{units}E-9"))
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
TIMES = st.integers(0, (LAST - FIRST) // timedelta(microseconds=1)).map(
    lambda microseconds: FIRST + timedelta(microseconds=microseconds)
)
ROWS = st.lists(
    st.tuples(
        st.none() | TEXTS,
        st.none() | SMALL | DECIMALS,
        st.none() | TIMES,
        st.none() | st.lists(st.none() | TEXTS, max_size=3),
    ),
    max_size=5,
)
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("cost", pa.decimal128(38, 9)),
        ("at", pa.timestamp("us", "UTC")),
        ("tags", pa.list_(pa.string())),
    ]
)


def printed(name: str, chunk: Chunk) -> bytes:
    out = io.BytesIO()
    write(out, name, columns_of(SCHEMA), [chunk], {})
    return out.getvalue()


@settings(deadline=None)
@given(rows=ROWS)
def test_both_ways_of_printing_agree_and_json_reads_back(
    rows: list[tuple[str | None, Decimal | None, datetime | None, list[str | None] | None]],
) -> None:
    arrays = [
        pa.array([row[number] for row in rows], item.type) for number, item in enumerate(SCHEMA)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

    for name in ("csv", "json", "jsonl", "table"):
        assert printed(name, ArrowChunk(batch)) == printed(
            name, rows_chunk(columns_of(SCHEMA), batch)
        )
    found = json.loads(printed("json", ArrowChunk(batch)))["rows"]
    assert [row["name"] for row in found] == [row[0] for row in rows]
    assert [row["tags"] for row in found] == [row[3] for row in rows]
    assert [row["cost"] and Decimal(row["cost"]) for row in found] == [row[1] for row in rows]
