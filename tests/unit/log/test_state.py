"""The state view: staged and committed rows, its cover, two processes at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterhouse.errors import DamageError
from meterhouse.log.state import JudgedFile, Pinned, Run, RunGone, State, Taken
from meterhouse.ports import Stamp

COVER = Stamp("p-1", 0, 2, "a" * 64)
TAKEN = Taken("usage", "inbox/a.jsonl", 0, 10, 1, "r1", False, 2, True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index" / "state.db"


def test_what_is_staged_is_seen_at_once_and_lost_with_the_process(path: Path) -> None:
    state = State.open(path)
    state.stage([TAKEN, Pinned("usage", "c1", 1), JudgedFile(2, "usage", 3, 4, "s")])

    assert state.taken("usage", "inbox/a.jsonl") == [TAKEN]
    assert state.root_seen("usage", "r1")
    assert state.contract("usage") == "c1"
    assert [file.position for file in state.judged_files("usage")] == [2]
    assert State.open(path).taken("usage", "inbox/a.jsonl") == []


def test_advance_makes_it_durable_with_the_cover(path: Path) -> None:
    state = State.open(path)
    state.stage([Pinned("usage", "c1", 1), TAKEN])

    assert state.advance(COVER)

    again = State.open(path, create=False)
    assert again.stamp() == COVER
    assert again.taken("usage", "inbox/a.jsonl") == [TAKEN]
    assert again.inputs() == [TAKEN]
    assert again.sources() == ["usage"]
    assert again.check() == []


def test_runs_are_replaced_in_the_transaction_of_the_cover(path: Path) -> None:
    state = State.open(path)
    run = Run("usage", "keys", "1.run", 0, 10, "s", 1)
    merged = Run("usage", "keys", "2.run", 1, 20, "t", 2)

    state.advance(Stamp("p-1", 0, 1, "b"), lambda: [run])
    state.advance(COVER, lambda: [merged, RunGone("usage", "keys", "1.run")])

    assert State.open(path).runs("usage", "keys") == [merged]
    assert state.runs("usage", "held") == []


def test_of_two_that_move_the_cover_one_wins(path: Path) -> None:
    first, second = State.open(path), State.open(path)
    first.stage([TAKEN])
    second.stage([TAKEN])
    flushed = []

    assert first.advance(COVER)
    assert not second.advance(COVER, lambda: flushed.append(1) or [])

    assert flushed == []
    assert second.moved()
    second.reload()
    assert second.stamp() == COVER
    assert second.taken("usage", "inbox/a.jsonl") == [TAKEN]


def test_rows_of_another_process_stay_unseen_until_reload(path: Path) -> None:
    first, second = State.open(path), State.open(path)
    first.stage([TAKEN])
    first.advance(COVER)

    assert second.taken("usage", "inbox/a.jsonl") == []
    assert not second.alone(lambda: pytest.fail("the cover has moved"))


def test_a_failed_flush_changes_nothing(path: Path) -> None:
    state = State.open(path)
    state.stage([TAKEN])

    def full() -> list[Run]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        state.advance(COVER, full)

    assert State.open(path).stamp().position == 0


def test_the_latest_pinned_text_is_in_force(path: Path) -> None:
    state = State.open(path)
    state.stage([Pinned("usage", "c1", 1), Pinned("usage", "c2", 3)])
    state.advance(Stamp("p-1", 0, 5, "c"))
    state.stage([Pinned("usage", "c1", 6)])

    assert state.pinned("usage") == Pinned("usage", "c1", 6)
    assert state.pinned("usage", "c2") == Pinned("usage", "c2", 3)
    assert state.pinned("users") is None


@pytest.mark.parametrize("damage", [b"not a database at all, not a database", b"\0" * 4096])
def test_a_file_that_is_no_database_is_damage_that_rebuild_mends(path: Path, damage: bytes) -> None:
    State.open(path).close()
    path.write_bytes(damage)

    with pytest.raises(DamageError, match="state view") as raised:
        State.open(path)

    assert "meterhouse rebuild" in raised.value.fix


def test_a_missing_view_is_damage_where_none_may_be_made(path: Path) -> None:
    with pytest.raises(DamageError, match="is missing"):
        State.open(path, create=False)
