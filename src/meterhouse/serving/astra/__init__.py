"""Astra DB by its Data API: a replica of the served rows, and answers from it.

By CQL and the secure connect bundle it is a Cassandra: ``serving.cassandra``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meterhouse.models.model import Model
    from meterhouse.serving.astra.documents import DocumentsReplica, DocumentsSnapshot
    from meterhouse.serving.astra.tables import TablesReplica, TablesSnapshot

__all__ = ["opened_replica", "opened_snapshot"]


@contextmanager
def opened_replica(
    settings: Any, models: Iterable[Model], environ: Mapping[str, str]
) -> Iterator[TablesReplica | DocumentsReplica]:
    """Open the replica of ``models``'s tables; its keyspace has to be there.

    Raises:
        ConfigError: Nothing says where the database is, or astrapy is not installed.
    """
    from meterhouse.serving.astra.connection import access, connected
    from meterhouse.serving.astra.documents import DocumentsReplica
    from meterhouse.serving.astra.tables import TablesReplica
    from meterhouse.serving.cassandra.tables import cql_tables

    reached = access(settings, environ)
    made = TablesReplica if reached.form == "tables" else DocumentsReplica
    with connected(reached) as session:
        yield made(session, cql_tables(models), _mark)


@contextmanager
def opened_snapshot(
    settings: Any, environ: Mapping[str, str]
) -> Iterator[TablesSnapshot | DocumentsSnapshot]:
    """Open what the replica answers from.

    Raises:
        ConfigError: Nothing says where the database is, or it refuses who we are.
        EnvironmentFailureError: It can't be reached.
        UsageError: The replica is empty, or being made anew.
    """
    from meterhouse.serving.astra.connection import access, connected
    from meterhouse.serving.astra.documents import DocumentsSnapshot
    from meterhouse.serving.astra.tables import TablesSnapshot

    reached = access(settings, environ)
    made = TablesSnapshot if reached.form == "tables" else DocumentsSnapshot
    with connected(reached) as session:
        yield made(session)


def _mark() -> str:
    """Return the name of a writer's mark; 64 random bits."""
    return f"writer {secrets.token_hex(8)}"
