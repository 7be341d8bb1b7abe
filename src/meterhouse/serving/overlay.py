"""Live rows over the rows of the epoch, in SQL: what readers see of a table.

A live row counts while it changed after the epoch's position. Those of before equal the
epoch's rows and are being deleted: so a promotion is whole the moment the epoch's position
moves, however long the deleting takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from meterhouse.serving.schema import CHANGED_AT, GONE, StoredTable, quoted

__all__ = ["counting", "key_join", "overlaid"]


def counting(position: int, alias: str = "") -> str:
    """Return the condition on a live row that it changed after the epoch's ``position``.

    The unary plus keeps SQLite from going through the index of ``CHANGED_AT`` where the key
    is given.
    """
    return f"+{alias}{quoted(CHANGED_AT)} > {position:d}"


def key_join(left: str, right: str, columns: Sequence[str]) -> str:
    """Return the condition that two rows have the same values in ``columns``."""
    return " AND ".join(f"{left}.{quoted(name)} = {right}.{quoted(name)}" for name in columns)


def overlaid(table: StoredTable, columns: Sequence[str], position: int, where: str = "") -> str:
    """Return the SELECT of ``columns`` of the rows that readers see.

    Args:
        table: With its live rows.
        columns: Which; at least one.
        position: Of the epoch.
        where: A condition on the table's columns; its parameters have to be given twice.
    """
    names = ", ".join(map(quoted, columns))
    condition = f" AND ({where})" if where else ""
    return (
        f"SELECT {names} FROM {quoted(table.live)} "
        f"WHERE {counting(position)} AND +{quoted(GONE)} = 0{condition} "
        f"UNION ALL SELECT {names} FROM {quoted(table.physical)} AS e WHERE NOT EXISTS "
        f"(SELECT 1 FROM {quoted(table.live)} AS l WHERE {key_join('l', 'e', table.layout.key)} "
        f"AND {counting(position, 'l.')}){condition}"
    )
