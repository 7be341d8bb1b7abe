"""Telling the world how a follower does: a line, a file, metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from typing import Final, Protocol

from meterhouse.follow.files import File
from meterhouse.follow.follower import Follower
from meterhouse.follow.standing import Standing, WaitingFile, write_standing
from meterhouse.formats import timestamp_text

__all__ = ["Exporter", "Telling"]

_WRITE_S: Final = 1.0
_MOST: Final = 100
_SHOWN: Final = 5


class Exporter(Protocol):
    """Keeps figures for whoever asks for them."""

    def show(self, follower: Follower, standing: Standing) -> None:
        """Take over the figures as they are now."""
        ...


class Telling:
    """Writes the standing every second, and says a line every interval."""

    def __init__(
        self,
        served: Callable[[], int],
        stale: Callable[[], dict[str, str]],
        *,
        interval: float,
        exporter: Exporter | None = None,
    ) -> None:
        """Tell from now on.

        Args:
            served: Position of the answers.
            stale: Gold table that does not follow → why.
            interval: Seconds between two lines; 0: none.
            exporter: Is shown the figures every second.
        """
        self._served = served
        self._stale = stale
        self._interval = interval
        self._exporter = exporter
        self._wrote = float("-inf")
        self._said: float | None = None
        self._named: frozenset[str] = frozenset()
        self.standing: Standing | None = None
        """As it was last written."""
        self._due = float("-inf")

    def due(self) -> float:
        """Return when it wants to be shown the follower next."""
        return self._due

    def beat(self, follower: Follower, *, last: bool = False) -> None:
        """Write and say what is due."""
        now = follower.parts.ticks()
        if now < self._due and not last:
            return
        self._due = now + _WRITE_S
        standing = self._standing(follower, now)
        if self._exporter is not None:
            self._exporter.show(follower, standing)
        before = self.standing
        if last or before is None or replace(before, at=standing.at) != standing:
            # The same full disk stops entries too, and is said there.
            with suppress(OSError):
                write_standing(follower.parts.root, standing)
            self.standing = standing
        self._say_unrecognised(follower, frozenset(standing.unrecognised))
        if self._interval and (self._said is None or now - self._said >= self._interval or last):
            if self._said is not None:
                self._say(follower, standing)
            self._said = now

    def _say_unrecognised(self, follower: Follower, names: frozenset[str]) -> None:
        """Say which files are left lying, each once: waiting for them would be in vain."""
        new = sorted(names - self._named)
        self._named = names
        if new:
            shown = ", ".join(new[:_SHOWN]) + (", …" if len(new) > _SHOWN else "")
            follower.parts.say.warning(
                "unrecognised",
                f"no contract recognises {shown}: nothing of it is taken; name it under files: of "
                "a contract, or meterhouse contract infer FILE --source NAME",
                files=new,
            )

    def _say(self, follower: Follower, standing: Standing) -> None:
        parked = f", {len(standing.parked):,} parked" if standing.parked else ""
        follower.parts.say.info(
            "interval",
            f"entry {standing.position:,}: {standing.events_per_s:,.0f} events/s, lag "
            f"{standing.lag_s:.1f} s ({standing.lag_bytes:,} bytes), {standing.held:,} held, "
            f"{standing.duplicates:,} duplicates{parked}",
            position=standing.position,
            served=standing.served,
            events_per_s=standing.events_per_s,
            lag_s=standing.lag_s,
            lag_bytes=standing.lag_bytes,
            landed=standing.landed,
            held=standing.held,
            duplicates=standing.duplicates,
            parked=sorted(standing.parked),
        )

    def _standing(self, follower: Follower, now: float) -> Standing:
        parts, tally = follower.parts, follower.tally
        pending = list(follower.pending())
        late = [file for file in pending if file.ready]
        parked = {
            source.contract.source: source.parked.reason.body()
            for source in follower.sources()
            if source.parked is not None
        }
        refused = {
            file.name: file.refused.body()
            for file in follower.tree.files()
            if file.refused is not None
        }
        problems = {name: error.body() for name, error in follower.tree.problems.items()}
        bad = {one.source: one.error.body() for one in follower.contracts.bad}
        return Standing(
            pid=os.getpid(),
            since=timestamp_text(follower.since),
            at=timestamp_text(parts.clock()),
            position=parts.apply.stamp().position,
            served=self._served(),
            lag_bytes=sum(file.pending for file in late),
            lag_s=round(max((now - file.since for file in late), default=0.0), 3),
            events_per_s=round(tally.events.per_second(now), 1),
            landed=tally.total("landed"),
            duplicates=tally.total("duplicate"),
            held=tally.total("quarantined"),
            files=sum(len(source.files) for source in follower.sources()),
            waiting=tuple(_waiting(file) for file in islice(pending, _MOST)),
            parked={**problems, **refused, **parked, **bad},
            stale=self._stale(),
            unrecognised=tuple(sorted(follower.tree.unrecognised)[:_MOST]),
            failure=follower.failure.body() if follower.failure is not None else None,
            requests=follower.handed.count,
            replicas={
                one.store: asdict(one.standing) if one.standing is not None else {}
                for one in follower.companions
            },
            polling=getattr(parts.watch, "reason", ""),
        )


def _waiting(file: File) -> WaitingFile:
    size, line = file.pending, 0
    if file.problem is not None:
        why = file.problem.what
    elif file.waiting is not None:
        why, line = "its last record is not whole", file.waiting.line
    elif file.writing or file.held_open:
        why = "it is open for writing"
    elif file.grows:
        why = "its turn has not come"
    else:
        why = "it was written to just now"
    return WaitingFile(file.name, file.contract.source, size, why, line)
