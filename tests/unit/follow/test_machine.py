"""When the machine says no, and when other commands want something done."""

from __future__ import annotations

import errno
import gc
import inspect
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from meterhouse.errors import EnvironmentFailureError, MeterhouseError
from meterhouse.follow.requests import (
    FOLLOW_LOCK,
    INGEST_LOCK,
    Requests,
    _asked,
    hand_over,
    ingest_request,
)
from meterhouse.intake.index import KeyIndex, RunChanges
from meterhouse.log.lock import Lock
from meterhouse.log.report import IngestReport
from meterhouse.storage.folder import FolderBlobs
from unit.follow.following import SETTLE, Following
from unit.log.house import INVOICES, House, event, invoice


class FullDisk(FolderBlobs):
    """A folder on a disk that is full now and then."""

    full: str = ""
    """Below this folder nothing can be written; empty: everything can."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self._check(name)
        return super().put_if_absent(name, data)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._check(name)
        super().put(name, data, durable=durable)

    def _check(self, name: str) -> None:
        if self.full and name.startswith(self.full):
            raise EnvironmentFailureError("no space left on device", name, "free some space")


@pytest.fixture
def disk(tmp_path: Path) -> FullDisk:
    return FullDisk(tmp_path / "project")


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


IN_PIECES = pytest.mark.parametrize("options", [{"piece_bytes": 2000}])
"""What is handed over is taken in pieces of some ten lines."""


@pytest.fixture
def following(tmp_path: Path, disk: FullDisk, options: dict[str, Any]) -> Iterator[Following]:
    house = House(tmp_path / "project", blobs=disk)
    made = Following(house.root, house=house, options=options)
    yield made
    made.close()


@pytest.mark.parametrize("part", ["landing", "log", "judged"])
def test_a_full_disk_loses_nothing_and_work_goes_on_by_itself(
    following: Following, disk: FullDisk, part: str
) -> None:
    following.put("events.jsonl", event(1))
    following.rounds()
    disk.full = part
    following.add("events.jsonl", event(2))
    following.put("billing_monthly.csv", INVOICES + invoice(1, "10"))
    following.rounds()
    assert following.follower.failure is not None
    for _ in range(3):
        following.later(40)
    assert len(following.said("no space left on device")) == 1
    assert following.waiting() == ["inbox/billing_monthly.csv", "inbox/events.jsonl"]

    disk.full = ""
    following.later(40)

    assert following.follower.failure is None
    assert following.accepted() == ["e-1", "e-2"]
    assert following.accepted("billing_monthly", "invoice_id") == ["i-1"]
    assert following.waiting() == []


def test_answers_that_stood_still_follow_again_without_a_new_entry(following: Following) -> None:
    following.put("events.jsonl", event(1))
    following.answers.full = True
    following.later(SETTLE)
    assert following.accepted() == ["e-1"]
    assert following.answers.at == 0

    following.answers.full = False
    following.later(40)

    assert following.answers.at == following.position == 2
    assert following.follower.failure is None


def test_pauses_grow_while_the_machine_says_no(following: Following, disk: FullDisk) -> None:
    disk.full = "landing"
    following.put("events.jsonl", event(1))
    for _ in range(200):
        following.later(1.0)

    assert 8 <= following.follower.tally.failures <= 14


@pytest.mark.parametrize("options", [{"once": True}])
def test_draining_ends_with_what_the_machine_said(following: Following, disk: FullDisk) -> None:
    disk.full = "log"
    following.put("events.jsonl", event(1))

    with pytest.raises(EnvironmentFailureError, match="no space left"):
        following.rounds()


class Asking(threading.Thread):
    """Another command that hands files over, in a thread of its own."""

    def __init__(self, root: Path, request: dict[str, Any]) -> None:
        super().__init__()
        self.root = root
        self.request = request
        self.lock = Lock(root / INGEST_LOCK)
        self.told: list[tuple[int, str]] = []
        self.answer: Any = "nothing yet"
        self.start()

    def run(self) -> None:
        try:
            self.answer = hand_over(
                self.root,
                self.lock,
                self.request,
                progress=lambda size, name: self.told.append((size, name)),
            )
        except MeterhouseError as error:
            self.answer = error


def asked(following: Following, *paths: Path, source: str = "usage_events") -> dict[str, Any]:
    from meterhouse.sources.files import discover

    found = discover(paths, following.given.contracts, source, project=following.root)
    return ingest_request(found.files)


def serve(following: Following, asking: Asking) -> None:
    """Make rounds until the request is answered."""
    for _ in range(400):
        following.follower.tree.elsewhere.add("requests")
        following.rounds()
        if not asking.is_alive():
            break
        time.sleep(0.01)
    asking.join(1)


@pytest.fixture
def locked(following: Following) -> Iterator[tuple[Lock, Lock]]:
    """What a running follower holds."""
    follow, ingest = Lock(following.root / FOLLOW_LOCK), Lock(following.root / INGEST_LOCK)
    assert follow.take()
    assert ingest.take()
    yield follow, ingest
    follow.release()
    ingest.release()


@pytest.mark.usefixtures("locked")
def test_what_is_handed_over_is_taken_and_reported(following: Following, tmp_path: Path) -> None:
    history = tmp_path / "history.log"
    history.write_text("".join(event(number) for number in range(50)) + "{}\n")

    asking = Asking(following.root, asked(following, history))
    serve(following, asking)

    report = IngestReport.from_body(asking.answer["report"])
    [source] = report.sources.values()
    assert source.counts["landed"] == 51
    assert (source.counts["accepted"], source.counts["quarantined"]) == (50, 1)
    assert source.taken == [str(history)]
    assert report.stamp.position == following.position
    assert str(source.money["cost_usd_increment"]["USD"]["accepted"]) == "12.5"
    assert list(Requests(following.root).folder.iterdir()) == []


@IN_PIECES
@pytest.mark.usefixtures("locked")
def test_live_files_go_on_between_the_pieces_of_what_was_handed_over(
    following: Following, tmp_path: Path
) -> None:
    history = tmp_path / "history.log"
    history.write_text("".join(event(number) for number in range(200)))
    asking = Asking(following.root, asked(following, history))
    live = 0
    while asking.is_alive():
        following.follower.tree.elsewhere.add("requests")
        following.add("events.jsonl", event(10_000 + live))
        following.follower.step()
        live += 1
    following.rounds()

    assert IngestReport.from_body(asking.answer["report"]).taken == 1
    accepted = following.accepted()
    assert len(accepted) == 200 + live
    assert any(
        name.startswith("e-1000") and after.startswith("e-") and len(after) < 6
        for name, after in pairwise(accepted)
    )


@IN_PIECES
@pytest.mark.usefixtures("locked")
def test_a_request_whose_asker_is_gone_is_left_at_once_and_for_good(
    following: Following, tmp_path: Path
) -> None:
    """What is left to the garbage collector ends when it likes to, on any thread."""
    history = tmp_path / "history.log"
    history.write_text("".join(event(number) for number in range(100)))
    gc.disable()
    try:
        with _asked(following.root, asked(following, history)):
            while following.position < 5:
                following.follower.tree.elsewhere.add("requests")
                following.follower.step()
        job = following.follower.handed._job
        assert job is not None
        following.follower.step()
        assert inspect.getgeneratorstate(job.steps) == inspect.GEN_CLOSED
        following.add("events.jsonl", event(10_000))
        following.follower.step()
        state, apply = following.given.state, following.given.apply
        before, applied = state.stamp(), apply.stamp()
        assert before != applied, "something is not durable yet"

        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join()
    finally:
        gc.enable()

    assert (state.stamp(), apply.stamp()) == (before, applied)
    assert state.position == applied.position
    following.rounds()
    assert following.accepted()[-1] == "e-10000"


@IN_PIECES
@pytest.mark.usefixtures("locked")
def test_who_handed_over_is_told_what_the_system_refused_and_nothing_is_said_to_be_taken(
    following: Following, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index run is written by nothing of ours that would turn the refusal into our words."""
    history = tmp_path / "history.log"
    history.write_text("".join(event(number) for number in range(300)))
    flush, full = KeyIndex.flush, True

    def flushed(self: KeyIndex, position: int) -> RunChanges:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device", "index/keys")
        return flush(self, position)

    monkeypatch.setattr(KeyIndex, "flush", flushed)
    asking = Asking(following.root, asked(following, history))
    while asking.is_alive() and following.follower.failure is None:
        following.follower.tree.elsewhere.add("requests")
        following.follower.step()
    asking.join(10)

    assert isinstance(asking.answer, EnvironmentFailureError)
    assert "No space left on device" in str(asking.answer)
    full = False
    following.later(60)
    again = Asking(following.root, asked(following, history))
    serve(following, again)
    assert IngestReport.from_body(again.answer["report"]).taken == 1
    assert len(following.accepted()) == 300


