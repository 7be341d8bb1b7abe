"""Versions: of what was accepted, what is current and what was superseded."""

from __future__ import annotations

from meterhouse.errors import MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.index import KeyIndex, RunFile
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    current_name,
    current_sql,
    removed_sql,
)
from meterhouse.layers.judged import judged_forms, over_forms
from meterhouse.log.state import State
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Subject

__all__ = ["check_versions"]


def check_versions(subject: Subject, found: dict[str, tuple[int, int]]) -> Check:
    """Count (current, superseded) of each versioned source into ``found``.

    Both are counted in the judged files, each by itself; the index must hold as many keys
    as there are current versions.
    """
    check = Check("versions", unit="keys")
    state = subject.state
    if state is None:
        return check
    for source in state.sources():
        contract = subject.contracts[source]
        if contract.mode == "append":
            continue
        try:
            counted = _counted(subject, state, contract)
            keys = _keys(subject, state, source)
        except (MeterhouseError, OSError):
            continue  # damaged files, which check_judged and check_state name
        found[source] = counted
        check.covered += counted[0]
        check.expect(
            counted[0],
            keys,
            "index holds another number of keys than there are current versions",
            file=f"index/{source}/keys",
            severity="rebuildable",
        )
    return check


def _counted(subject: Subject, state: State, contract: Contract) -> tuple[int, int]:
    forms = judged_forms(subject.blobs, state, contract.source)
    if not forms:
        return 0, 0
    current = current_name(contract)
    with subject.engine.session(forms) as session:
        session.view(contract.table, over_forms(forms, accepted_sql, contract))
        removed = " UNION ALL ".join(removed_sql(contract, name) for name in forms)
        session.view(REMOVED_KEYS, removed)
        session.view(current, current_sql(contract))
        row = session.query(
            f"SELECT (SELECT count(*) FROM {current}) AS current, "
            f"(SELECT count(*) FROM {contract.table} AS version ANTI JOIN {current} AS kept "
            "USING (log_position, row_number)) AS superseded"
        ).to_pylist()[0]
    return row["current"], row["superseded"]


def _keys(subject: Subject, state: State, source: str) -> int:
    runs = [
        RunFile(run.name, run.tier, run.rows, run.sha256, run.position)
        for run in state.runs(source, "keys")
    ]
    index = KeyIndex(subject.root / "index" / source / "keys", runs)
    return sum(len(keys) for keys in index.live())
