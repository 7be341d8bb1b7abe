"""The state view: staged and committed rows, its cover, two processes at a time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from meterhouse.errors import DamageError
from meterhouse.log.state import (
    Counted,
    JudgedFile,
    Pinned,
    Run,
    RunGone,
    State,
    Taken,
    Totals,
)
from meterhouse.ports import Stamp

COVER = Stamp("p-1", 0, 2, "a" * 64)
ROOT = "a1" * 32
TAKEN = Taken("usage", "inbox/a.jsonl", 0, 10, 1, ROOT, False, 2, True, versioned=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index" / "state.db"


def test_what_is_staged_is_seen_at_once_and_lost_with_the_process(path: Path) -> None:
    state = State.open(path)
    state.stage(2, [TAKEN, Pinned("usage", "c1", 1), JudgedFile(2, "usage", 3, 4, "s")])

    assert state.taken("usage", "inbox/a.jsonl") == [TAKEN]
    assert state.root_seen("usage", ROOT)
    assert state.contract("usage") == "c1"
    assert [file.position for file in state.judged_files("usage")] == [2]
    assert State.open(path).taken("usage", "inbox/a.jsonl") == []


def test_advance_makes_it_durable_with_the_cover(path: Path) -> None:
    state = State.open(path)
    state.stage(2, [Pinned("usage", "c1", 1), TAKEN])

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
    first.stage(2, [TAKEN])
    second.stage(2, [TAKEN])
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
    first.stage(2, [TAKEN])
    first.advance(COVER)

    assert second.taken("usage", "inbox/a.jsonl") == []
    assert not second.alone(lambda: pytest.fail("the cover has moved"))


def test_a_failed_flush_changes_nothing(path: Path) -> None:
    state = State.open(path)
    state.stage(2, [TAKEN])

    def full() -> list[Run]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        state.advance(COVER, full)

    assert State.open(path).stamp().position == 0


def test_the_latest_pinned_text_is_in_force(path: Path) -> None:
    state = State.open(path)
    state.stage(3, [Pinned("usage", "c1", 1), Pinned("usage", "c2", 3)])
    state.advance(Stamp("p-1", 0, 5, "c"))
    state.stage(6, [Pinned("usage", "c1", 6)])

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


FIRST_FORMAT = """
CREATE TABLE cover (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    project TEXT NOT NULL, fork INTEGER NOT NULL, position INTEGER NOT NULL, head TEXT NOT NULL
);
CREATE TABLE inputs (
    source TEXT NOT NULL, file TEXT NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL,
    lines_end INTEGER NOT NULL, root TEXT NOT NULL, whole INTEGER NOT NULL,
    position INTEGER NOT NULL, ends_newline INTEGER NOT NULL
);
CREATE INDEX inputs_by_file ON inputs (source, file, position, lo);
CREATE INDEX inputs_by_root ON inputs (source, root);
CREATE TABLE contracts (
    source TEXT NOT NULL, sha256 TEXT NOT NULL, position INTEGER PRIMARY KEY
);
CREATE TABLE judged (
    position INTEGER PRIMARY KEY, source TEXT NOT NULL, rows INTEGER NOT NULL,
    size INTEGER NOT NULL, sha256 TEXT NOT NULL
);
CREATE TABLE runs (
    source TEXT NOT NULL, which TEXT NOT NULL, name TEXT NOT NULL, tier INTEGER NOT NULL,
    rows INTEGER NOT NULL, sha256 TEXT NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (source, which, name)
);
PRAGMA user_version = 1;
"""


def test_a_state_of_the_first_format_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_FORMAT)
        db.execute("INSERT INTO cover VALUES (1, 'p-1', 0, 2, ?)", ("a" * 64,))
        for lo, file in ((0, "inbox/a.jsonl"), (0, "inbox/b.jsonl"), (10, "inbox/b.jsonl")):
            values = ("usage", file, lo, lo + 10, 1, ROOT, int(lo > 0), 2, int(lo == 0))
            db.execute("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        db.execute("INSERT INTO contracts VALUES ('usage', 'c1', 1)")
        db.execute("INSERT INTO judged VALUES (2, 'usage', 3, 4, 's')")
        db.commit()
    with pytest.raises(DamageError, match="older format 1"):
        State.open(path, create=False)

    state = State.open(path)

    assert state.stamp() == COVER
    second = Taken("usage", "inbox/b.jsonl", 10, 20, 1, ROOT, True, 2, False, versioned=True)
    assert state.taken("usage", "inbox/a.jsonl") == [TAKEN]
    assert state.last_taken("usage", "inbox/b.jsonl") == second
    assert len(state.root_taken("usage", ROOT)) == len(state.inputs()) == 3
    assert state.judged_files() == [JudgedFile(2, "usage", 3, 4, "s")]
    assert state.contract("usage") == "c1"
    assert state.totals() == ([], 2)
    assert state.check() == []


def test_what_is_counted_is_added_up(path: Path) -> None:
    state = State.open(path)
    for position in (2, 3):
        counts = {"landed": position, "accepted": 1, "blank": 4}
        state.stage(
            position, [replace(TAKEN, position=position), Counted("usage", position, "t", counts)]
        )
    state.stage(4, [Counted("other", 4, "u", {"landed": 1})])
    state.advance(replace(COVER, position=4))

    found, since = state.totals()

    zero = dict.fromkeys(("landed", "accepted", "quarantined", "duplicate", "blank", "removed"), 0)
    assert found == [
        Totals("other", 0, 1, {**zero, "landed": 1}, 4, "u"),
        Totals("usage", 1, 2, {**zero, "landed": 5, "accepted": 2, "blank": 8}, 3, "t"),
    ]
    assert since == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE inputs SET flags = 8",
        "UPDATE inputs SET number = 1",
        "UPDATE inputs SET file = 7",
        "INSERT INTO files VALUES (9, 'usage', 'c')",
        "INSERT INTO marks VALUES ('joined', 99)",
        "INSERT INTO marks VALUES ('other', 1)",
        "UPDATE inputs SET root = 'text'",
    ],
)
def test_values_that_nobody_wrote_are_found(path: Path, change: str) -> None:
    state = State.open(path)
    state.stage(2, [TAKEN])
    state.advance(COVER)
    assert state.check() == []

    with closing(sqlite3.connect(path)) as db:
        db.execute(change)
        db.commit()

    assert state.check() != []
