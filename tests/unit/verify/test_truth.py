"""The chain of entries: which of two was changed, what the views say of its end."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from meterhouse.lake.published import Published
from meterhouse.log.entry import Entry, entry_path
from meterhouse.ports import Stamp
from meterhouse.testing import FixedClock, MemoryBlobs
from meterhouse.verify import Scope, Subject
from meterhouse.verify.report import Check
from meterhouse.verify.truth import check_log


class Served:
    """What a serving store says of itself."""

    def __init__(self, stamp: Stamp | None) -> None:
        self._stamp = stamp

    def stamp(self) -> Stamp | None:
        return self._stamp

    def load(self, epoch: str, table: str, rows: pa.RecordBatchReader) -> int:
        raise NotImplementedError

    def publish(self, epoch: str, stamp: Stamp, **_: Any) -> None:
        raise NotImplementedError

    def rows(self, table: str) -> pa.RecordBatchReader:
        raise NotImplementedError


def chain(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for position in range(1, length + 1):
        entries.append(
            Entry(
                position=position,
                kind="fork",
                previous=entries[-1].sha256 if entries else "",
                ingest_ts=f"2025-09-01T00:00:{position:02}.000000Z",
                project="p" if position == 1 else "",
            )
        )
    return entries


def subject(blobs: MemoryBlobs, lake: Stamp | None = None, serving: Stamp | None = None) -> Subject:
    published = Published(lake, FixedClock()(), 1, {}) if lake is not None else None
    return Subject(Path("/nowhere"), blobs, None, None, published, Served(serving))  # type: ignore[arg-type]


def stored(entries: list[Entry]) -> MemoryBlobs:
    blobs = MemoryBlobs()
    for entry in entries:
        blobs.put(entry_path(entry.position), entry.to_bytes())
    return blobs


def stamp(entry: Entry) -> Stamp:
    return Stamp("p", entry.fork, entry.position, entry.sha256)


def checked(blobs: MemoryBlobs, **views: Any) -> Check:
    return check_log(subject(blobs, **views), Scope())


def test_a_whole_chain_holds() -> None:
    entries = chain(5)

    assert (
        checked(stored(entries), lake=stamp(entries[3]), serving=stamp(entries[4])).findings == []
    )


@pytest.mark.parametrize("position", [1, 2, 4, 5])
def test_the_entry_that_was_changed_is_named_and_no_other(position: int) -> None:
    entries = chain(5)
    blobs = stored(entries)
    changed = replace(entries[position - 1], ingest_ts=f"2025-09-01T00:00:{position:02}.500000Z")
    blobs.put(entry_path(position), changed.to_bytes())

    found = checked(blobs, lake=stamp(entries[4])).findings

    assert {finding.file for finding in found} == {entry_path(position)}
    assert all(finding.severity == "broken" for finding in found)


def test_a_changed_link_is_blamed_on_the_entry_that_holds_it() -> None:
    entries = chain(5)
    blobs = stored(entries)
    blobs.put(entry_path(3), replace(entries[2], previous="0" * 64).to_bytes())

    found = checked(blobs).findings

    assert {finding.file for finding in found} == {entry_path(3)}


@pytest.mark.parametrize("position", [1, 3])
def test_a_missing_entry_is_named(position: int) -> None:
    blobs = stored(chain(5))
    blobs.delete(entry_path(position))

    assert [found.file for found in checked(blobs).findings] == [entry_path(position)]


def test_a_lost_tail_is_invisible_to_the_chain_and_seen_by_the_views() -> None:
    entries = chain(5)
    blobs = stored(entries[:3])

    assert checked(blobs).findings == []
    assert [found.what for found in checked(blobs, lake=stamp(entries[4])).findings] == [
        "log ends before what lake/published.json was made from"
    ]
    assert checked(blobs, serving=stamp(entries[3])).findings[0].severity == "broken"


def test_a_lost_tail_is_seen_by_an_anchor_kept_elsewhere() -> None:
    entries = chain(5)
    anchor = (5, entries[4].sha256[:12])

    assert check_log(subject(stored(entries)), Scope(expect=anchor)).findings == []
    lost = check_log(subject(stored(entries[:4])), Scope(expect=anchor)).findings
    assert (lost[0].what, lost[0].found) == ("log does not hold the anchor", "no such entry")
    other = check_log(subject(stored(entries)), Scope(expect=(4, "beef00"))).findings
    assert other[0].found == entries[3].sha256


def test_what_another_view_vouches_for_is_not_blamed_on_the_log() -> None:
    entries = chain(5)
    wrong = replace(stamp(entries[2]), head="0" * 64)

    alone = checked(stored(entries), serving=wrong).findings
    vouched = checked(stored(entries), serving=wrong, lake=stamp(entries[4])).findings

    assert [found.severity for found in alone] == ["broken"]
    assert [(found.severity, found.file) for found in vouched] == [("rebuildable", "serving.db")]


def test_time_that_runs_backwards_is_found() -> None:
    entries = chain(3)
    late = replace(entries[1], ingest_ts="2025-09-02T00:00:00.000000Z")
    last = replace(entries[2], previous=late.sha256)

    found = checked(stored([entries[0], late, last])).findings

    assert [finding.what for finding in found] == ["time of log entry runs backwards"]


def test_a_contract_whose_text_was_changed_is_found() -> None:
    text = "source: x\n"
    entry = Entry(
        position=1,
        kind="contract",
        previous="",
        ingest_ts="2025-09-01T00:00:01.000000Z",
        project="p",
        source="x",
        contract=hashlib.sha256(b"another").hexdigest(),
        text=text,
    )

    assert checked(stored([entry])).findings[0].what == "contract text does not fit its hash"
