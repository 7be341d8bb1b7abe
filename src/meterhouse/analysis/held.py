"""What is held: counts and money by source and reason, and the records themselves.

Read from the judged files, so it is up to date before any batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from meterhouse.errors import UsageError
from meterhouse.intake.contract import Contract
from meterhouse.layers.bronze import quarantine_sql
from meterhouse.layers.judged import over_forms
from meterhouse.ports import Engine, ParquetFiles

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
    judged: Mapping[str, Mapping[str, ParquetFiles]],
) -> list[HeldGroup]:
    """Return held records by source and reason, sorted; nothing held gives none."""
    found = []
    for source in sorted(judged):
        found += _groups(engine, contracts[source], judged[source])
    return found


def held_rows(
    engine: Engine,
    contracts: Mapping[str, Contract],
    judged: Mapping[str, Mapping[str, ParquetFiles]],
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


def _groups(
    engine: Engine, contract: Contract, forms: Mapping[str, ParquetFiles]
) -> list[HeldGroup]:
    if not forms:
        return []
    present = contract.money
    currency = (
        f"coalesce({_name(contract.currency)}, '?')"
        if contract.currency_column
        else _text(contract.currency)
    )
    sums = "".join(f", sum({_name(name)}) AS {_name('sum ' + name)}" for name in present)
    fields = [_text(f'$."{contract.by_name[name].source}"') for name in present]
    unreadable = " OR ".join(f"json_exists(unreadable, {path})" for path in fields)
    with engine.session(forms) as session:
        rows = session.query(
            f"SELECT invalid_reason AS reason, {currency} AS currency, count(*) AS records, "
            f"count(*) FILTER (invalid_reason = 'malformed'"
            f"{' OR ' + unreadable if unreadable else ''}) AS unreadable{sums} "
            f"FROM ({over_forms(forms, quarantine_sql, contract)}) AS held "
            "GROUP BY ALL ORDER BY reason, currency"
        ).to_pylist()
    because = {rule.name: rule.because for rule in contract.rules}
    return [
        _group(contract.source, reason, because.get(reason, ""), rows, present)
        for reason in sorted({row["reason"] for row in rows})
    ]


def _group(
    source: str,
    reason: str,
    because: str,
    rows: Sequence[Mapping[str, object]],
    money: Sequence[str],
) -> HeldGroup:
    mine = [row for row in rows if row["reason"] == reason]
    sums: dict[str, Decimal] = {}
    for row in mine:
        for name in money:
            value = row[f"sum {name}"]
            if isinstance(value, Decimal):
                sums[f"{name} {row['currency']}"] = value
    return HeldGroup(
        source,
        reason,
        because,
        records=sum(_count(row["records"]) for row in mine),
        money=sums,
        unreadable=sum(_count(row["unreadable"]) for row in mine) if money else 0,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
