"""A session with Cassandra or Astra, put together from settings; no other module connects.

Every statement is prepared, goes to a node that holds the row, and says its consistency:
the driver's own default is LOCAL_ONE. Writes carry their own timestamps, so they are
idempotent and may be tried again.
"""

from __future__ import annotations

import os
import ssl
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from meterhouse.errors import ConfigError, EnvironmentFailureError, MeterhouseError
from meterhouse.serving.cassandra.failures import (
    failure,
    no_centre,
    no_keyspace,
    not_all_up,
    worth_another,
)

__all__ = ["Access", "CqlSession", "access", "connected", "no_keyspace"]

_Result = TypeVar("_Result")
_ATTEMPTS: Final = 6
_FIRST_PAUSE_S: Final = 0.2
_LOOK_S: Final = 0.05
_CONCURRENT: Final = 64
"""Requests under way at a time: more only wait in the node's queue."""
_PAGE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a cluster. Secrets are in it, so it prints none of itself."""

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    local_dc: str
    """Empty: the data centre of the first node that answers."""
    consistency: str
    timeout_s: float
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    bundle: str = ""
    """Secure connect bundle of an Astra database; hosts and TLS are in it."""

    @property
    def where(self) -> str:
        """The cluster as messages name it."""
        return self.bundle or f"{','.join(self.hosts)}:{self.port}"


def access(settings: Any, environ: Mapping[str, str] = os.environ) -> Access:
    """Return how to reach the cluster of ``settings``; secrets come from environment or file.

    Raises:
        ConfigError: Nothing says where it is, or a file that is named can't be read.
    """
    bundle = environ.get("ASTRA_DB_SECURE_BUNDLE", "") or settings.cassandra_bundle
    if not bundle and not settings.cassandra_hosts:
        raise ConfigError(
            "no Cassandra is configured",
            "cassandra.hosts in meterhouse.toml, METERHOUSE_CASSANDRA_HOSTS, "
            "ASTRA_DB_SECURE_BUNDLE",
            'set hosts = ["10.0.0.1"] below [cassandra]; docs/cassandra.md shows all of it',
        )
    user, password = settings.cassandra_user, _password(settings, environ)
    if bundle:
        token = environ.get("ASTRA_DB_APPLICATION_TOKEN", "")
        if not token and not password:
            raise ConfigError(
                "the token of the Astra database is missing",
                "ASTRA_DB_APPLICATION_TOKEN",
                "set it in the environment; env.sample lists every variable",
            )
        if not Path(bundle).is_file():
            raise ConfigError(
                "the secure connect bundle can't be read",
                bundle,
                "download it from the database's page and name it in ASTRA_DB_SECURE_BUNDLE",
            )
        user, password = ("token", token) if token else (user, password)
    return Access(
        hosts=settings.cassandra_hosts,
        port=settings.cassandra_port,
        keyspace=environ.get("ASTRA_DB_KEYSPACE", "") or settings.cassandra_keyspace,
        local_dc=settings.cassandra_local_dc,
        consistency=settings.cassandra_consistency,
        timeout_s=settings.cassandra_timeout.total_seconds(),
        user=user,
        password=password,
        ca=settings.cassandra_ca,
        certificate=settings.cassandra_certificate,
        key=settings.cassandra_key,
        bundle=bundle,
    )


def _password(settings: Any, environ: Mapping[str, str]) -> str:
    given = environ.get("METERHOUSE_CASSANDRA_PASSWORD", "")
    if given or not settings.cassandra_password_file:
        return given
    path = Path(settings.cassandra_password_file)
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"the password file can't be read: {(error.strerror or '').lower()}",
            str(path),
            "name a file that holds the password alone: cassandra.password_file",
        ) from error


class CqlSession:
    """Prepared statements, run one by one or many at a time, tried again while that helps."""

    def __init__(self, session: Any, where: str) -> None:
        self.driver = session
        self.where = where
        self._prepared: dict[str, Any] = {}

    def prepare(self, cql: str) -> Any:
        """Return the prepared statement of ``cql``; prepared once."""
        if cql not in self._prepared:
            statement = self._again(lambda: self.driver.prepare(cql))
            statement.is_idempotent = True
            self._prepared[cql] = statement
        return self._prepared[cql]

    def rows(self, cql: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """Yield the rows of one SELECT, page by page."""
        statement = self.prepare(cql).bind(values)
        statement.fetch_size = _PAGE
        result = self._again(lambda: self.driver.execute(statement))
        while True:
            yield from result.current_rows
            if not result.has_more_pages:
                return
            self._again(result.fetch_next_page)

    def rows_of_all(self, cql: str, values: Sequence[Sequence[object]]) -> Iterator[Any]:
        """Yield the rows of one SELECT for each of ``values``, many under way at a time."""
        statement = self.prepare(cql)
        for found in self.each([statement.bind(one) for one in values]):
            yield from found

    def run(self, cql: str) -> None:
        """Run one statement that defines or truncates a table; waits until all nodes agree."""
        self._again(lambda: self.driver.execute(cql, timeout=60))

    def write(self, cql: str, values: Sequence[object]) -> None:
        """Run one prepared write."""
        statement = self.prepare(cql).bind(values)
        self._again(lambda: self.driver.execute(statement))

    def each(self, statements: Sequence[Any]) -> list[Any]:
        """Run idempotent statements, 64 under way at a time; those that failed again.

        Raises:
            EnvironmentFailureError: Some did not get through, time and again.
        """
        from cassandra.concurrent import execute_concurrent

        results: list[Any] = [None] * len(statements)
        waiting = list(range(len(statements)))
        pause = _FIRST_PAUSE_S
        problem: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(pause)
                pause *= 2
            tried = execute_concurrent(
                self.driver,
                [(statements[place], ()) for place in waiting],
                concurrency=_CONCURRENT,
                raise_on_first_error=False,
            )
            failed = []
            for place, (good, found) in zip(waiting, tried, strict=True):
                if good:
                    results[place] = found
                elif not worth_another(found):
                    raise failure(found, self.where) from found
                else:
                    failed.append(place)
                    problem = found
            if not failed:
                return results
            waiting = failed
        assert problem is not None
        raise failure(problem, self.where) from problem

    def use(self, keyspace: str) -> None:
        """Let tables be those of ``keyspace`` from here on.

        Raises:
            ConfigError: There is no such keyspace.
        """
        try:
            self.driver.set_keyspace(keyspace)
        except Exception as error:  # the driver has no base class
            raise failure(error, self.where, keyspace) from error
        self._prepared.clear()

    def check_all_up(self) -> None:
        """See that every node is there that we know of: TRUNCATE needs them all.

        The driver opens its connections side by side and goes on with the first, and till then
        it takes every node that the settings name for one that is there.

        Raises:
            EnvironmentFailureError: One is away.
        """
        hosts = self.driver.cluster.metadata.all_hosts()
        end = time.monotonic() + self.driver.cluster.connect_timeout
        while (unsure := self._not_reached(hosts)) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        away = {*unsure, *(host for host in hosts if host.is_up is False)}
        if away:
            raise not_all_up(sorted(str(host.address) for host in away), self.where)

    def _not_reached(self, hosts: Iterable[Any]) -> list[Any]:
        """Return those of ``hosts`` in our data centre that are neither reached nor known away."""
        pools = self.driver.get_pool_state()
        reached = {host for host, pool in pools.items() if pool["open_count"]}
        near = {host.datacenter for host in reached}
        return [
            host
            for host in hosts
            if host.is_up is not False and host not in reached and host.datacenter in near
        ]

    def version(self) -> str:
        """Return the server's version."""
        [row] = self.rows("SELECT release_version FROM system.local")
        return str(row.release_version)

    def _again(self, action: Callable[[], _Result]) -> _Result:
        pause = _FIRST_PAUSE_S
        for attempt in range(_ATTEMPTS):
            try:
                return action()
            except Exception as error:  # sorted out here: the driver has no base class
                last = attempt == _ATTEMPTS - 1
                if isinstance(error, MeterhouseError) or last or not worth_another(error):
                    raise failure(error, self.where) from error
                time.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")


