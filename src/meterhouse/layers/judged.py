"""Judged files as relations: one for each form they have, since contracts change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meterhouse.intake.contract import Contract
from meterhouse.log.apply import judged_path
from meterhouse.log.state import State
from meterhouse.ports import Blobs, ParquetFiles

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["by_form", "judged_forms", "over_forms"]


def judged_forms(
    blobs: Blobs, state: State, source: str, after: int = 0, upto: int | None = None
) -> dict[str, ParquetFiles]:
    """Return the judged rows of entries in (after, upto] as relations; none for no rows.

    Files with other columns, from before the contract changed, are a relation of their own.
    """
    files = [file for file in state.judged_files(source, after, upto) if file.rows]
    return by_form(
        "judged", [Path(blobs.uri(judged_path(source, file.position))) for file in files]
    )


def by_form(name: str, paths: Iterable[Path]) -> dict[str, ParquetFiles]:
    """Return ``name_0``, ``name_1``, …: files of the same columns, each in the order given."""
    import pyarrow.parquet as pq

    groups: dict[bytes, tuple[pa.Schema, list[str]]] = {}
    for path in paths:
        schema = pq.read_schema(path).remove_metadata()
        groups.setdefault(schema.serialize().to_pybytes(), (schema, []))[1].append(str(path))
    return {
        f"{name}_{number}": ParquetFiles(tuple(paths), schema)
        for number, (schema, paths) in enumerate(groups.values())
    }


def over_forms(
    forms: Mapping[str, ParquetFiles],
    select: Callable[[Contract, str, Collection[str]], str],
    contract: Contract,
) -> str:
    """Return ``select`` (accepted_sql, quarantine_sql) over all forms; needs at least one."""
    return " UNION ALL ".join(
        select(contract, name, files.schema.names) for name, files in forms.items()
    )
