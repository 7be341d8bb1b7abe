"""Exact sums of decimal columns: unbounded integers of 1e-9, in the end as text."""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.intake.contract import Contract
from meterhouse.names import SCALE

__all__ = [
    "UNKNOWN_CURRENCY",
    "decimal_text",
    "exact_sum",
    "group_sums",
    "money_by_verdict",
    "scaled",
]

UNKNOWN_CURRENCY = "?"
"""Currency of amounts whose currency is NULL, empty or unreadable."""

_HALF = np.uint64(0xFFFFFFFF)
_UNBOUNDED = decimal.Context(prec=1000)
"""Sums have as many digits as they need; a thousand are more than memory holds rows for."""


def decimal_text(units: int) -> str:
    """Return ``units`` of 1e-9 in plain notation, without trailing zeros."""
    whole, fraction = divmod(abs(units), 10**SCALE)
    digits = f"{fraction:0{SCALE}d}".rstrip("0")
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def scaled(units: int) -> decimal.Decimal:
    """Return ``units`` of 1e-9 as a decimal, exactly."""
    return decimal.Decimal(units).scaleb(-SCALE, _UNBOUNDED)


def exact_sum(values: pa.ChunkedArray | pa.Array) -> int:
    """Return the sum of ``values`` (DECIMAL(38,9)) in units of 1e-9; NULL counts as nothing."""
    return group_sums(values, np.zeros(len(values), np.int64), 1)[0]


def group_sums(
    values: pa.ChunkedArray | pa.Array, groups: npt.NDArray[np.int64], count: int
) -> list[int]:
    """Return the exact sum of ``values`` (DECIMAL(38,9)) in each of ``count`` groups.

    NULL counts as nothing. Units of 1e-9, without a bound.
    """
    totals = [0] * count
    offset = 0
    for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
        part = groups[offset : offset + len(chunk)]
        offset += len(chunk)
        for group, total in _chunk_sums(chunk, part):
            totals[group] += total
    return totals


def _chunk_sums(chunk: pa.Array, groups: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    if not len(chunk) or chunk.null_count == len(chunk):
        return []
    words = np.frombuffer(chunk.buffers()[1], dtype="<u8").reshape(-1, 2)
    words = words[chunk.offset : chunk.offset + len(chunk)]
    if chunk.null_count:
        there = chunk.is_valid().to_numpy(zero_copy_only=False)
        words, groups = words[there], groups[there]
    order = np.argsort(groups, kind="stable")
    words, groups = words[order], groups[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    low, high = words[:, 0], words[:, 1].view(np.int64)
    # Halves of 32 bits: their sums fit 64 bits for any number of rows that fits in memory.
    parts = (low & _HALF, low >> np.uint64(32), high & np.int64(0xFFFFFFFF), high >> np.int64(32))
    sums = [np.add.reduceat(part, starts).tolist() for part in parts]
    return [
        (group, a + (b << 32) + (c << 64) + (d << 96))
        for group, a, b, c, d in zip(groups[starts].tolist(), *sums, strict=True)
    ]


def money_by_verdict(
    rows: pa.Table,
    contract: Contract,
    verdicts: npt.NDArray[np.int64],
    names: Sequence[str],
    unreadable: Mapping[str, npt.NDArray[np.bool_]],
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the sums of every money column of ``contract`` by currency and verdict.

    Args:
        rows: Records, with the contract's columns.
        contract: Says which columns are money, and of which currency.
        verdicts: For each row an index into ``names``.
        names: Of verdicts; their sums add up to ``landed``.
        unreadable: For a money column, which records' amounts could not be read (none of
            them when the column is missing here); they are counted, not summed.

    Returns:
        Money column to currency to {landed, each of ``names``: decimal text, unreadable:
        number of records}.
    """
    if not contract.money:
        return {}
    currencies, codes = _currencies(rows, contract)
    count = len(names)
    found: dict[str, dict[str, dict[str, str]]] = {}
    for column in contract.money:
        sums = group_sums(rows[column], codes * count + verdicts, len(currencies) * count)
        lost = np.zeros(len(currencies), np.int64)
        if column in unreadable:
            lost = np.bincount(codes[unreadable[column]], minlength=len(currencies))
        found[column] = {}
        for index, currency in sorted(enumerate(currencies), key=lambda item: item[1]):
            by_verdict = sums[index * count : (index + 1) * count]
            found[column][currency] = {
                "landed": decimal_text(sum(by_verdict)),
                **{
                    name: decimal_text(total) for name, total in zip(names, by_verdict, strict=True)
                },
                "unreadable": str(int(lost[index])),
            }
    return found


def _currencies(rows: pa.Table, contract: Contract) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the currencies of the rows and, for each row, which one."""
    if not contract.currency_column:
        return [contract.currency], np.zeros(rows.num_rows, np.int64)
    encoded = rows[contract.currency].combine_chunks().dictionary_encode(null_encoding="encode")
    given = [value or UNKNOWN_CURRENCY for value in encoded.dictionary.to_pylist()]
    currencies = list(dict.fromkeys(given))
    code_of = np.array([currencies.index(value) for value in given], np.int64)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return currencies, code_of[indices] if len(code_of) else np.zeros(0, np.int64)
