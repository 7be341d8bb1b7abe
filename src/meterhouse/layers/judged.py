"""Judged files as relations: one for each form they have, since contracts change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meterhouse.intake.contract import Contract
from meterhouse.log.state import JudgedFile, State
from meterhouse.ports import Blobs, ParquetFiles, Relation

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["by_form", "forms_of", "judged_forms", "over_forms", "rows_within"]


def judged_forms(
    blobs: Blobs, state: State, source: str, after: int = 0, upto: int | None = None
) -> dict[str, Relation]:
    """Return the judged rows of entries in (after, upto] as relations; none for no rows.

    Files with other columns, from before the contract changed, are a relation of their own.
    """
    return forms_of("judged", blobs, state.judged_files(source, after, upto), after, upto)


def forms_of(
    name: str, blobs: Blobs, files: Iterable[JudgedFile], after: int, upto: int | None
) -> dict[str, Relation]:
    """Return the rows of (after, upto] in judged ``files`` as ``name_0``, ``name_1`` and so on.

    A joined file that holds rows of entries before or after, too, is a table of its own.
    """
    whole: list[JudgedFile] = []
    parts: list[JudgedFile] = []
    for file in files:
        if file.rows:
            (whole if file.within(after, upto) else parts).append(file)
    found: dict[str, Relation] = {**by_form(name, [Path(blobs.uri(file.path)) for file in whole])}
    for file in parts:
        found[f"{name}_{len(found)}"] = rows_within(blobs.uri(file.path), after, upto)
    return found


def rows_within(path: str, after: int, upto: int | None) -> pa.Table:
    """Return the judged rows of entries in (after, upto] that the file at ``path`` holds."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.read_table(path)
    chosen = pc.greater(rows["log_position"], after)
    if upto is not None:
        chosen = pc.and_(chosen, pc.less_equal(rows["log_position"], upto))
    return rows.filter(chosen)


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
    forms: Mapping[str, Relation],
    select: Callable[[Contract, str, Collection[str]], str],
    contract: Contract,
) -> str:
    """Return ``select`` (accepted_sql, quarantine_sql) over all forms; needs at least one."""
    return " UNION ALL ".join(
        select(contract, name, files.schema.names) for name, files in forms.items()
    )