@IN_PIECES
@pytest.mark.usefixtures("locked")
def test_a_contract_edited_over_a_request_rules_the_rest_of_it(
    following: Following, tmp_path: Path
) -> None:
    history = tmp_path / "history.log"
    history.write_text("".join(event(number) for number in range(100)))
    asking = Asking(following.root, asked(following, history))
    while following.position < 5:
        following.follower.tree.elsewhere.add("requests")
        following.follower.step()
    path = following.root / "contracts" / "usage_events.yaml"
    path.write_text(path.read_text() + "\n# edited\n")
    following.follower.tree.elsewhere.add("contracts")
    following.follower.step()
    following.now += SETTLE
    serve(following, asking)

    [source] = IngestReport.from_body(asking.answer["report"]).sources.values()
    assert source.counts["landed"] == source.counts["accepted"] == 100
    assert source.taken == [str(history)]
    kinds = [entry.kind for entry in following.given.log.entries()]
    assert kinds.count("contract") == 2
    assert source.entries == len(kinds)


@pytest.mark.usefixtures("locked")
def test_a_refused_file_is_in_the_answer(following: Following, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")

    asking = Asking(following.root, asked(following, empty, source="nps_surveys"))
    serve(following, asking)

    [error] = IngestReport.from_body(asking.answer["report"]).errors
    assert error.exit_code == 1
    assert str(empty) in str(error)


@pytest.mark.usefixtures("locked")
def test_a_full_disk_is_the_answer_to_who_asked(
    following: Following, disk: FullDisk, tmp_path: Path
) -> None:
    history = tmp_path / "history.log"
    history.write_text(event(1))
    disk.full = "landing"

    asking = Asking(following.root, asked(following, history))
    serve(following, asking)

    assert isinstance(asking.answer, EnvironmentFailureError)
    assert following.follower.failure is not None


@pytest.mark.usefixtures("locked")
def test_a_checkpoint_can_be_asked_for(following: Following) -> None:
    following.put("events.jsonl", event(1))
    following.follower.step()
    assert following.given.state.stamp().position < following.position

    asking = Asking(following.root, {"kind": "checkpoint"})
    serve(following, asking)

    assert asking.answer == {"position": following.position}


def test_who_asked_does_it_himself_when_the_follower_is_gone(
    following: Following, locked: tuple[Lock, Lock], tmp_path: Path
) -> None:
    history = tmp_path / "history.log"
    history.write_text(event(1))
    asking = Asking(following.root, asked(following, history))
    time.sleep(0.1)
    for lock in locked:
        lock.release()
    asking.join(5)

    assert asking.answer is None
    assert not Lock(following.root / INGEST_LOCK).take()
    assert Requests(following.root).pending() == []
    asking.lock.release()


def test_nobody_works_for_the_dead(following: Following) -> None:
    requests = Requests(following.root)
    (requests.folder / "1.json").write_text('{"kind": "ingest", "files": []}')
    (requests.folder / "1.progress.json").write_text("{}")
    (requests.folder / "0.done.json").write_text("{}")

    assert requests.pending() == []
    assert list(requests.folder.iterdir()) == []


def test_waiting_files_are_said_with_their_reason(following: Following) -> None:
    from meterhouse.follow.standing import write_standing
    from meterhouse.follow.telling import Telling

    following.put("events.jsonl", event(1) + '{"half')
    following.put("odd.txt", "x")
    following.rounds()
    following.later(SETTLE)
    telling = Telling(lambda: 2, dict, interval=10)
    telling.beat(following.follower)

    standing = telling.standing
    assert standing is not None
    [waiting] = standing.waiting
    assert (waiting.file, waiting.size, waiting.line) == ("inbox/events.jsonl", 6, 2)
    assert waiting.why == "its last record is not whole"
    assert standing.unrecognised == ("inbox/odd.txt",)
    write_standing(following.root, standing)
