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
from meterhouse.ports import Session
from meterhouse.verify.ledger import CURRENT, SUPERSEDED, Tally
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Subject

__all__ = ["check_versions"]


def check_versions(subject: Subject, found: dict[str, Tally]) -> Check:
    """Count current and superseded versions of each versioned source into ``found``.

    Both are counted in the judged files, each by itself; the index must hold as many keys
    as there are current versions.
    """
    check = Check("versions", unit="keys")
    state = subject.state
    if state is None:
        return check
    for source, contract in subject.contracts(subject.covered).items():
        if contract.mode == "append":
            continue
        try:
            tally = _counted(subject, state, contract)
            keys = _keys(subject, state, source)
        except (MeterhouseError, OSError, ValueError) as error:
            what = error.what if isinstance(error, MeterhouseError) else str(error)
            check.fail(
                "rebuildable",
                f"versions can't be counted: {what.splitlines()[0]}",
                file=f"judged/{source}",
            )
            continue
        found[source] = tally
        check.covered += tally.records[CURRENT]
        check.expect(
            tally.records[CURRENT],
            keys,
            "index holds another number of keys than there are current versions",
            file=f"index/{source}/keys",
            severity="rebuildable",
        )
    return check


def _counted(subject: Subject, state: State, contract: Contract) -> Tally:
    tally = Tally()
    forms = judged_forms(subject.blobs, state, contract.source)
    if not forms:
        return tally
    current = current_name(contract)
    with subject.engine.session(forms) as session:
        session.view(contract.table, over_forms(forms, accepted_sql, contract))
        removed = " UNION ALL ".join(removed_sql(contract, name) for name in forms)
        session.view(REMOVED_KEYS, removed)
        session.view(current, current_sql(contract))
        for kind, rows in (
            (CURRENT, f"FROM {current} AS version"),
            (
                SUPERSEDED,
                f"FROM {contract.table} AS version ANTI JOIN {current} AS kept "
                "USING (log_position, row_number)",
            ),
        ):
            _count(session, contract, tally, kind, rows)
    return tally


def _count(session: Session, contract: Contract, tally: Tally, kind: str, rows: str) -> None:
    import pyarrow as pa

    names = list(contract.money)
    if contract.currency_column:
        names.append(contract.currency)
    columns = ", ".join(f'version."{name}"' for name in (*names, "row_number"))
    for batch in session.stream(f"SELECT {columns} {rows}"):
        tally.records[kind] += batch.num_rows
        tally.add_money(contract, kind, pa.Table.from_batches([batch]))


def _keys(subject: Subject, state: State, source: str) -> int:
    runs = [
        RunFile(run.name, run.tier, run.rows, run.sha256, run.position)
        for run in state.runs(source, "keys")
    ]
    index = KeyIndex(subject.root / "index" / source / "keys", runs)
    return sum(len(keys) for keys in index.live())
