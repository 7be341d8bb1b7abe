"""A power loss in a rebuild never brings back a list of files that are gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meterhouse.log import apply
from unit.log.house import House, engine, event


def test_the_state_is_gone_for_good_before_what_it_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.state.close()
    index = tmp_path / "index"
    synced: list[tuple[bool, int]] = []

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == index and not synced:
            synced.append(((index / "state.db").exists(), len(list(index.rglob("*.run")))))
        real(descriptor)

    real = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    assert house.blobs is not None
    apply.rebuild(house.blobs, house.log, engine(), index_folder=index)

    [(state, runs)] = synced
    assert not state
    assert runs > 0
