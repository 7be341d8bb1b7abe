"""Ratios and scores: computed once, after the merge, in exact integers.

A model's SQL selects stored measures only, because those add up. What does not add up
(a rate, an average, a score) is declared in the header and computed here, the same for
batch and serving: 6 decimal places, half-even, NULL where the denominator is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from meterhouse.errors import ModelError
from meterhouse.models.anomaly import with_anomalies
from meterhouse.models.exact import decimals, divided_half_even, units
from meterhouse.models.model import RATIO_SCALE, Model, Ratio

__all__ = [
    "FINALIZERS",
    "arrow_schema",
    "arrow_type",
    "finalize",
    "needs_finalizing",
    "stored_schema",
]

FINALIZERS: Final[Mapping[str, Callable[[pa.Table], pa.Table]]] = {"anomaly": with_anomalies}
"""Functions over a whole finished-but-for-these table; they add columns and may drop rows."""

ARROW: Final = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "BLOB": pa.binary(),
    "VARCHAR[]": pa.list_(pa.string()),
    "MAP(VARCHAR, VARCHAR)": pa.map_(pa.string(), pa.string()),
    "MAP(VARCHAR, VARCHAR[])": pa.map_(pa.string(), pa.list_(pa.string())),
}


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a column type as models write it ("DECIMAL(38, 9)")."""
    found = re.fullmatch(r"DECIMAL\((\d+), (\d+)\)", name)
    return pa.decimal128(int(found[1]), int(found[2])) if found else ARROW[name]


def arrow_schema(model: Model) -> pa.Schema:
    """Return the schema of the finished table: what lake, serving and readers hold."""
    return pa.schema([(column.name, arrow_type(column.type)) for column in model.columns])


def stored_schema(model: Model) -> pa.Schema:
    """Return the schema of what the model's SQL selects, in its order."""
    types = {column.name: arrow_type(column.type) for column in model.columns}
    return pa.schema([(name, types[name]) for name in model.stored_columns])


def needs_finalizing(model: Model) -> bool:
    """Return whether ``finalize`` does more to the SQL's rows than order their columns."""
    return bool(model.ratios or model.finalizer)


def finalize(model: Model, table: pa.Table) -> pa.Table:
    """Return ``table`` (the model's stored columns, merged) with its finished columns.

    Ratios look at one row at a time, so a table may be finalized in parts; a model with a
    ``finalizer`` needs all its rows at once. Row order is kept. Extra columns are dropped.

    Raises:
        ModelError: A result has more than 38 digits.
    """
    types = {column.name: arrow_type(column.type) for column in model.columns}
    try:
        for name, parts in model.ratios.items():
            table = table.append_column(name, _ratio_column(parts, table))
        if model.finalizer:
            table = FINALIZERS[model.finalizer](table)
    except OverflowError as error:
        raise ModelError(
            f'a ratio or score of model "{model.name}" has more than 38 digits',
            model.path,
            "nothing was published; let the model leave such rows out",
        ) from error
    return pa.table([table[name].cast(types[name]) for name in types], schema=arrow_schema(model))


def _ratio_column(parts: Ratio, table: pa.Table) -> pa.Array:
    """Return times × numerator ÷ denominator as DECIMAL(38,6).

    Source of the rounding: IEEE 754 roundTiesToEven, on integers.
    """
    up, up_null, up_scale = units(table[parts.numerator])
    down, down_null, down_scale = units(table[parts.denominator])
    if down_scale and not np.any(down % 10**down_scale):
        # Tokens are whole numbers in 1e-9 units: without their zeros, both sides fit a word.
        down, down_scale = down // 10**down_scale, 0
    power = RATIO_SCALE + down_scale - up_scale
    times, divide = parts.times * 10 ** max(power, 0), 10 ** max(-power, 0)
    values = divided_half_even(up, times, down, divide)
    return decimals(values, up_null | down_null | (down == 0), RATIO_SCALE)
