"""What is held: counts and money by source and reason, and the records themselves.

Read from the judged files, so it is up to date before any batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from meterhouse.errors import UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.money import UNKNOWN_CURRENCY, exact_sum, scaled
from meterhouse.layers.bronze import quarantine_sql
from meterhouse.layers.judged import over_forms
from meterhouse.ports import Engine, Relation

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Filter", "HeldGroup", "held_rows", "summary"]


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Held records of one source and first broken rule."""

    source: str
    reason: str
    because: str
    """Why the contract has this rule."""
    records: int
    money: Mapping[str, Decimal]
    """"column currency" → exact sum over the readable amounts."""
    unreadable: int
    """Records with a money column that could not be read."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which held records; empty fields choose all."""

    source: str = ""
    reason: str = ""
    limit: int | None = None


def summary(
    engine: Engine,
    contracts: Mapping[str, Contract],
    judged: Mapping[str, Mapping[str, Relation]],
) -> list[HeldGroup]:
    """Return held records by source and reason, sorted; nothing held gives none."""
    found = []
    for source in sorted(judged):
        found += _groups(engine, contracts[source], judged[source])
    return found


def held_rows(
    engine: Engine,
    contracts: Mapping[str, Contract],
    judged: Mapping[str, Mapping[str, Relation]],
    chosen: Filter,
) -> Iterator[tuple[Contract, pa.RecordBatch]]:
    """Yield held records in the order of the log, source by source, with their contract.

    Columns are those of the source's quarantine table (TABLES.md: raw, raw_text, all
    reasons, file, line, what could be read).

    Raises:
        UsageError: There is no such source, or no rule of that name.
    """
    _known(contracts, chosen)
    left = chosen.limit
    for source in sorted(judged):
        if chosen.source not in ("", source):
            continue
        contract, forms = contracts[source], judged[source]
        if not forms:
            continue
        sql = over_forms(forms, quarantine_sql, contract)
        where = f"WHERE invalid_reason = {_text(chosen.reason)}" if chosen.reason else ""
        limit = f"LIMIT {left}" if left is not None else ""
        with engine.session(forms) as session:
            query = (
                f"SELECT * FROM ({sql}) AS held {where} ORDER BY log_position, row_number {limit}"
            )
            for batch in session.stream(query):
                if left is not None:
                    left -= batch.num_rows
                yield contract, batch
        if left == 0:
            return


def _known(contracts: Mapping[str, Contract], chosen: Filter) -> None:
    if chosen.source and chosen.source not in contracts:
        raise UsageError.unknown("source", chosen.source, contracts)
    if chosen.reason:
        rules = {rule.name for contract in contracts.values() for rule in contract.rules}
        if chosen.reason not in rules:
            raise UsageError.unknown("rule", chosen.reason, rules)


def _groups(engine: Engine, contract: Contract, forms: Mapping[str, Relation]) -> list[HeldGroup]:
    if not forms:
        return []
    # An amount out of range that DECIMAL(38,9) still holds is listed too, and is summed.
    lost = " OR ".join(
        ["invalid_reason = 'malformed'"]
        + [
            f"({_name(name)} IS NULL AND "
            f"json_exists(unreadable, {_text(_path(contract.by_name[name].source))}))"
            for name in contract.money
        ]
    )
    currency = _text(contract.currency)
    if contract.currency_column:
        currency = f"coalesce(nullif({_name(contract.currency)}, ''), {_text(UNKNOWN_CURRENCY)})"
    query = (
        f"SELECT invalid_reason AS reason, {currency} AS currency, coalesce({lost}, FALSE) AS lost"
        f"{''.join(', ' + _name(name) for name in contract.money)} "
        f"FROM ({over_forms(forms, quarantine_sql, contract)}) AS held"
    )
    groups: dict[str, _Group] = {}
    with engine.session(forms) as session:
        for batch in session.stream(query):
            _count(groups, contract.money, batch)
    because = {rule.name: rule.because for rule in contract.rules}
    return [
        HeldGroup(
            contract.source,
            reason,
            because.get(reason, ""),
            group.records,
            {name: scaled(units) for name, units in sorted(group.money.items())},
            group.lost if contract.money else 0,
        )
        for reason, group in sorted(groups.items())
    ]


@dataclass
class _Group:
    records: int = 0
    lost: int = 0
    money: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """"column currency" → units of 1e-9: a held amount may be so large that a few of them
    are beyond DECIMAL(38,9)."""


def _count(groups: dict[str, _Group], money: Sequence[str], batch: pa.RecordBatch) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.Table.from_batches([batch])
    for reason in pc.unique(rows["reason"]).to_pylist():
        chosen = rows.filter(pc.equal(rows["reason"], reason))
        group = groups.setdefault(reason, _Group())
        group.records += chosen.num_rows
        group.lost += pc.sum(chosen["lost"]).as_py() or 0
        for currency in pc.unique(chosen["currency"]).to_pylist() if money else ():
            part = chosen.filter(pc.equal(chosen["currency"], currency))
            for name in money:
                if part[name].null_count < part.num_rows:
                    group.money[f"{name} {currency}"] += exact_sum(part[name])


def _path(field_name: str) -> str:
    """Return the JSON path of a delivered field."""
    return '$."' + field_name.replace('"', '\\"') + '"'


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
