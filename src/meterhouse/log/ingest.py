"""Taking deliveries into the log: land, judge, commit, apply.

One entry holds many small files, or one range of a large one. Of two processes that want
the same number one wins; the other judges again at the new head, so that no verdict ever
stands on anything but the log before it.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from meterhouse.errors import EnvironmentFailureError, MeterhouseError, SourceRefusedError
from meterhouse.log.apply import Apply, OvertakenError
from meterhouse.log.chain import Log
from meterhouse.log.commit import Committer
from meterhouse.log.group import Group, StoppedError, parse_range
from meterhouse.log.ranges import Delivery, PieceBytes, Waiting, new_ranges
from meterhouse.log.report import IngestReport, SourceReport
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Clock

__all__ = ["Ingest", "IngestReport", "Progress", "SourceReport"]

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
        piece_bytes: PieceBytes = 32 << 20,
        new_project: Callable[[], str] = lambda: uuid.uuid4().hex,
        committer: Committer | None = None,
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
            committer: Puts the entries, when another one than these parts make is to.
        """
        self._committer = committer or Committer(blobs, log, state, apply, clock, new_project)
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
        report = IngestReport()
        for _ in self.steps(deliveries, report, progress):
            pass
        return report

    def steps(
        self,
        deliveries: Iterable[Delivery],
        report: IngestReport,
        progress: Progress | None = None,
    ) -> Generator[None]:
        """Do what ``run`` does; pause where other entries may come between.

        After each pause ``report`` says what was done so far. Raises as ``run``. Who leaves it
        in the middle goes on with the same views, and makes durable himself what was applied.
        """
        self._apply.catch_up()
        by_source: defaultdict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_source[delivery.contract.source].append(delivery)
        order = sorted(
            by_source, key=lambda name: (_MODES.index(by_source[name][0].contract.mode), name)
        )
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
                yield from run.steps()
        except GeneratorExit:
            # Perhaps thrown by the garbage collector, in the middle of anything.
            raise
        except BaseException:
            # What was committed need not be judged again; but say what really went wrong.
            with suppress(MeterhouseError):
                self._apply.checkpoint()
            raise
        self._apply.checkpoint()
        report.stamp = self._log.stamp()


class _SourceRun:
    """One source's deliveries on their way into the log."""

    def __init__(
        self,
        committer: Committer,
        state: State,
        deliveries: Sequence[Delivery],
        *,
        piece_bytes: PieceBytes,
        progress: Progress,
    ) -> None:
        self._committer = committer
        self._state = state
        self._deliveries = deliveries
        self._contract = deliveries[0].contract
        self._piece = piece_bytes
        self._progress = progress
        self.report = SourceReport(self._contract.source)
        self._group = Group(
            committer,
            self._contract,
            piece_bytes,
            lambda entries, ranges: self.report.add(entries),
        )
        self._waiting: dict[str, Waiting] = {}

    def steps(self) -> Iterator[None]:
        """Take what is new, until the end or until the source stops; pause after each entry."""
        names = [delivery.identity for delivery in self._deliveries]
        at = 0
        try:
            while at < len(names) or len(self._group):
                try:
                    if at < len(names):
                        yield from self._file(self._deliveries[at])
                        at += 1
                    else:
                        self._group.commit()
                        yield
                except OvertakenError:
                    # Another process has taken of one of these files: see what is left.
                    at = names.index(self._group.first)
                    self._group.clear()
        except StoppedError as stop:
            self.report.stopped = stop.reason
            known = {*self.report.already, *self._waiting}
            later = names[names.index(stop.file) + 1 :]
            self.report.not_tried = [name for name in later if name not in known]
        self.report.waiting = list(self._waiting.values())

    def _file(self, delivery: Delivery) -> Iterator[None]:
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
                parsed = parse_range(part, self._contract)
            except (SourceRefusedError, EnvironmentFailureError) as error:
                self.report.refused.append(error)
                return
            entries = self.report.entries
            self._group.add(part, parsed)
            self._progress(0 if delivery.compression else len(part.data), name)
            done += len(part.data)
            if self.report.entries != entries:
                yield
        if not done and len(self._group) == before and name not in self.report.taken:
            self.report.already.append(name)
        self._progress(max(delivery.size - (0 if delivery.compression else done), 0), name)