@contextmanager
def connected(access: Access, *, keyspace: bool = True) -> Iterator[CqlSession]:
    """Open a session in the keyspace of ``access``; without ``keyspace`` in none.

    Raises:
        ConfigError: The driver is not installed, or the cluster refuses who we are.
        EnvironmentFailureError: It can't be reached.
    """
    try:
        from cassandra.cluster import Cluster
    except ImportError as error:
        raise ConfigError(
            "the Cassandra driver is not installed",
            "",
            "install it: pip install 'meterhouse[cassandra]'",
        ) from error
    cluster = _cluster(Cluster, access)
    try:
        try:
            session = cluster.connect(access.keyspace if keyspace else None)
        except Exception as error:  # the driver has no base class
            centres = {host.datacenter for host in cluster.metadata.all_hosts()} - {None}
            if access.local_dc and centres and access.local_dc not in centres:
                raise no_centre(access.local_dc, centres, access.where) from error
            raise failure(error, access.where, access.keyspace) from error
        yield CqlSession(session, access.where)
    finally:
        cluster.shutdown()


def _cluster(made: Callable[..., Any], access: Access) -> Any:
    """Return the cluster; with a bundle this already reads it and asks where the nodes are."""
    options = _options(access)
    if not access.bundle:
        return made(**options)
    import cassandra

    try:
        return made(**options)
    except (cassandra.DriverException, ConnectionError, TimeoutError) as error:
        raise EnvironmentFailureError(
            f"the Astra database can't be reached ({type(error).__name__})",
            access.where,
            "see whether it is hibernated or gone on its page; if it is neither, download the "
            "secure connect bundle anew. Nothing is lost: the embedded store goes on",
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"the secure connect bundle is not one ({type(error).__name__})",
            access.where,
            "download it anew from the database's page and name it in ASTRA_DB_SECURE_BUNDLE",
        ) from error


