"""What the SQLite store is after its process died between any two statements."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from conformance.live_model import (
    DAILY,
    LAYOUTS,
    SCHEMAS,
    SUMS,
    Part,
    World,
    by_key,
    ingested,
    stamp,
    table_of,
)
from conformance.sqlite_statements import dies_at, watched
from meterhouse.ports import LiveChange
from meterhouse.serving.sqlite import SqliteServing

NEW = "epoch 2"


def part(org: str, day: int, cost: str, count: int = 1) -> Part:
    return Part(org, day, Decimal(cost), count)


def load_and_publish(store: SqliteServing, name: str, world: World, position: int) -> None:
    for table, schema in SCHEMAS.items():
        rows = table_of(world.epoch_rows(position, table), schema)
        store.load(name, table, rows.to_reader())
    store.publish(name, stamp(position), ingest_ts=ingested(position), details="{}")


class Scene:
    """A store in the middle of its life: an epoch at 2, answers at 4, frozen at 3."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.world = World()
        self.store = self.opened()
        load_and_publish(self.store, "epoch 0", self.world, 0)
        self.advance(2, part("a", 1, "1"), part("b", 1, "2"))
        load_and_publish(self.store, "epoch 1", self.world, 2)
        self.world.publish(2)
        self.advance(3, part("a", 1, "1.5"), part("c", 1, "1"))
        assert self.store.freeze(3) == 3
        self.advance(4, part("a", 1, "1"), part("b", 1, "-2", -1))
        self.next = self.world.advance(5, [part("c", 1, "1"), part("d", 1, "1")])
        self.store.close()

    def opened(self) -> SqliteServing:
        return SqliteServing(self.folder / "serving.db", LAYOUTS)

    def writing(self) -> SqliteServing:
        """Open a store, and its writing connection, which need not wait for a file to rest."""
        store = self.opened()
        assert not store.advance(LiveChange(stamp(99), stamp(100), ingested(100), (), "{}"))
        return store

    def advance(self, to: int, *parts: Part) -> None:
        assert self.store.advance(self.world.advance(to, parts))

    def copy(self, folder: Path) -> None:
        """Begin again from what the files were."""
        shutil.rmtree(self.folder)
        shutil.copytree(folder, self.folder)


def check(scene: Scene, position: int, epoch: int) -> None:
    """Look with a store of its own: a writer that finds what a crash left."""
    scene.world.now, scene.world.epoch = position, epoch
    store = scene.writing()
    assert (store.stamp(), store.epoch()) == (stamp(position), stamp(epoch))
    for table in SCHEMAS:
        assert by_key(store.rows(table).read_all()) == scene.world.visible(table)
    store.close()


def stands(scene: Scene) -> tuple[int, int]:
    store = scene.writing()
    answers, epoch = store.stamp(), store.epoch()
    store.close()
    assert answers is not None
    assert epoch is not None
    return answers.position, epoch.position


def advance(scene: Scene) -> None:
    scene.opened().advance(scene.next)


def promote(scene: Scene) -> None:
    load_and_publish(scene.opened(), NEW, scene.world, 3)


def freeze(scene: Scene) -> None:
    scene.opened().freeze(4)


