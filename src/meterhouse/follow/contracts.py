"""The contracts of the project folder while they are being edited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from meterhouse.errors import MeterhouseError
from meterhouse.follow.source import Source
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import BadContract, contract_files, read_contracts
from meterhouse.sources.watch import open_for_writing

__all__ = ["Contracts"]

_Look: TypeAlias = tuple[tuple[str, int, int, int], ...]


class Contracts:
    """Keeps the sources up with the folder. One bad file stops its own source only."""

    def __init__(
        self,
        folder: Path,
        source: Callable[[Contract], Source],
        told: Callable[[str, MeterhouseError], None],
        mended: Callable[[str], None],
        *,
        settle: float,
        clock: Callable[[], float],
    ) -> None:
        """Know nothing yet.

        Args:
            folder: ``contracts/`` of the project.
            source: Makes a source.
            told: Told of each source whose contract is not valid.
            mended: Told of each whose contract is valid again, or another one.
            settle: Seconds without a write before an edit counts: half of a contract may
                be a valid one.
            clock: Seconds that never go back.
        """
        self.sources: dict[str, Source] = {}
        self.bad: tuple[BadContract, ...] = ()
        self._folder = folder
        self._source = source
        self._told = told
        self._mended = mended
        self._settle = settle
        self._clock = clock
        self._look: _Look | None = None
        self._coming: tuple[_Look, float] | None = None

    def changed(self) -> bool:
        """Read the folder again when it looks different; return whether anything came of it."""
        look = self._looks()
        if look == self._look:
            self._coming = None
            return False
        if self._look is not None and not self._at_rest(look):
            return False
        self._look, self._coming = look, None
        found = read_contracts(self._folder)
        bad = {one.source: one for one in found.bad}
        self._drop(found.contracts, bad)
        changed = bool(bad) or bool(self.bad)
        for name, contract in found.contracts.items():
            changed |= self._judge_by(name, contract)
        for one in found.bad:
            self._told(one.source, one.error)
            if one.source in self.sources:
                self.sources[one.source].block(one.error)
        self.bad = found.bad
        return changed

    def _judge_by(self, name: str, contract: Contract) -> bool:
        source = self.sources.get(name)
        if source is None:
            self.sources[name] = self._source(contract)
        elif source.contract.sha256 != contract.sha256 or source.blocked:
            source.judge_by(contract)
            self._mended(name)
        else:
            return False
        return True

    def _drop(self, contracts: Mapping[str, Contract], bad: Mapping[str, BadContract]) -> None:
        for name in list(self.sources):
            if name not in contracts and name not in bad:
                del self.sources[name]

    def due(self) -> float | None:
        """Return when to look again at an edit, None when there is none."""
        return self._coming[1] + self._settle if self._coming is not None else None

    def _at_rest(self, look: _Look) -> bool:
        now = self._clock()
        if self._coming is None or self._coming[0] != look:
            self._coming = look, now
            return False
        if now < self._coming[1] + self._settle:
            return False
        written = any(open_for_writing(path) for path in contract_files(self._folder))
        if written:
            self._coming = look, now
        return not written

    def _looks(self) -> _Look:
        found = []
        for path in contract_files(self._folder):
            try:
                status = path.stat()
            except FileNotFoundError:
                # Renamed away this very moment: the next look sees what came of it.
                continue
            found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)
