"""Replicas of the served rows, for every command that brings one up."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from meterhouse.cli.columns import printable
from meterhouse.errors import MeterhouseError

if TYPE_CHECKING:
    from meterhouse.project import Project
    from meterhouse.serving.positions import ReplicaPosition
    from meterhouse.serving.replication import Replication, SyncReport

__all__ = ["keep_replica", "opened_replica", "sync_replicas", "sync_text", "synced", "writing"]

_LOCK: Final = ".locks/replica-{}"
_WRITING: Final = ".locks/replica-{}.writing"
_LOOK_S: Final = 0.2


@contextmanager
def opened_replica(house: Project, store: str, details: Mapping[str, Any]) -> Iterator[Replication]:
    """Open the replica in ``store`` of the tables that ``house`` serves.

    Args:
        house: The project.
        store: One of ``config.STORES``.
        details: Of the answers: they say which models these were computed with.
    """
    from meterhouse.layers.generation import read_generation
    from meterhouse.serving.astra import opened_replica as in_astra
    from meterhouse.serving.cassandra import opened_replica as in_cassandra

    pinned = details.get("models")
    models = read_generation(house.blobs, pinned).models if pinned else house.models()
    opened = in_astra if store == "astra" else in_cassandra
    with opened(house.settings, models.by_name.values(), os.environ) as replica:
        replica.who = _writer(house)
        replica.in_log = lambda position: _in_log(house, position)
        yield replica


def _writer(house: Project) -> str:
    """Return a name that another project folder, of this machine or another, does not have."""
    place = f"{platform.node()} {uuid.getnode()} {house.root.resolve()}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _in_log(house: Project, found: ReplicaPosition) -> bool:
    """Tell whether the log holds the entry that a replica was made from."""
    from meterhouse.errors import DamageError
    from meterhouse.log.chain import Log
    from meterhouse.ports import Stamp

    stamp = Stamp(found.project, found.fork, found.position, found.head)
    try:
        Log(house.blobs, house.span).check(stamp, "the replica")
    except DamageError:
        return False
    return True


def writing(house: Project, store: str) -> AbstractContextManager[None]:
    """Let one process of this project write to the replica at a time; the others wait."""
    from meterhouse.log.lock import one_writer

    return one_writer(house.root / _WRITING.format(store))


def synced(house: Project, store: str) -> str:
    """Bring the replica in ``store`` to where the answers stand; return what to say of it."""
    from meterhouse.log.lock import held
    from meterhouse.serving.snapshot import read

    def sync(snapshot: Any) -> SyncReport:
        with opened_replica(house, store, snapshot.served.details) as replica:
            return replica.sync(snapshot)

    if held(house.root / _LOCK.format(store)):
        return "another process keeps the replica up: meterhouse serving status"
    with writing(house, store):
        return sync_text(read(house.root / "serving.db", sync))


def keep_replica(house: Project, store: str, *, parent: int | None = None) -> None:
    """Keep the replica in ``store`` up until SIGTERM or SIGINT.

    Args:
        house: The project.
        store: One of ``config.STORES``.
        parent: End when this is no longer the process that started this one.
    """
    from meterhouse.follow.keeping import Keeping
    from meterhouse.follow.say import Say
    from meterhouse.follow.stop import Stop
    from meterhouse.log.lock import Lock

    say = Say(lambda line: click.echo(printable(line), err=True), house.clock)
    stop, keeper = Stop(), Lock(house.root / _LOCK.format(store))
    alone = Lock(house.root / _WRITING.format(store))

    @contextmanager
    def opened() -> Iterator[Replication]:
        details = house.answers.read(lambda snapshot: snapshot.served.details)
        with opened_replica(house, store, details) as replica:
            yield replica

    def wanted() -> bool:
        return not stop.wanted and (parent is None or os.getppid() == parent)

    keeping = Keeping(
        house.root, store, opened, alone, say, clock=house.clock, ticks=time.monotonic
    )
    with stop.on_signals():
        # Not waited for in one piece: who waits for another keeper ends when he is told to.
        while wanted() and not keeper.take():
            stop.wait(_LOOK_S)
        if wanted():
            keeping.run(stop, wanted)
        keeper.release()


def sync_replicas(house: Project) -> None:
    """Bring every replica of ``serving.replicas`` up; what can't be is a warning.

    The embedded answers never depend on another store.
    """
    for store in house.settings.serving_replicas:
        try:
            click.echo(f"{store}: {synced(house, store)}")
        except MeterhouseError as error:
            click.echo(
                f"warning: the replica in {store} was not brought up: {error}\n"
                f"  later: meterhouse serving sync --store {store}, or the next batch does it",
                err=True,
            )


def sync_text(report: SyncReport) -> str:
    """Return what a synchronisation did, for people."""
    if not report.rows and not report.gone and not report.whole:
        return f"nothing new: the replica stands at log position {report.position:,}"
    what = "every row" if report.whole else "what changed"
    why = f" ({report.why})" if report.why else ""
    return (
        f"{what} written: {report.rows:,} rows, {report.gone:,} deleted; the replica stands at "
        f"log position {report.position:,}{why}"
    )
