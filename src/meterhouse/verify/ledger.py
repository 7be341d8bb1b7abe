"""The ledger: what landed and what became of it, each term counted at its own sink."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from meterhouse.intake.contract import Contract
from meterhouse.intake.money import UNKNOWN_CURRENCY, decimal_text, exact_sum
from meterhouse.log.entry import Entry
from meterhouse.names import ACCEPTED, DUPLICATE, QUARANTINED, SCALE
from meterhouse.verify.report import Term

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["VERDICTS", "Tally", "by_currency", "columns_counted", "landed_as_logged", "terms_of"]

_EXACT: Final = Context(prec=200)
VERDICTS: Final = (ACCEPTED, QUARANTINED, DUPLICATE)


@dataclass(slots=True)
class Tally:
    """Records and money of one source at one sink."""

    records: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Verdict → records."""
    money: defaultdict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    """(column, currency, verdict) → sum in units of 1e-9."""
    unreadable: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """(column, verdict) → records whose amount could not be read."""

    def add(self, contract: Contract, rows: pa.Table) -> None:
        """Count judged ``rows`` (columns of ``columns_counted`` at least)."""
        import pyarrow.compute as pc

        for verdict in VERDICTS:
            chosen = rows.filter(pc.equal(rows["verdict"], verdict))
            if not chosen.num_rows:
                continue
            self.records[verdict] += chosen.num_rows
            for column in contract.money:
                if column in chosen.column_names:
                    self._add_money(contract, column, verdict, chosen)

    def merge(self, other: Tally) -> None:
        """Add what ``other`` counted."""
        for verdict, records in other.records.items():
            self.records[verdict] += records
        for place, units in other.money.items():
            self.money[place] += units
        for lost, records in other.unreadable.items():
            self.unreadable[lost] += records

    def _add_money(self, contract: Contract, column: str, verdict: str, rows: pa.Table) -> None:
        for currency, chosen in by_currency(contract, rows):
            self.money[column, currency, verdict] += exact_sum(chosen[column])
        self.unreadable[column, verdict] += unreadable(contract, column, rows)


def landed_as_logged(entries: Iterable[Entry]) -> dict[str, Tally]:
    """Return what the log says landed, by source: for a look that judges nothing again.

    All of it stands under the verdict "accepted", since only sums over verdicts are used.
    """
    found: dict[str, Tally] = {}
    for entry in entries:
        tally = found.setdefault(entry.source, Tally())
        tally.records[ACCEPTED] += entry.counts.get("landed", 0)
        for column, currencies in entry.money.items():
            for currency, sums in currencies.items():
                units = Decimal(sums["landed"]).scaleb(SCALE, _EXACT)
                tally.money[column, currency, ACCEPTED] += int(units)
                tally.unreadable[column, ACCEPTED] += int(sums.get("unreadable", "0"))
    return found


def columns_counted(contract: Contract, present: Iterable[str]) -> list[str]:
    """Return the judged columns that a tally needs, of those that are there."""
    wanted = ["verdict", "invalid_reason", "unreadable", *contract.money]
    if contract.currency_column:
        wanted.append(contract.currency)
    return [name for name in wanted if name in set(present)]


def by_currency(contract: Contract, rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of each currency; "?" where it is not known."""
    import pyarrow.compute as pc

    if not contract.currency_column:
        yield contract.currency, rows
        return
    if contract.currency not in rows.column_names:
        yield UNKNOWN_CURRENCY, rows
        return
    given = pc.fill_null(rows[contract.currency], "")
    names = pc.if_else(pc.equal(given, ""), UNKNOWN_CURRENCY, given)
    for currency in sorted(pc.unique(names).to_pylist()):
        yield currency, rows.filter(pc.equal(names, currency))


def unreadable(contract: Contract, column: str, rows: pa.Table) -> int:
    """Count rows whose amount was delivered and could not be read."""
    import json

    import pyarrow.compute as pc

    name = contract.by_name[column].source
    lost = pc.sum(pc.fill_null(pc.equal(rows["invalid_reason"], "malformed"), False)).as_py() or 0
    odd = rows["unreadable"].drop_null() if "unreadable" in rows.column_names else []
    return lost + sum(name in json.loads(text.as_py()) for text in odd)


def terms_of(
    contract: Contract,
    landed: Tally,
    kept: Tally,
    blank: int,
    versions: tuple[int, int] | None,
) -> list[Term]:
    """Return the ledger's lines of one source.

    Args:
        contract: Of the source.
        landed: Counted from the landed bytes.
        kept: Counted in the judged files.
        blank: Blank lines landed.
        versions: (current, superseded), None for append sources.
    """
    return [
        _records(contract, landed, kept, blank, versions),
        *(
            _money(contract.source, column, currency, landed, kept)
            for column, currency in _amounts(landed, kept)
        ),
    ]


def _records(
    contract: Contract, landed: Tally, kept: Tally, blank: int, versions: tuple[int, int] | None
) -> Term:
    total = sum(landed.records.values())
    accepted, quarantined, duplicate = (kept.records[verdict] for verdict in VERDICTS)
    holds = total == accepted + quarantined + duplicate
    return Term(
        source=contract.source,
        measure="records",
        landed=str(total),
        accepted=str(accepted),
        quarantined=str(quarantined),
        duplicate=str(duplicate),
        blank=str(blank),
        current="" if versions is None else str(versions[0]),
        superseded="" if versions is None else str(versions[1]),
        holds=holds and (versions is None or sum(versions) == accepted),
    )


def _amounts(landed: Tally, kept: Tally) -> list[tuple[str, str]]:
    keys = {(column, currency) for column, currency, _ in (*landed.money, *kept.money)}
    return sorted(keys)


def _money(source: str, column: str, currency: str, landed: Tally, kept: Tally) -> Term:
    total = _total(landed.money, column, currency)
    accepted, quarantined, duplicate = (
        kept.money.get((column, currency, verdict), 0) for verdict in VERDICTS
    )
    lost = sum(landed.unreadable.get((column, verdict), 0) for verdict in VERDICTS)
    return Term(
        source=source,
        measure=f"{column} {currency}",
        landed=decimal_text(total),
        accepted=decimal_text(accepted),
        quarantined=decimal_text(quarantined),
        duplicate=decimal_text(duplicate),
        unreadable=str(lost),
        holds=total == accepted + quarantined + duplicate,
    )


def _total(money: Mapping[tuple[str, str, str], int], column: str, currency: str) -> int:
    return sum(money.get((column, currency, verdict), 0) for verdict in VERDICTS)
