"""Reading page by page, and names that both forms would use; for tables and collections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from meterhouse.errors import ConfigError
from meterhouse.serving.astra.connection import ApiSession

__all__ = ["pages", "taken_by"]


def pages(
    session: ApiSession, remote: Any, where: dict[str, Any], wanted: Mapping[str, bool]
) -> Iterator[dict[str, Any]]:
    """Yield the ``wanted`` fields of what meets ``where``; a page that fails is asked for again.

    Args:
        session: Of the table or collection.
        remote: The table or collection.
        where: A filter.
        wanted: A projection.
    """
    more: dict[str, Any] = {}
    while True:
        # A new cursor from the last page on: one that failed is of no more use.
        page = session.run(
            lambda more=more: remote.find(  # type: ignore[misc]
                where, projection=wanted, **more
            ).fetch_next_page()
        )
        yield from page.results
        if page.next_page_state is None:
            return
        more = {"initial_page_state": page.next_page_state}


def taken_by(names: Iterable[str], wanted: Iterable[str], kind: str, where: str) -> None:
    """Refuse a keyspace in which the other form has used our names.

    Raises:
        ConfigError: It has.
    """
    if both := sorted(set(names) & set(wanted)):
        raise ConfigError(
            f'the keyspace has a {kind} "{both[0]}" already',
            where,
            "give each form a keyspace of its own: astra.keyspace or ASTRA_DB_KEYSPACE",
        )
