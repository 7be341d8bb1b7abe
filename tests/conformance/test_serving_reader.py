"""A reader that stays open sees what a new one would, whatever happens to the file."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from meterhouse.errors import DamageError, UsageError
from meterhouse.ports import LiveChange, LiveRows, Stamp
from meterhouse.serving.reader import Reader
from meterhouse.serving.schema import Layout
from meterhouse.serving.snapshot import SqliteSnapshot
from meterhouse.serving.sqlite import SqliteServing

TABLE = "gold.daily"
LAYOUTS = {TABLE: Layout(("org_id",), merge={"events_count": "sum"}, count_column="events_count")}
AT = datetime(2025, 9, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "serving.db"


def stamp(position: int) -> Stamp:
    return Stamp("p", 0, position, f"h{position}")


def events(**counts: int) -> pa.Table:
    return pa.table({"org_id": list(counts), "events_count": pa.array(counts.values(), pa.int64())})


def publish(store: SqliteServing, epoch: str, position: int, **counts: int) -> None:
    store.load(epoch, TABLE, events(**counts).to_reader())
    store.publish(epoch, stamp(position), ingest_ts=AT, details="{}")


def advance(store: SqliteServing, position: int, **counts: int) -> None:
    rows = (LiveRows(TABLE, partials=events(**counts)),)
    assert store.advance(LiveChange(stamp(position - 1), stamp(position), AT, rows, "{}"))


def seen(snapshot: SqliteSnapshot) -> tuple[int, dict[str, int]]:
    rows = dict(snapshot.scan(TABLE, ["org_id", "events_count"]))
    return snapshot.served.stamp.position, rows


def test_each_question_sees_the_newest_position(path: Path) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", 1, a=1)
    assert reader.read(seen) == (1, {"a": 1})

    advance(store, 2, a=1)
    assert reader.read(seen) == (2, {"a": 2})
    advance(store, 3, b=5)
    assert reader.read(seen) == (3, {"a": 2, "b": 5})
    store.freeze(3)
    publish(SqliteServing(path, LAYOUTS), "two", 3, a=2, b=5)
    assert reader.read(seen) == (3, {"a": 2, "b": 5})
    store.close()

    assert reader.read(seen) == (3, {"a": 2, "b": 5})
    reader.close()


def test_one_question_sees_one_position(path: Path) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", 1, a=1)
    advance(store, 2, a=1)

    def slowly(snapshot: SqliteSnapshot) -> tuple[int, dict[str, int]]:
        advance(store, 3, a=1)
        publish(SqliteServing(path, LAYOUTS), "two", 3, a=3)
        return seen(snapshot)

    assert reader.read(slowly) == (2, {"a": 2})
    assert reader.read(seen) == (3, {"a": 3})


def test_a_file_that_is_written_while_it_was_at_rest_is_asked_again(path: Path) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", 1, a=1)
    asked = []

    def once_written(snapshot: SqliteSnapshot) -> tuple[int, dict[str, int]]:
        asked.append(1)
        if len(asked) == 1:
            publish(store, "two", 2, b=1)
        return seen(snapshot)

    assert reader.read(once_written) == (2, {"b": 1})
    assert len(asked) == 2


@pytest.mark.parametrize("written", [True, False])
def test_a_file_made_anew_is_opened_anew(path: Path, written: bool) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", 1, a=1)
    if written:
        advance(store, 2, a=1)
    reader.read(seen)

    for name in ("serving.db", "serving.db-wal", "serving.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    with pytest.raises(UsageError, match="nothing was published"):
        reader.read(seen)
    publish(store, "one", 1, c=7)

    assert reader.read(seen) == (1, {"c": 7})


def test_a_writer_goes_on_in_a_file_made_anew(path: Path) -> None:
    store = SqliteServing(path, LAYOUTS)
    publish(store, "one", 1, a=1)
    advance(store, 2, a=1)
    for item in list(path.parent.iterdir()):
        item.unlink()
    publish(SqliteServing(path, LAYOUTS), "one", 4, a=10)

    advance(store, 5, a=1)

    assert Reader(path).read(seen) == (5, {"a": 11})


def test_a_question_that_fails_fails_once(path: Path) -> None:
    publish(SqliteServing(path, LAYOUTS), "one", 1, a=1)
    reader = Reader(path)
    asked = []

    def wrong(snapshot: SqliteSnapshot) -> None:
        asked.append(1)
        list(snapshot.scan("gold.dialy", ["org_id"]))

    with pytest.raises(UsageError, match="did you mean"):
        reader.read(wrong)
    assert len(asked) == 1


def test_damage_is_found_as_a_new_reader_finds_it(path: Path) -> None:
    publish(SqliteServing(path, LAYOUTS), "one", 1, a=1)
    reader = Reader(path)
    reader.read(seen)
    path.write_bytes(b"x" * path.stat().st_size)

    with pytest.raises(DamageError):
        reader.read(seen)


def test_threads_share_a_reader(path: Path) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", 1, a=1)
    found: list[tuple[int, dict[str, int]]] = []
    threads = [threading.Thread(target=lambda: found.append(reader.read(seen))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [(1, {"a": 1})] * 4


def test_no_reader_ever_sees_a_mix(path: Path) -> None:
    """Each entry adds one to every key, so all keys stand at the position, or it is a mix."""
    keys = [f"org_{number}" for number in range(50)]
    publish(SqliteServing(path, LAYOUTS), "epoch 1", 1, **dict.fromkeys(keys, 1))
    ended, found = threading.Event(), []

    def write() -> None:
        store = SqliteServing(path, LAYOUTS)
        for position in range(2, 62):
            advance(store, position, **dict.fromkeys(keys, 1))
            if position % 20 == 0:
                assert store.freeze(position) == position
            if position > 20 and position % 20 == 2:
                kept = dict.fromkeys(keys, position - 2)
                publish(SqliteServing(path, LAYOUTS), f"epoch {position}", position - 2, **kept)
        store.close()
        ended.set()

    writing = threading.Thread(target=write)
    writing.start()
    reader = Reader(path)
    while not ended.is_set():
        position, rows = reader.read(seen)
        found.append((position, sorted(set(rows.values())), len(rows)))
    writing.join()

    assert [one for one in found if one[1:] != ([one[0]], 50)] == []
    assert len({position for position, _, _ in found}) > 5


def test_a_reader_at_rest_keeps_nobody_from_resting(path: Path) -> None:
    store, reader = SqliteServing(path, LAYOUTS), Reader(path)
    publish(store, "one", 1, a=1)
    reader.read(seen)

    publish(store, "two", 2, a=1)
    reader.read(seen)

    assert [item.name for item in path.parent.iterdir()] == ["serving.db"]
