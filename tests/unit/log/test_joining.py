"""Joining: the same judged rows in fewer files, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.errors import DamageError
from meterhouse.layers.judged import judged_forms
from meterhouse.log.joining import Joining
from meterhouse.log.segments import Span
from meterhouse.log.state import JudgedFile
from meterhouse.storage.folder import FolderBlobs
from unit.log.house import ORGS, House, event, org

SPAN = Span(entries=4)


class Watched(FolderBlobs):
    """Tells of each operation before it is done."""

    def __init__(self, root: Path, operation: Callable[[], None]) -> None:
        super().__init__(root)
        self.operation = operation

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self.operation()
        super().put(name, data, durable=durable)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        self.operation()
        return super().read(name, lo, hi)

    def delete(self, name: str) -> None:
        self.operation()
        super().delete(name)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Twelve entries of events in a row, after that of their contract."""
    made = House(tmp_path)
    for number in range(1, 13):
        made.put("events.jsonl", "".join(event(one) for one in range(1, number + 1)))
        made.ingest()
    return made


def joining(house: House, before: int, published: int = 0) -> Joining:
    assert house.blobs is not None
    done = Joining(house.blobs, house.state, span=SPAN)
    for _ in done.steps(before, published or before):
        pass
    return done


def rows(house: House, source: str = "usage_events") -> pa.Table:
    """The judged rows by what the state lists, in the order of the log."""
    files = house.state.judged_files(source)
    found = pa.concat_tables([pq.read_table(house.root / file.path) for file in files])
    assert found["log_position"].to_pylist() == sorted(found["log_position"].to_pylist())
    return found


def listed(house: House, source: str = "usage_events") -> list[tuple[int, int]]:
    return [(file.begins, file.position) for file in house.state.judged_files(source)]


def on_disk(house: House) -> int:
    return len(list((house.root / "judged").rglob("*.parquet")))


def test_ranges_that_are_published_are_joined(house: House) -> None:
    before = rows(house)

    done = joining(house, 11)

    assert done.done.files == 2
    # Entry 1 is the contract.
    assert listed(house) == [(2, 4), (5, 8), *((at, at) for at in range(9, 14))]
    assert rows(house) == before
    assert house.state.mark("joined") == 8


def test_what_was_replaced_is_deleted_after_the_next_publication(house: House) -> None:
    joining(house, 8, 12)
    assert on_disk(house) == 12 + 2

    joining(house, 8, 12)
    assert on_disk(house) == 12 + 2

    assert joining(house, 8, 13).done.deleted == 7
    assert on_disk(house) == 5 + 2
    assert joining(house, 8, 14).done.deleted == 0


def test_the_same_rows_make_the_same_bytes(house: House, tmp_path: Path) -> None:
    joining(house, 8)
    first = {file.path: (house.root / file.path).read_bytes() for file in joined(house)}
    house.state.advance(house.state.stamp())

    again = House(tmp_path / "again", clock=house.clock)
    for number in range(1, 13):
        again.put("events.jsonl", "".join(event(one) for one in range(1, number + 1)))
        again.ingest()
    joining(again, 8)

    assert {file.path: (again.root / file.path).read_bytes() for file in joined(again)} == first


def joined(house: House) -> Iterator[JudgedFile]:
    return (file for file in house.state.judged_files() if file.first)


def test_files_of_other_columns_and_under_another_contract_stay_apart(house: House) -> None:
    text = house.contracts["usage_events"].text
    from meterhouse.intake.contracts import parse_contract

    house.contracts["usage_events"] = parse_contract(f"{text}\n# as it is now\n", "x")
    for number in range(13, 19):
        house.put("events.jsonl", "".join(event(one) for one in range(1, number + 1)))
        house.ingest()
    before = rows(house)

    joining(house, 20)

    # Entry 14 is the contract.
    assert listed(house)[2:] == [(9, 12), (13, 13), (15, 16), (17, 20)]
    assert rows(house) == before


def test_a_snapshot_finds_what_vanished_in_a_joined_file(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(12):
        steady = "".join(map(org, range(5, 25)))
        house.put("customers_orgs.csv", ORGS + steady + org(1, f"n{number}"))
        house.put("events.jsonl", "".join(event(one) for one in range(1, number + 2)))
        house.ingest()
    head = house.log.stamp().position
    joining(house, head)
    assert list(joined(house))

    house.put("customers_orgs.csv", ORGS + "".join(map(org, range(5, 24))))
    report = house.ingest()

    assert report.errors == []
    removed = house.judged("customers_orgs").filter(
        pa.compute.equal(house.judged("customers_orgs")["verdict"], "removed")
    )
    assert sorted(removed["org_id"].to_pylist()) == ["o-1", "o-24"]


def test_rows_of_a_part_of_a_joined_file_can_be_read(house: House) -> None:
    joining(house, 8)
    assert house.blobs is not None

    forms = judged_forms(house.blobs, house.state, "usage_events", 2, 7)

    positions = []
    for form in forms.values():
        table = form if isinstance(form, pa.Table) else pq.read_table(list(form.paths))
        positions += table["log_position"].to_pylist()
    assert sorted(positions) == [3, 4, 5, 6, 7]


def test_a_damaged_file_is_not_joined(house: House) -> None:
    path = house.root / house.state.judged_files()[1].path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    before = listed(house)

    with pytest.raises(DamageError, match="not what was written"):
        joining(house, 8)

    assert listed(house) == before


def test_a_crash_at_any_operation_loses_no_row(house: House) -> None:
    before, at, died = rows(house), 0, True
    while died:
        at += 1
        left = at

        def operation() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

        blobs = Watched(house.root, operation)
        try:
            for published in (8, 12):
                for _ in Joining(blobs, house.state, span=SPAN).steps(8, published):
                    pass
            died = False
        except KeyboardInterrupt:
            pass
        assert rows(house) == before
    assert at > 7
    assert on_disk(house) == 5 + 2


def test_of_two_that_join_one_wins(house: House) -> None:
    before = rows(house)
    assert house.blobs is not None
    other = house.again()
    first = Joining(house.blobs, house.state, span=SPAN).steps(8, 8)
    second = Joining(house.blobs, other.state, span=SPAN).steps(8, 8)

    for _ in range(100):
        next(first, None)
        next(second, None)

    assert listed(house) == listed(other)
    assert rows(house) == before
    assert listed(house)[:2] == [(2, 4), (5, 8)]


def test_ingest_goes_on_beside(house: House) -> None:
    other = house.again()
    assert other.blobs is not None
    work = Joining(other.blobs, other.state, span=SPAN).steps(8, 8)
    for number in range(13, 20):
        next(work, None)
        house.put("events.jsonl", "".join(event(one) for one in range(1, number + 1)))
        house.ingest()
    for _ in work:
        pass

    assert house.again().state.check() == []
    assert rows(house.again())["event_id"].to_pylist() == [f"e-{one}" for one in range(1, 20)]
