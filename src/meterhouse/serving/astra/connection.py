"""A session with the Data API of an Astra database, by astrapy; no other module connects.

Every request may be repeated: rows are absolute, and a document is replaced only by one
that stands for a later position.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from meterhouse.errors import ConfigError, EnvironmentFailureError, MeterhouseError
from meterhouse.serving.astra.exact_json import send_exactly
from meterhouse.serving.cassandra.connection import no_keyspace

__all__ = ["ApiAccess", "ApiSession", "access", "codes_of", "connected"]

_Result = TypeVar("_Result")
_ATTEMPTS: Final = 6
_FIRST_PAUSE_S: Final = 0.2
_CONCURRENT: Final = 16
"""Requests under way at a time."""
_ASTRA: Final = {
    "astra.datastax.com": "prod",
    "astra-dev.datastax.com": "dev",
    "astra-test.datastax.com": "test",
}
_ELSEWHERE: Final = "hcd"
"""A Data API that somebody runs himself; its paths and token differ from Astra's."""
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """How to reach a database. The secret in it is not printed."""

    endpoint: str
    keyspace: str
    form: str
    """"tables" or "collections"."""
    timeout_s: float
    token: str = field(repr=False)

    @property
    def environment(self) -> str:
        """What astrapy calls the kind of database."""
        host = urlsplit(self.endpoint).hostname or ""
        return next(
            (name for domain, name in _ASTRA.items() if host.endswith(f".{domain}")), _ELSEWHERE
        )


def access(settings: Any, environ: Mapping[str, str] = os.environ) -> ApiAccess:
    """Return how to reach the database of ``settings``; the token comes from the environment.

    Raises:
        ConfigError: Nothing says where it is, or the token is missing.
    """
    endpoint = environ.get("ASTRA_DB_API_ENDPOINT", "") or settings.astra_endpoint
    token = environ.get("ASTRA_DB_APPLICATION_TOKEN", "")
    if not endpoint:
        raise ConfigError(
            "no Astra database is configured",
            "ASTRA_DB_API_ENDPOINT, astra.endpoint in meterhouse.toml, METERHOUSE_ASTRA_ENDPOINT",
            "copy the API endpoint from the database's page; docs/astra.md shows all of it",
        )
    if not token:
        raise ConfigError(
            "the token of the Astra database is missing",
            "ASTRA_DB_APPLICATION_TOKEN",
            "set it in the environment; env.sample lists every variable",
        )
    _check_endpoint(endpoint)
    return ApiAccess(
        endpoint=endpoint.rstrip("/"),
        keyspace=environ.get("ASTRA_DB_KEYSPACE", "") or settings.astra_keyspace,
        form=settings.astra_form,
        timeout_s=settings.astra_timeout.total_seconds(),
        token=token,
    )


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    # A token that travels without TLS is a secret no more; on this machine it does not travel.
    if host and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        return
    raise ConfigError(
        "the API endpoint of the Astra database is not a https address",
        "ASTRA_DB_API_ENDPOINT or astra.endpoint",
        "copy it from the database's page: https://ID-REGION.apps.astra.datastax.com",
    )


