"""Ranges of one source on their way into one entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meterhouse.errors import ContractError, MeterhouseError, SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.parse import Parsed
from meterhouse.log.commit import Committer, Part
from meterhouse.log.entry import Entry
from meterhouse.log.landing import parse_landed
from meterhouse.log.ranges import PieceBytes, Range, bytes_now

__all__ = ["MOST_INPUTS", "Group", "StoppedError", "parse_range"]

MOST_INPUTS: Final = 2048
"""Per entry: reading one entry must stay cheap, however small the files are."""


class StoppedError(Exception):
    """The source stops at ``file``, for the reason it was raised from."""

    def __init__(self, file: str, reason: MeterhouseError) -> None:
        super().__init__(file)
        self.file = file
        self.reason = reason


class Group:
    """Collects ranges of one source; commits them as one entry.

    Many small files share an entry; of a snapshot each is an entry of its own.
    """

    def __init__(
        self,
        committer: Committer,
        contract: Contract,
        piece_bytes: PieceBytes,
        committed: Callable[[Sequence[Entry], Sequence[Range]], None],
    ) -> None:
        """Start empty.

        Args:
            committer: Puts the entries.
            contract: Of all ranges.
            piece_bytes: About how many bytes an entry holds.
            committed: Called with what was put into the log, and the ranges it holds.
        """
        self._committer = committer
        self._contract = contract
        self._piece_bytes = piece_bytes
        self._committed = committed
        self._parts: list[tuple[Range, Parsed | None]] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def size(self) -> int:
        """Bytes collected."""
        return self._bytes

    @property
    def first(self) -> str:
        """The file that the first range is of."""
        return self._parts[0][0].item.file

    def add(self, part: Range, parsed: Parsed | None) -> None:
        """Put a range in; commit what is there when it is full.

        Raises:
            StoppedError: The source stops.
            OvertakenError: Another process took of one of these files.
        """
        size, piece = len(part.data), bytes_now(self._piece_bytes)
        alone = part.alone or self._contract.mode == "snapshot"
        if alone or self._bytes + size > piece or len(self._parts) >= MOST_INPUTS:
            self.commit()
        self._parts.append((part, parsed))
        self._bytes += size
        if alone or self._bytes >= piece:
            self.commit()

    def commit(self) -> None:
        """Commit what is there, as one entry; raises as ``add``."""
        if not self._parts:
            return
        parts = self._all_parsed()
        try:
            self._record(parts)
        except SourceRefusedError:
            # Each by itself, so that only the file that is to blame is refused.
            for part in parts:
                try:
                    self._record([part])
                except SourceRefusedError as error:
                    name = part.range.item.file
                    self.clear()
                    raise StoppedError(name, _named(error, name)) from error
                del self._parts[0]
        except ContractError as error:
            name = parts[0].range.item.file
            self.clear()
            raise StoppedError(name, error) from error
        self.clear()

    def clear(self) -> None:
        """Forget what is there."""
        self._parts, self._bytes = [], 0

    def _all_parsed(self) -> list[Part]:
        """Return all parts, parsed: small ranges at once, which costs far less."""
        new = [(part.item, part.data) for part, parsed in self._parts if parsed is None]
        fresh = iter(parse_landed(new, self._contract))
        return [
            Part(part, next(fresh) if parsed is None else parsed) for part, parsed in self._parts
        ]

    def _record(self, group: Sequence[Part]) -> None:
        entries = self._committer.commit(self._contract, group)
        self._committed(entries, [part.range for part in group])


def parse_range(part: Range, contract: Contract) -> Parsed | None:
    """Parse CSV, whose file may be refused for its header; JSONL can wait for others.

    Raises:
        SourceRefusedError: The file's header can't be used.
    """
    if contract.format == "jsonl":
        return None
    try:
        [parsed] = parse_landed([(part.item, part.data)], contract)
    except SourceRefusedError as error:
        raise _named(error, part.item.file) from error
    return parsed


def _named(error: SourceRefusedError, name: str) -> SourceRefusedError:
    """Say of which file it is."""
    where = error.where if name in error.where else f"{name}, {error.where}".rstrip(", ")
    return SourceRefusedError(error.what, where, error.fix)
