"""What is published: every byte of the lake, every value that serving answers from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from meterhouse.errors import MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.money import decimal_text, exact_sum
from meterhouse.lake.published import Published, PublishedTable
from meterhouse.models.graph import Models
from meterhouse.names import ACCEPTED, QUARANTINED
from meterhouse.verify.ledger import Tally, by_currency
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Subject

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_gold", "check_lake", "check_lake_terms", "check_serving"]

_CHUNK = 1 << 22
_SHOWN = 3


def check_lake(subject: Subject) -> Check:
    """Hash every file that ``published.json`` names, data and Delta log alike."""
    check = Check("lake", unit="files")
    if subject.published is None:
        return check
    for table in subject.published.tables.values():
        stored = [(file.path, file.size, file.sha256) for file in table.files]
        stored += [(file.path, file.size, file.sha256) for file in table.log]
        for path, size, sha256 in stored:
            check.covered += 1
            _check_file(subject, check, table, f"lake/{path}", size, sha256)
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
        missing = isinstance(error, FileNotFoundError)
        what = "lake file is missing" if missing else f"lake file can't be read: {error.strerror}"
        check.fail("rebuildable", what, file=name, table=table.name)
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

    Args:
        subject: The project.
        upto: By source: judged records up to the published position.
    """
    check = Check("bronze", unit="records")
    published = subject.published
    if published is None:
        return check
    for contract in subject.contracts.values():
        kept = upto.get(contract.source, Tally())
        for name, verdict in ((contract.table, ACCEPTED), (contract.quarantine, QUARANTINED)):
            if name not in published.tables:
                check.fail("rebuildable", "table is not published", table=name)
                continue
            table = published.tables[name]
            check.covered += table.rows
            check.expect(
                kept.records[verdict],
                table.rows,
                f"lake holds another number of {verdict} records than were judged",
                table=name,
                severity="rebuildable",
            )
            _check_money(subject, check, contract, name, verdict, kept)
    return check


def _check_money(
    subject: Subject, check: Check, contract: Contract, name: str, verdict: str, kept: Tally
) -> None:
    assert subject.published is not None
    found: dict[tuple[str, str], int] = {}
    names = [*contract.money, *([contract.currency] if contract.currency_column else [])]
    for batch in _batches(subject, subject.published, name, names):
        for column in contract.money:
            for currency, rows in by_currency(contract, batch):
                key = (column, currency)
                found[key] = found.get(key, 0) + exact_sum(rows[column])
    for column, currency, which in kept.money:
        if which == verdict:
            check.expect(
                decimal_text(kept.money[column, currency, verdict]),
                decimal_text(found.get((column, currency), 0)),
                f"lake holds another sum of {column} ({currency}) than was judged",
                table=name,
                severity="rebuildable",
            )


def _batches(
    subject: Subject, published: Published, name: str, columns: Iterable[str]
) -> Iterable[pa.Table]:
    import pyarrow as pa

    wanted = ", ".join(f'"{column}"' for column in columns)
    if not wanted:
        return
    try:
        with subject.engine.session({name: published.relation(name)}) as session:
            for batch in session.stream(f"SELECT {wanted} FROM {name}"):
                yield pa.Table.from_batches([batch])
    except MeterhouseError:
        return  # a damaged file: check_lake has said so, and the sums will not fit


def check_gold(subject: Subject, models: Models, upto: Mapping[str, Tally]) -> Check:
    """See that gold's cost is the accepted cost, and gold's events the accepted events."""
    check = Check("gold", unit="tables")
    published = subject.published
    name = "gold.org_daily_usage_by_service"
    if published is None or name not in published.tables or name not in models:
        return check
    source = next((c for c in subject.contracts.values() if c.table == "bronze.usage_events"), None)
    if source is None:
        return check
    kept = upto.get(source.source, Tally())
    cost, events = 0, 0
    for batch in _batches(subject, published, name, ("daily_cost_usd", "event_count")):
        cost += exact_sum(batch["daily_cost_usd"])
        events += sum(batch["event_count"].to_pylist())
    check.covered = 1
    accepted = sum(units for (_, _, verdict), units in kept.money.items() if verdict == ACCEPTED)
    check.expect(
        decimal_text(accepted),
        decimal_text(cost),
        "gold's cost is not the accepted cost (USD)",
        table=name,
        severity="rebuildable",
    )
    check.expect(
        kept.records[ACCEPTED],
        events,
        "gold's events are not the accepted events",
        table=name,
        severity="rebuildable",
    )
    return check


def check_serving(subject: Subject) -> Check:
    """Compare every value that serving answers from with the published gold tables."""
    check = Check("serving", unit="rows")
    published, serving = subject.published, subject.serving
    if published is None or serving is None:
        return check
    try:
        stamp = serving.stamp()
    except MeterhouseError as error:
        check.fail("rebuildable", error.what, file="serving.db")
        return check
    if stamp is None:
        check.fail("rebuildable", "serving store is missing or empty", file="serving.db")
        return check
    check.expect(
        published.stamp,
        stamp,
        "serving stands at another position than the lake",
        file="serving.db",
        severity="rebuildable",
    )
    for name in published.tables:
        if name.startswith("gold."):
            _check_served(subject, check, published, name)
    return check


def _check_served(subject: Subject, check: Check, published: Published, name: str) -> None:
    assert subject.serving is not None
    try:
        rows = subject.serving.rows(name).read_all()
        check.covered += rows.num_rows
        lake = published.relation(name)
        columns = ", ".join(f'"{column}"' for column in lake.schema.names)
        with subject.engine.session({"lake": lake, "served": rows}) as session:
            for what, one, other in (
                ("serving lacks a row of the lake", "lake", "served"),
                ("serving has a row that is not in the lake", "served", "lake"),
            ):
                odd = session.query(
                    f"SELECT {columns} FROM {one} EXCEPT ALL SELECT {columns} FROM {other}"
                )
                for row in odd.slice(0, _SHOWN).to_pylist():
                    check.fail(
                        "rebuildable",
                        what,
                        file="serving.db",
                        table=name,
                        **{one_side(one): _text(row)},
                    )
    except MeterhouseError as error:
        check.fail("rebuildable", error.what, file=error.where or "serving.db", table=name)


def one_side(relation: str) -> str:
    """Return the field of a finding that ``relation``'s value belongs in."""
    return "expected" if relation == "lake" else "found"


def _text(row: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name}={format(value, 'f') if isinstance(value, Decimal) else value}"
        for name, value in row.items()
    )