class ApiSession:
    """Requests, run one by one or many at a time, tried again while that helps."""

    def __init__(self, database: Any, where: str, keyspace: str) -> None:
        self.database = database
        self.where = where
        self._keyspace = keyspace
        self._opened: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(_CONCURRENT, thread_name_prefix="data-api")

    def table(self, name: str) -> Any:
        """Return the table of that name; it need not be there."""

        def opened() -> Any:
            table = self.database.get_table(name)
            send_exactly(table)
            return table

        return self._once(f"table {name}", opened)

    def collection(self, name: str) -> Any:
        """Return the collection of that name; it need not be there."""
        return self._once(f"collection {name}", lambda: self.database.get_collection(name))

    def _once(self, name: str, made: Callable[[], Any]) -> Any:
        """Return what is opened already where it is: each has connections of its own."""
        if name not in self._opened:
            self._opened[name] = made()
        return self._opened[name]

    def run(self, request: Callable[[], _Result]) -> _Result:
        """Run one request, which may be repeated.

        Raises:
            ConfigError: It is refused: who we are, the keyspace, or what is asked.
            EnvironmentFailureError: The database can't be reached, time and again.
        """
        pause = _FIRST_PAUSE_S
        for attempt in range(_ATTEMPTS):
            try:
                return request()
            except Exception as error:  # sorted out here: astrapy's and its transport's
                last = attempt == _ATTEMPTS - 1
                if isinstance(error, MeterhouseError) or last or not _worth_another(error):
                    raise self._failure(error) from error
                time.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")

    def each(self, requests: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """Run requests, 16 under way at a time; their results in order."""
        if len(requests) == 1:
            return [self.run(requests[0])]
        return list(self._pool.map(self.run, requests))

    def close(self) -> None:
        """Let go of threads and connections."""
        self._pool.shutdown(cancel_futures=True)
        for one in (self.database, *self._opened.values()):
            # astrapy has no way of its own to close them, and Python complains of open sockets.
            one._api_commander.client.close()

    def _failure(self, error: BaseException) -> MeterhouseError:
        """Say what went wrong in our words; never what was sent: it holds rows and a secret."""
        if isinstance(error, MeterhouseError):
            return error
        codes = codes_of(error)
        if _statuses(error) & {401, 403} or any("UNAUTH" in code for code in codes):
            return ConfigError(
                "the Astra database refuses this token",
                self.where,
                "check ASTRA_DB_APPLICATION_TOKEN and what its role may do; nothing was written",
            )
        if any("KEYSPACE" in code for code in codes):
            return no_keyspace(self._keyspace, self.where)
        if codes and not _worth_another(error):
            return ConfigError(
                f"the Data API refuses a request: {', '.join(codes)}",
                self.where,
                "see docs/astra.md for what it needs; what was written before stays",
            )
        kind = ", ".join(sorted({type(one).__name__ for one in _roots(error)}))
        return EnvironmentFailureError(
            f"the Astra database can't be reached ({kind})",
            self.where,
            "nothing is lost: the embedded store goes on, and the replica catches up when it "
            "is back",
        )


@contextmanager
def connected(access: ApiAccess) -> Iterator[ApiSession]:
    """Open a session in the keyspace of ``access``; the first request connects.

    Raises:
        ConfigError: astrapy is not installed.
    """
    try:
        from astrapy import DataAPIClient
        from astrapy.api_options import APIOptions, TimeoutOptions
    except ImportError as error:
        raise ConfigError(
            "astrapy is not installed", "", "install it: pip install 'meterhouse[astra]'"
        ) from error
    # It logs what a database answers, rows included, as warnings; without this to stderr.
    logging.getLogger("astrapy").addHandler(logging.NullHandler())
    milliseconds = int(access.timeout_s * 1000)
    options = APIOptions(
        timeout_options=TimeoutOptions(
            request_timeout_ms=milliseconds, general_method_timeout_ms=10 * milliseconds
        )
    )
    client = DataAPIClient(environment=access.environment, api_options=options)
    database = client.get_database(access.endpoint, token=access.token, keyspace=access.keyspace)
    session = ApiSession(database, access.endpoint, access.keyspace)
    try:
        yield session
    finally:
        session.close()


def codes_of(error: BaseException) -> list[str]:
    """Return the codes that the database gave, each once."""
    found = [
        str(one.error_code)
        for root in _roots(error)
        for one in getattr(root, "error_descriptors", [])
        if one.error_code
    ]
    return list(dict.fromkeys(found))


def _roots(error: BaseException) -> list[BaseException]:
    """Return what lies below an exception that speaks for several requests."""
    below = getattr(error, "exceptions", None) or [getattr(error, "cause", None)]
    found = [one for one in below if isinstance(one, BaseException)]
    return [root for one in found for root in _roots(one)] or [error]


def _statuses(error: BaseException) -> set[int]:
    responses = [getattr(root, "response", None) for root in _roots(error)]
    return {one.status_code for one in responses if one is not None}


def _worth_another(error: BaseException) -> bool:
    """Tell what may be better in a moment from what will not be."""
    import httpx
    from astrapy.exceptions import DataAPITimeoutException

    roots = _roots(error)
    families = {one.family for root in roots for one in getattr(root, "error_descriptors", [])}
    return (
        any(isinstance(root, httpx.TransportError | DataAPITimeoutException) for root in roots)
        or bool(_statuses(error) & _BUSY)
        or "SERVER" in families
    )
