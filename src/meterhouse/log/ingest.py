"""Taking deliveries into the log: land, judge, commit, apply.

One entry holds many small files, or one range of a large one. Of two processes that want
the same number one wins; the other judges again at the new head, so that no verdict ever
stands on anything but the log before it.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from meterhouse.errors import (
    ContractError,
    EnvironmentFailureError,
    MeterhouseError,
    SourceRefusedError,
)
from meterhouse.intake.parse import Parsed
from meterhouse.log.apply import Apply, OvertakenError
from meterhouse.log.chain import Log
from meterhouse.log.commit import Committer, Part
from meterhouse.log.landing import parse_landed
from meterhouse.log.ranges import Delivery, Range, Waiting, new_ranges
from meterhouse.log.report import IngestReport, SourceReport
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Clock

__all__ = ["Ingest", "IngestReport", "Progress", "SourceReport"]

_MOST_INPUTS: Final = 2048
"""Per entry: reading one entry must stay cheap, however small the files are."""

_MODES: Final = ("snapshot", "upsert", "append")

Progress = Callable[[int, str], None]
"""Called with stored bytes that are done with, and the file they are of."""


class Ingest:
    """Takes deliveries; holds no state of its own between runs."""

    def __init__(
        self,
        blobs: Blobs,
        log: Log,
        state: State,
        apply: Apply,
        clock: Clock,
        *,
        piece_bytes: int = 32 << 20,
        new_project: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """Put the parts together.

        Args:
            blobs: Where landing and log are.
            log: The log on them.
            state: The view that knows what was taken.
            apply: Brings the views up to an entry.
            clock: Gives ``ingest_ts``.
            piece_bytes: About how many bytes one entry holds (a snapshot is never cut).
            new_project: Gives the id that entry 1 carries.
        """
        self._committer = Committer(blobs, log, state, apply, clock, new_project)
        self._log = log
        self._state = state
        self._apply = apply
        self._piece = piece_bytes

    def run(self, deliveries: Iterable[Delivery], progress: Progress | None = None) -> IngestReport:
        """Take what is new in ``deliveries``; sources in the order snapshot, upsert, append.

        Within a source files are taken in the order given. A refused file is passed over;
        a source that stops leaves the others alone. Both are in the report, not raised.

        Raises:
            DamageError: Log, landing or index are damaged; nothing is added to them.
            EnvironmentFailureError: The machine failed while something was written. What
                was committed before stays; run it again for the rest.
        """
        self._apply.catch_up()
        by_source: defaultdict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_source[delivery.contract.source].append(delivery)
        order = sorted(
            by_source, key=lambda name: (_MODES.index(by_source[name][0].contract.mode), name)
        )
        report = IngestReport()
        try:
            for source in order:
                run = _SourceRun(
                    self._committer,
                    self._state,
                    by_source[source],
                    piece_bytes=self._piece,
                    progress=progress or (lambda size, name: None),
                )
                report.sources[source] = run.report
                run.go()
        except BaseException:
            # What was committed need not be judged again; but say what really went wrong.
            with suppress(MeterhouseError):
                self._apply.checkpoint()
            raise
        self._apply.checkpoint()
        report.stamp = self._log.stamp()
        return report


class _StoppedError(Exception):
    """The source stops at ``file``, for the reason it was raised from."""

    def __init__(self, file: str, reason: MeterhouseError) -> None:
        super().__init__(file)
        self.file = file
        self.reason = reason


class _SourceRun:
    """One source's deliveries on their way into the log."""

    def __init__(
        self,
        committer: Committer,
        state: State,
        deliveries: Sequence[Delivery],
        *,
        piece_bytes: int,
        progress: Progress,
    ) -> None:
        self._committer = committer
        self._state = state
        self._deliveries = deliveries
        self._contract = deliveries[0].contract
        self._piece = piece_bytes
        self._progress = progress
        self._group: list[tuple[Range, Parsed | None]] = []
        self._bytes = 0
        self._waiting: dict[str, Waiting] = {}
        self.report = SourceReport(self._contract.source)

    def go(self) -> None:
        """Take what is new, until the end or until the source stops."""
        names = [delivery.identity for delivery in self._deliveries]
        at = 0
        try:
            while at < len(names) or self._group:
                try:
                    if at < len(names):
                        self._file(self._deliveries[at])
                        at += 1
                    else:
                        self._commit()
                except OvertakenError:
                    # Another process has taken of one of these files: see what is left.
                    at = names.index(self._group[0][0].item.file)
                    self._group, self._bytes = [], 0
        except _StoppedError as stop:
            self.report.stopped = stop.reason
            known = {*self.report.already, *self._waiting}
            later = names[names.index(stop.file) + 1 :]
            self.report.not_tried = [name for name in later if name not in known]
        self.report.waiting = list(self._waiting.values())

    def _file(self, delivery: Delivery) -> None:
        name = delivery.identity
        found = new_ranges(delivery, self._state.taken(self.report.source, name), self._piece)
        before, done = len(self._group), 0
        while True:
            try:
                part = next(found, None)
                if part is None:
                    break
                if isinstance(part, Waiting):
                    self._waiting[name] = part
                    continue
                parsed = self._parsed(part)
            except (SourceRefusedError, EnvironmentFailureError) as error:
                self.report.refused.append(error)
                return
            self._add(part, parsed)
            self._progress(0 if delivery.compression else len(part.data), name)
            done += len(part.data)
        if not done and len(self._group) == before and name not in self.report.taken:
            self.report.already.append(name)
        self._progress(max(delivery.size - (0 if delivery.compression else done), 0), name)

    def _parsed(self, part: Range) -> Parsed | None:
        """Parse CSV, whose file may be refused for its header; JSONL can wait for others."""
        if self._contract.format == "jsonl":
            return None
        try:
            [parsed] = parse_landed([(part.item, part.data)], self._contract)
        except SourceRefusedError as error:
            raise _named(error, part.item.file) from error
        return parsed

    def _parts(self) -> list[Part]:
        """Return the group, all of it parsed: small ranges at once, which costs far less."""
        new = [(part.item, part.data) for part, parsed in self._group if parsed is None]
        fresh = iter(parse_landed(new, self._contract))
        return [
            Part(part, next(fresh) if parsed is None else parsed) for part, parsed in self._group
        ]

    def _add(self, part: Range, parsed: Parsed | None) -> None:
        """Put a range into the group; commit the group when it is full."""
        size = len(part.data)
        alone = part.alone or self._contract.mode == "snapshot"
        if alone or self._bytes + size > self._piece or len(self._group) >= _MOST_INPUTS:
            self._commit()
        self._group.append((part, parsed))
        self._bytes += size
        if alone or self._bytes >= self._piece:
            self._commit()

    def _commit(self) -> None:
        if not self._group:
            return
        parts = self._parts()
        try:
            self._record(parts)
        except SourceRefusedError:
            # Each by itself, so that only the file that is to blame is refused.
            for part in parts:
                try:
                    self._record([part])
                except SourceRefusedError as error:
                    name = part.range.item.file
                    self._group = []
                    raise _StoppedError(name, _named(error, name)) from error
                del self._group[0]
        except ContractError as error:
            name = parts[0].range.item.file
            self._group = []
            raise _StoppedError(name, error) from error
        self._group, self._bytes = [], 0

    def _record(self, group: Sequence[Part]) -> None:
        entries = self._committer.commit(self._contract, group)
        self.report.add(entries)


def _named(error: SourceRefusedError, name: str) -> SourceRefusedError:
    """Say of which file it is."""
    where = error.where if name in error.where else f"{name}, {error.where}".rstrip(", ")
    return SourceRefusedError(error.what, where, error.fix)
