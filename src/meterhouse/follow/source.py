"""One source that is followed: its files, in which order they are taken, why it is parked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meterhouse.errors import ContractError, EnvironmentFailureError, SourceRefusedError
from meterhouse.errors import MeterhouseError as Reason
from meterhouse.follow.files import File
from meterhouse.intake.contract import Contract
from meterhouse.intake.parse import Parsed
from meterhouse.log.apply import OvertakenError
from meterhouse.log.commit import Committer
from meterhouse.log.entry import Entry
from meterhouse.log.group import Group, StoppedError, parse_range
from meterhouse.log.ranges import Range, Waiting, new_ranges
from meterhouse.log.state import State

__all__ = ["Parked", "Source"]

_LEAST: Final = 1 << 16
"""What is left of a piece is not cut into crumbs."""

Refused = Callable[[File, Reason], None]


@dataclass(frozen=True, slots=True)
class Parked:
    """Why nothing is taken of a source."""

    reason: Reason
    file: str
    """The file at which it stopped; empty when its contract is to blame."""


class Source:
    """The files of one source."""

    def __init__(
        self,
        contract: Contract,
        committer: Committer,
        state: State,
        *,
        piece_bytes: Callable[[], int],
        clock: Callable[[], float],
        refused: Refused,
    ) -> None:
        """Start without files.

        Args:
            contract: The contract in the project folder.
            committer: Puts entries.
            state: Knows what was taken.
            piece_bytes: About how many bytes an entry has.
            clock: Seconds that never go back.
            refused: Told of each file that is refused.
        """
        self.contract = contract
        self.files: dict[str, File] = {}
        self.parked: Parked | None = None
        self.noticed_at: float | None = None
        """When the oldest bytes of the last entry were noticed."""
        self._committer = committer
        self._state = state
        self._piece = piece_bytes
        self._clock = clock
        self._refused = refused
        self._open: dict[str, File] = {}
        """Files that may have something to take, or wait for something."""

    def follow(self, file: File) -> None:
        """Add a file that was found."""
        self.files[file.name] = file
        self._open[file.name] = file
        if file.grows:
            last = self._state.last_taken(self.contract.source, file.name)
            file.offset = last.hi if last is not None else 0
            if file.offset == file.size:
                # All of it was taken; whether it is still the same is compared when it is quiet.
                file.was_looked_at(file.seen, ended=True)

    def leave(self, file: File) -> None:
        """Forget a file that is gone; what the log has of it stays."""
        self.files.pop(file.name, None)
        self._open.pop(file.name, None)
        self._mended(file)

    def noticed(self, file: File) -> None:
        """Look at a file that changed when its time has come."""
        self._open[file.name] = file
        self._mended(file)

    def judge_by(self, contract: Contract) -> None:
        """Go on under another contract text, from the next entry on."""
        self.contract = contract
        self.parked = None
        for file in self.files.values():
            file.judged_by(contract)
            self._open[file.name] = file

    def block(self, error: ContractError) -> None:
        """Take nothing while the contract file is not valid."""
        self.parked = Parked(error, "")

    @property
    def blocked(self) -> bool:
        """Whether the contract file is to blame that nothing is taken."""
        return self.parked is not None and not self.parked.file

    def again(self) -> None:
        """Look at everything anew: what was read and not put into the log is forgotten."""
        self._again(self.files.values())

    def due(self) -> float | None:
        """Return when to look next without a notice, None when only a notice matters."""
        if self.parked is not None:
            return None
        times = [when for file in self._open.values() if (when := file.due()) is not None]
        return min(times, default=None)

    def open(self) -> Iterator[File]:
        """Yield the files that are to be looked at, now or soon."""
        return (file for file in self._open.values() if file.dirty)

    def pending(self) -> Iterator[File]:
        """Yield the files of which something is not in the log yet, if only half a record."""
        return (file for file in self.files.values() if file.dirty or file.waiting is not None)

    def take(self, until: float) -> int:
        """Take about a piece of what is ready, as one entry; return how many bytes.

        Files are read until the time ``until``, one at least.

        Raises:
            EnvironmentFailureError: The machine failed while something was written.
        """
        self.noticed_at = None
        if self.parked is not None:
            return 0
        ranges: dict[str, File] = {}
        taken, budget = 0, self._piece()

        def committed(entries: Sequence[Entry], parts: Sequence[Range]) -> None:
            for part in parts:
                file = ranges[part.item.file]
                file.took(part)
                self.noticed_at = min(file.since, self.noticed_at or file.since)

        group = Group(self._committer, self.contract, budget, committed)
        try:
            ready = self._ready()
            for file in ready:
                # What came before the last leaves some room for what came then.
                early = not file.live and file.since < ready[-1].since
                room = (budget - budget // 4 if early else budget) - taken
                if room <= 0:
                    continue
                ranges[file.name] = file
                for part, parsed in self._cut(file, room):
                    group.add(part, parsed)
                    taken += len(part.data)
                now = self._clock()
                if now >= until or (self._versioned and file.keeps_others(now)):
                    break
            group.commit()
        except StoppedError as stop:
            self.parked = Parked(stop.reason, stop.file)
            self._again(ranges.values())
        except OvertakenError:
            self._again(ranges.values())
        return taken

    @property
    def _versioned(self) -> bool:
        """Whether a later file may hold other versions of what is in an earlier one."""
        return self.contract.mode != "append"

    def _ready(self) -> list[File]:
        """Return the files whose time has come, in the order they are to be taken.

        As they came; what was found at one look by name, as ``ingest`` takes it. Little
        growth of files that are live already goes before everything else. No version goes
        before one that came earlier and only has to rest.
        """
        now = self._clock()
        found = []
        for file in list(self._open.values()):
            when = file.due()
            if when is None:
                self._open.pop(file.name)
            elif when <= now or self._versioned:
                found.append(file)
        ready = []
        for file in sorted(found, key=lambda file: (not file.live, file.since, file.name)):
            if file.keeps_others(now):
                break
            if (file.due() or 0.0) <= now:
                ready.append(file)
        return ready

    def _cut(self, file: File, budget: int) -> Iterator[tuple[Range, Parsed | None]]:
        """Yield what is new of a file, until ``budget`` bytes are had.

        A file that can't be read or is refused is left; that stops no other.
        """
        seen, now = file.seen, self._clock()
        had, ended = 0, file.at_its_end(now) if file.grows else True
        try:
            if not file.grows and not file.complete(now):
                return
            if file.grows:
                parts = file.start(self._state).ranges(max(budget, _LEAST), tail=ended)
            else:
                parts = file.cutting = file.cutting or self._whole(file)
            file.waiting = None
            for part in parts:
                if isinstance(part, Waiting):
                    file.waiting = part
                    continue
                yield part, parse_range(part, self.contract)
                had += len(part.data)
                if had >= budget:
                    return
            file.was_looked_at(seen, ended=ended)
        except SourceRefusedError as error:
            file.refuse(error)
            self._refused(file, error)
        except EnvironmentFailureError as error:
            file.unreadable(self._clock(), error)
            self._refused(file, error)

    def _whole(self, file: File) -> Iterator[Range | Waiting]:
        taken = self._state.taken(self.contract.source, file.name)
        return new_ranges(file.delivery, taken, self._piece)

    def _again(self, files: Iterable[File]) -> None:
        for file in files:
            file.forget()
            self._open[file.name] = file

    def _mended(self, file: File) -> None:
        """Go on when the file at which the source stopped is another one, or gone."""
        if self.parked is not None and self.parked.file == file.name:
            self.parked = None
