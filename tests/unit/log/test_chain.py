"""The chain of entries: head, reading, appending, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meterhouse.errors import DamageError
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry, entry_path
from meterhouse.ports import Stamp
from meterhouse.testing import MemoryBlobs

TIME = "2025-09-01T00:00:00.000000Z"


def filled(count: int) -> MemoryBlobs:
    blobs = MemoryBlobs()
    log = Log(blobs)
    for position in range(1, count + 1):
        head = log.stamp()
        entry = Entry(
            position=position,
            kind="contract",
            previous=head.head,
            ingest_ts=TIME,
            project="p-1" if position == 1 else "",
            text=f"text {position}",
        )
        assert log.append(entry)
    return blobs


def test_an_empty_log_has_no_head_and_covers_nothing() -> None:
    log = Log(MemoryBlobs())

    assert log.head() is None
    assert log.stamp() == Stamp("", 0, 0, "")
    assert list(log.entries()) == []


def test_entries_come_back_in_order_and_chained() -> None:
    log = Log(filled(3))

    entries = list(log.entries())

    assert [entry.position for entry in entries] == [1, 2, 3]
    assert [entry.previous for entry in entries] == ["", entries[0].sha256, entries[1].sha256]
    assert log.stamp() == Stamp("p-1", 0, 3, entries[2].sha256)
    assert [entry.position for entry in log.entries(after=1, upto=2)] == [2]


def test_of_two_that_want_one_number_one_wins() -> None:
    blobs = filled(1)
    first, second = Log(blobs), Log(blobs)
    entry = Entry(position=2, kind="fork", previous=first.stamp().head, ingest_ts=TIME)
    other = replace(entry, ingest_ts="2025-09-02T00:00:00.000000Z")

    assert first.append(entry)
    assert not second.append(other)

    head = second.head()
    assert head == entry


def test_a_head_sees_what_others_appended() -> None:
    blobs = filled(1)
    log = Log(blobs)
    log.head()
    other = Log(blobs)
    other.append(
        Entry(position=2, kind="fork", previous=other.stamp().head, ingest_ts=TIME, fork=1)
    )

    assert log.stamp().position == 2
    assert log.stamp().fork == 1


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_entry_is_never_numbered_anew(lost: int) -> None:
    blobs = filled(3)
    blobs.delete(entry_path(lost))

    with pytest.raises(DamageError, match=f"entry {lost} is missing"):
        Log(blobs).head()


def test_a_log_that_ends_before_a_view_is_refused() -> None:
    blobs = filled(3)
    cover = Log(blobs).stamp()
    blobs.delete(entry_path(3))
    log = Log(blobs)

    with pytest.raises(DamageError, match="ends at entry 2, but the state view was made"):
        log.check(cover, "the state view")


def test_another_log_than_the_view_was_made_from_is_refused() -> None:
    cover = Log(filled(2)).stamp()
    log = Log(filled(2))

    with pytest.raises(DamageError, match="is not the one"):
        log.check(replace(cover, head="0" * 64), "the state view")
    with pytest.raises(DamageError, match="is not the one"):
        log.check(replace(cover, project="p-2"), "the state view")
    log.check(cover, "the state view")


def test_a_changed_entry_breaks_the_chain() -> None:
    blobs = filled(3)
    entry = Log(blobs).read(2)
    blobs.put(entry_path(2), replace(entry, text="other").to_bytes())

    with pytest.raises(DamageError, match="entry 3 does not follow"):
        list(Log(blobs).entries())


@pytest.mark.parametrize("change", [b"x", b"", b"[]", b'{"format":99}'])
def test_bytes_that_are_no_entry_are_damage(change: bytes) -> None:
    blobs = filled(2)
    blobs.put(entry_path(2), change)

    with pytest.raises(DamageError):
        Log(blobs).head()


def test_an_entry_under_another_number_is_damage() -> None:
    blobs = filled(2)
    blobs.put(entry_path(2), blobs.read(entry_path(1)))

    with pytest.raises(DamageError, match="says it is entry 1"):
        Log(blobs).head()


def test_files_that_are_no_entries_do_not_disturb() -> None:
    blobs = filled(2)
    blobs.put("log/notes.txt", b"mine")
    blobs.put("log/segments/000000000001-000000000002.seg", b"reserved")

    assert Log(blobs).stamp().position == 2
