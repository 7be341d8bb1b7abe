"""What every live store must do: absolute rows that follow the log, seen as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.live_model import (
    BY_ORG,
    DAILY,
    DAILY_SCHEMA,
    LAYOUTS,
    MONEY,
    PARTIAL_SCHEMA,
    SCHEMAS,
    SUMS,
    Part,
    World,
    by_key,
    ingested,
    stamp,
    table_of,
    with_gone,
)
from meterhouse.errors import EnvironmentFailureError, ModelError, UsageError
from meterhouse.ports import LiveChange, LiveRows, LiveStore, ServingStore
from meterhouse.serving.schema import Layout
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.testing_serving import MemoryServing


class Store(ServingStore, LiveStore, Protocol):
    """Both ports in one."""

    def close(self) -> None: ...


Layouts = dict[str, Layout]
STORES: dict[str, Callable[[Path, Layouts], Store]] = {
    "memory": lambda folder, layouts: MemoryServing(layouts),
    "sqlite": lambda folder, layouts: SqliteServing(folder / "serving.db", layouts),
}
NOWHERE = LiveChange(stamp(98), stamp(99), ingested(99), (), "{}")


@dataclass
class House:
    """A store beside what it must hold."""

    store: Store
    world: World
    epochs: int = 0

    def advance(self, to: int, *parts: Part) -> None:
        assert self.store.advance(self.world.advance(to, parts))

    def load_and_publish(self, position: int, *, models: str = "first") -> None:
        self.epochs += 1
        name = f"epoch {self.epochs}"
        for table, schema in SCHEMAS.items():
            rows = table_of(self.world.epoch_rows(position, table), schema)
            self.store.load(name, table, rows.to_reader(max_chunksize=3))
        self.store.publish(
            name,
            stamp(position),
            ingest_ts=ingested(position),
            details=f'{{"models": "{models}", "epoch": {self.epochs}}}',
        )

    def publish(self, position: int) -> None:
        self.load_and_publish(position)
        self.world.publish(position)

    def check(self) -> None:
        """Compare all that readers see with what must be there."""
        # A file at rest is waited for until its times tell it from the one before.
        assert not self.store.advance(NOWHERE)
        assert self.store.stamp() == stamp(self.world.now)
        assert self.store.epoch() == stamp(self.world.epoch)
        for table in SCHEMAS:
            assert self.rows(table) == self.world.visible(table)

    def rows(self, table: str, of: pa.Table | None = None) -> dict[Any, Any]:
        return by_key(self.store.rows(table, of=of).read_all())


@contextmanager
def opened(kind: str, layouts: Layouts = LAYOUTS, *, kept_from: int = 1) -> Iterator[House]:
    with tempfile.TemporaryDirectory() as folder:
        house = House(STORES[kind](Path(folder), layouts), World(kept_from=kept_from))
        house.publish(0)
        yield house
        house.store.close()


@pytest.fixture(params=STORES)
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with opened(request.param) as found:
        yield found


def part(org: str | None, day: int, cost: str, count: int = 1, **more: Any) -> Part:
    return Part(org, day, Decimal(cost), count, **more)


def test_a_new_store_is_moved_by_nobody(tmp_path: Path) -> None:
    for make in STORES.values():
        store = make(tmp_path, LAYOUTS)

        assert not store.advance(LiveChange(stamp(0), stamp(1), ingested(1), (), "{}"))
        assert store.stamp() is None
        assert store.freeze(3) == 3
        assert store.stamp() is None
        store.close()


def test_partials_are_merged_into_live_rows_over_an_empty_epoch(house: House) -> None:
    house.advance(2, part("a", 1, "1.5"), part("b", 1, "2", first=7))
    house.advance(3, part("a", 1, "0.000000001", 2, first=3, top=Decimal("1.5")))

    house.check()
    row = house.rows(DAILY)["a", date(2025, 8, 1)]
    assert row[2:4] == (Decimal("1.500000001"), 3)
    assert row[-1] == Decimal("0.500000")


def test_a_row_of_the_epoch_is_what_a_partial_is_added_to(house: House) -> None:
    house.advance(2, part("a", 1, "1.5"), part("b", 1, "2"))
    house.publish(2)

    house.advance(3, part("a", 1, "1"))

    house.check()
    assert house.rows(DAILY)["a", date(2025, 8, 1)][2] == Decimal("2.5")


def test_a_key_without_rows_left_is_gone_and_can_come_back(house: House) -> None:
    house.advance(2, part("a", 1, "1.5"), part("b", 1, "1"))
    house.publish(2)

    house.advance(3, part("a", 1, "-1.5", -1))
    house.check()
    assert ("a", date(2025, 8, 1)) not in house.rows(DAILY)
    house.advance(4, part("a", 1, "4", 1))

    house.check()
    assert house.rows(DAILY)["a", date(2025, 8, 1)][2:4] == (Decimal(4), 1)


def test_a_null_in_the_key_is_merged_like_any_other(house: House) -> None:
    house.advance(2, part(None, 1, "1"), part("a", 1, "2"))
    house.publish(2)
    house.advance(3, part(None, 1, "3"))

    house.check()
    nulls = pa.table({"org_id": pa.array([None], pa.string())})
    assert [row[2] for row in house.rows(DAILY, nulls).values()] == [Decimal(4)]


def test_many_parts_are_some_new_some_known_and_some_come_to_nothing(house: House) -> None:
    def parts(*numbers: int, cost: str, count: int = 1) -> list[Part]:
        orgs = [None, *(f"org {number:03d}" for number in range(1, 400))]
        return [part(orgs[number], 1 + number % 3, cost, count) for number in numbers]

    house.advance(2, *parts(*range(0, 200), cost="1.5"))
    house.publish(2)
    house.advance(3, *parts(*range(399, 99, -1), cost="0.000000001"))
    house.check()

    # Known ones of the epoch, live ones and new ones; of each kind some are taken back whole.
    house.advance(
        4,
        *parts(*range(0, 50), cost="-1.5", count=-1),
        *parts(*range(50, 100), cost="2"),
        *parts(*range(100, 200), cost="0", count=0),
        *parts(*range(300, 400, 2), cost="-0.000000001", count=-1),
    )
    house.advance(5, *parts(*range(0, 100, 3), *range(300, 400, 4), cost="3"))

    house.check()
    assert house.rows(SUMS)["org 003", date(2025, 8, 1)][2] == Decimal(3)
    assert ("org 302", date(2025, 8, 3)) not in house.rows(SUMS)


@pytest.mark.parametrize("kind", STORES)
def test_nothing_that_is_added_to_a_row_leaves_it(kind: str) -> None:
    layouts = LAYOUTS | {SUMS: replace(LAYOUTS[SUMS], count_column="")}
    with opened(kind, layouts) as house:
        house.advance(2, *[part(f"org {number}", 1, "1.5") for number in range(20)])
        house.advance(
            3,
            *[part(f"org {number}", 1, "0", 0) for number in range(10)],
            *[part(f"org {number}", 1, "0", number % 2) for number in range(30, 40)],
        )

        found = {key[0]: row[2:4] for key, row in house.rows(SUMS).items()}
        assert found.keys() == {f"org {number}" for number in (*range(20), *range(30, 40))}
        assert {found[f"org {number}"] for number in range(20)} == {(Decimal("1.5"), 1)}
        # Without a column that counts, nothing says that no rows are behind a key.
        assert found["org 30"] == (Decimal(0), 0)


def test_two_of_many_parts_with_one_key_change_nothing(house: House) -> None:
    parts = [part(f"org {number}", 1, "1") for number in (*range(150), 75)]
    change = LiveRows(SUMS, partials=table_of([one.row() for one in parts], PARTIAL_SCHEMA))

    with pytest.raises(ModelError, match="same org_id, day"):
        house.store.advance(LiveChange(stamp(0), stamp(1), ingested(1), (change,), "{}"))

    house.check()
    house.advance(1, *parts[:-1])
    house.check()


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (pa.dictionary(pa.uint8(), pa.string()), lambda number: f"kind {number}"),
        (pa.list_(pa.int64()), lambda number: [number]),
        (pa.struct([("of", pa.int64())]), lambda number: {"of": number}),
        (pa.map_(pa.string(), pa.int64()), lambda number: [("of", number)]),
        (pa.bool_(), lambda number: number > 0),
    ],
)
def test_keys_of_any_type_are_merged(
    tmp_path: Path, kind: pa.DataType, made: Callable[[int], Any]
) -> None:
    """Many rows are put in the order of their keys; not every type has one."""
    schema = pa.schema([("org_id", pa.string()), ("kind", kind), ("cost_usd", MONEY)])
    rows = [(f"org {number:03d}", made(number % 2), Decimal(number)) for number in range(300)]
    layout = Layout(key=("org_id", "kind"), merge={"cost_usd": "sum"})
    store = SqliteServing(tmp_path / "serving.db", {SUMS: layout})
    store.load("epoch 1", SUMS, schema.empty_table().to_reader())
    store.publish("epoch 1", stamp(0), ingest_ts=ingested(0), details="{}")

    for after, some in ((0, rows[:200]), (1, rows[100:])):
        part = LiveRows(SUMS, partials=table_of(some, schema))
        to = stamp(after), stamp(after + 1), ingested(after + 1)
        assert store.advance(LiveChange(*to, (part,), "{}"))

    found = {row["org_id"]: row["cost_usd"] for row in store.rows(SUMS).read_all().to_pylist()}
    assert found == {
        f"org {number:03d}": Decimal(2 * number if 100 <= number < 200 else number)
        for number in range(300)
    }
    store.close()


def test_rows_are_replaced_by_a_number_that_does_not_lead_the_key(tmp_path: Path) -> None:
    schema = pa.schema([("org_id", pa.string()), ("number", pa.int64()), ("cost_usd", MONEY)])
    rows = [("a", None, Decimal(1)), ("a", 1, Decimal(2)), ("b", 2, Decimal(3))]
    store = SqliteServing(tmp_path / "serving.db", {SUMS: Layout(key=("org_id", "number"))})
    store.load("epoch 1", SUMS, table_of(rows, schema).to_reader())
    store.publish("epoch 1", stamp(0), ingest_ts=ingested(0), details="{}")

    replaces = pa.table({"number": pa.array([None, 2], pa.int64())})
    change = LiveRows(SUMS, rows=schema.empty_table(), replaces=replaces)
    assert store.advance(LiveChange(stamp(0), stamp(1), ingested(1), (change,), "{}"))

    assert store.rows(SUMS).read_all().to_pylist() == [
        {"org_id": "a", "number": 1, "cost_usd": Decimal(2)}
    ]
    store.close()


def test_some_columns_of_what_changed_can_be_had_alone(house: House) -> None:
    house.advance(2, part("a", 1, "1"), part(None, 2, "2"))
    house.advance(3, part("a", 1, "-1", -1))

    changed = house.store.changed(SUMS, 1, ("cost_usd", "org_id"))

    assert changed.column_names == ["cost_usd", "org_id", "changed_at", "gone"]
    found = sorted(changed.to_pylist(), key=lambda row: row["changed_at"])
    assert [(row["org_id"], row["changed_at"], row["gone"]) for row in found] == [
        (None, 2, False),
        ("a", 3, True),
    ]
    assert found[0]["cost_usd"] == Decimal(2)


def test_another_position_than_the_stores_changes_nothing(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    change = house.world.advance(3, [part("a", 1, "1")])

    assert house.store.advance(change)
    assert not house.store.advance(change)

    house.check()


def test_readers_see_details_of_the_epoch_with_the_live_ones_over_them(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    found = house.store.answers()

    assert found is not None
    assert found.details == {"models": "first", "epoch": 1, "seen": 2}
    assert (found.stamp, found.epoch, found.frozen) == (stamp(2), stamp(0), None)


def test_a_change_for_another_epoch_changes_nothing(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    before = house.store.answers()
    assert before is not None
    house.publish(2)
    change = replace(house.world.advance(3, []), publication=before.publication)

    assert not house.store.advance(change)
    now = house.store.answers()
    assert now is not None
    house.store.freeze(2)
    assert house.store.advance(replace(change, publication=now.publication))


def test_a_change_does_not_reach_across_the_frozen_position(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    assert house.store.freeze(4) == 4

    across = LiveChange(stamp(2), stamp(5), ingested(5), (), "{}")
    assert not house.store.advance(across)
    house.check()

    house.advance(4, part("a", 1, "1"))
    house.advance(5, part("a", 1, "1"))
    house.check()


def test_freezing_keeps_what_rows_were_at_a_position(house: House) -> None:
    house.advance(2, part("a", 1, "1"), part("b", 1, "1"), part("c", 1, "1"))
    house.publish(2)
    house.advance(3, part("a", 1, "1"), part("b", 1, "-1", -1))

    assert house.store.freeze(2) == 3
    house.advance(4, part("a", 1, "1"), part("c", 1, "1"))
    house.advance(5, part("a", 1, "1"), part("b", 1, "1"))

    found = with_gone(by_key(house.store.frozen(DAILY)))
    at_3 = house.world.at[3][DAILY]
    a, b = ("a", date(2025, 8, 1)), ("b", date(2025, 8, 1))
    assert found == {a: at_3[a], b: None}
    house.check()


def test_promotion_keeps_what_is_later_and_drops_what_is_not(house: House) -> None:
    house.advance(2, part("a", 1, "1"), part("b", 1, "1"))
    house.store.freeze(2)
    house.advance(3, part("a", 1, "1"))

    house.publish(2)

    house.check()
    assert house.store.stamp() == stamp(3)
    assert with_gone(by_key(house.store.changed(DAILY, 0))).keys() == {("a", date(2025, 8, 1))}
    with pytest.raises(EnvironmentFailureError, match="nothing is frozen"):
        house.store.frozen(DAILY)


def test_another_generation_drops_all_that_is_live(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    house.advance(3, part("a", 1, "1"), part("b", 1, "1"))

    house.load_and_publish(2, models="second")
    house.world.publish(2, forget=True)

    house.check()
    house.advance(3, part("a", 1, "7"))
    house.check()


def test_tables_with_other_columns_drop_all_that_is_live(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    house.advance(3, part("a", 1, "1"))
    wider = DAILY_SCHEMA.append(pa.field("region", pa.string()))
    rows = [(*row, "eu") for row in house.world.epoch_rows(2, DAILY)]
    house.store.load("wider", DAILY, table_of(rows, wider).to_reader())

    house.store.publish("wider", stamp(2), ingest_ts=ingested(2), details='{"models": "first"}')

    assert house.store.stamp() == stamp(2)
    assert list(house.rows(DAILY).values()) == rows


def test_a_view_is_replaced_for_the_values_given(house: House) -> None:
    house.advance(2, part("a", 1, "1"), part("a", 2, "1"), part("b", 1, "1"))
    house.publish(2)

    house.advance(3, part("a", 1, "-1", -1), part("a", 3, "5"))

    house.check()
    days = {key[1].day for key in house.rows(BY_ORG) if key[0] == "a"}
    assert days == {2, 3}
    changed = with_gone(by_key(house.store.changed(BY_ORG, 2)))
    assert {key[1].day: row is None for key, row in changed.items()} == {1: True, 3: False}


def test_a_base_row_counts_where_neither_live_nor_epoch_has_the_key() -> None:
    for kind in STORES:
        with opened(kind, kept_from=10) as house:
            house.advance(2, part("a", 1, "1"), part("a", 20, "1"))
            house.publish(2)
            house.check()
            assert [key[1].day for key in house.rows(DAILY)] == [20]

            house.advance(3, part("a", 1, "1"))
            house.check()
            house.advance(4, part("a", 1, "-2", -2))
            house.check()
            house.advance(5, part("a", 1, "9"))

            house.check()
            assert house.rows(DAILY)["a", date(2025, 8, 1)][2] == Decimal(9)


def test_more_digits_than_a_column_holds_change_nothing(house: House) -> None:
    most = "99999999999999999999999999999.999999999"
    house.advance(2, part("a", 1, most), part("b", 1, "1"))
    one = table_of([part("a", 1, "0.000000001").row()], PARTIAL_SCHEMA)
    other = table_of([part("b", 1, "1").row()], PARTIAL_SCHEMA)
    tables = (LiveRows(DAILY, partials=pa.concat_tables([other, one])),)

    with pytest.raises(ModelError, match=r'"cost_usd" of gold\.daily has more digits'):
        house.store.advance(LiveChange(stamp(2), stamp(3), ingested(3), tables, "{}"))

    house.check()


def test_a_count_beyond_64_bits_changes_nothing(house: House) -> None:
    house.advance(2, part("a", 1, "1", 2**63 - 1))
    tables = (LiveRows(DAILY, partials=table_of([part("a", 1, "1").row()], PARTIAL_SCHEMA)),)

    with pytest.raises(ModelError, match=r'"rows_count" of gold\.daily has more digits'):
        house.store.advance(LiveChange(stamp(2), stamp(3), ingested(3), tables, "{}"))

    house.check()


def test_one_key_twice_is_refused(house: House) -> None:
    twice = table_of([part("a", 1, "1").row()] * 2, PARTIAL_SCHEMA)
    change = LiveChange(stamp(0), stamp(1), ingested(1), (LiveRows(DAILY, twice),), "{}")

    with pytest.raises(ModelError, match="have the same org_id, day"):
        house.store.advance(change)

    house.check()


def test_an_unknown_table_or_key_column_names_the_nearest(house: House) -> None:
    change = LiveChange(stamp(0), stamp(1), ingested(1), (LiveRows("gold.dialy"),), "{}")

    with pytest.raises(UsageError, match=r'did you mean "gold\.daily"'):
        house.store.advance(change)
    with pytest.raises(UsageError, match='did you mean "org_id"'):
        house.store.rows(DAILY, of=pa.table({"org_ids": ["a"]}))
    house.check()


def test_an_empty_change_only_moves_the_position(house: House) -> None:
    house.advance(2, part("a", 1, "1"))
    house.store.advance(LiveChange(stamp(2), stamp(9), ingested(9), (), '{"stale": {}}'))

    assert house.store.stamp() == stamp(9)
    assert len(house.rows(DAILY)) == 1
    assert house.store.changed(DAILY, 2).num_rows == house.store.changes(DAILY, 2) == 0


def test_a_row_that_stays_what_it_was_has_not_changed(house: House) -> None:
    house.advance(2, part("a", 1, "1"), part("a", 2, "1"))
    nothing = table_of([part("a", 1, "0", 0).row()], PARTIAL_SCHEMA)
    tables = (LiveRows(DAILY, partials=nothing),)

    house.store.advance(LiveChange(stamp(2), stamp(3), ingested(3), tables, "{}"))

    assert house.store.changed(DAILY, 2).num_rows == 0
    assert set(house.store.changed(DAILY, 0)["changed_at"].to_pylist()) == {2}


COSTS = st.sampled_from(["0", "1", "-1", "0.000000001", "-2.5", "123456789012345678.123456789"])
PARTS = st.builds(
    Part,
    org=st.sampled_from([None, "", "a", "b"]),
    day=st.integers(1, 4),
    cost=COSTS.map(Decimal),
    count=st.integers(-2, 2),
    first=st.none() | st.sampled_from([0, 1, 999_999, 1_000_000]),
    top=st.none() | COSTS.map(Decimal),
)
STEPS = st.one_of(
    st.tuples(st.just("advance"), st.lists(PARTS, max_size=6, unique_by=lambda it: it.key)),
    st.tuples(st.just("freeze"), st.integers(0, 2)),
    st.tuples(st.just("publish"), st.booleans()),
    st.tuples(st.just("new generation"), st.none()),
    st.tuples(st.just("close"), st.none()),
)


@pytest.mark.parametrize("kind", STORES)
@given(steps=st.lists(STEPS, max_size=12), kept_from=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_any_sequence_of_calls_gives_the_rows_of_the_log(
    kind: str, steps: list[tuple[str, Any]], kept_from: int
) -> None:
    with opened(kind, kept_from=kept_from) as house:
        run = Run(house)
        for name, argument in steps:
            getattr(run, name.replace(" ", "_"))(argument)
            house.check()
            run.check()


@dataclass
class Run:
    """One sequence of calls, with the frozen position."""

    house: House
    frozen: int | None = None
    generation: int = 0
    published: int = 0

    def advance(self, parts: list[Part]) -> None:
        now, to = self.house.world.now, self.house.world.now + 1 + len(parts) % 2
        if self.frozen is not None and now < self.frozen < to:
            to = self.frozen
        self.house.advance(to, *parts)

    def freeze(self, ahead: int) -> None:
        now = self.house.world.now
        self.frozen = self.house.store.freeze(now - 1 + ahead)
        assert self.frozen == max(now, now - 1 + ahead)

    def publish(self, frozen: bool) -> None:
        """Publish at the frozen position, where a batch does, or where the answers are."""
        world = self.house.world
        position = self.frozen if frozen and self.frozen is not None else world.now
        if position not in world.at:
            self.house.advance(position)  # the frozen position lies ahead: entries up to it
        models = f"number {self.generation}" if self.generation else "first"
        self.house.load_and_publish(position, models=models)
        world.publish(position, forget=self.generation != self.published)
        self.published, self.frozen = self.generation, None

    def new_generation(self, _: None) -> None:
        self.generation += 1

    def close(self, _: None) -> None:
        self.house.store.close()

    def check(self) -> None:
        """Compare ``changed`` and ``frozen`` with what the world says."""
        world, store = self.house.world, self.house.store
        for table in SCHEMAS:
            for after in range(world.epoch, world.now + 1):
                found = with_gone(by_key(store.changed(table, after)))
                assert store.changes(table, after) == len(found)
                assert found == {
                    key: world.at[world.now][table].get(key)
                    for key in world.touched(table, after, world.now)
                }
            if self.frozen is not None and self.frozen <= world.now:
                found = with_gone(by_key(store.frozen(table)))
                assert found == {
                    key: world.at[self.frozen][table].get(key)
                    for key in world.touched(table, world.epoch, self.frozen)
                }