def _options(access: Access) -> dict[str, Any]:
    from cassandra import ConsistencyLevel
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile
    from cassandra.policies import (
        DCAwareRoundRobinPolicy,
        ExponentialReconnectionPolicy,
        FallthroughRetryPolicy,
        TokenAwarePolicy,
    )

    options: dict[str, Any] = {
        "connect_timeout": access.timeout_s,
        "control_connection_timeout": access.timeout_s,
        "reconnection_policy": ExponentialReconnectionPolicy(0.5, 10),
        "idle_heartbeat_interval": 10,
    }
    profile: dict[str, Any] = {
        "consistency_level": ConsistencyLevel.name_to_value[access.consistency],
        "request_timeout": access.timeout_s,
        # Trying again is ours: with a pause, and only what is idempotent.
        "retry_policy": FallthroughRetryPolicy(),
    }
    if access.user:
        options["auth_provider"] = PlainTextAuthProvider(access.user, access.password)
    if access.bundle:
        # Unpacked where temporary files go: the bundle's own folder may be read-only.
        options["cloud"] = {"secure_connect_bundle": access.bundle, "use_default_tempdir": True}
        # Named, since to find it out the driver tries, and warns of, what no Astra speaks.
        options["protocol_version"] = 4
    else:
        options |= {"contact_points": list(access.hosts), "port": access.port}
        options["protocol_version"] = 5
        options["ssl_context"] = _tls(access)
        policy = DCAwareRoundRobinPolicy(access.local_dc)
        profile["load_balancing_policy"] = TokenAwarePolicy(policy)
    options["execution_profiles"] = {EXEC_PROFILE_DEFAULT: ExecutionProfile(**profile)}
    return options


def _tls(access: Access) -> ssl.SSLContext | None:
    if not access.ca:
        return None
    try:
        context = ssl.create_default_context(cafile=access.ca)
        # Nodes are reached by address; that they belong to the cluster their certificate says.
        context.check_hostname = False
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates for Cassandra can't be used: {error}",
            ", ".join(filter(None, (access.ca, access.certificate, access.key))),
            "name PEM files in cassandra.ca, cassandra.certificate and cassandra.key",
        ) from error
    return context
