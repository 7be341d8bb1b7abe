"""The deduplication index on disk: runs, merges, damage, memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meterhouse.errors import DamageError
from meterhouse.intake import index as index_module
from meterhouse.intake.index import REMOVED_BIT, KeyIndex, Keys, RunFile, place_of, run_sha256


def some_keys(position: int, count: int, seed: int = 0) -> Keys:
    generator = np.random.default_rng([position, seed])
    ids = generator.integers(0, 2**64, (count, 2), dtype=np.uint64)
    return Keys(ids, ids[:, 1] + np.uint64(position), place_of(position, np.arange(count)))


def stored(runs: dict[str, RunFile], index: KeyIndex, position: int) -> None:
    changes = index.flush(position)
    for run in changes.removed:
        del runs[run.name]
    runs |= {run.name: run for run in changes.added}


def test_what_was_added_is_found_before_and_after_a_flush(tmp_path: Path) -> None:
    index, keys = KeyIndex(tmp_path), some_keys(7, 1000)
    index.add(keys)
    before = index.find(keys.ids)

    changes = index.flush(7)

    again = KeyIndex(tmp_path, changes.added).find(keys.ids)
    for found in (before, again):
        assert found.mask.all()
        assert (found.payload == keys.payload).all()
        assert (found.place == keys.place).all()
    assert not index.find(some_keys(8, 100).ids).mask.any()


def test_a_run_is_named_sized_and_hashed_as_listed(tmp_path: Path) -> None:
    index = KeyIndex(tmp_path)
    index.add(some_keys(7, 1000))

    (run,) = index.flush(7).added

    assert run.rows == 1000
    assert run.position == 7
    assert (tmp_path / run.name).stat().st_size == 32 * 1000
    assert run_sha256(tmp_path / run.name) == run.sha256
    assert index.flush(8).added == ()


def test_many_small_entries_make_few_files(tmp_path: Path) -> None:
    index = KeyIndex(tmp_path)
    runs: dict[str, RunFile] = {}
    for position in range(1, 201):
        index.add(some_keys(position, 360))
        stored(runs, index, position)
        index.clean()

    assert sum(run.rows for run in runs.values()) == 200 * 360
    assert len(runs) <= 3 + np.log2(200)
    assert {path.name for path in tmp_path.iterdir()} == runs.keys()
    reopened = KeyIndex(tmp_path, list(runs.values()))
    assert reopened.find(np.concatenate([some_keys(n, 360).ids for n in range(1, 201)])).mask.all()


def test_replaced_files_stay_until_they_are_cleaned(tmp_path: Path) -> None:
    index = KeyIndex(tmp_path)
    runs: dict[str, RunFile] = {}
    for position in range(1, 4):
        index.add(some_keys(position, 10))
        stored(runs, index, position)
    before = dict(runs)
    index.add(some_keys(4, 10))

    index._spill(4)
    index.clean()

    # A crash here leaves the state with the runs of before: they must be readable.
    assert KeyIndex(tmp_path, list(before.values())).find(some_keys(1, 10).ids).mask.all()
    stored(runs, index, 4)
    index.clean()
    assert {path.name for path in tmp_path.iterdir()} == runs.keys()
    assert len(runs) == 1


def test_large_amounts_are_written_before_the_flush_and_returned_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_PENDING", 100)
    index = KeyIndex(tmp_path)
    runs: dict[str, RunFile] = {}
    for position in range(1, 20):
        index.add(some_keys(position, 90))
        index.add(some_keys(position, 90, seed=1))
        if position % 5 == 0:
            stored(runs, index, position)
    stored(runs, index, 20)
    index.clean()

    reopened = KeyIndex(tmp_path, list(runs.values()))

    assert len(reopened) == 19 * 180
    for position in range(1, 20):
        assert reopened.find(some_keys(position, 90, seed=1).ids).mask.all()


def test_a_removed_key_is_not_found_and_not_live(tmp_path: Path) -> None:
    index, keys = KeyIndex(tmp_path), some_keys(1, 4)
    index.add(keys)
    gone = place_of(2, np.arange(2)) | REMOVED_BIT
    index.add(Keys(keys.ids[:2], np.zeros(2, np.uint64), gone))

    index.flush(2)

    assert index.find(keys.ids).mask.tolist() == [False, False, True, True]
    assert sum(len(part) for part in index.live()) == 2


@pytest.mark.parametrize("damage", ["truncated", "deleted", "longer", "empty"])
def test_a_run_that_is_not_whole_is_damage_that_says_what_to_do(
    tmp_path: Path, damage: str
) -> None:
    index = KeyIndex(tmp_path)
    index.add(some_keys(1, 100))
    (run,) = index.flush(1).added
    path = tmp_path / run.name
    if damage == "deleted":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes({"truncated": data[:-1], "longer": data + b"x", "empty": b""}[damage])

    with pytest.raises(DamageError, match=r"run .* of the deduplication index") as found:
        KeyIndex(tmp_path, [run])

    assert "rebuild" in found.value.fix


def test_memory_stays_small_while_a_large_index_is_searched_and_merged(tmp_path: Path) -> None:
    def resident() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) << 10
        return 0

    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    index = KeyIndex(tmp_path)
    before = resident()
    most = 0
    for position in range(1, 18):
        index.add(some_keys(position, 130_000))
        index.flush(position)
        index.clean()
        index.find(some_keys(position + 100, 130_000).ids)
        most = max(most, resident() - before)

    assert len(index) * 32 > 60 << 20
    assert most < 60 << 20
