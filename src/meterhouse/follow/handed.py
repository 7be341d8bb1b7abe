"""What other commands handed over, done in pieces between what is live."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterhouse.errors import ContractError, EnvironmentFailureError, MeterhouseError, UsageError
from meterhouse.follow.contracts import Contracts
from meterhouse.follow.parts import Parts
from meterhouse.follow.requests import Request, Requests
from meterhouse.log.commit import Committer
from meterhouse.log.ingest import Ingest, IngestReport
from meterhouse.log.ranges import PieceBytes
from meterhouse.sources.files import Delivery, delivery_at, identity, unreadable

__all__ = ["Handed"]


@dataclass
class _Job:
    """One request that is being worked on."""

    request: Request
    report: IngestReport
    steps: Generator[None]
    done: int = 0
    """Bytes."""
    told: float = field(default=0.0)


class Handed:
    """Requests, the oldest first, one step at a time."""

    def __init__(self, parts: Parts, committer: Committer, piece_bytes: PieceBytes) -> None:
        """Work with ``parts``; one step takes about ``piece_bytes``."""
        self._parts = parts
        self._requests = Requests(parts.root)
        self._ingest = Ingest(
            parts.blobs,
            parts.log,
            parts.state,
            parts.apply,
            parts.clock,
            piece_bytes=piece_bytes,
            committer=committer,
        )
        self._waiting: deque[Request] = deque()
        self._job: _Job | None = None
        self._earlier: IngestReport | None = None
        """What came of the request in hand before it was begun again."""
        self.look()

    @property
    def busy(self) -> bool:
        """Whether something is being worked on."""
        return self._job is not None or bool(self._waiting)

    @property
    def count(self) -> int:
        """Requests that are not answered yet."""
        return len(self._waiting) + (self._job is not None)

    def look(self) -> None:
        """See what is wanted now."""
        now = self._job.request.path if self._job is not None else None
        self._waiting = deque(
            request for request in self._requests.pending() if request.path != now
        )

    def step(self, contracts: Contracts) -> int:
        """Do a piece of the oldest request; return 1 when something was done.

        Raises:
            EnvironmentFailureError: The machine failed while something was written; the
                request was answered so.
        """
        if self._job is None and self._waiting:
            self._begin(self._waiting.popleft(), contracts)
            return 1
        if self._job is None:
            return 0
        job = self._job
        if not self._requests.wanted(job.request):
            self._parts.say.info("request_dropped", "who asked for files to be taken is gone")
            self.close()
            self.look()
            return 1
        try:
            ended = _ended(job.steps)
        except MeterhouseError as error:
            self._answer(job.request, {"error": error.body()})
            self._job = None
            if isinstance(error, EnvironmentFailureError):
                raise
            return 1
        if ended:
            report = job.report.after(self._earlier)
            self._answer(job.request, {"report": report.body()})
            self._job = None
        return 1

    def begin_again(self) -> None:
        """Look at the files in hand anew: they may be judged by another contract now."""
        if self._job is not None:
            self._earlier = self._job.report.after(self._earlier)
            self._waiting.appendleft(self._job.request)
            self.close()

    def close(self) -> None:
        """Leave what is being worked on; whoever asked goes on himself."""
        if self._job is not None:
            # Not left to the garbage collector: it would end the work when it likes to.
            self._job.steps.close()
            self._job = None

    def _begin(self, request: Request, contracts: Contracts) -> None:
        if request.kind == "checkpoint":
            self._parts.apply.checkpoint()
            position = self._parts.state.stamp().position
            self._answer(request, {"position": position})
            return
        report = IngestReport()
        try:
            deliveries = self._deliveries(request.body, contracts, report)
        except (ContractError, UsageError) as error:
            self._answer(request, {"error": error.body()})
            return
        steps = self._ingest.steps(
            deliveries, report, lambda size, file: self._went_on(job, size, file)
        )
        self._job = job = _Job(request, report, steps)

    def _deliveries(
        self, body: Mapping[str, Any], contracts: Contracts, report: IngestReport
    ) -> list[Delivery]:
        project = os.path.realpath(self._parts.root)
        found = []
        for one in body["files"]:
            path, source = Path(one["path"]), contracts.sources.get(one["source"])
            if source is None:
                raise UsageError.unknown("source", one["source"], contracts.sources)
            if source.blocked and source.parked is not None:
                raise source.parked.reason
            name = identity(os.path.realpath(path), project)
            try:
                size = path.stat().st_size
            except OSError as error:
                report.problems.append(unreadable(name, error))
                continue
            found.append(delivery_at(str(path), name, source.contract, size))
        return found

    def _went_on(self, job: _Job, size: int, file: str) -> None:
        job.done += size
        now = self._parts.ticks()
        if now - job.told >= 1.0:
            job.told = now
            self._requests.progress(job.request, job.done, file)

    def _answer(self, request: Request, body: Mapping[str, Any]) -> None:
        self._earlier = None
        self._requests.answer(request, body)


def _ended(steps: Generator[None]) -> bool:
    """Do one step; tell whether it was the last."""
    try:
        return next(steps, steps) is steps
    except OSError as error:
        raise EnvironmentFailureError.of(error) from error
