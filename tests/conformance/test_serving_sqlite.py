"""What only the SQLite store promises: readers never wait, never write, and may be others."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from meterhouse.errors import DamageError, EnvironmentFailureError, ModelError, UsageError
from meterhouse.ports import LiveChange, LiveRows, Stamp
from meterhouse.serving.reader import Reader
from meterhouse.serving.schema import Condition, Layout
from meterhouse.serving.snapshot import SqliteSnapshot, opened, read
from meterhouse.serving.sqlite import SqliteServing

TABLE = "gold.daily"
LAYOUTS = {TABLE: Layout(("org_id",), frozenset())}
NOBODY = 65534
AT = datetime(2025, 9, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "serving.db"


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o750)
        os.chown(folder, -1, NOBODY)
        yield folder


def rows(*orgs: str, cost: str = "1") -> pa.RecordBatchReader:
    return rows_table(*orgs, cost=cost).to_reader()


def rows_table(*orgs: str, cost: str) -> pa.Table:
    costs = pa.array([Decimal(cost) for _ in orgs], pa.decimal128(38, 9))
    return pa.table({"org_id": pa.array(orgs, pa.string()), "cost_usd": costs})


def publish(store: SqliteServing, epoch: str, *orgs: str) -> None:
    store.load(epoch, TABLE, rows(*orgs))
    store.publish(epoch, Stamp("p", 0, len(orgs), "h"), ingest_ts=AT, details='{"generation": 3}')


def orgs_of(snapshot: SqliteSnapshot) -> list[str]:
    return sorted(org for (org,) in snapshot.scan(TABLE, ["org_id"]))


def test_a_store_at_rest_is_one_file(path: Path) -> None:
    publish(SqliteServing(path, LAYOUTS), "one", "a")

    read(path, orgs_of)

    assert [item.name for item in path.parent.iterdir()] == ["serving.db"]


def test_whoever_opened_before_a_switch_keeps_the_answer(path: Path) -> None:
    store = SqliteServing(path, LAYOUTS)
    publish(store, "one", "a", "b")
    store.load("two", TABLE, rows("c"))

    with opened(path) as snapshot:  # a writer is connected, so this is a read transaction
        store.publish("two", Stamp("p", 0, 9, "h"), ingest_ts=AT, details="{}")

        assert snapshot.served.epoch == "one"
        assert orgs_of(snapshot) == ["a", "b"]
    assert read(path, orgs_of) == ["c"]


def test_a_file_that_changes_while_at_rest_is_read_again(path: Path) -> None:
    store = SqliteServing(path, LAYOUTS)
    publish(store, "one", "a")
    seen = []

    def work(snapshot: SqliteSnapshot) -> list[str]:
        if not seen:
            publish(store, "two", "b")  # no writer was connected when this reader opened
        seen.append(snapshot.served.epoch)
        return orgs_of(snapshot)

    assert read(path, work) == ["b"]
    assert len(seen) == 2


def test_the_tables_of_old_and_broken_epochs_are_dropped(path: Path) -> None:
    store = SqliteServing(path, LAYOUTS)
    publish(store, "one", "a")
    store.load("never published", TABLE, rows("x"))

    publish(store, "two", "b")

    with sqlite3.connect(path) as connection:
        names = {n for (n,) in connection.execute("SELECT name FROM sqlite_schema") if "@" in n}
        [used] = connection.execute("SELECT physical, live FROM tables").fetchall()
    connection.close()
    assert names == {*used, f"{used[1]} by position"}


def test_a_load_that_broke_off_is_not_part_of_the_epoch(path: Path) -> None:
    def breaking() -> Iterator[pa.RecordBatch]:
        yield from rows("a")
        raise InterruptedError

    store = SqliteServing(path, LAYOUTS)
    reader = pa.RecordBatchReader.from_batches(rows().schema, breaking())
    with pytest.raises(InterruptedError):
        store.load("one", TABLE, reader)

    publish(SqliteServing(path, LAYOUTS), "one", "b")

    assert read(path, orgs_of) == ["b"]


def test_rows_that_share_a_key_are_the_models_fault(path: Path) -> None:
    with pytest.raises(ModelError, match="same org_id"):
        SqliteServing(path, LAYOUTS).load("one", TABLE, rows("a", "a"))


def test_a_key_that_is_no_column_is_the_models_fault(path: Path) -> None:
    store = SqliteServing(path, {TABLE: Layout(("region",))})

    with pytest.raises(ModelError, match='"region" is not among the columns'):
        store.load("one", TABLE, rows("a"))


def test_details_and_position_travel_with_the_answer(path: Path) -> None:
    publish(SqliteServing(path, LAYOUTS), "one", "a", "b")

    served = read(path, lambda snapshot: snapshot.served)

    assert served.stamp.position == 2
    assert served.ingest_ts == AT
    assert served.details == json.loads('{"generation": 3}')


def test_a_null_key_meets_no_comparison(path: Path) -> None:
    store = SqliteServing(path, {TABLE: Layout(("day",))})
    days = pa.table({"day": pa.array([None, date(2025, 1, 1)])})
    store.load("one", TABLE, days.to_reader())
    store.publish("one", Stamp("p", 0, 1, "h"), ingest_ts=AT, details="{}")

    def found(snapshot: SqliteSnapshot) -> list[tuple[date]]:
        return list(snapshot.scan(TABLE, ["day"], [Condition("day", ">=", "2024-01-01")]))

    assert read(path, found) == [(date(2025, 1, 1),)]
    assert read(path, lambda snapshot: list(snapshot.distinct(TABLE, "day"))) == [date(2025, 1, 1)]


@pytest.mark.parametrize("harm", ["garbage", "truncated", "flipped value"])
def test_damage_is_named_and_says_how_to_mend_it(path: Path, harm: str) -> None:
    store = SqliteServing(path, LAYOUTS)
    store.load("one", TABLE, rows("org-of-note", cost="123.75"))
    store.publish("one", Stamp("p", 0, 1, "h"), ingest_ts=AT, details="{}")
    data = path.read_bytes()
    harmed = {
        "garbage": b"x" * len(data),
        "truncated": data[: len(data) // 2],
        "flipped value": data.replace(b"123.75", b"123x75"),
    }[harm]
    path.write_bytes(harmed)

    with pytest.raises(DamageError) as raised:
        read(path, lambda snapshot: list(snapshot.scan(TABLE, ["org_id", "cost_usd"])))

    assert "meterhouse rebuild" in raised.value.fix
    with pytest.raises(DamageError):
        store.rows(TABLE).read_all()


def test_a_store_of_another_layout_is_refused(path: Path) -> None:
    publish(SqliteServing(path, LAYOUTS), "one", "a")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(DamageError, match="layout 99"):
        read(path, orgs_of)
    with pytest.raises(DamageError, match="layout 99"):
        SqliteServing(path, LAYOUTS).load("two", TABLE, rows("a"))


def test_a_store_of_an_older_layout_is_made_anew_by_a_load(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE visible (one INTEGER PRIMARY KEY, epoch TEXT)")
        connection.execute('CREATE TABLE "gold.daily@1" (org_id TEXT)')
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = SqliteServing(path, LAYOUTS)

    assert store.stamp() is None
    with pytest.raises(UsageError, match="layout 1, which is older") as raised:
        read(path, orgs_of)
    assert "meterhouse batch" in raised.value.fix
    publish(store, "one", "a")

    assert read(path, orgs_of) == ["a"]


def live(*orgs: str, position: int, cost: str = "9") -> LiveChange:
    rows = LiveRows(TABLE, rows=rows_table(*orgs, cost=cost))
    before, after = Stamp("p", 0, position - 1, "h"), Stamp("p", 0, position, "h")
    return LiveChange(before, after, AT, (rows,), "{}")


def test_conditions_and_values_see_live_rows_over_those_of_the_epoch(path: Path) -> None:
    store = SqliteServing(path, LAYOUTS)
    store.load("one", TABLE, rows("a", "b"))
    store.publish("one", Stamp("p", 0, 1, "h"), ingest_ts=AT, details="{}")
    assert store.advance(live("b", "c", position=2))

    def found(snapshot: SqliteSnapshot) -> list[tuple[object, ...]]:
        given = [Condition("org_id", ">=", "b"), Condition("org_id", "<=", "c")]
        return sorted(snapshot.scan(TABLE, ["org_id", "cost_usd"], given))

    assert read(path, found) == [("b", Decimal(9)), ("c", Decimal(9))]
    assert read(path, lambda it: sorted(it.distinct(TABLE, "org_id"))) == ["a", "b", "c"]
    assert read(path, lambda it: it.live_rows(it.table(TABLE))) == 2
    assert store.epoch_rows(TABLE).read_all()["org_id"].to_pylist() == ["a", "b"]
    assert read(path, lambda it: it.check()) == []


def test_a_batch_only_table_says_where_it_stands(path: Path) -> None:
    store = SqliteServing(path, {**LAYOUTS, "gold.slow": Layout(("org_id",), batch_only=True)})
    store.load("one", TABLE, rows("a"))
    store.load("one", "gold.slow", rows("a"))
    store.publish("one", Stamp("p", 0, 1, "h"), ingest_ts=AT, details="{}")
    assert read(path, lambda it: it.served.behind) == {}

    assert store.advance(live("b", position=2))

    served = read(path, lambda it: it.served)
    assert (served.stamp.position, served.epoch_position) == (2, 1)
    assert served.behind == {"gold.slow": (1, AT)}


def test_the_wal_file_is_begun_anew_although_there_is_always_a_reader(path: Path) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", "a")
    orgs = [f"org {number} {'x' * 500}" for number in range(2_000)]
    sizes, ended = [], threading.Event()

    def ask() -> None:
        while not ended.is_set():
            reader.read(orgs_of)

    asking = threading.Thread(target=ask)
    asking.start()
    for number in range(1, 31):
        assert store.advance(live(*orgs, position=number + 1, cost=str(number)))
        sizes.append(path.with_name("serving.db-wal").stat().st_size)
    ended.set()
    asking.join()

    assert max(sizes) < 64 << 20
    assert any(later < before for before, later in pairwise(sizes))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
@pytest.mark.parametrize("state", ["at rest", "being written", "left by a crash"])
def test_another_user_of_the_group_reads_without_writing(shared_folder: Path, state: str) -> None:
    path = shared_folder / "serving.db"
    store = SqliteServing(path, LAYOUTS, group_shared=True)
    store.load("one", TABLE, rows("a"))
    os.chown(path, -1, NOBODY)
    store.publish("one", Stamp("p", 0, 1, "h"), ingest_ts=AT, details="{}")
    if state == "being written":
        store.load("two", TABLE, rows("b"))
    if state == "left by a crash":
        in_a_child(lambda: SqliteServing(path).load("two", TABLE, rows("b")) and "")
        assert path.with_name("serving.db-wal").exists()
    before = sorted(item.name for item in shared_folder.iterdir())

    answer = in_a_child(lambda: ",".join(read(path, orgs_of)), as_user=NOBODY)

    assert answer == "a"
    assert sorted(item.name for item in shared_folder.iterdir()) == before


@needs_root
def test_without_group_shared_the_refusal_names_the_setting(shared_folder: Path) -> None:
    path = shared_folder / "serving.db"
    publish(SqliteServing(path, LAYOUTS), "one", "a")
    path.chmod(0o600)

    def refused() -> str:
        try:
            read(path, orgs_of)
        except EnvironmentFailureError as error:
            return error.fix
        return ""

    assert "access.group_shared" in in_a_child(refused, as_user=NOBODY)


def test_group_shared_adds_the_groups_right_to_read(path: Path) -> None:
    before = os.umask(0o077)
    try:
        publish(SqliteServing(path, LAYOUTS, group_shared=True), "one", "a")
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def in_a_child(work: object, as_user: int = 0) -> str:
    """Run ``work`` in a process of its own that ends without closing anything."""
    assert callable(work)
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if as_user:
                os.setgroups([])
                os.setgid(as_user)
                os.setuid(as_user)
            os.write(sending, str(work()).encode())
        except BaseException as error:  # noqa: BLE001 - the parent compares what comes
            os.write(sending, repr(error).encode())
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize(
    "harm", ["project = 'q'", "fork = 1", "position = 1", "head = 'g'", "details = '{\"a\": 1}'"]
)
def test_what_stands_where_the_epoch_does_says_so_to_the_letter(path: Path, harm: str) -> None:
    store = SqliteServing(path, LAYOUTS)
    store.load("one", TABLE, rows("a"))
    store.publish("one", Stamp("p", 0, 1, "h"), ingest_ts=AT, details="{}")
    assert store.advance(live("b", position=2))
    store.load("two", TABLE, rows("a", "b", cost="9"))
    store.publish("two", Stamp("p", 0, 3, "h"), ingest_ts=AT, details="{}")
    assert read(path, lambda it: it.check()) == []

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE live SET {harm}")

    (problem,) = read(path, lambda it: it.check())
    assert "its answers stand" in problem
