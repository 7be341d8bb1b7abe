"""Holding a new epoch against the live answers: batch(0..B'] = batch(0..B] ⊕ deltas(B..B'].

The two came about in different ways, from the same log: the batch over whole tables, the
speed layer entry by entry. Where they differ, neither is believed: nothing is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterhouse.errors import BrokenPromiseError
from meterhouse.formats import text
from meterhouse.ports import Engine, LiveStore, Relation

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Agreement", "Compared", "disagreements", "refuse_disagreements"]

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Compared:
    """One live table of the publication before and of the next one."""

    name: str
    grain: tuple[str, ...]
    before: Relation
    """Its rows at the epoch's position."""
    after: Relation
    """Its rows at the frozen position, as the batch computed them."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one table compares."""

    touched: int
    """Rows that had changed since the epoch."""
    keys: list[str]
    """Of rows that are not what the live answers had; none when all agree."""


def disagreements(
    engine: Engine, store: LiveStore, tables: Iterable[Compared]
) -> dict[str, Agreement]:
    """Return how each table compares with what the live answers had.

    Args:
        engine: Compares whole tables, in bounded memory.
        store: Frozen at the position of ``after``.
        tables: What to look at.
    """
    found = {}
    for table in tables:
        touched = store.frozen(table.name)
        found[table.name] = Agreement(touched.num_rows, list(_differing(engine, table, touched)))
    return found


def refuse_disagreements(found: Mapping[str, list[str]], position: int) -> None:
    """Raise when a table has keys that differ.

    Raises:
        BrokenPromiseError: Names tables and keys; nothing was published.
    """
    found = {name: keys for name, keys in found.items() if keys}
    if not found:
        return
    listed = "; ".join(
        f"{name} at {', '.join(keys[:_SHOWN])}{', …' if len(keys) > _SHOWN else ''}"
        for name, keys in found.items()
    )
    raise BrokenPromiseError(
        f"up to log entry {position:,} the batch comes to other rows than the live answers: "
        f"{listed}",
        ", ".join(found),
        "nothing was published, the last epoch stays. Find out which side is right (meterhouse "
        "verify), then make the views anew: meterhouse rebuild",
    )


def _differing(engine: Engine, table: Compared, touched: pa.Table) -> Iterator[str]:
    """Yield keys of rows that only one of the two sides has."""
    names = [name for name in touched.column_names if name not in ("changed_at", "gone")]
    listed = ", ".join(map(_quoted, names))
    same = " AND ".join(
        f"one.{_quoted(name)} IS NOT DISTINCT FROM t.{_quoted(name)}" for name in table.grain
    )
    expected = (
        f"SELECT {listed} FROM before_rows AS one "
        f"WHERE NOT EXISTS (SELECT 1 FROM touched AS t WHERE {same}) "
        f"UNION ALL SELECT {listed} FROM touched WHERE NOT gone"
    )
    grain = ", ".join(map(_quoted, table.grain))
    after = f"SELECT {listed} FROM after_rows"
    relations = {"before_rows": table.before, "after_rows": table.after, "touched": touched}
    with engine.session(relations) as session:
        session.view("expected", expected)
        rows = session.query(
            f"SELECT DISTINCT {grain} FROM ((SELECT * FROM expected EXCEPT ALL {after}) "
            f"UNION ALL ({after} EXCEPT ALL SELECT * FROM expected)) AS odd "
            f"ORDER BY {grain} LIMIT 100"
        )
    for row in rows.to_pylist():
        yield "(" + ", ".join(f"{name}={text(value)}" for name, value in row.items()) + ")"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
