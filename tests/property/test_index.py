"""The index is a dictionary from key to its newest row, however the rows were added."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.intake import index as index_module
from meterhouse.intake.index import REMOVED_BIT, KeyIndex, Keys, RunFile, place_of

# Few values, so that keys repeat and many share one half of their hash.
HALF = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
KEY = st.tuples(HALF, HALF)
ROW = st.tuples(KEY, st.integers(0, 3), st.booleans())
ENTRY = st.tuples(st.lists(ROW, max_size=12), st.sampled_from(["", "flush", "reopen"]))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_SEGMENT", 3)
    monkeypatch.setattr(index_module, "_CHUNK", 4)
    monkeypatch.setattr(index_module, "_PENDING", 16)


@given(entries=st.lists(ENTRY, max_size=25), asked=st.lists(KEY, max_size=20))
@settings(deadline=None)
def test_the_index_is_a_dictionary_of_the_newest_rows(
    entries: list[tuple[list[tuple[tuple[int, int], int, bool]], str]],
    asked: list[tuple[int, int]],
) -> None:
    model: dict[tuple[int, int], tuple[int, int]] = {}
    with TemporaryDirectory() as folder:
        index = KeyIndex(Path(folder))
        runs: dict[str, RunFile] = {}
        for position, (rows, then) in enumerate(entries, start=1):
            ids = np.array([key for key, _, _ in rows], np.uint64).reshape(-1, 2)
            payload = np.array([payload for _, payload, _ in rows], np.uint64)
            place = place_of(position, np.arange(len(rows)))
            gone = np.array([removed for _, _, removed in rows], bool)
            index.add(Keys(ids, payload, np.where(gone, place | REMOVED_BIT, place)))
            for number, (key, value, removed) in enumerate(rows):
                model.pop(key, None)
                if not removed:
                    model[key] = (value, position << 32 | number)
            if then:
                changes = index.flush(position)
                for run in changes.removed:
                    del runs[run.name]
                runs |= {run.name: run for run in changes.added}
                index.clean()
            if then == "reopen":
                index = KeyIndex(Path(folder), list(runs.values()))

        wanted = np.array(asked, np.uint64).reshape(-1, 2)
        found = index.find(wanted)
        live = {
            tuple(key): (payload, place)
            for part in index.live()
            for key, payload, place in zip(
                part.ids.tolist(), part.payload.tolist(), part.place.tolist(), strict=True
            )
        }

    assert found.mask.tolist() == [key in model for key in asked]
    assert list(zip(found.payload.tolist(), found.place.tolist(), strict=True)) == [
        model.get(key, (0, 0)) for key in asked
    ]
    assert live == model
    assert list(live) == sorted(live)


@given(
    entries=st.lists(ENTRY, max_size=16), split=st.integers(0, 16), asked=st.lists(KEY, max_size=20)
)
@settings(deadline=None)
def test_an_index_can_go_on_from_what_another_was_at_a_position(
    entries: list[tuple[list[tuple[tuple[int, int], int, bool]], str]],
    split: int,
    asked: list[tuple[int, int]],
) -> None:
    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        index = KeyIndex(Path(folder))
        changes = [_keys(position, rows) for position, (rows, _) in enumerate(entries, start=1)]
        for position, keys in enumerate(changes, start=1):
            index.add(keys)
            if entries[position - 1][1]:
                index.flush(position)
        index.flush(len(entries))

        again = KeyIndex(Path(other), past=(Path(folder), index.files, split))
        for position, keys in enumerate(changes, start=1):
            if position > split:
                again.add(keys)
                again.flush(position)

        wanted = np.array(asked, np.uint64).reshape(-1, 2)
        ours, theirs = index.find(wanted), again.find(wanted)
        assert [ours.mask.tolist(), ours.payload.tolist(), ours.place.tolist()] == [
            theirs.mask.tolist(),
            theirs.payload.tolist(),
            theirs.place.tolist(),
        ]
        assert _rows(index) == _rows(again)


def _keys(position: int, rows: list[tuple[tuple[int, int], int, bool]]) -> Keys:
    ids = np.array([key for key, _, _ in rows], np.uint64).reshape(-1, 2)
    payload = np.array([payload for _, payload, _ in rows], np.uint64)
    place = place_of(position, np.arange(len(rows)))
    gone = np.array([removed for _, _, removed in rows], bool)
    return Keys(ids, payload, np.where(gone, place | REMOVED_BIT, place))


def _rows(index: KeyIndex) -> list[list[int]]:
    found = [np.column_stack([keys.ids, keys.payload, keys.place]) for keys in index.live()]
    return [row for part in found for row in part.tolist()]