OPERATIONS: dict[str, tuple[Callable[[Scene], None], tuple[int, int]]] = {
    "advance": (advance, (5, 2)),
    "load and publish": (promote, (4, 3)),
    "freeze": (freeze, (4, 2)),
}
"""What dies, and where answers and epoch stand when it did not."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_death_between_any_two_statements_leaves_all_or_nothing(
    tmp_path: Path, name: str
) -> None:
    work, done = OPERATIONS[name]
    scene = Scene(tmp_path / "store")
    shutil.copytree(scene.folder, tmp_path / "before")
    deaths, outcomes = 0, set()
    while dies_at(deaths, lambda: work(scene)):
        outcome = done if stands(scene) == done else (4, 2)
        outcomes.add(outcome)
        check(scene, *outcome)

        work(scene)  # once more, as whoever comes next does

        check(scene, *done)
        scene.copy(tmp_path / "before")
        deaths += 1
    assert deaths > 20
    # After the transaction that counts, only a promotion still has something to do.
    assert outcomes == ({(4, 2), done} if name == "load and publish" else {(4, 2)})


def test_what_is_frozen_survives_a_death(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "store")
    before = by_key(scene.opened().frozen(DAILY))

    assert dies_at(30, lambda: advance(scene))

    assert by_key(scene.opened().frozen(DAILY)) == before
    advance(scene)
    assert by_key(scene.opened().frozen(DAILY)) == before


def test_a_promotion_is_whole_before_anything_is_cleaned_up(tmp_path: Path) -> None:
    """Live rows that it covers stop counting at once, also where a batch restated them."""
    scene = Scene(tmp_path / "store")
    restated = World(at={3: {table: {} for table in SCHEMAS}})
    restated.at[3][DAILY] = {
        key: (*row[:2], row[2] + 100, *row[3:]) for key, row in scene.world.at[3][DAILY].items()
    }
    for table, schema in SCHEMAS.items():
        rows = table_of(restated.epoch_rows(3, table), schema)
        scene.store.load(NEW, table, rows.to_reader())
    scene.store.close()

    def publish() -> None:
        scene.opened().publish(NEW, stamp(3), ingest_ts=ingested(3), details="{}")

    assert dies_at(1, publish, only="BEGIN IMMEDIATE")

    assert stands(scene) == (4, 3)
    since = scene.world.since[4]
    assert by_key(scene.opened().rows(DAILY).read_all()) == {
        key: row if since[DAILY, key] > 3 else restated.at[3][DAILY][key]
        for key, row in scene.world.at[4][DAILY].items()
    }

    changed = by_key(scene.opened().changed(DAILY, 0))
    assert changed.keys() == scene.world.touched(DAILY, 3, 4)

    assert dies_at(1, lambda: scene.opened().freeze(4), only="BEGIN IMMEDIATE")

    frozen = by_key(scene.opened().frozen(DAILY))
    assert frozen.keys() == scene.world.touched(DAILY, 3, 4)


def test_a_key_that_is_gone_comes_back_before_anything_is_cleaned_up(tmp_path: Path) -> None:
    """Its live row, which says that it is gone, is of no account any more, but still there."""
    scene = Scene(tmp_path / "store")
    scene.world.now = 4
    shutil.copytree(scene.folder, tmp_path / "kept")

    def promote() -> None:
        load_and_publish(scene.opened(), NEW, scene.world, 4)

    transactions = 0
    while stands(scene) != (4, 4):
        scene.copy(tmp_path / "kept")
        assert dies_at(transactions, promote, only="BEGIN IMMEDIATE")
        transactions += 1
    scene.world.publish(4)
    scene.advance(5, part("b", 1, "7"), part("e", 1, "1"))

    check(scene, 5, 4)
    assert scene.world.visible(SUMS)["b", date(2025, 8, 1)][2] == Decimal(7)


def test_of_two_who_advance_from_one_position_one_wins(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "store")
    one, other = scene.opened(), scene.opened()

    assert [one.advance(scene.next), other.advance(scene.next)] == [True, False]

    check(scene, 5, 2)


def test_a_reader_stays_where_it_began(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "store")
    store = scene.opened()
    assert store.freeze(4) == 4  # a writer is connected, so readers read in a transaction
    rows = store.rows(DAILY)
    first = rows.read_next_batch()

    assert store.advance(scene.next)
    load_and_publish(scene.opened(), NEW, scene.world, 5)

    seen = pa.Table.from_batches([first, *rows])
    scene.world.now, scene.world.epoch = 4, 2
    assert by_key(seen) == scene.world.visible(DAILY)


def test_nobody_who_writes_waits_for_more_than_a_piece(tmp_path: Path) -> None:
    """Loading and cleaning up hold the lock for at most 2,000 rows at a time."""
    transactions: list[int] = []

    def watch(statement: str) -> None:
        if statement.startswith("BEGIN IMMEDIATE"):
            transactions.append(0)
        elif transactions and statement.startswith("INSERT INTO"):
            transactions[-1] += 1

    world = World()
    parts = [Part(f"org {number:05}", 1, Decimal(number), 1) for number in range(5_000)]
    first = world.advance(1, parts)
    with watched(watch):
        store = SqliteServing(tmp_path / "serving.db", LAYOUTS)
        load_and_publish(store, "epoch 1", world, 1)
        assert max(transactions) == 2_000
    assert isinstance(first, LiveChange)
