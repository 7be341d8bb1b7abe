"""Eight processes on one project, killed at random: nothing lost, nothing doubled, no gap."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import pytest

from crash.deliveries import furnish
from crash.programs import Ended, Programs, Running
from crash.seen import assert_whole, look, proven
from crash.small import small_project
from crash.unharmed import ALL
from e2e.house import assert_same
from e2e.records import INVOICES, event, invoice, orgs
from meterhouse.errors import EnvironmentFailureError
from meterhouse.log.chain import Log
from meterhouse.scaffold import init
from meterhouse.storage.folder import FolderBlobs

KILLS: Final = 100 if ALL else 30
AT_ONCE: Final = 8
LONGEST_S: Final = 2.0
"""Between two kills, at most."""

ROUND: Final = 6
"""Kills between two crowds: where one follows, nobody else gets far."""

_FOLLOW: Final = ("follow", "--poll", "--interval", "0s")
CROWDS: Final = (
    (
        (*_FOLLOW, "--batch-every", "1s"),
        (*_FOLLOW, "--wait"),
        ("ingest",),
        ("batch",),
        ("rebuild",),
    ),
    (("ingest",), ("batch",), ("batch", "--full"), ("rebuild",), (*_FOLLOW, "--once")),
)


@dataclass
class Producer:
    """Delivers all the time: files that grow, files once more under other names, corrections."""

    inbox: Path
    chance: Random
    events: int = 0
    doubled: int = 0
    held: int = 0
    corrections: int = 0
    _texts: dict[str, str] = field(default_factory=dict)

    def deliver(self) -> None:
        """Append a few events to one of the files, and now and then something else."""
        lines = []
        for _ in range(self.chance.randint(1, 30)):
            self.events += 1
            day = f"2025-0{self.chance.randint(6, 7)}-0{self.chance.randint(1, 3)}T10:00:00Z"
            org = f"o-{self.chance.randint(1, 4)}"
            lines.append(event(self.events, org_id=org, timestamp=day))
        if self.chance.random() < 0.2:
            # Of one id in one file: whichever process takes it, the first one wins.
            self.held += 1
            lines.append(event(self.events, cost_usd_increment=9))
        if self.chance.random() < 0.1:
            self.held += 1
            lines.append(f"garbage {self.events}\n")
        name = f"events_{self.chance.randint(1, 3)}.jsonl"
        self._append(name, "".join(lines))
        if self.chance.random() < 0.2:
            self.doubled += len(self._texts[name].splitlines())
            self._put(f"events_again_{self.events}_{name}", self._texts[name])
        if self.chance.random() < 0.3:
            self.corrections += 1
            rows = [invoice(f"{self.corrections}.5", number) for number in range(1, 4)]
            self._put("billing_monthly.csv", INVOICES + "".join(rows))
        if self.chance.random() < 0.1:
            self._put("customers_orgs.csv", orgs(*range(1, 5 + self.corrections)))

    def _append(self, name: str, text: str) -> None:
        self._texts[name] = self._texts.get(name, "") + text
        with (self.inbox / name).open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _put(self, name: str, text: str) -> None:
        draft = self.inbox.parent.parent / f".put-{name}"
        draft.write_text(text)
        draft.replace(self.inbox / name)


@dataclass
class Crowd:
    """Processes that work on one project at a time; who ends is replaced by another."""

    runs: Programs
    root: Path
    chance: Random
    running: list[tuple[str, Running]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)

    def fill(self, commands: Sequence[Sequence[str]]) -> None:
        """Have eight of them; each kind at least once, as far as there is room."""
        for one in list(self.running):
            if one[1].ended():
                self._end(one)
        while len(self.running) < AT_ONCE:
            there = {name for name, _ in self.running}
            missing = [one for one in commands if " ".join(one) not in there]
            command = self.chance.choice(missing or commands)
            started = self.runs.start("--project", str(self.root), *command)
            self.running.append((" ".join(command), started))

    def kill_one(self) -> None:
        """Kill one of them; one that ended by itself just now does not count."""
        one = self.chance.choice(self.running)
        one[1].kill()
        self.killed[one[0].split()[0]] += self._end(one)

    def kill_all(self) -> None:
        """Kill the others, uncounted."""
        for one in list(self.running):
            one[1].kill()
            self._end(one)

    def _end(self, one: tuple[str, Running]) -> bool:
        """Take leave of one that has ended; return whether it was killed."""
        self.running.remove(one)
        name, ended = one[0], one[1].wait()
        if not ended.killed:
            assert_expected(name, ended)
            self.ended[f"{name.split()[0]}, exit {ended.code}"] += 1
        return ended.killed


def assert_expected(name: str, ended: Ended) -> None:
    """It did its work, or says that somebody else is at it and that it may be tried again."""
    assert ended.code in (0, 3), (name, ended)
    assert "Traceback" not in ended.err, (name, ended.err)


@pytest.mark.parametrize("seed", range(1))
def test_eight_processes_killed_all_the_time_lose_nothing_and_double_nothing(
    runs: Programs, tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    chance = Random(seed)
    root = new_project(tmp_path / "crowd")
    producer = Producer(root / "inbox", Random(seed))
    crowd = Crowd(runs, root, chance)
    try:
        while (kills := crowd.killed.total()) < KILLS:
            producer.deliver()
            crowd.fill(CROWDS[kills // ROUND % len(CROWDS)])
            time.sleep(chance.random() * LONGEST_S)
            crowd.kill_one()
            if crowd.killed.total() // ROUND != kills // ROUND:
                assert_answers_whole(root)
                crowd.kill_all()
    finally:
        crowd.kill_all()

    for command in (["ingest"], ["batch"]):
        ended = runs.start("--project", str(root), *command).wait()
        assert ended.code == 0, ended
    assert_nothing_lost(root, producer)
    assert_like_a_calm_run(root, runs, tmp_path / "calm")
    record_property("points of death among eight", dict(crowd.killed))
    record_property("points of an end among eight", dict(crowd.ended))


def new_project(root: Path) -> Path:
    init(root)
    furnish(root)
    return root


def assert_answers_whole(root: Path) -> None:
    """Readers see some whole position while all that goes on, or are told to ask again."""
    for _ in range(20):
        try:
            assert_whole(root)
        except EnvironmentFailureError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("readers were told twenty times to ask again")


def assert_nothing_lost(root: Path, producer: Producer) -> None:
    """The ledger proves it, the producer's own count agrees, the log has no gap."""
    ledger = proven(root).ledger["usage_events records"]
    assert int(ledger.accepted) == producer.events, (ledger, producer.events)
    assert int(ledger.quarantined) == producer.held, (ledger, producer.held)
    assert int(ledger.duplicate) == producer.doubled, (ledger, producer.doubled)
    log = Log(FolderBlobs(root), small_project(root).span)
    positions = [entry.position for entry in log.entries()]
    assert positions == list(range(1, len(positions) + 1))


def assert_like_a_calm_run(root: Path, runs: Programs, calm: Path) -> None:
    """The same files taken once by one process make the same tables.

    But for the versions that nobody was quick enough to see: those tables hold all that
    were taken, and what is made of them only the last.
    """
    new_project(calm)
    (calm / "inbox").rmdir()
    (root / "inbox").rename(calm / "inbox")
    for command in (["ingest"], ["batch"]):
        ended = runs.start("--project", str(calm), *command).wait()
        assert ended.code == 0, ended
    found, expected = look(root), look(calm)
    versioned = {"bronze.billing_monthly", "bronze.customers_orgs", "bronze.removed_keys"}
    assert_same(
        {name: rows for name, rows in found.tables.items() if name not in versioned},
        {name: rows for name, rows in expected.tables.items() if name not in versioned},
    )
    assert found.answers == expected.answers
