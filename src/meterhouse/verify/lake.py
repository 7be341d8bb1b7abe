"""What is published in the lake: every byte of its files, and what they add up to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from meterhouse.errors import MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.money import decimal_text, exact_sum
from meterhouse.lake.published import Published, PublishedTable
from meterhouse.names import ACCEPTED, QUARANTINED
from meterhouse.verify.ledger import Tally, by_currency
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Scope, Subject
from meterhouse.verify.truth import unreadable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_gold", "check_lake", "check_lake_terms"]

_CHUNK = 1 << 22
_WRITTEN_AT: Final = re.compile(r"(?:.*/)?(\d{12})-[^/]*\.parquet\Z")
"""Data files are named by the position of the batch that wrote them."""

_COST_TABLE: Final = "gold.org_daily_usage_by_service"
_COST: Final = "cost_usd_increment"


def check_lake(subject: Subject, scope: Scope) -> Check:
    """Hash every file that ``published.json`` names, data and Delta log alike.

    Fills ``subject.damaged``. Data files that a batch up to ``scope.since`` wrote are passed
    over.
    """
    check = Check("lake", unit="files")
    if subject.published is None:
        return check
    for table in subject.published.tables.values():
        files = [(file.path, file.size, file.sha256) for file in table.files]
        files += [(file.path, file.size, file.sha256) for file in table.log]
        for path, size, sha256 in files:
            written = _WRITTEN_AT.match(path)
            if written is not None and int(written[1]) <= scope.since:
                continue
            check.covered += 1
            before = len(check.findings)
            _check_file(subject, check, table, f"lake/{path}", size, sha256)
            if len(check.findings) > before:
                subject.damaged.add(table.name)
    return check


def _check_file(
    subject: Subject, check: Check, table: PublishedTable, name: str, size: int, sha256: str
) -> None:
    digest, read = hashlib.sha256(), 0
    try:
        with (subject.root / name).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                read += len(chunk)
    except OSError as error:
        check.fail("rebuildable", unreadable("lake file", error), file=name, table=table.name)
        return
    check.expect(
        f"{size} bytes, {sha256}",
        f"{read} bytes, {digest.hexdigest()}",
        "lake file does not hold what was written",
        file=name,
        table=table.name,
        severity="rebuildable",
    )


def check_lake_terms(subject: Subject, upto: Mapping[str, Tally]) -> Check:
    """See that bronze holds as many records, and as much money, as the judged files say.

    Rows are counted and added up in the Parquet files themselves.

    Args:
        subject: The project.
        upto: By source: judged records up to the published position.
    """
    check = Check("bronze", unit="records")
    published = subject.published
    if published is None:
        return check
    contracts = subject.contracts(published.stamp.position)
    for contract in contracts.values():
        kept = upto.get(contract.source, Tally())
        for name, verdict in ((contract.table, ACCEPTED), (contract.quarantine, QUARANTINED)):
            if name not in published.tables:
                check.fail("rebuildable", "table is not published", table=name)
            elif name not in subject.damaged:
                _check_table(subject, check, published, contract, (name, verdict, kept))
    return check


def _check_table(
    subject: Subject,
    check: Check,
    published: Published,
    contract: Contract,
    expected: tuple[str, str, Tally],
) -> None:
    name, verdict, kept = expected
    records, found = 0, Tally()
    names = [*contract.money, *([contract.currency] if contract.currency_column else [])]
    try:
        for batch in _batches(subject, published, name, [*names, "row_number"]):
            records += batch.num_rows
            for currency, rows in by_currency(contract, batch):
                for column in contract.money:
                    found.money[column, currency, verdict] += exact_sum(rows[column])
    except MeterhouseError as error:
        check.fail("rebuildable", f"table can't be read: {error.what}", table=name)
        return
    check.covered += records
    check.expect(
        kept.records[verdict],
        records,
        f"lake holds another number of {verdict} records than were judged",
        table=name,
        severity="rebuildable",
    )
    for column in contract.money:
        if verdict == ACCEPTED and not _zero(contract.by_name[column].default):
            continue  # the lake holds the contract's default where nothing was delivered
        _compare_money(check, name, column, (verdict, kept, found))


def _zero(default: str | None) -> bool:
    """Return whether a default, an SQL literal, changes no sum."""
    return re.fullmatch(r"'?[+-]?0*\.?0*'?", default or "0") is not None


def _compare_money(check: Check, name: str, column: str, sums: tuple[str, Tally, Tally]) -> None:
    verdict, kept, found = sums
    places = {place for place in (*kept.money, *found.money) if place[0] == column}
    for currency in sorted({place[1] for place in places if place[2] == verdict}):
        check.expect(
            decimal_text(kept.money.get((column, currency, verdict), 0)),
            decimal_text(found.money.get((column, currency, verdict), 0)),
            f"lake holds another sum of {column} ({currency}) than was judged",
            table=name,
            severity="rebuildable",
        )


def _batches(
    subject: Subject, published: Published, name: str, columns: Iterable[str]
) -> Iterable[pa.Table]:
    import pyarrow as pa

    wanted = ", ".join(f'"{column}"' for column in columns)
    with subject.engine.session({name: published.relation(name)}) as session:
        for batch in session.stream(f"SELECT {wanted} FROM {name}"):
            yield pa.Table.from_batches([batch])


def check_gold(subject: Subject, upto: Mapping[str, Tally]) -> Check:
    """See that gold's cost is the accepted cost, and gold's events the accepted events."""
    check = Check("gold", unit="tables")
    published = subject.published
    if published is None or _COST_TABLE not in published.tables:
        return check
    contracts = subject.contracts(published.stamp.position).values()
    source = next((one.source for one in contracts if one.table == "bronze.usage_events"), None)
    if source is None or _COST_TABLE in subject.damaged:
        return check
    behind = published.details.get("stale", {}).get(_COST_TABLE)
    if behind is not None:
        check.fail(
            "rebuildable",
            "table was left behind by the last batch: its model, or one that it reads, is not "
            "valid (meterhouse models lint names the mistake; mend it, then meterhouse batch)",
            table=_COST_TABLE,
            expected=f"log position {published.stamp.position}",
            found=f"log position {behind}",
        )
        return check
    kept = upto.get(source, Tally())
    cost, events = 0, 0
    try:
        for batch in _batches(subject, published, _COST_TABLE, ("daily_cost_usd", "event_count")):
            cost += exact_sum(batch["daily_cost_usd"])
            events += sum(batch["event_count"].to_pylist())
    except MeterhouseError as error:
        check.fail("rebuildable", f"table can't be read: {error.what}", table=_COST_TABLE)
        return check
    check.covered = 1
    accepted = sum(
        units for place, units in kept.money.items() if (place[0], place[2]) == (_COST, ACCEPTED)
    )
    check.expect(
        decimal_text(accepted),
        decimal_text(cost),
        "gold's cost is not the accepted cost (USD)",
        table=_COST_TABLE,
        severity="rebuildable",
    )
    check.expect(
        kept.records[ACCEPTED],
        events,
        "gold's events are not the accepted events",
        table=_COST_TABLE,
        severity="rebuildable",
    )
    return check
