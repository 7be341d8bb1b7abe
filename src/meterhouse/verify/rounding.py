"""What rounding took off: a contract may round amounts that were written by a float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import Any, Final

from meterhouse.intake.contract import Contract
from meterhouse.intake.csvrows import CsvRows, Header
from meterhouse.intake.jsonl import JsonlRows
from meterhouse.intake.jsontext import number_parts
from meterhouse.intake.money import UNKNOWN_CURRENCY
from meterhouse.intake.parse import Parsed

__all__ = ["residuals"]

_PLACES: Final = 200
_EXACT: Final = Context(prec=2 * _PLACES)
"""Amounts have 29 digits before the point; what is further behind it than this is no money."""


def residuals(contract: Contract, parts: Iterable[Parsed]) -> dict[tuple[str, str], Decimal]:
    """Return what landed less what was kept of it, by money column and currency.

    Only amounts that were rounded are looked at; their text is read once more.
    """
    found: dict[tuple[str, str], Decimal] = {}
    if not contract.round_decimals or not contract.money:
        return found
    for parsed in parts:
        rows = parsed.rows
        column = rows["problems"]
        if column.null_count == rows.num_rows:
            continue
        for at, problems in enumerate(column.to_pylist()):
            names = [name for name in contract.money if f"rounded:{name}" in (problems or ())]
            if not names:
                continue
            body = parsed.raw([at])[0].as_py()
            delivered = _delivered(contract, parsed, body)
            for name in names:
                kept = rows[name][at].as_py()
                text = delivered.get(contract.by_name[name].source)
                place = (name, _currency(contract, rows, at))
                taken = _EXACT.subtract(_amount(text), kept)
                found[place] = _EXACT.add(found.get(place, Decimal(0)), taken)
    return found


def _delivered(contract: Contract, parsed: Parsed, body: bytes) -> Mapping[str, Any]:
    if contract.format == "jsonl":
        return JsonlRows(contract).delivered(body) or {}
    return CsvRows(contract, Header.read(parsed.header, contract)).delivered(body) or {}


def _amount(text: object) -> Decimal:
    """Return a delivered amount exactly, but for what lies far behind the point."""
    parts = number_parts(str(text).strip())
    if parts is None:
        return Decimal(0)
    negative, digits, exponent, _ = parts
    if not digits or exponent is None or len(digits) + exponent < -_PLACES:
        return Decimal(0)
    # Of a number with thousands of digits only those that are counted are read.
    lost = max(0, -_PLACES - exponent)
    kept = digits[: len(digits) - lost] or "0"
    amount = Decimal(int(kept)).scaleb(exponent + lost, _EXACT)
    return -amount if negative else amount


def _currency(contract: Contract, rows: Any, at: int) -> str:
    if not contract.currency_column:
        return contract.currency
    return rows[contract.currency][at].as_py() or UNKNOWN_CURRENCY
