"""What kind of statement a text is, asked of the parser that will run it."""

from __future__ import annotations

import duckdb

from meterhouse.errors import UsageError

__all__ = ["check_one_select"]


def check_one_select(text: str) -> None:
    """Refuse anything but one statement that reads.

    Raises:
        UsageError: The text is no SQL, several statements, or one that is not a SELECT.
    """
    try:
        found = duckdb.extract_statements(text)
    except duckdb.Error as error:
        message, _, place = str(error).partition("\n")
        raise UsageError(
            f"not SQL: {message.removeprefix('Parser Error: ')}", place.strip(), "correct the SQL"
        ) from error
    if len(found) != 1:
        raise UsageError(
            f"there are {len(found)} statements in the text", "", "write one SELECT at a time"
        )
    kind = found[0].type.name
    if kind != "SELECT":
        raise UsageError(
            f"statement is {kind}, not SELECT: nothing was run",
            "",
            "write one SELECT; tables change through `meterhouse ingest` and `meterhouse batch`",
        )
