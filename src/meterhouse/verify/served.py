"""What is served: every value that the serving store answers from, against the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.lake.published import Published
from meterhouse.serving.arrow_rows import schema_text, stored_columns
from meterhouse.serving.schema import Served, StoredTable
from meterhouse.serving.snapshot import SqliteSnapshot, read
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Subject

__all__ = ["SERVING_FILE", "check_serving", "row_text"]

SERVING_FILE: Final = "serving.db"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Look:
    """What the store says of itself, live rows apart."""

    served: Served
    tables: Mapping[str, StoredTable]
    problems: list[str]


def check_serving(subject: Subject) -> Check:
    """Compare every value of the serving store with the published gold tables."""
    check = Check("serving", unit="rows")
    published = subject.published
    if published is None or subject.serving is None:
        return check
    try:
        look = read(subject.root / SERVING_FILE, _look)
    except UsageError:
        check.fail("rebuildable", "serving store is missing or empty", file=SERVING_FILE)
        return check
    except MeterhouseError as error:
        check.fail("rebuildable", error.what, file=SERVING_FILE)
        return check
    for problem in look.problems:
        check.fail("rebuildable", f"serving store: {problem}", file=SERVING_FILE)
    _check_epoch(check, published, look.served)
    gold = {name for name in published.tables if name.startswith("gold.")}
    check.expect(
        ", ".join(sorted(gold)),
        ", ".join(sorted(look.tables)),
        "serving holds other tables than gold has",
        file=SERVING_FILE,
        severity="rebuildable",
    )
    for name in sorted(gold & look.tables.keys()):
        _check_table(subject, check, published, look.tables[name])
    return check


def _look(snapshot: SqliteSnapshot) -> _Look:
    return _Look(snapshot.standing.epoch, snapshot.stored, snapshot.check())


def _check_epoch(check: Check, published: Published, served: Served) -> None:
    for what, expected, found in (
        ("serving stands at another position than the lake", published.stamp, served.stamp),
        ("serving has another time than the lake", published.ingest_ts, served.ingest_ts),
        ("serving shows another epoch than the lake's", published.checksum[:16], served.epoch),
        (
            "serving has other details than the lake",
            {"generation": published.generation, **published.details},
            dict(served.details),
        ),
    ):
        check.expect(expected, found, what, file=SERVING_FILE, severity="rebuildable")


def _check_table(subject: Subject, check: Check, published: Published, stored: StoredTable) -> None:
    name = stored.name
    if name in subject.damaged:
        return
    lake = published.relation(name)
    try:
        with subject.engine.session({name: lake}) as session:
            schema = session.stream(f"SELECT * FROM {name} LIMIT 0").schema
    except MeterhouseError as error:
        check.fail("rebuildable", f"table of the lake can't be read: {error.what}", table=name)
        return
    kept = ", ".join(f"{column.name} {column.kind} {column.storage}" for column in stored.columns)
    as_written = (stored.arrow_schema, stored.columns) == (
        schema_text(schema),
        stored_columns(schema),
    )
    if as_written:
        _compare_rows(subject, check, published, stored)
    else:
        check.fail(
            "rebuildable",
            "serving describes the columns of a table otherwise than the lake",
            file=SERVING_FILE,
            table=name,
            expected=", ".join(f"{item.name} {item.type}" for item in schema),
            found=kept,
        )


def _compare_rows(
    subject: Subject, check: Check, published: Published, stored: StoredTable
) -> None:
    name, lake = stored.name, published.relation(stored.name)
    try:
        rows = SqliteServing(subject.root / SERVING_FILE).epoch_rows(name).read_all()
        check.covered += rows.num_rows
        check.expect(
            stored.rows,
            rows.num_rows,
            "serving says it holds another number of rows than it does",
            file=SERVING_FILE,
            table=name,
            severity="rebuildable",
        )
        columns = ", ".join(f'"{column}"' for column in lake.schema.names)
        sides = {"lake": f"lake{_kept(published, stored)}", "served": "served"}
        with subject.engine.session({"lake": lake, "served": rows}) as session:
            for what, side, one, other in (
                ("serving lacks a row of the lake", "expected", "lake", "served"),
                ("serving has a row that is not in the lake", "found", "served", "lake"),
            ):
                odd = session.query(
                    f"SELECT {columns} FROM {sides[one]} "
                    f"EXCEPT ALL SELECT {columns} FROM {sides[other]}"
                )
                for row in odd.slice(0, _SHOWN).to_pylist():
                    where: dict[str, Any] = {side: row_text(row)}
                    check.fail("rebuildable", what, file=SERVING_FILE, table=name, **where)
    except MeterhouseError as error:
        check.fail("rebuildable", error.what, file=SERVING_FILE, table=name)


def _kept(published: Published, stored: StoredTable) -> str:
    """Return the WHERE of the lake's rows that the store holds; "" for all of them."""
    first = published.details.get("keep_from", {}).get(stored.name)
    keep = stored.layout.keep
    return f" WHERE \"{keep}\" >= DATE '{first}'" if first is not None and keep else ""


def row_text(row: Mapping[str, object]) -> str:
    """Return a row as ``column=value``, decimals in plain notation."""
    return ", ".join(
        f"{name}={format(value, 'f') if isinstance(value, Decimal) else value}"
        for name, value in row.items()
    )
