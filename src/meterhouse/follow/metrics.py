"""Figures for Prometheus, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from meterhouse.errors import EnvironmentFailureError
from meterhouse.follow.tally import BUCKETS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from meterhouse.follow.follower import Follower
    from meterhouse.follow.standing import Standing

__all__ = ["Metrics"]

_VERDICTS = {
    "landed": "Records landed",
    "accepted": "Records accepted",
    "duplicate": "Records that were there already",
}


class Metrics:
    """A page of figures as they were a moment ago. Counters begin with the process."""

    def __init__(self, host: str, port: int) -> None:
        """Serve them at ``http://host:port/metrics`` until closed.

        Raises:
            EnvironmentFailureError: The port is taken, or may not be used.
        """
        from prometheus_client import CollectorRegistry, start_http_server

        self._lock = threading.Lock()
        self._found: list[Metric] = []
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise EnvironmentFailureError(
                f"metrics can't be served: {error.strerror}",
                f"--metrics {host}:{port}",
                "name another port; nothing was taken",
            ) from error

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return int(self._server.server_port)

    def collect(self) -> Iterator[Metric]:
        """Yield the figures; called by the server's own thread."""
        with self._lock:
            found = self._found
        yield from found

    def show(self, follower: Follower, standing: Standing) -> None:
        """Take over the figures as they are now."""
        found = [*_gauges(standing), *_counters(follower), _delays(follower)]
        with self._lock:
            self._found = found

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _gauges(standing: Standing) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    for name, doc, value in (
        ("log_position", "Last log entry applied", standing.position),
        ("served_position", "Log entry up to which the answers stand", standing.served),
        ("lag_bytes", "Bytes noticed that are not in the log", standing.lag_bytes),
        ("lag_seconds", "Age of the oldest bytes that are not in the log", standing.lag_s),
        ("files", "Files followed", standing.files),
        ("files_waiting", "Files of which something waits", len(standing.waiting)),
        ("unrecognised_files", "Files no contract recognises", len(standing.unrecognised)),
        ("requests", "Requests of other commands not answered yet", standing.requests),
        ("failing", "1 while the machine refuses, else 0", int(standing.failure is not None)),
    ):
        yield GaugeMetricFamily(f"meterhouse_{name}", doc, value)
    parked = GaugeMetricFamily(
        "meterhouse_parked", "Sources and files of which nothing is taken", labels=["name", "code"]
    )
    for name, error in standing.parked.items():
        parked.add_metric([name, error["code"]], 1)
    yield parked
    stale = GaugeMetricFamily(
        "meterhouse_stale", "Gold tables that do not follow", labels=["table"]
    )
    for table in standing.stale:
        stale.add_metric([table], 1)
    yield stale
    yield from _replicas(standing)


def _replicas(standing: Standing) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    known = {store: found for store, found in standing.replicas.items() if found}
    for name, doc, part in (
        ("position", "Log entry up to which a replica stands", "position"),
        ("lag_seconds", "Since when the answers went on without it", "lag_s"),
    ):
        metric = GaugeMetricFamily(f"meterhouse_replica_{name}", doc, labels=["store"])
        for store, found in known.items():
            metric.add_metric([store], found[part])
        yield metric
    failing = GaugeMetricFamily(
        "meterhouse_replica_failing", "1 while a replica does not go on", labels=["store"]
    )
    for store in standing.replicas:
        failing.add_metric([store], int(store not in known or known[store]["failure"] is not None))
    yield failing


def _counters(follower: Follower) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    def counter(name: str, doc: str, *labels: str) -> Any:
        return CounterMetricFamily(f"meterhouse_{name}", doc, labels=list(labels))

    tally = follower.tally
    entries = counter("entries", "Log entries", "source")
    size = counter("bytes", "Bytes landed", "source")
    rows = {name: counter(f"rows_{name}", doc, "source") for name, doc in _VERDICTS.items()}
    held = counter("rows_quarantined", "Records newly held", "table", "rule")
    for name, source in tally.sources.items():
        entries.add_metric([name], source.entries)
        size.add_metric([name], source.bytes)
        for verdict, metric in rows.items():
            metric.add_metric([name], source.counts[verdict])
    for (name, rule), count in tally.held().items():
        known = follower.contracts.sources.get(name)
        held.add_metric([known.contract.table if known is not None else name, rule], count)
    yield from (entries, size, *rows.values(), held)
    failures = counter("failures", "How often the machine refused")
    failures.add_metric([], tally.failures)
    yield failures
    if follower.batches is not None:
        batches = counter("batches", "Batches that ended", "outcome")
        batches.add_metric(["done"], follower.batches.done)
        batches.add_metric(["failed"], follower.batches.failed)
        yield batches


def _delays(follower: Follower) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    delays = follower.tally.delays
    sums = list(accumulate(delays.counts))
    ends = [*(str(end) for end in BUCKETS), "+Inf"]
    found: Metric = HistogramMetricFamily(
        "meterhouse_answer_delay_seconds",
        "From noticing bytes to having them in the answers",
        buckets=list(zip(ends, sums, strict=True)),
        sum_value=delays.total,
    )
    return found
