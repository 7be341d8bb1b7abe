"""The ledger: what landed and what became of it, each term counted at its own sink."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from meterhouse.intake.contract import Contract
from meterhouse.intake.money import UNKNOWN_CURRENCY, decimal_text, exact_sum, scaled
from meterhouse.log.entry import Entry
from meterhouse.log.segments import Attestation
from meterhouse.names import ACCEPTED, DUPLICATE, QUARANTINED, SCALE
from meterhouse.verify.report import Check, Severity, Term

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CURRENT",
    "SUPERSEDED",
    "VERDICTS",
    "Tally",
    "by_currency",
    "check_ledger",
    "columns_counted",
    "landed_as_logged",
    "terms_of",
]

_EXACT: Final = Context(prec=400)
VERDICTS: Final = (ACCEPTED, QUARANTINED, DUPLICATE)
CURRENT: Final = "current"
SUPERSEDED: Final = "superseded"


@dataclass(slots=True)
class Tally:
    """Records and money of one source at one sink."""

    records: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Verdict → records."""
    money: defaultdict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    """(column, currency, verdict) → sum in units of 1e-9."""
    unreadable: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """(column, currency) → records whose amount could not be read; counted where they landed,
    for the judged rows of a copy don't say that its bytes are no record."""
    rounded: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    """(column, currency) → what rounding took off, where a contract rounds; counted where
    the bytes landed."""
    blank: int = 0
    """Blank lines, which are no records."""

    def add(self, contract: Contract, rows: pa.Table) -> None:
        """Count judged ``rows`` (columns of ``columns_counted`` at least)."""
        import pyarrow.compute as pc

        for verdict in VERDICTS:
            chosen = rows.filter(pc.equal(rows["verdict"], verdict))
            if chosen.num_rows:
                self.records[verdict] += chosen.num_rows
                self.add_money(contract, verdict, chosen)

    def add_money(self, contract: Contract, verdict: str, rows: pa.Table) -> None:
        """Add the money of ``rows``, all of them of one verdict."""
        for currency, chosen in by_currency(contract, rows):
            for column in contract.money:
                if column in chosen.column_names:
                    self.money[column, currency, verdict] += exact_sum(chosen[column])

    def merge(self, other: Tally) -> None:
        """Add what ``other`` counted."""
        for verdict, records in other.records.items():
            self.records[verdict] += records
        for place, units in other.money.items():
            self.money[place] += units
        for lost, records in other.unreadable.items():
            self.unreadable[lost] += records
        for amount, taken in other.rounded.items():
            self.rounded[amount] = _EXACT.add(self.rounded.get(amount, Decimal(0)), taken)
        self.blank += other.blank

    def total(self, column: str, currency: str) -> int:
        """Return the sum over all verdicts."""
        return sum(self.money.get((column, currency, verdict), 0) for verdict in VERDICTS)


def landed_as_logged(
    entries: Iterable[Entry], attested: Iterable[Attestation] = ()
) -> dict[str, Tally]:
    """Return what the log says landed, by source: for a look that judges nothing again.

    All of it stands under the verdict "accepted", since only sums over verdicts are used.

    Args:
        entries: Data entries.
        attested: Segments whose word is taken for theirs.
    """
    found: dict[str, Tally] = {}
    for said in attested:
        for source, sums in said.sources.items():
            _add_logged(found.setdefault(source, Tally()), sums["counts"], sums["money"])
    for entry in entries:
        _add_logged(found.setdefault(entry.source, Tally()), entry.counts, entry.money)
    return found


def _add_logged(
    tally: Tally, counts: Mapping[str, int], money: Mapping[str, Mapping[str, Mapping[str, str]]]
) -> None:
    tally.records[ACCEPTED] += counts.get("landed", 0)
    tally.blank += counts.get("blank", 0)
    for column, currencies in money.items():
        for currency, sums in currencies.items():
            units = Decimal(sums["landed"]).scaleb(SCALE, _EXACT)
            tally.money[column, currency, ACCEPTED] += int(units)
            tally.unreadable[column, currency] += int(sums.get("unreadable", "0"))


def columns_counted(contract: Contract, present: Iterable[str]) -> list[str]:
    """Return the judged columns that a tally needs, of those that are there."""
    wanted = ["verdict", *contract.money]
    if contract.currency_column:
        wanted.append(contract.currency)
    there = set(present)
    return [name for name in wanted if name in there]


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


def terms_of(source: str, landed: Tally, kept: Tally, versions: Tally | None) -> list[Term]:
    """Return the ledger's lines of one source.

    Args:
        source: Its name.
        landed: Counted from the landed bytes.
        kept: Counted in the judged files.
        versions: Accepted versions, current and superseded; None for append sources.
    """
    amounts = sorted({(column, currency) for column, currency, _ in (*landed.money, *kept.money)})
    return [
        _records(source, landed, kept, versions),
        *(_money(source, amount, landed, kept, versions) for amount in amounts),
    ]


def _records(source: str, landed: Tally, kept: Tally, versions: Tally | None) -> Term:
    total = sum(landed.records.values())
    accepted, quarantined, duplicate = (kept.records[verdict] for verdict in VERDICTS)
    current = superseded = ""
    holds = total == accepted + quarantined + duplicate
    if versions is not None:
        counts = versions.records[CURRENT], versions.records[SUPERSEDED]
        current, superseded = map(str, counts)
        holds = holds and sum(counts) == accepted
    return Term(
        source=source,
        measure="records",
        landed=str(total),
        accepted=str(accepted),
        quarantined=str(quarantined),
        duplicate=str(duplicate),
        blank=str(landed.blank),
        current=current,
        superseded=superseded,
        holds=holds,
    )


def _money(
    source: str, amount: tuple[str, str], landed: Tally, kept: Tally, versions: Tally | None
) -> Term:
    total = landed.total(*amount)
    accepted, quarantined, duplicate = (
        kept.money.get((*amount, verdict), 0) for verdict in VERDICTS
    )
    current = superseded = ""
    holds = total == accepted + quarantined + duplicate
    if versions is not None:
        sums = [versions.money.get((*amount, kind), 0) for kind in (CURRENT, SUPERSEDED)]
        current, superseded = map(decimal_text, sums)
        holds = holds and sum(sums) == accepted
    rounded = landed.rounded.get(amount)
    return Term(
        source=source,
        measure=" ".join(amount),
        landed=decimal_text(total) if rounded is None else _plain(total, rounded),
        accepted=decimal_text(accepted),
        quarantined=decimal_text(quarantined),
        duplicate=decimal_text(duplicate),
        current=current,
        superseded=superseded,
        unreadable=str(landed.unreadable.get(amount, 0)),
        rounded="" if rounded is None else _plain(0, rounded),
        holds=holds,
    )


def _plain(units: int, more: Decimal) -> str:
    """Return ``units`` of 1e-9 and ``more`` in plain notation, without trailing zeros."""
    text = format(_EXACT.add(scaled(units), more), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def check_ledger(terms: list[Term], severity: Severity) -> Check:
    """See that every term adds up; what does not is of ``severity``."""
    check = Check("ledger", covered=len(terms), unit="terms")
    for term in terms:
        if term.holds:
            continue
        what = "landed is not accepted + quarantined + duplicate"
        found = f"{term.accepted} accepted + {term.quarantined} quarantined"
        found += f" + {term.duplicate} duplicate"
        if term.current:
            what += ", or accepted is not current + superseded"
            found += f"; {term.current} current + {term.superseded} superseded"
        check.fail(
            severity,
            what,
            table=f"{term.source} {term.measure}",
            expected=f"{term.landed} landed",
            found=found,
        )
    return check
