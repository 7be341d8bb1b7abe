"""Committing a group of ranges as one entry: judged at the head, landed, put, applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meterhouse.errors import ContractError
from meterhouse.intake.contract import Contract
from meterhouse.intake.judge import Judged, Piece
from meterhouse.intake.parse import Parsed
from meterhouse.log.apply import Apply, OvertakenError, taken_of
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry, Input
from meterhouse.log.landing import Landing
from meterhouse.log.ranges import Place, Range, place
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Clock

__all__ = ["Committer", "Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """A range, parsed, on its way into an entry."""

    range: Range
    parsed: Parsed


class Committer:
    """Puts entries; of two processes that want the same number one wins, the other repeats."""

    def __init__(
        self,
        blobs: Blobs,
        log: Log,
        state: State,
        apply: Apply,
        clock: Clock,
        new_project: Callable[[], str],
        judged: Callable[[Entry, Judged], None] = lambda entry, judged: None,
    ) -> None:
        """Put the parts together; ``judged`` is shown each entry that was put."""
        self._log = log
        self._state = state
        self._apply = apply
        self._clock = clock
        self._new_project = new_project
        self._landing = Landing(blobs, log.segments.span)
        self._shown = judged

    def commit(self, contract: Contract, group: Sequence[Part]) -> list[Entry]:
        """Add ``group`` to the log as one entry, behind one for a changed contract.

        Judging depends on everything before it in the log, so it is done again whenever
        another process was faster. When this returns, the entries survive a power loss.

        Raises:
            SourceRefusedError: The source stops here; nothing was numbered or landed.
            ContractError: The contract changed in what can't change in place.
            OvertakenError: Another process took of one of these files: cut them again.
        """
        done: list[Entry] = []
        while True:
            cover = self._apply.catch_up()
            self._check_places(contract, group)
            # All that judging can see is settled before it: position and time.
            entry = self._next(contract)
            if entry.position != cover.position + 1:
                # Somebody was faster just now: the views lack an entry.
                continue
            pin = self._pin(contract, entry)
            if pin is not None:
                entry = replace(entry, position=pin.position + 1, previous=pin.sha256, project="")
            repeated = self._repeated(contract, group)
            try:
                judged = self._judged(contract, group, repeated, entry)
            except OvertakenError:
                continue
            if pin is not None:
                if not self._log.append(pin):
                    continue
                self._apply.take_contract(pin)
                done.append(pin)
            entry = self._filled(entry, group, repeated, judged)
            if not self._log.append(entry):
                continue
            taken = [
                taken_of(
                    entry,
                    item,
                    ends_newline=part.range.ends_newline,
                    versioned=contract.mode != "append",
                )
                for item, part in zip(entry.inputs, group, strict=True)
            ]
            self._apply.take(entry, judged, taken)
            self._shown(entry, judged)
            return [*done, entry]

    def _judged(
        self, contract: Contract, group: Sequence[Part], repeated: Sequence[bool], entry: Entry
    ) -> Judged:
        pieces = [
            Piece(part.range.item.file, part.parsed, again, part.range.item.whole)
            for part, again in zip(group, repeated, strict=True)
        ]
        return self._apply.judge(
            contract.source,
            pieces,
            contract,
            position=entry.position,
            ingest_ts=entry.time,
        )

    def _next(self, contract: Contract) -> Entry:
        """Return an empty entry of the contract's source at the head's next position."""
        entry = self._log.following(self._clock())
        return replace(
            entry,
            project=self._new_project() if entry.position == 1 else "",
            source=contract.source,
            contract=contract.sha256,
        )

    def _pin(self, contract: Contract, entry: Entry) -> Entry | None:
        """Return ``entry`` as the one that puts ``contract`` in force, None when it is."""
        pinned = self._state.pinned(contract.source)
        if pinned is not None:
            if pinned.sha256 == contract.sha256:
                return None
            _check_change(self._apply.contract(contract.source, pinned.sha256), contract)
        self._check_tables(contract)
        return replace(entry, kind="contract", text=contract.text)

    def _check_tables(self, contract: Contract) -> None:
        """See that no other source has put records into the tables of ``contract``."""
        for source in self._state.sources():
            pinned = self._state.pinned(source)
            if source == contract.source or pinned is None:
                continue
            other = self._apply.contract(source, pinned.sha256)
            for table in contract.tables:
                if table in other.tables:
                    raise ContractError(
                        f'table {table} is that of source "{source}", whose records are in the log',
                        f"contracts/{contract.source}.yaml",
                        f'give it another table: and quarantine:, or call its source "{source}"; '
                        "nothing of this source was taken",
                    )

    def _check_places(self, contract: Contract, group: Sequence[Part]) -> None:
        """See that every file still is where its range was cut to follow."""
        ends: dict[str, Place | None] = {}
        for part in group:
            item = part.range.item
            if item.file not in ends:
                last = self._state.last_taken(contract.source, item.file)
                ends[item.file] = place([last] if last is not None else [])
            if ends[item.file] != part.range.after:
                raise OvertakenError
            ends[item.file] = (item.lo, item.hi, item.root)

    def _repeated(self, contract: Contract, group: Sequence[Part]) -> list[bool]:
        """Return which ranges hold bytes that were taken before under another name only."""
        if contract.mode == "append":
            return [False] * len(group)
        found: list[bool] = []
        here: dict[tuple[int, str], set[str]] = {}
        for part in group:
            item = part.range.item
            names = here.setdefault((item.lo, item.root), set())
            names |= {
                taken.file
                for taken in self._state.root_taken(contract.source, item.root)
                if taken.lo == item.lo
            }
            # A file that goes back to what it was itself is a correction, not a copy.
            found.append(bool(names) and item.file not in names)
            names.add(item.file)
        return found

    def _filled(
        self, entry: Entry, group: Sequence[Part], repeated: Sequence[bool], judged: Judged
    ) -> Entry:
        """Land the bytes of ``group`` and return ``entry`` with all that it says of them."""
        stored = [part.range.packed or part.range.data for part in group]
        name = self._landing.land(entry.source, stored[0] if len(stored) == 1 else b"".join(stored))
        inputs: list[Input] = []
        offset = 0
        for part, data, again in zip(group, stored, repeated, strict=True):
            inputs.append(
                replace(
                    part.range.item,
                    offset=offset,
                    size=len(data),
                    records=part.parsed.rows.num_rows,
                    blank=part.parsed.blank,
                    repeated=again,
                )
            )
            offset += len(data)
        return replace(
            entry,
            object=name,
            inputs=tuple(inputs),
            counts={**judged.counts, "blank": sum(item.blank for item in inputs)},
            money=judged.money,
        )


def _check_change(old: Contract, new: Contract) -> None:
    """See that records judged under ``old`` and ``new`` can be compared with each other."""
    for what, before, after in (
        ("key", ", ".join(old.key), ", ".join(new.key)),
        ("mode", old.mode, new.mode),
    ):
        if before != after:
            raise ContractError(
                f'{what} of contract "{new.source}" changed from {before} to {after}, but '
                "records were taken under the former",
                f"contracts/{new.source}.yaml",
                f"put {what}: {before} back, or give the new records a source of their own; "
                "nothing more of this source was taken",
            )
