"""The loop of ``follow``: notice, take, answer; and again.

Everything that decides anything is elsewhere: what a file is taken of is decided by its
bytes and the log, what an entry holds by judging at the head, what the answers are by the
log. The loop only decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meterhouse.errors import EnvironmentFailureError, MeterhouseError
from meterhouse.follow.batches import Batches
from meterhouse.follow.companions import Companion
from meterhouse.follow.compare import Comparison
from meterhouse.follow.contracts import Contracts
from meterhouse.follow.files import File
from meterhouse.follow.handed import Handed
from meterhouse.follow.pace import Pace
from meterhouse.follow.parts import Options, Parts
from meterhouse.follow.requests import REQUESTS
from meterhouse.follow.source import Source
from meterhouse.follow.stop import Stop
from meterhouse.follow.tally import Tally
from meterhouse.follow.tree import Tree
from meterhouse.intake.contract import Contract
from meterhouse.log.commit import Committer

__all__ = ["Follower", "Pulse"]

_PACE_S: Final = 0.1
"""Between two rounds: many little writes become one entry, and nobody waits longer for it."""
_READ_S: Final = 0.1
"""So long one source's files are read for one entry."""
_CHECKPOINT_BYTES: Final = 32 << 20
_IDLE_S: Final = 1.0
"""After this nothing is left that another process would have to apply again."""
_WALK_S: Final = 30.0
"""Between two looks at everything, where the system tells what changes."""
_POLL_S: Final = 1.0
_STEP_S: Final = 0.02
_SLICE_S: Final = 0.005
"""Of each round that took something, for what can be put off but not for ever."""
_TRIED_AGAIN: Final = (
    "see to it: it is tried again by itself; nothing is lost, nothing half-written is read"
)
_LONGEST_PAUSE_S: Final = 30.0

_MODES: Final = ("snapshot", "upsert", "append")


class Pulse(Protocol):
    """Is shown the follower now and then: to print, to write down, to export."""

    def beat(self, follower: Follower, *, last: bool = False) -> None:
        """Tell the world, when it is time for that."""
        ...

    def due(self) -> float:
        """Return when it wants to be shown it next."""
        ...


@dataclass
class _Times:
    """When things were last done, in ticks."""

    walked: float
    committed: float
    answered: float
    retry: float = 0.0
    pause: float = 0.0


