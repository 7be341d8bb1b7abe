"""published.json: what is read back is what was written, or it is damage."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from meterhouse.errors import DamageError, UsageError
from meterhouse.lake.published import (
    LogFile,
    Published,
    PublishedTable,
    StoredFile,
    encoded_schema,
    read_published,
    write_published,
)
from meterhouse.ports import Stamp
from meterhouse.testing import MemoryBlobs

SCHEMA = pa.schema(
    [
        ("org_id", pa.string()),
        ("cost_usd", pa.decimal128(38, 9)),
        ("at", pa.timestamp("us", tz="UTC")),
        ("tags", pa.map_(pa.string(), pa.list_(pa.string()))),
    ]
)


def table(name: str = "gold.costs") -> PublishedTable:
    return PublishedTable(
        name=name,
        version=3,
        rows=2,
        model="ab" * 32,
        schema=encoded_schema(SCHEMA),
        partition_by=("org_id",),
        files=(StoredFile("gold/costs/org_id=é%2F/a.parquet", 2, 10, "cd" * 32, {"org_id": "é/"}),),
        log=(LogFile("gold/costs/_delta_log/0.json", 5, "ef" * 32),),
    )


def published() -> Published:
    return Published(
        stamp=Stamp("project", 0, 7, "aa" * 32),
        ingest_ts=datetime(2025, 9, 1, 12, 30, 0, 5, tzinfo=UTC),
        generation=2,
        tables={"gold.costs": table()},
        details={"latest_day": {"gold.costs": "2025-08-31"}},
    )


def test_what_is_written_is_read_back() -> None:
    blobs = MemoryBlobs()

    write_published(blobs, published())

    assert read_published(blobs) == published()


def test_nothing_published_is_none() -> None:
    assert read_published(MemoryBlobs()) is None


def test_a_relation_has_the_files_and_the_schema() -> None:
    blobs = MemoryBlobs()
    write_published(blobs, published())
    found = read_published(blobs)
    assert found is not None

    relation = found.relation("gold.costs")

    assert relation.paths == ("memory://lake/gold/costs/org_id=é%2F/a.parquet",)
    assert relation.schema == SCHEMA


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        published().relation("gold.cost")

    assert "gold.costs" in caught.value.fix


def test_every_flipped_byte_is_found() -> None:
    data = published().to_bytes()

    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(DamageError):
            Published.from_bytes(damaged)


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[]", b'{"format":1}'])
def test_other_json_is_damage(data: bytes) -> None:
    with pytest.raises(DamageError):
        Published.from_bytes(data)


def test_a_newer_format_says_so() -> None:
    data = published().to_bytes().replace(b'"format":1', b'"format":9')

    with pytest.raises(DamageError) as caught:
        Published.from_bytes(data)

    assert "newer" in caught.value.what
