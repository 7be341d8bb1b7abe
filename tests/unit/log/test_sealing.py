"""Sealing: the log reads the same before, meanwhile and afterwards, whatever happens."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
import zstandard

from meterhouse.errors import DamageError
from meterhouse.log.chain import Log
from meterhouse.log.entry import entry_path
from meterhouse.log.landing import Landing, landing_path
from meterhouse.log.packs import pack_path
from meterhouse.log.segments import segment_path
from meterhouse.ports import Stamp
from meterhouse.testing import MemoryBlobs, SimulatedBlobs
from unit.log.sealed import SPAN, House, line

FIRST = segment_path(1, 4)


def house(entries: int) -> House:
    made = House(MemoryBlobs())
    made.append(entries)
    return made


def test_what_is_sealed_reads_as_it_was_written() -> None:
    one = house(11)

    one.seal()

    one.check()
    assert one.own_files() == [9, 10, 11]
    # Entry 10 landed what entry 8 did.
    own = {landing_path("s", hashlib.sha256(line(number)).hexdigest()) for number in (9, 11)}
    assert set(one.names("landing")) == {pack_path(1, 4, 0), pack_path(5, 8, 0), *own}


@pytest.mark.parametrize(("entries", "own"), [(5, 5), (6, 2), (9, 5), (10, 2)])
def test_a_range_is_sealed_when_so_many_entries_came_after_it(entries: int, own: int) -> None:
    one = house(entries)

    one.seal()

    assert len(one.own_files()) == own
    one.check()


def test_a_segment_is_a_zst_file_of_the_entries_lines() -> None:
    one = house(6)

    one.seal()

    unpacked = zstandard.ZstdDecompressor().stream_reader(
        one.blobs.read(FIRST), read_across_frames=True
    )
    assert unpacked.read() == b"".join(one.written[position] for position in range(1, 5))


def test_a_segment_attests_to_its_entries() -> None:
    one = house(10)
    one.seal()
    log = Log(one.blobs, SPAN)

    segments = [log.segments.find(1), log.segments.find(5)]

    first, second = (segment.attestation for segment in segments if segment is not None)
    assert (first.first, first.last, first.previous, first.packs) == (1, 4, "", 1)
    assert (second.previous, second.head) == (first.head, log.read(8).sha256)
    assert second.sources["s"] == {
        "entries": 4,
        "counts": {"landed": 4, "accepted": 4},
        "money": {"cost": {"USD": {"landed": "0.4", "accepted": "0.4", "unreadable": "0"}}},
    }
    for segment in segments:
        assert segment is not None
        segment.check()


def test_sealing_again_changes_nothing() -> None:
    one = house(10)
    one.seal()
    before = {name: one.blobs.read(name) for name in one.names("")}

    again = one.seal()

    assert {name: one.blobs.read(name) for name in one.names("")} == before
    assert again.done.segments == 0


def test_larger_objects_keep_their_own_files() -> None:
    one = House(MemoryBlobs(), pack_bytes=6)
    one.append(6)

    one.seal()

    assert not list(one.names("landing/packs"))
    one.check()


def test_an_object_that_came_again_is_found_where_it_was_packed_first() -> None:
    one = house(6)
    one.seal()
    # Entry 7 would land anew what is packed; entry 10 lands what entry 8 did.
    one.append(4)
    log = Log(one.blobs, SPAN)
    entry = replace(log.read(10), position=11, previous=log.stamp().head)
    log.append(entry)
    one.written[11] = entry.to_bytes()
    one.seal(margin=3)

    assert one.own_files() == [9, 10, 11]
    landing = Landing(one.blobs, SPAN)
    for position in (10, 11):
        assert landing.read(log.read(position)) == line(8)


def crashing(at: int, *, loss: random.Random | None, appended: int = 11) -> tuple[House, bool]:
    """Seal with a process that dies at operation ``at``; return what is left, and if it did."""
    operations = 0

    def operation(what: str) -> None:
        nonlocal operations
        if armed:
            operations += 1
            if operations == at:
                raise KeyboardInterrupt(what)

    armed = False
    blobs = SimulatedBlobs(operation)
    one = House(blobs)
    one.append(appended)
    armed = True
    try:
        one.seal()
        died = False
    except KeyboardInterrupt:
        died = True
    armed = False
    if loss is not None:
        blobs.power_loss(loss)
    return one, died


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_crash_at_any_operation_loses_nothing(seed: int | None) -> None:
    died, at = True, 0
    while died:
        at += 1
        one, died = crashing(at, loss=None if seed is None else random.Random(at * 7919 + seed))
        one.check()
        one.seal()
        one.check()
        assert one.own_files() == [9, 10, 11]
        one.append(5)
        one.seal()
        one.check()
    assert at > 60


@pytest.mark.parametrize("other", ["seals", "appends", "both"])
def test_at_any_operation_another_process_may_do_all_of_it(other: str) -> None:
    at, met = 0, True
    while met:
        at += 1
        met = False
        operations = 0
        armed = False

        def operation(what: str) -> None:
            nonlocal operations, met, armed
            if not armed:
                return
            operations += 1
            if operations == at:  # noqa: B023 - called within this round
                met, armed = True, False
                if other != "seals":
                    one.append(8)  # noqa: B023
                if other != "appends":
                    one.seal()  # noqa: B023
                one.check()  # noqa: B023
                armed = True

        one = House(SimulatedBlobs(operation))
        one.append(11)
        armed = True
        one.seal()
        armed = False
        one.check()
        one.seal()
        one.check()
    assert at > 60


def late(one: House, at: int, *, dies: int | None) -> bool:
    """Append with a process that sleeps at operation ``at`` while others go on.

    It dies so many operations later. Returns whether it came to its sleep.
    """
    operations = 0
    met = armed = False

    def operation(what: str) -> None:
        nonlocal operations, met, armed
        if not armed:
            return
        operations += 1
        if operations == at:
            met, armed = True, False
            one.append(9)
            one.seal()
            armed = True
        if dies is not None and operations == at + dies:
            raise KeyboardInterrupt(what)

    one.blobs = SimulatedBlobs(operation)
    one.log = Log(one.blobs, SPAN)
    one.append(7)
    sleeper = Log(one.blobs, SPAN)
    entry = replace(one.next(sleeper), ingest_ts="2025-09-02T00:00:00.000000Z")
    armed = True
    try:
        won = sleeper.append(entry)
    except KeyboardInterrupt:
        won = False
    armed = False
    # Who died knows nothing: what was put may be there.
    if won or (dies is not None and Log(one.blobs, SPAN).read(8) == entry):
        one.written[entry.position] = entry.to_bytes()
    elif dies is None:
        assert sleeper.stamp() == one.log.stamp()
    return met


@pytest.mark.parametrize("dies", [None, 0, 1, 2])
def test_a_number_that_was_sealed_away_is_never_taken_again(dies: int | None) -> None:
    at, met, ghosts = 0, True, 0
    while met:
        at += 1
        one = House(MemoryBlobs())
        met = late(one, at, dies=dies)
        ghosts += met and 8 in one.own_files()
        one.check()
        one.append(8)
        one.check()
        one.seal()
        one.check()
        assert 8 not in one.own_files()
    assert at > 4
    assert bool(ghosts) == bool(dies)


def test_a_reader_that_was_left_behind_finds_the_head() -> None:
    one = house(3)
    slept = Log(one.blobs, SPAN)
    slept.head()
    one.append(20)
    one.seal()

    # It does not look among what is sealed each time.
    looks = [slept.stamp() for _ in range(8)]

    assert looks[-1] == one.log.stamp()
    assert [entry.position for entry in slept.entries(2, 5)] == [3, 4, 5]
    assert Log(one.blobs, SPAN).head(3) == one.log.head()


def test_a_view_that_is_ahead_of_a_slow_reader_is_no_lost_log() -> None:
    one = house(2)
    slept = Log(one.blobs, SPAN)
    slept.head()
    one.append(20)
    one.seal()

    slept.check(one.log.stamp(), "the state view")

    assert slept.head() == one.log.head()


def test_a_log_whose_newest_entries_are_lost_ends_before_the_view() -> None:
    one = house(11)
    one.seal()
    cover = one.log.stamp()
    for position in one.own_files():
        one.blobs.delete(entry_path(position))
    log = Log(one.blobs, SPAN)

    with pytest.raises(DamageError, match="ends at entry 8, but the state view was made"):
        log.check(cover, "the state view")


def test_a_lost_entry_after_the_last_segment_is_never_numbered_anew() -> None:
    one = house(11)
    one.seal()
    one.blobs.delete(entry_path(9))

    with pytest.raises(DamageError, match="entry 9 is missing, but 000000000010 is there"):
        Log(one.blobs, SPAN).head()


def test_a_lost_segment_is_named() -> None:
    one = house(11)
    one.seal()
    one.blobs.delete(FIRST)

    with pytest.raises(DamageError, match="log entry 1 is missing"):
        list(Log(one.blobs, SPAN).entries())
    one.blobs.delete(segment_path(5, 8))
    with pytest.raises(DamageError, match="entry 8 is missing"):
        Log(one.blobs, SPAN).head()


def read_all(one: House) -> None:
    """Read every byte of the first range."""
    segment = Log(one.blobs, SPAN).segments.find(1)
    assert segment is not None
    segment.check()
    for pack in Landing(one.blobs, SPAN).packs.of(1):
        list(pack.checked())


@pytest.mark.parametrize("name", [FIRST, pack_path(1, 4, 0)])
def test_every_damaged_byte_is_found_by_reading_all_and_named(name: str) -> None:
    one = house(6)
    one.seal()
    data = one.blobs.read(name)

    for at in range(len(data) + 1):
        changed = bytearray(data + b"x" if at == len(data) else data)
        changed[at] ^= 0x20
        one.blobs.put(name, bytes(changed))
        with pytest.raises(DamageError) as raised:
            read_all(one)
        assert raised.value.where == name


@pytest.mark.parametrize("lost", ["landing", "log"])
def test_a_damaged_range_is_not_sealed_and_nothing_of_it_deleted(lost: str) -> None:
    one = house(6)
    path = entry_path(2) if lost == "log" else landing_path("s", one.log.read(2).object)
    data = one.blobs.read(path)
    one.blobs.put(path, data.replace(b"2", b"3"))
    before = sorted(one.names(""))

    with pytest.raises(DamageError):
        one.seal()

    assert sorted(one.names("")) == before


def test_a_segment_of_other_entries_is_not_taken_for_ours() -> None:
    one, other = house(6), House(MemoryBlobs(), pack_bytes=0)
    other.append(6)
    other.blobs = MemoryBlobs()
    other.log = Log(other.blobs, SPAN)
    entry = replace(other.next(), project="p-2")
    other.log.append(entry)
    other.append(5)
    other.seal()
    one.blobs.put(FIRST, other.blobs.read(FIRST))

    with pytest.raises(DamageError):
        list(Log(one.blobs, SPAN).entries())


def test_an_empty_log_has_nothing_to_seal() -> None:
    one = House(MemoryBlobs())

    one.seal()

    assert one.log.stamp() == Stamp("", 0, 0, "")