class Follower:
    """Keeps log and answers up with some folders until it is told to stop."""

    def __init__(
        self, parts: Parts, options: Options, stop: Stop, new_project: Callable[[], str]
    ) -> None:
        """Put the parts together; nothing is read yet."""
        self.parts = parts
        self.options = options
        self.tally = Tally()
        self.failure: EnvironmentFailureError | None = None
        """What the machine refuses, while it does."""
        self.since = parts.clock()
        self._stop = stop
        self._ticks = parts.ticks
        now = self._ticks()
        self._times = _Times(now, now, now)
        self._committer = Committer(
            parts.blobs,
            parts.log,
            parts.state,
            parts.apply,
            parts.clock,
            new_project,
            lambda entry, judged: self.tally.judged(entry, judged, self._ticks()),
        )
        self._pace = Pace(options.piece_bytes)
        self.contracts = Contracts(
            parts.root / "contracts",
            self._source,
            lambda name, error: parts.say.error("source_parked", name, error),
            self._mended,
            settle=options.settle,
            clock=self._ticks,
        )
        self.tree = Tree(
            options.paths,
            parts.root,
            parts.watch,
            settle=options.settle,
            ticks=self._ticks,
            wall=parts.clock,
        )
        self.handed = Handed(parts, self._committer, self._pace)
        self.comparing = True
        """Whether something that was taken is yet to be compared with what lies there."""
        self._comparison = Comparison(parts.state, self._ticks, self._refused)
        self._compared = False
        self._checkpointed = 0
        self._behind = False
        """Whether the answers could not be brought up to what was taken."""
        self.batches = (
            Batches(parts.root, options.batch, options.batch_every, parts.say, ticks=self._ticks)
            if options.batch_every
            else None
        )
        self.companions = [
            Companion(parts.root, store, command, parts.say, ticks=self._ticks)
            for store, command in options.replicas.items()
        ]

    def run(self, pulse: Pulse) -> None:
        """Follow until told to stop; with ``once`` until there is nothing more to take.

        Raises:
            DamageError: The log, or a view that must not be mended silently, is damaged.
            EnvironmentFailureError: With ``once`` the machine failed.
        """
        self.begin()
        try:
            while not self._stop.wanted:
                begun = self._ticks()
                worked = self.step()
                pulse.beat(self)
                if not worked and self.options.once and self._drained():
                    break
                self._wait(begun, pulse, worked=worked)
            self.end()
        finally:
            self.handed.close()
            if self.parts.upkeep is not None:
                self.parts.upkeep.close()
            for process in self._beside():
                process.stop()
            pulse.beat(self, last=True)

    def sources(self) -> list[Source]:
        """Return the sources, in the order they are taken."""
        found = self.contracts.sources.values()
        return sorted(found, key=lambda one: (_MODES.index(one.contract.mode), one.contract.source))

    def pending(self) -> Iterator[File]:
        """Yield the files of which something is not in the log yet."""
        for source in self.sources():
            yield from source.pending()

    def begin(self) -> None:
        """Read contracts, catch up; ``run`` does it first."""
        self.parts.apply.catch_up()
        self.contracts.changed()
        self.tree.recognise_by(self.contracts.sources, self.contracts.bad)
        self.tree.aside(self.parts.root / "contracts", "contracts")
        self.tree.aside(self.parts.root / REQUESTS, "requests")
        self._answer()

    def end(self) -> None:
        """Make durable what was applied, with its answers; ``run`` does it last."""
        self._answer()
        self.parts.apply.checkpoint()

    def step(self) -> bool:
        """Make one round; return whether anything was taken.

        When the machine says no that is noted, and it is tried again after a pause.
        """
        try:
            if self._ticks() < self._times.retry:
                return False
            worked = self._round()
        except EnvironmentFailureError as error:
            self._failed(error)
            return False
        except OSError as error:
            self._failed(EnvironmentFailureError.of(error, _TRIED_AGAIN))
            return False
        if self.failure is not None:
            self.failure, self._times.pause = None, 0.0
            self.parts.say.over("machine")
            self.parts.say.info("recovered", "going on: what the system refused works again")
        return worked

    def _round(self) -> bool:
        """Look, take what is ready, answer; return whether anything was taken."""
        begun = self._ticks()
        self.tree.look(begun + _READ_S)
        self._heed(begun)
        before = self.tally.bytes
        worked = self._take(begun)
        worked += self.handed.step(self.contracts)
        if worked or self._behind:
            self._answered()
        if worked:
            self._pace.took(self.tally.bytes - before, self._ticks() - begun)
        elif not self.tree.walking:
            self._quiet()
        self._keep_up(worked=worked > 0)
        for process in self._beside():
            process.look()
        return worked > 0

    def _heed(self, now: float) -> None:
        """See what else changed: contracts, requests, and now and then everything."""
        often = _POLL_S if self.parts.watch.partial else _WALK_S
        if now - self._times.walked >= often:
            self._times.walked = now
            self.tree.elsewhere |= {"contracts", "requests"}
            if not self.tree.walking:
                self.tree.again()
        if "requests" in self.tree.elsewhere:
            self.handed.look()
        due = self.contracts.due()
        if ("contracts" in self.tree.elsewhere or (due is not None and due <= now)) and (
            self.contracts.changed()
        ):
            self.tree.recognise_by(self.contracts.sources, self.contracts.bad)
            self.handed.begin_again()
            self._compared = False
        self.tree.elsewhere.clear()

    def _take(self, begun: float) -> int:
        due = [source for source in self.sources() if self._ready(source, begun)]
        taken = 0
        for source in due:
            taken += source.take(self._ticks() + _READ_S)
            if source.parked is not None:
                name = source.contract.source
                self.parts.say.error("source_parked", name, source.parked.reason)
            if self._stop.wanted:
                break
        return taken

    def _ready(self, source: Source, now: float) -> bool:
        # Versions of one thing in several files: all must be known before the first is taken.
        if source.contract.mode != "append" and not self.tree.walked:
            return False
        due = source.due()
        return due is not None and due <= now

    def _answered(self) -> None:
        """Bring the answers up to what was taken; keep little to be applied again."""
        self._times.committed = self._ticks()
        self._answer()
        now = self._ticks()
        for source in self.sources():
            if source.noticed_at is not None:
                self.tally.delays.add(now - source.noticed_at)
                source.noticed_at = None
        if self.tally.bytes - self._checkpointed >= _CHECKPOINT_BYTES:
            self._checkpointed = self.tally.bytes
            self.parts.apply.checkpoint()

    def _answer(self) -> None:
        self._behind = True
        stamp = self.parts.apply.stamp()
        for answers in self.parts.answers:
            answers.catch_up(stamp)
        self._behind, self._times.answered = False, self._ticks()

    def _quiet(self) -> None:
        """Do what can wait: make durable what was applied, compare what was taken."""
        now = self._ticks()
        if now - self._times.answered >= _IDLE_S:
            # A batch with other models has left the answers where it ended.
            self._answer()
        if self.parts.apply.stamp() != self.parts.state.stamp() and (
            now - self._times.committed >= _IDLE_S
        ):
            self.parts.apply.checkpoint()
        if not self._compared:
            self._compared = True
            self._comparison.begin(self.tree.files())
        self.comparing = self._comparison.step(now + _STEP_S)

    def _keep_up(self, *, worked: bool) -> None:
        """Seal a little of the log, where a range is full; live entries wait no longer for it."""
        upkeep = self.parts.upkeep
        if upkeep is None:
            return
        before = upkeep.problem
        upkeep.step(self.parts.apply.stamp().position, _SLICE_S if worked else _STEP_S)
        if upkeep.problem is not None and upkeep.problem is not before:
            self.parts.say.error("not_sealed", "sealing", upkeep.problem)
        elif upkeep.problem is None and before is not None:
            self.parts.say.over("sealing")

    def _drained(self) -> bool:
        waits = any(
            file.ready
            for source in self.sources()
            if source.parked is None
            for file in source.open()
        )
        return not (self.tree.walking or self.comparing or waits or self.handed.busy)

    def _wait(self, begun: float, pulse: Pulse, *, worked: bool) -> None:
        """Wait for a notice, or until something is due."""
        now = self._ticks()
        if worked:
            # A backlog does not wait; little writes gather for a moment.
            again = begun + _PACE_S if not self.handed.busy else now
            self._stop.wait(again - now)
            return
        if self.failure is not None:
            self._stop.wait(min(self._times.retry, pulse.due()) - now)
            return
        if self.tree.walking or self.comparing:
            return
        if self.parts.upkeep is not None and self.parts.upkeep.busy:
            return
        times = [pulse.due(), self._times.walked + _WALK_S, self._times.answered + _IDLE_S]
        times += [when for source in self.sources() if (when := source.due()) is not None]
        times += [due] if (due := self.contracts.due()) is not None else []
        times += [process.due() for process in self._beside()]
        if self.parts.apply.stamp() != self.parts.state.stamp():
            times.append(self._times.committed + _IDLE_S)
        if self.parts.watch.partial:
            times.append(self._times.walked + _POLL_S)
        descriptor = self.parts.watch.fileno()
        self._stop.wait(min(times) - now, [] if descriptor is None else [descriptor])

    def _failed(self, error: EnvironmentFailureError) -> None:
        """Forget what was read and is not in the log; try again after a pause, then longer."""
        self.tally.failures += 1
        self.failure = error
        for source in self.sources():
            source.again()
        if self.options.once:
            raise error
        pause = min(max(2 * self._times.pause, 1.0), _LONGEST_PAUSE_S)
        self._times.pause, self._times.retry = pause, self._ticks() + pause
        self.parts.say.error("machine", "machine", error, retry_s=pause)

    def _beside(self) -> Sequence[Batches | Companion]:
        return [*([self.batches] if self.batches is not None else []), *self.companions]

    def _source(self, contract: Contract) -> Source:
        return Source(
            contract,
            self._committer,
            self.parts.state,
            piece_bytes=self._pace,
            clock=self._ticks,
            refused=self._refused,
        )

    def _refused(self, file: File, error: MeterhouseError) -> None:
        self.parts.say.error("file_refused", file.name, error, source=file.contract.source)

    def _mended(self, source: str) -> None:
        self.parts.say.over(source)
        self.parts.say.info("contract_taken", f'contract "{source}" is in force', source=source)
