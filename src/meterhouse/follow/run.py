"""One run of ``follow``, from taking the locks to letting them go."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

from meterhouse.errors import EnvironmentFailureError, MeterhouseError, UsageError
from meterhouse.follow.follower import Follower
from meterhouse.follow.parts import Options, Parts
from meterhouse.follow.requests import FOLLOW_LOCK, INGEST_LOCK
from meterhouse.follow.say import Say
from meterhouse.follow.standing import read_standing
from meterhouse.follow.stop import Stop
from meterhouse.follow.telling import Exporter, Telling
from meterhouse.log.lock import Lock, held
from meterhouse.ports import Stamp
from meterhouse.sources.walk import shown

__all__ = ["Live", "only_one", "run"]

_LOOK_S: Final = 0.05


class _Report(Protocol):
    @property
    def stamp(self) -> Stamp: ...
    @property
    def stale(self) -> Mapping[str, str]: ...


class _Speed(Protocol):
    def catch_up(self, upto: Stamp) -> _Report: ...
    def prepare(self) -> None: ...


class Live:
    """The speed layer as the loop sees it; keeps what its last report said."""

    def __init__(self, speed: _Speed, say: Say) -> None:
        """Say which tables stop following, once."""
        self.served = 0
        """Position of the answers."""
        self.stale: dict[str, str] = {}
        self._speed = speed
        self._say = say

    def prepare(self) -> None:
        """Do now what the first entry would wait for."""
        self._speed.prepare()

    def catch_up(self, upto: Stamp) -> Stamp:
        """Bring the answers to ``upto``."""
        report = self._speed.catch_up(upto)
        self.served = report.stamp.position
        for table, reason in report.stale.items():
            if table not in self.stale:
                self._say.warning(
                    "stale", f"{table} does not follow any more: {reason}", table=table, why=reason
                )
        self.stale = dict(report.stale)
        return report.stamp


@contextmanager
def only_one(
    root: Path, *, wait: bool, waiting: Callable[[str], None] = lambda what: None
) -> Iterator[None]:
    """Hold what one follower of a project holds.

    Args:
        root: The project folder.
        wait: Wait for another follower to end; else that is an error.
        waiting: Called with what is waited for.

    Raises:
        EnvironmentFailureError: Another one follows.
    """
    follow, ingest = Lock(root / FOLLOW_LOCK), Lock(root / INGEST_LOCK)
    told = ""
    # In this order: who is seen to follow holds both, so whatever it is asked for it does.
    while not (ingest.take() and _taken(follow)):
        ingest.release()
        follows = held(root / FOLLOW_LOCK)
        if follows and not wait:
            other = read_standing(root)
            raise EnvironmentFailureError(
                f"another follow runs on this project{f' (process {other.pid})' if other else ''}",
                str(root / FOLLOW_LOCK),
                "let it run, or stop it first; `meterhouse follow --wait` waits for its end",
            )
        what = "another follow" if follows else "another ingest"
        if told != what:
            told = what
            waiting(what)
        time.sleep(_LOOK_S)
    try:
        yield
    finally:
        follow.release()
        ingest.release()


def _taken(lock: Lock) -> bool:
    """Take a lock that others look at: for an instant a look holds it, too."""
    for _ in range(5):
        if lock.take():
            return True
        time.sleep(0.02)
    return False


def run(
    parts: Parts,
    options: Options,
    live: Live,
    *,
    interval: float,
    exporter: Exporter | None = None,
    stop: Stop | None = None,
) -> list[MeterhouseError]:
    """Follow until a signal says to stop; return what nothing is taken of, and why.

    Raises:
        UsageError: A path does not exist.
        DamageError: The log, or a view that must not be mended silently, is damaged.
        EnvironmentFailureError: With ``options.once`` the machine failed.
    """
    if stop is None:
        with closing(Stop()) as own:
            return run(parts, options, live, interval=interval, exporter=exporter, stop=own)
    _check(options.paths)
    telling = Telling(lambda: live.served, lambda: live.stale, interval=interval, exporter=exporter)
    with stop.on_signals():
        follower = Follower(parts, options, stop, lambda: uuid.uuid4().hex)
        parts.say.info(
            "started",
            f"following {', '.join(shown(path) for path in options.paths)}"
            f" from entry {parts.apply.stamp().position:,}",
            paths=[shown(path) for path in options.paths],
            position=parts.apply.stamp().position,
        )
        live.prepare()
        # What lives as long as the process is not looked through again and again.
        gc.freeze()
        try:
            follower.run(telling)
        finally:
            gc.unfreeze()
        parts.say.info(
            "stopped",
            f"stopped at entry {parts.apply.stamp().position:,}",
            position=parts.apply.stamp().position,
        )
    return _not_taken(follower)


def _check(paths: Sequence[Path]) -> None:
    for path in paths:
        if not (path.is_symlink() or path.exists()):
            raise UsageError(
                f'path "{shown(path)}" does not exist', "", "see the spelling, or make the folder"
            )


def _not_taken(follower: Follower) -> list[MeterhouseError]:
    found = [source.parked.reason for source in follower.sources() if source.parked is not None]
    for file in follower.tree.files():
        reason = file.refused or file.problem
        found += [reason] if reason is not None else []
    known = [one.error for one in follower.contracts.bad]
    return [*found, *follower.tree.problems.values(), *(one for one in known if one not in found)]
