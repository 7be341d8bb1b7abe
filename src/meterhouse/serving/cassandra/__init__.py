"""Apache Cassandra and Astra DB: a replica of the served rows, and answers from it by CQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meterhouse.models.model import Model
    from meterhouse.serving.cassandra.replica import Replica
    from meterhouse.serving.cassandra.snapshot import CassandraSnapshot

__all__ = ["opened_replica", "opened_snapshot"]


@contextmanager
def opened_replica(
    settings: Any, models: Iterable[Model], environ: Mapping[str, str]
) -> Iterator[Replica]:
    """Open the replica of ``models``'s tables; its keyspace is made where it is missing.

    Raises:
        ConfigError: Nothing says where the cluster is, or it refuses who we are.
        EnvironmentFailureError: It can't be reached.
    """
    from meterhouse.serving.cassandra.connection import access, connected, no_keyspace
    from meterhouse.serving.cassandra.ddl import create_keyspace
    from meterhouse.serving.cassandra.replica import Replica
    from meterhouse.serving.cassandra.tables import cql_tables

    reached = access(settings, environ)
    tables = cql_tables(models)
    with connected(reached, keyspace=False) as session:
        there = list(
            session.rows(
                "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
                (reached.keyspace,),
            )
        )
        replication = "none" if reached.bundle else settings.cassandra_replication
        if not there and reached.bundle:
            raise no_keyspace(reached.keyspace, reached.where)
        if not there and (made := create_keyspace(reached.keyspace, replication)):
            session.run(made)
        session.use(reached.keyspace)
        yield Replica(session, tables)


@contextmanager
def opened_snapshot(settings: Any, environ: Mapping[str, str]) -> Iterator[CassandraSnapshot]:
    """Open what the replica answers from.

    Raises:
        ConfigError: Nothing says where the cluster is, or it refuses who we are.
        EnvironmentFailureError: It can't be reached.
        UsageError: The replica is empty, or being made anew.
    """
    from meterhouse.serving.cassandra.connection import access, connected
    from meterhouse.serving.cassandra.snapshot import CassandraSnapshot

    with connected(access(settings, environ)) as session:
        yield CassandraSnapshot(session)
