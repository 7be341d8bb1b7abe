"""What went wrong with a cluster, in our words: never what was sent, which may hold a secret."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from meterhouse.errors import ConfigError, EnvironmentFailureError, MeterhouseError

__all__ = ["failure", "no_centre", "no_keyspace", "not_all_up", "worth_another"]

_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_CLOSED: Final = frozenset(
    (
        "ConnectionException",
        "ConnectionResetError",
        "ConnectionShutdown",
        "SSLEOFError",
        "SSLError",
        "SSLZeroReturnError",
    )
)
_CLOSED_TO: Final = (
    "where the nodes ask for TLS or a certificate, set cassandra.ca, cassandra.certificate and "
    "cassandra.key; else look whether they run. "
)


def worth_another(error: BaseException) -> bool:
    """Tell what may be better in a moment from what will not be."""
    import cassandra
    from cassandra.cluster import NoHostAvailable

    passing = (
        cassandra.Timeout,
        cassandra.Unavailable,
        cassandra.OperationTimedOut,
        cassandra.CoordinationFailure,
        ConnectionError,
    )
    if isinstance(error, NoHostAvailable):
        return not any(_refused(one) for one in _causes(error))
    return isinstance(error, passing) or type(error).__name__ in (
        "ConnectionShutdown",
        "ConnectionBusy",
        "ConnectionException",
        "OverloadedErrorMessage",
        "IsBootstrappingErrorMessage",
        "ServerError",
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return what each node said; the driver has a list of their names where none was asked."""
    found = getattr(error, "errors", None)
    several = found.values() if isinstance(found, Mapping) else ()
    return [one for one in several if isinstance(one, BaseException)]


def _refused(error: BaseException) -> bool:
    import cassandra

    return isinstance(error, cassandra.AuthenticationFailed | cassandra.Unauthorized)


def failure(error: BaseException, where: str, keyspace: str = "") -> MeterhouseError:
    """Return a failure of the driver as ours; where it asks for a keyspace, that is named."""
    import cassandra

    if isinstance(error, MeterhouseError):
        return error
    if any(_refused(one) for one in (error, *_causes(error))):
        return ConfigError(
            "Cassandra refuses these credentials",
            where,
            "check cassandra.user and METERHOUSE_CASSANDRA_PASSWORD (for Astra: "
            "ASTRA_DB_APPLICATION_TOKEN) and what the role may do; nothing was written",
        )
    if isinstance(error, cassandra.InvalidRequest):
        said = str(error)
        if "keyspace" in said.lower() and "does not exist" in said.lower():
            return no_keyspace(keyspace, where)
        return ConfigError(f"Cassandra refuses a statement: {said}", where, "see docs/cassandra.md")
    if type(error).__name__ == "TruncateError":
        return not_all_up((), where)
    causes = _causes(error) or [error]
    if any(_UNTRUSTED in str(one) for one in causes):
        return ConfigError(
            "the nodes show a certificate that cassandra.ca does not vouch for",
            where,
            "name the authority that signed the nodes' certificates in cassandra.ca (a PEM file)",
        )
    kind = ", ".join(sorted({_kind(one) for one in causes}))
    closed = any(_name(one) in _CLOSED for one in causes)
    return EnvironmentFailureError(
        f"Cassandra can't be reached ({kind})",
        where,
        (_CLOSED_TO if closed else "")
        + "nothing is lost: the embedded store goes on, and the replica catches up when it is back",
    )


def _name(error: BaseException) -> str:
    """Name a failure; the driver makes another error of one that TLS had, with its text."""
    tls = isinstance(error, ssl.SSLError) or "[SSL" in str(error)
    return "SSLError" if tls else type(error).__name__


def _kind(error: BaseException) -> str:
    """Name a failure; where too few nodes are there, say how many it takes."""
    import cassandra

    name = _name(error)
    if not isinstance(error, cassandra.Unavailable):
        return name
    level = cassandra.ConsistencyLevel.value_to_name.get(error.consistency, "")
    return (
        f"{name}: {level} takes {error.required_replicas} nodes that hold a row, "
        f"{error.alive_replicas} there"
    )


def no_centre(wanted: str, centres: Iterable[str], where: str) -> ConfigError:
    """Say that no node is in the data centre ``wanted``, and which there are."""
    return ConfigError(
        f'no node is in data centre "{wanted}"',
        where,
        f"set cassandra.local_dc to one of {', '.join(sorted(centres))}",
    )


def not_all_up(away: Sequence[str], where: str) -> EnvironmentFailureError:
    """Say that a table can't be emptied while nodes are ``away``."""
    return EnvironmentFailureError(
        f"to empty a table takes every node, and {', '.join(away) or 'one'} is away",
        where,
        "start it, or take it out of the cluster (nodetool removenode), and run the same command "
        "again; the embedded store goes on",
    )


def no_keyspace(keyspace: str, where: str) -> ConfigError:
    """Say that the keyspace is not there, and who makes it."""
    return ConfigError(
        f'keyspace "{keyspace}" does not exist',
        where,
        "make it: meterhouse serving ddl | cqlsh, or meterhouse serving rebuild; one of an Astra "
        "database is made on the database's page",
    )
