"""A running ``follow``: started, watched from outside, stopped or killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.house import House
from meterhouse.errors import UsageError
from meterhouse.follow.standing import Standing, read_standing

DEADLINE_S = 30.0
"""Longer than any of this takes on a busy machine."""


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until ``true`` holds."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, f"still not so: {what}"
        time.sleep(0.02)


class Follow:
    """One process that follows a project; its lines are read as JSON."""

    def __init__(self, house: House, *arguments: str, settle: str = "2s") -> None:
        self.house = house
        self.log = house.root.parent / f"follow-{time.monotonic_ns()}.log"
        self._output = self.log.open("w")
        settings = f"--set=follow.settle={settle}"
        command = house.program_line(settings, "follow", "--log-format", "json", *arguments)
        self.process = subprocess.Popen(command, stderr=self._output)

    def lines(self) -> list[dict[str, Any]]:
        """What it has said, line by line; every line is one JSON object."""
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]

    def until_said(self, event: str) -> dict[str, Any]:
        """Wait for a line; return the first such."""
        until(lambda: bool(self.said(event)) or self.process.poll() is not None, f"said {event}")
        return self.said(event)[0]

    def standing(self) -> Standing:
        found = read_standing(self.house.root)
        assert found is not None
        return found

    def until_standing(self, true: Callable[[Standing], bool], what: str) -> Standing:
        """Wait until the standing that it writes is so."""

        def so() -> bool:
            found = read_standing(self.house.root)
            return found is not None and found.pid == self.process.pid and true(found)

        until(so, what)
        return self.standing()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        code = self.process.wait(DEADLINE_S)
        self._output.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.ended()


@contextmanager
def followed(house: House, *arguments: str, settle: str = "2s") -> Iterator[Follow]:
    """Follow until the end of the block; it must end cleanly."""
    follow = Follow(house, *arguments, settle=settle)
    try:
        follow.until_said("started")
        yield follow
    finally:
        code = follow.stop()
    assert code == 0, follow.log.read_text()


def until_answered(house: House, events: int) -> None:
    """Wait until the live answers hold so many events."""
    until(lambda: _answered_or_none(house) == events, f"{events:,} events answered")


def _answered_or_none(house: House) -> int | None:
    """While nothing was ever published there is no answer at all."""
    try:
        return answered(house)
    except UsageError:
        return None


def append(path: Path, text: str) -> None:
    """Add lines to a file, durably, as a producer does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def answered(house: House) -> int:
    """How many events the live answers hold."""
    rows = house.project.query("daily-cost").table().to_pylist()
    return sum(int(row["requests"]) for row in rows)


def memory_kb(pid: int) -> int:
    """The most memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
