"""The files of ``cql/``: the shipped tables as Cassandra keeps them, and questions to them."""

from __future__ import annotations

from datetime import date
from typing import Final

from docs_pages.dictionary import shipped_models
from meterhouse.serving.cassandra.ddl import ddl, demo_queries
from meterhouse.serving.cassandra.tables import cql_tables

__all__ = ["KEYSPACE", "ORG", "cql_files"]

KEYSPACE: Final = "cloud_provider"
ORG: Final = "org_0678b5fw"
"""An organisation of the delivery that ``meterhouse demo`` makes."""
_FIRST: Final = date(2025, 8, 1)
_LAST: Final = date(2025, 8, 31)


def cql_files() -> dict[str, str]:
    """Return path → text of every file of ``cql/``."""
    tables = cql_tables(shipped_models().by_name.values())
    return {
        "cql/ddl_keyspace_tables.cql": ddl(tables, KEYSPACE, "simple:1"),
        "cql/demo_queries.cql": demo_queries(KEYSPACE, ORG, _FIRST, _LAST),
    }
