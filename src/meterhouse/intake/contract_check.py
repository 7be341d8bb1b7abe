"""All contracts of a project, checked as far as the engine can: every expression is bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import combinations, product
from pathlib import Path
from typing import Final

import pyarrow as pa

from meterhouse.errors import ContractError, MeterhouseError, SqlError
from meterhouse.intake.contract import ColumnType, Contract
from meterhouse.intake.contract_reading import read_contract
from meterhouse.intake.contracts import contract_files, contract_text
from meterhouse.intake.document import Value
from meterhouse.intake.expression import INGEST_TS
from meterhouse.intake.values import ARROW_TYPES
from meterhouse.names import SCALE
from meterhouse.ports import Engine, Session

__all__ = ["check_contracts"]

# Larger amounts can be read but are out of range, so no rule's SQL ever decides about them.
LARGEST: Final = f"{'9' * 18}.{'9' * SCALE}"
ODD_VALUES: Final[Mapping[ColumnType, Sequence[object]]] = {
    "text": ("", "abc", " 12.5 ", "é\n", None),
    "decimal": (Decimal(LARGEST), Decimal(f"-{LARGEST}"), Decimal(0), None),
    "integer": (2**63 - 1, -(2**63), 0, None),
    "boolean": (True, False, None),
    "date": (date.min, date.max, None),
    "timestamp": (
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        None,
    ),
    "json": ("{}", "[null]", '"a"', None),
}
"""Values that a column of each type can hold, and that a careless expression fails on."""


def check_contracts(folder: Path, engine: Engine) -> list[MeterhouseError]:
    """Return everything wrong with the contracts of ``folder``, in the order of the files.

    Of a file that can't be read, the first mistake; of one that can, every expression
    that the engine refuses or that gives another type than it must.
    """
    found: list[MeterhouseError] = []
    readable: list[tuple[Path, Contract]] = []
    files = contract_files(folder)
    if not files:
        found.append(ContractError("there are no contracts", str(folder), "put *.yaml files there"))
    for path in files:
        try:
            contract, places = read_contract(contract_text(path), str(path))
        except ContractError as error:
            found.append(error)
            continue
        readable.append((path, contract))
        found += check_expressions(contract, places, engine)
    return [*found, *check_together(readable)]


def check_expressions(
    contract: Contract, places: Mapping[tuple[str, ...], Value], engine: Engine
) -> list[MeterhouseError]:
    """Return an error for every expression that the engine can't evaluate as it must."""
    with engine.session({"record": odd_records(contract)}) as session:
        return [
            error
            for place, value in places.items()
            if (error := refusal(session, value, wanted_type(contract, place)))
        ]


def odd_records(contract: Contract) -> pa.Table:
    """Return records of extreme and empty values: an expression must not fail on any value."""
    kinds = {column.name: column.type for column in contract.columns}
    kinds[INGEST_TS] = "timestamp"
    rows = max(len(values) for values in ODD_VALUES.values())
    return pa.table(
        {
            name: pa.array(
                [ODD_VALUES[kind][row % len(ODD_VALUES[kind])] for row in range(rows)],
                ARROW_TYPES[kind],
            )
            for name, kind in kinds.items()
        }
    )


def wanted_type(contract: Contract, place: tuple[str, ...]) -> ColumnType:
    """Return the type that the expression at ``place`` must have."""
    if place[0] == "derived":
        return next(derived.type for derived in contract.derived if derived.name == place[1])
    return "boolean" if place[2] == "holds" else contract.by_name[place[3]].type


def refusal(session: Session, value: Value, wanted: ColumnType) -> ContractError | None:
    """Return why the engine can't use an expression, None when it can."""
    try:
        table = session.query(f"SELECT ({value.text()}\n) AS answer FROM record")
    except SqlError as error:
        return value.error(
            f"the engine refuses the expression: {first_line(error.what)}",
            "mend the SQL; no value may make it fail (TRY_CAST and TRY give NULL then)",
        )
    kind = table.schema.field("answer").type
    if kind == ARROW_TYPES[wanted] or (wanted == "decimal" and exact_number(kind)):
        return None
    given = next((name for name, arrow in ARROW_TYPES.items() if arrow == kind), str(kind))
    return value.error(
        f"expression is of type {given}, where {wanted} is needed",
        "compare it to something" if wanted == "boolean" else "cast it, or change the type",
    )


def exact_number(kind: pa.DataType) -> bool:
    """Return whether values of the type fit DECIMAL(38,9) without rounding."""
    return bool(
        pa.types.is_integer(kind)
        or (pa.types.is_decimal(kind) and kind.scale <= SCALE and kind.precision - kind.scale <= 29)
    )


def first_line(text: str) -> str:
    """Return the first line of an engine's message, without its kind and final stop."""
    line = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return line.split("Error: ")[-1].rstrip(".!")


def check_together(contracts: list[tuple[Path, Contract]]) -> Iterator[MeterhouseError]:
    """Yield an error for every two contracts that would take the same thing."""
    for (path, one), (other_path, other) in combinations(contracts, 2):
        where = f"{path} and {other_path}"
        kinds = {one.source: "source", one.table: "table", one.quarantine: "table"}
        rivals = {other.source, other.table, other.quarantine}
        shared = next((name for name in kinds if name in rivals), "")
        if shared:
            yield ContractError(
                f'two contracts are for the same {kinds[shared]} "{shared}"',
                where,
                "rename it in one of them",
            )
            continue
        for pattern, rival in product(one.files, other.files):
            if overlap(pattern, rival):
                yield ContractError(
                    f'patterns "{pattern}" and "{rival}" of two contracts match the same files',
                    where,
                    "narrow one of them; a file that both match is refused",
                )


def overlap(pattern: str, rival: str) -> bool:
    """Return whether a plain name made from one pattern matches the other.

    Not every overlap is found this way; the ones that happen are, and ``ingest`` refuses
    the rest when it meets such a file.
    """
    return any(
        fnmatchcase(made.replace("*", filler).replace("?", "x"), tested)
        for made, tested in ((pattern, rival), (rival, pattern))
        for filler in ("", "x")
    )
