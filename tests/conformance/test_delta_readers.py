"""Other Delta readers see the published tables: polars, and deltalake's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from unit.layers.house import (
    House,
    event,
    few_contracts,
    org,
    shipped_contracts,
    shipped_models,
    small_models,
    ticket,
)

Reader = Callable[[House, str], list[dict[str, Any]]]
SERVICES = ("compute", "a/b", "Ünïcode é", "100%", "x=1&y")
LONG = "é" * 64
"""The longest value that can be a key: 128 bytes, 384 when every byte is escaped."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A project published in two batches, with odd partition values."""
    contracts = shipped_contracts()
    house = House(tmp_path_factory.mktemp("house"), shipped_models(contracts), contracts)
    house.take("customers_orgs", org(1))
    house.take(
        "resources",
        {"resource_id": "res-1", "org_id": "org-1", "tags_json": '["env:prod", "env:old"]'},
    )
    house.take("usage_events", *(event(n, service=one) for n, one in enumerate(SERVICES)))
    house.run()
    house.take(
        "usage_events",
        event(90, cost_usd_increment=Decimal("123456789012345678.123456789")),
        event(91, event_ts=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        event(92, raw=b"\xff\x00", verdict="quarantined", invalid_reason="malformed"),
    )
    house.take("support_tickets", ticket(1))
    house.run()
    yield house
    house.close()


def by_polars(house: House, name: str) -> list[dict[str, Any]]:
    rows = polars.scan_delta(str(house.root / "lake" / name.replace(".", "/")))
    return rows.collect().to_arrow().to_pylist()


def by_deltalake(house: House, name: str) -> list[dict[str, Any]]:
    table = DeltaTable(str(house.root / "lake" / name.replace(".", "/")))
    return pa.table(table.to_pyarrow_table()).to_pylist()


def by_deltalake_sql(house: House, name: str) -> list[dict[str, Any]]:
    table = DeltaTable(str(house.root / "lake" / name.replace(".", "/")))
    return pa.RecordBatchReader.from_stream(table.scan()).read_all().to_pylist()


def long_valued(folder: Path) -> House:
    contracts = few_contracts()
    house = House(folder, small_models(contracts), contracts)
    house.take("usage_events", event(1, service=LONG), event(2))
    house.run()
    return house


@pytest.mark.parametrize("reader", [by_polars, by_deltalake, by_deltalake_sql])
def test_the_longest_partition_value_is_read(tmp_path: Path, reader: Reader) -> None:
    house = long_valued(tmp_path)

    found = {row["service"] for row in reader(house, "bronze.usage_events")}
    house.close()

    assert found == {LONG, "compute"}


def in_one_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, default=_text, sort_keys=True) for row in rows)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@pytest.mark.parametrize("reader", [by_polars, by_deltalake, by_deltalake_sql])
@pytest.mark.parametrize(
    "name",
    [
        "bronze.usage_events",
        "bronze.quarantine_usage",
        "bronze.customers_orgs",
        "bronze.nps_surveys",
        "silver.orgs",
        "gold.org_daily_usage_by_service",
        "gold.cost_anomaly_mart",
        "gold.tickets_by_org_date",
    ],
)
def test_every_reader_sees_the_published_rows(house: House, name: str, reader: Reader) -> None:
    assert in_one_order(reader(house, name)) == in_one_order(house.read(name))


@pytest.mark.parametrize("reader", [by_deltalake, by_deltalake_sql])
def test_maps_of_lists_are_read(house: House, reader: Reader) -> None:
    tags = {str(row["resource_tags"]) for row in reader(house, "silver.usage_enriched")}

    assert tags == {"[('env', ['prod', 'old'])]"}


def test_partition_values_are_in_the_log_and_in_the_files(house: House) -> None:
    table = DeltaTable(str(house.root / "lake/bronze/usage_events"))

    assert table.metadata().partition_columns == ["event_date", "service"]
    assert {one["service"] for one in table.partitions()} == {*SERVICES}
    for path in house.published().relation("bronze.usage_events").paths:
        assert {"event_date", "service"} <= set(pa.parquet.read_schema(path).names)


def test_a_filter_on_a_partition_finds_its_rows(house: House) -> None:
    rows = polars.scan_delta(str(house.root / "lake/bronze/usage_events"))

    for service in SERVICES[1:]:
        assert rows.filter(polars.col("service") == service).collect().height == 1


def test_every_table_is_open_to_simple_readers(house: House) -> None:
    for name, published in house.published().tables.items():
        table = DeltaTable(str(house.root / "lake" / name.replace(".", "/")))
        protocol = table.protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
        assert not protocol.reader_features
        assert table.version() == published.version
        assert "enableDeletionVectors" not in str(table.metadata().configuration)
        assert tuple(table.metadata().partition_columns) == published.partition_by


def test_each_commit_says_for_which_position_it_stands(house: House) -> None:
    table = DeltaTable(str(house.root / "lake/gold/org_daily_usage_by_service"))

    positions = [one["meterhouse.position"] for one in table.history()]

    assert positions == [str(house.published().stamp.position), "6"]
