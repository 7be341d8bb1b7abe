"""Keys that a snapshot no longer holds, and the guard against half a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.index import KeyIndex, Keys
from meterhouse.intake.matching import Words, first_of
from meterhouse.intake.values import ARROW_TYPES

__all__ = ["JudgedFileOf", "Vanished", "vanished_keys"]

JudgedFileOf: TypeAlias = Callable[[int], str]
"""Path of the Parquet file that holds the judged rows of a log position, perhaps others' too."""

_ROW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Vanished:
    """Keys that are current no more; ids and values in the same order."""

    ids: Words
    values: pa.Table
    """The key columns."""


def vanished_keys(
    contract: Contract,
    present: Words,
    keys: KeyIndex,
    judged_file: JudgedFileOf | None,
    *,
    file: str,
) -> Vanished:
    """Return the current keys that are not in ``present``, the keys of a whole snapshot.

    Raises:
        SourceRefusedError: More of them vanish than the contract's ``shrink_limit`` allows.
    """
    current = 0
    found: list[Keys] = []
    for chunk in keys.live():
        current += len(chunk)
        first = first_of(np.concatenate([present, chunk.ids]))[len(present) :]
        gone = first >= len(present)
        if gone.any():
            found.append(Keys(chunk.ids[gone], chunk.payload[gone], chunk.place[gone]))
    count = sum(map(len, found))
    if Decimal(count) > Decimal(contract.shrink_limit or "1") * current:
        raise SourceRefusedError(
            f'snapshot "{file}" no longer holds {count:,} of the {current:,} keys of source '
            f'"{contract.source}", more than its shrink_limit of {contract.shrink_limit}',
            file,
            f"deliver the whole file; if they are really gone, raise shrink_limit in the contract "
            f'of "{contract.source}" and ingest again; nothing of it was taken',
        )
    if not count:
        return Vanished(np.zeros((0, 2), np.uint64), _key_schema(contract).empty_table())
    places = np.concatenate([part.place for part in found])
    order = np.argsort(places)
    ids = np.concatenate([part.ids for part in found])[order]
    return Vanished(ids, _values(contract, places[order], judged_file))


def _key_schema(contract: Contract) -> pa.Schema:
    return pa.schema([(name, ARROW_TYPES[contract.by_name[name].type]) for name in contract.key])


def _values(contract: Contract, places: Words, judged_file: JudgedFileOf | None) -> pa.Table:
    """Read the keys at sorted ``places``: the index knows their hashes only."""
    if judged_file is None:
        raise ValueError("judged_file is needed where keys can vanish")
    positions = (places >> np.uint64(32)).astype(np.int64)
    rows = (places & _ROW).astype(np.int64)
    tables = []
    opened: tuple[str, pa.Table] | None = None
    for position in np.unique(positions).tolist():
        path = judged_file(position)
        if opened is None or opened[0] != path:
            opened = (path, pq.read_table(path, columns=["log_position", *contract.key]))
        table = opened[1]
        # A file of several entries holds them one after the other.
        start = int(np.searchsorted(table["log_position"].to_numpy(), position))
        tables.append(table.take(pa.array(start + rows[positions == position])))
    return pa.concat_tables(tables).select(list(contract.key)).cast(_key_schema(contract))
