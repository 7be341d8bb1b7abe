"""Delta commits: a table consists of what was said, whatever a crash left in its log."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from meterhouse.clock import system_clock
from meterhouse.errors import DamageError, ModelError
from meterhouse.lake.delta import CHECKPOINT_EVERY, Contents, DeltaTables
from meterhouse.lake.files import sha256_of
from meterhouse.lake.published import PublishedTable, StoredFile
from meterhouse.ports import DataFile
from meterhouse.testing import FixedClock

NAME = "bronze.usage"
SCHEMA = pa.schema(
    [("day", pa.date32()), ("service", pa.string()), ("cost_usd", pa.decimal128(38, 9))]
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def tables(lake: Path, keep: timedelta = timedelta(0)) -> DeltaTables:
    return DeltaTables(lake, keep, system_clock)  # by which the files have their age


def stored(lake: Path, name: str, service: str = "compute", rows: int = 1) -> StoredFile:
    path = lake / "bronze/usage" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [[date(2025, 7, 3)] * rows, [service] * rows, [Decimal("0.1")] * rows]
    pq.write_table(pa.table(columns, schema=SCHEMA), path)
    return StoredFile(
        f"bronze/usage/{name}", rows, path.stat().st_size, sha256_of(path), {"service": service}
    )


def contents(*files: StoredFile, **changed: object) -> Contents:
    whole: dict[str, object] = {"schema": SCHEMA, "partition_by": ("service",), "files": files}
    return Contents(**{**whole, **changed})  # type: ignore[arg-type]


def published(lake: Path, version: int) -> PublishedTable:
    """Return what a publication would say of the table: here only its log matters."""
    log = tables(lake).log_files(NAME, version)
    return PublishedTable(NAME, version, 0, "", "", ("service",), (), log)


def live(lake: Path) -> list[str]:
    return sorted(Path(uri).name for uri in DeltaTable(str(lake / "bronze/usage")).file_uris())


def test_a_table_is_made_and_changed(lake: Path) -> None:
    first, second = stored(lake, "1.parquet"), stored(lake, "2.parquet")

    assert tables(lake).commit(NAME, contents(first, note={"position": "5"})) == 0
    assert tables(lake).commit(NAME, contents(first, second)) == 1
    assert tables(lake).commit(NAME, contents(second)) == 2

    assert live(lake) == ["2.parquet"]
    history = DeltaTable(str(lake / "bronze/usage")).history()
    assert [one["position"] for one in history if one["version"] == 0] == ["5"]


def test_the_same_contents_are_no_commit(lake: Path) -> None:
    first = stored(lake, "1.parquet")

    assert tables(lake).commit(NAME, contents(first)) == 0
    assert tables(lake).commit(NAME, contents(first)) == 0

    assert not tables(lake).ahead_of(NAME, 0)


def test_a_left_over_commit_is_undone(lake: Path) -> None:
    published, left_over = stored(lake, "1.parquet"), stored(lake, "2.parquet")
    tables(lake).commit(NAME, contents(published))
    tables(lake).commit(NAME, contents(left_over))
    assert tables(lake).ahead_of(NAME, 0)

    third = stored(lake, "3.parquet")
    version = tables(lake).commit(NAME, contents(published, third), published=0)

    assert version == 2
    assert live(lake) == ["1.parquet", "3.parquet"]


def test_a_left_over_change_of_schema_is_undone(lake: Path) -> None:
    published, left_over = stored(lake, "1.parquet"), stored(lake, "2.parquet")
    tables(lake).commit(NAME, contents(published))
    wider = SCHEMA.append(pa.field("unit", pa.string()))
    tables(lake).commit(NAME, contents(published, left_over, schema=wider))

    tables(lake).commit(NAME, contents(published), published=0)

    assert live(lake) == ["1.parquet"]
    assert len(DeltaTable(str(lake / "bronze/usage")).schema().fields) == len(SCHEMA)


@pytest.mark.parametrize("torn", [b"", b'{"add":{"pa'])
def test_a_commit_torn_by_a_power_loss_is_put_aside(lake: Path, torn: bytes) -> None:
    first = stored(lake, "1.parquet")
    tables(lake).commit(NAME, contents(first))
    (lake / "bronze/usage/_delta_log" / f"{1:020d}.json").write_bytes(torn)

    second = stored(lake, "2.parquet")
    version = tables(lake).commit(NAME, contents(first, second), published=0)

    assert live(lake) == ["1.parquet", "2.parquet"]
    assert not tables(lake).ahead_of(NAME, version)


def test_a_checkpoint_whose_commit_a_power_loss_took_is_put_aside(lake: Path) -> None:
    one, two, three = (stored(lake, f"{number}.parquet") for number in (1, 2, 3))
    tables(lake).commit(NAME, contents(one))
    tables(lake).commit(NAME, contents(one, two), published=0)
    DeltaTable(str(lake / "bronze/usage")).create_checkpoint()
    (lake / "bronze/usage/_delta_log" / f"{1:020d}.json").unlink()

    version = tables(lake).commit(NAME, contents(one, three), published=0)

    assert version == 1
    assert live(lake) == ["1.parquet", "3.parquet"]


def test_an_unreadable_published_commit_is_damage(lake: Path) -> None:
    first = stored(lake, "1.parquet")
    tables(lake).commit(NAME, contents(first))
    (lake / "bronze/usage/_delta_log" / f"{0:020d}.json").write_bytes(b"{")

    with pytest.raises(DamageError):
        tables(lake).commit(NAME, contents(first), published=0)


def test_the_schema_and_the_partitions_may_change(lake: Path) -> None:
    tables(lake).commit(NAME, contents(stored(lake, "1.parquet")))
    narrow = pa.schema([SCHEMA.field("service"), SCHEMA.field("cost_usd")])

    tables(lake).commit(NAME, contents(schema=narrow, partition_by=()))

    table = DeltaTable(str(lake / "bronze/usage"))
    assert table.metadata().partition_columns == []
    assert [field.name for field in table.schema().fields] == ["service", "cost_usd"]
    assert table.file_uris() == []


@pytest.mark.parametrize("service", ["a/b", "é", "a=b", "100%", "a b", "a%2Fb", "#?", "c:\\d"])
def test_odd_partition_values_come_back(lake: Path, service: str) -> None:
    folder = "service=" + "".join(f"%{byte:02X}" for byte in service.encode())

    tables(lake).commit(NAME, contents(stored(lake, f"{folder}/1.parquet", service)))
    tables(lake).commit(NAME, contents(stored(lake, f"{folder}/2.parquet", service)))

    found = DeltaTable(str(lake / "bronze/usage"))
    assert pa.table(found.to_pyarrow_table())["service"].to_pylist() == [service]


def test_a_missing_partition_value_is_null(lake: Path) -> None:
    file = stored(lake, "1.parquet")

    tables(lake).commit(
        NAME, contents(StoredFile(file.path, file.rows, file.size, file.sha256, {}))
    )

    [value] = DeltaTable(str(lake / "bronze/usage")).partitions()
    assert value == {"service": None}


def test_any_reader_is_let_in(lake: Path) -> None:
    file = stored(lake, "1.parquet")
    written = DataFile("1.parquet", 1, file.size, {}, {"day": '"2025-07-03"'}, {})

    tables(lake).commit(NAME, contents(file, statistics={file.path: written}))

    table = DeltaTable(str(lake / "bronze/usage"))
    protocol = table.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert actions[0]["num_records"] == 1
    assert actions[0]["min.day"] == date(2025, 7, 3)


def test_joined_files_are_no_change_of_data(lake: Path) -> None:
    first, second = stored(lake, "1.parquet"), stored(lake, "2.parquet", rows=2)
    tables(lake).commit(NAME, contents(first))

    joined = frozenset({first.path, second.path})
    tables(lake).commit(NAME, contents(second, rearranged=joined))

    text = (lake / "bronze/usage/_delta_log" / f"{1:020d}.json").read_text()
    actions = [json.loads(line) for line in text.splitlines()]
    assert [one["add"]["dataChange"] for one in actions if "add" in one] == [False]
    assert [one["remove"]["dataChange"] for one in actions if "remove" in one] == [False]


@pytest.mark.parametrize(
    "kind",
    [pa.float64(), pa.timestamp("us"), pa.timestamp("ns", tz="UTC"), pa.list_(pa.float32())],
    ids=str,
)
def test_types_that_would_lose_something_are_refused(lake: Path, kind: pa.DataType) -> None:
    with pytest.raises(ModelError) as caught:
        tables(lake).commit(NAME, contents(schema=pa.schema([("cost", kind)]), partition_by=()))

    assert '"cost"' in caught.value.what


def test_the_log_is_checkpointed_and_cleaned(lake: Path) -> None:
    for number in range(3 * CHECKPOINT_EVERY):
        tables(lake).commit(NAME, contents(stored(lake, f"{number}.parquet")))

    version = 3 * CHECKPOINT_EVERY - 1
    table = published(lake, version)
    names = {Path(file.path).name for file in table.log}
    assert len(names) <= 2 * CHECKPOINT_EVERY
    log = lake / "bronze/usage/_delta_log"
    assert len(list(log.iterdir())) > 3 * CHECKPOINT_EVERY  # what was published is still there

    tables(lake).tidy(table, frozenset())

    assert {path.name for path in log.iterdir()} == names
    assert live(lake) == [f"{version}.parquet"]


def test_vacuum_deletes_what_no_version_needs_but_never_what_is_published(lake: Path) -> None:
    old, published, new = (stored(lake, f"{n}.parquet") for n in range(3))
    for file in (old, published, new):
        tables(lake).commit(NAME, contents(file))
    orphan = stored(lake, "service=lost/9.parquet")

    deleted = tables(lake).vacuum(NAME, frozenset({published.path}))

    assert deleted == 2
    assert not (lake / old.path).exists()
    assert not (lake / orphan.path).parent.exists()
    assert (lake / published.path).exists()
    assert (lake / new.path).exists()


def test_vacuum_waits_for_the_time_kept(lake: Path) -> None:
    old, new = (stored(lake, f"{n}.parquet") for n in range(2))
    patient = tables(lake, timedelta(days=7))
    for file in (old, new):
        patient.commit(NAME, contents(file))
    orphan = stored(lake, "9.parquet")

    assert patient.vacuum(NAME, frozenset()) == 0
    assert (lake / old.path).exists()
    assert (lake / orphan.path).exists()


def test_another_time_kept_changes_no_rows(lake: Path) -> None:
    first, second = stored(lake, "1.parquet"), stored(lake, "2.parquet")
    tables(lake).commit(NAME, contents(first))

    assert tables(lake, timedelta(days=1)).commit(NAME, contents(first)) == 1
    assert tables(lake, timedelta(days=2)).commit(NAME, contents(first, second)) == 3

    for version, files in ((1, ["1.parquet"]), (2, ["1.parquet"]), (3, ["1.parquet", "2.parquet"])):
        then = DeltaTable(str(lake / "bronze/usage"), version=version)
        assert sorted(Path(uri).name for uri in then.file_uris()) == files
    settings = DeltaTable(str(lake / "bronze/usage")).metadata().configuration
    assert settings["delta.logRetentionDuration"] == "interval 172800 seconds"


def test_tables_that_are_not_published_any_more_go(lake: Path) -> None:
    tables(lake).commit(NAME, contents(stored(lake, "1.parquet")))

    assert tables(lake, timedelta(days=36500)).drop_all_but([]) == []
    assert DeltaTables(
        lake, timedelta(0), FixedClock(datetime(2100, 1, 1, tzinfo=UTC))
    ).drop_all_but([]) == [NAME]
    assert not (lake / "bronze/usage").exists()
