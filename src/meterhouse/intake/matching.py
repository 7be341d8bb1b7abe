"""Which rows of one batch have the same 128-bit id. Vectorised; rows keep their order."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Indices", "Words", "first_of", "previous_of"]

Words: TypeAlias = npt.NDArray[np.uint64]
Indices: TypeAlias = npt.NDArray[np.int64]


def first_of(ids: Words) -> Indices:
    """Return for each row of ``ids`` (n, 2) the first row with the same id: itself, mostly."""
    first = np.arange(len(ids))
    repeated, begins = _repeated(ids)
    if len(repeated):
        first[repeated] = repeated[begins][np.cumsum(begins) - 1]
    return first


def previous_of(ids: Words) -> Indices:
    """Return for each row of ``ids`` (n, 2) the row before it with the same id, -1 if none."""
    previous = np.full(len(ids), -1)
    repeated, begins = _repeated(ids)
    if len(repeated):
        previous[repeated[1:]] = np.where(begins[1:], -1, repeated[:-1])
    return previous


def _repeated(ids: Words) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Return rows that may share an id, sorted by id and row, and where each id begins.

    Rows whose high half occurs once are left out: they are nearly all, and the sort by
    both halves costs five times as much.
    """
    high, low = ids[:, 0], ids[:, 1]
    order = np.argsort(high)
    ordered = high[order]
    equal = ordered[1:] == ordered[:-1]
    member = np.zeros(len(order), bool)
    member[1:] |= equal
    member[:-1] |= equal
    some = order[member]
    some = some[np.lexsort((some, low[some], high[some]))]
    begins = np.ones(len(some), bool)
    begins[1:] = (high[some[1:]] != high[some[:-1]]) | (low[some[1:]] != low[some[:-1]])
    return some, begins
