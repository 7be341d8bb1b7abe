"""Known bugs, made again: each a change of the product that the simulation has to find."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from meterhouse.intake import judge
from meterhouse.intake.index import KeyIndex, Keys, place_of
from meterhouse.intake.matching import first_of
from meterhouse.log.apply import Apply
from meterhouse.log.entry import Entry
from meterhouse.ports import LiveChange
from meterhouse.serving.live import Positions
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.serving.standing import standing
from meterhouse.storage import folder
from meterhouse.testing import SimulatedBlobs

__all__ = ["BUGS"]


@contextmanager
def counter_based_dedupe() -> Iterator[None]:
    """An event is new when its number is above the count of those seen; late ones are lost."""

    def decide(records: Any, keys: KeyIndex, held: KeyIndex) -> Keys:
        valid = np.flatnonzero(records.verdicts == judge._UNDECIDED)
        ids = records.ids[valid]
        numbers = [_number(records.broken.rows["id"][int(row)].as_py()) for row in valid]
        accepted = (np.array(numbers, int) >= len(keys)) & (first_of(ids) == np.arange(len(ids)))
        records.verdicts[valid] = np.where(accepted, judge._ACCEPTED, judge._DUPLICATE)
        places = place_of(records.position, valid[accepted])
        return Keys(ids[accepted], records.payload[valid][accepted], places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_decide_first_wins", decide)
        yield


@contextmanager
def offset_outside_the_transaction() -> Iterator[None]:
    """Rows are merged in one transaction, the position moves in the next one."""

    def advance(self: Any, change: LiveChange) -> bool:
        with self._database.writing() as connection:
            found = standing(connection)
            if found is None or found.answers.stamp != change.after:
                return False
            if change.publication not in (None, found.publication):
                return False
            frozen, upto = found.frozen, change.stamp.position
            if frozen is not None and change.after.position < frozen < upto:
                return False
            snapshot = self._snapshot(connection, found)
            for rows in change.tables:
                table = self._live_table(snapshot, rows.table)
                table.change(connection, rows, Positions(upto, frozen))
        return _advance(self, replace(change, tables=()))

    _advance = SqliteServing.advance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteServing, "advance", advance)
        yield


@contextmanager
def ingest_ts_taken_at_redo() -> Iterator[None]:
    """Who applies an entry again takes the time that it is then, not the entry's."""

    def again(self: Apply, entry: Entry) -> None:
        def later(*rows: Any, ingest_ts: datetime, **how: Any) -> judge.Judged:
            return Apply.judge(self, *rows, ingest_ts=ingest_ts + timedelta(minutes=1), **how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self, "judge", later)
            _judge_again(self, entry)

    _judge_again = Apply._judge_again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Apply, "_judge_again", again)
        yield


@contextmanager
def folder_not_synced() -> Iterator[None]:
    """A name is acknowledged before its folder is synced: the power takes it away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_sync_folder", lambda folder: None)
        patch.setattr(SimulatedBlobs, "_sync", lambda self, name: None)
        yield


def _number(text: str) -> int:
    found = re.fullmatch(r"e(\d+)", text)
    return int(found[1]) if found else 1 << 40


BUGS = {
    "counter-based dedupe": counter_based_dedupe,
    "offset outside the transaction": offset_outside_the_transaction,
    "ingest_ts taken at redo": ingest_ts_taken_at_redo,
    "folder not synced": folder_not_synced,
}
