"""The contracts in force: those the log pinned, not whatever the folder holds today."""

from __future__ import annotations

from collections.abc import Mapping

from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract
from meterhouse.log.chain import Log
from meterhouse.log.entry import entry_path
from meterhouse.log.state import State

__all__ = ["pinned_contracts"]


def pinned_contracts(
    log: Log, state: State, contracts: Mapping[str, Contract], *, upto: int = 1 << 62
) -> dict[str, Contract]:
    """Return the contract of every source, by source, sorted.

    A source that never delivered has none in the log: the project's own text stands for it,
    so that its tables exist, empty.

    Args:
        log: Holds the text of each contract that was ever in force.
        state: Knows which of them are.
        contracts: Those of the project folder.
        upto: Those that were in force after this entry.
    """
    found = dict(contracts)
    for source in state.sources():
        pinned = state.pinned(source, upto=upto)
        if pinned is None:
            continue
        own = contracts.get(source)
        if own is None or own.sha256 != pinned.sha256:
            text = log.read(pinned.position).text
            found[source] = parse_contract(text, entry_path(pinned.position))
    return dict(sorted(found.items()))
