"""A follower over real files, one round at a time, by a clock that tests move."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterhouse.errors import EnvironmentFailureError
from meterhouse.follow.follower import Follower
from meterhouse.follow.parts import Answers, Options, Parts
from meterhouse.follow.say import Say
from meterhouse.follow.stop import Stop
from meterhouse.ports import Stamp
from meterhouse.scaffold import SHIPPED
from meterhouse.sources.watch import FolderWatch
from unit.log.house import House

SETTLE = 2.0


@dataclass
class Position:
    """Answers that are nothing but a position."""

    at: int = 0
    full: bool = False
    """The disk has no room for answers."""

    def catch_up(self, upto: Stamp) -> None:
        if self.full:
            raise EnvironmentFailureError("no space left on device", "serving.db", "free some")
        self.at = upto.position


@dataclass
class Following:
    """A project that is followed."""

    root: Path
    poll: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    paths: Sequence[Path] = ()
    """What is followed; the inbox when it is empty."""
    now: float = 1000.0
    lines: list[str] = field(default_factory=list)
    house: House | None = None
    answers: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        contracts = self.root / "contracts"
        if not contracts.exists():
            contracts.mkdir(parents=True)
            for path in (SHIPPED / "contracts").glob("*.yaml"):
                (contracts / path.name).write_bytes(path.read_bytes())
        self.house = self.house or House(self.root)
        self.begin()

    def begin(self) -> None:
        house = self.given
        self.watch = FolderWatch(poll=self.poll)
        answers: Sequence[Answers] = [self.answers]
        assert house.blobs is not None
        parts = Parts(
            self.root,
            house.blobs,
            house.log,
            house.state,
            house.apply,
            house.clock,
            self.watch,
            answers,
            Say(self.lines.append, house.clock),
            ticks=lambda: self.now,
        )
        options = Options(self.paths or [house.inbox], settle=SETTLE, **self.options)
        self.stop = Stop()
        self.follower = Follower(parts, options, self.stop, lambda: "p-1")
        self.follower.begin()

    @property
    def given(self) -> House:
        assert self.house is not None
        return self.house

    def close(self) -> None:
        self.watch.close()
        self.stop.close()
        self.given.state.close()

    def rounds(self) -> int:
        """Make rounds until nothing comes of them; return how many entries came of it."""
        head = self.position
        for _ in range(200):
            worked = self.follower.step()
            busy = self.follower.tree.walking or self.follower.comparing
            if not worked and (not busy or self.follower.failure is not None):
                return self.position - head
        raise AssertionError("it never comes to rest")

    def later(self, seconds: float = SETTLE) -> int:
        """Let time pass, then make rounds."""
        self.now += seconds
        return self.rounds()

    @property
    def position(self) -> int:
        return self.given.apply.stamp().position

    def put(self, name: str, data: str | bytes) -> Path:
        """Write a file, and close it."""
        return self.given.put(name, data)

    def add(self, name: str, data: str | bytes) -> None:
        """Write to the end of a file, and close it."""
        with (self.given.inbox / name).open("ab") as file:
            file.write(data if isinstance(data, bytes) else data.encode())

    def replace(self, name: str, data: str | bytes) -> None:
        """Put another file in its place."""
        other = self.given.put(f".{name}.new", data)
        os.replace(other, self.given.inbox / name)  # noqa: PTH105

    def verdicts(self, source: str = "usage_events", column: str = "event_id") -> list[Any]:
        """Column and verdict of every judged row of a source."""
        return self.given.verdicts(source, column)

    def accepted(self, source: str = "usage_events", column: str = "event_id") -> list[Any]:
        return [value for value, verdict in self.verdicts(source, column) if verdict == "accepted"]

    def waiting(self) -> list[str]:
        return [file.name for file in self.follower.pending()]

    def said(self, event: str) -> list[str]:
        return [line for line in self.lines if event in line]
