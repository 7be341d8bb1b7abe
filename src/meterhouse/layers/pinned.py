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
    so that its tables exist, empty; unless they are those of one that did deliver.

    Args:
        log: Holds the text of each contract that was ever in force.
        state: Knows which of them are.
        contracts: Those of the project folder (``Wiring.contracts``).
        upto: Those that were in force after this entry.
    """
    found: dict[str, Contract] = {}
    for source in state.sources():
        pinned = state.pinned(source, upto=upto)
        if pinned is None:
            continue
        own = contracts.get(source)
        if own is None or own.sha256 != pinned.sha256:
            text = log.read(pinned.position).text
            own = parse_contract(text, entry_path(pinned.position))
        found[source] = own
    owned = {table for contract in found.values() for table in contract.tables}
    for source, contract in contracts.items():
        if source not in found and owned.isdisjoint(contract.tables):
            found[source] = contract
    return dict(sorted(found.items()))
