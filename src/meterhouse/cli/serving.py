"""``meterhouse serving``: the replica in Cassandra or Astra, made, followed and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from meterhouse.cli.columns import aligned
from meterhouse.cli.opening import opened

if TYPE_CHECKING:
    from meterhouse.models.model import Model
    from meterhouse.project import Project
    from meterhouse.serving.cassandra.replica import Replica, SyncReport
    from meterhouse.serving.snapshot import SqliteSnapshot

__all__ = ["serving"]


@click.group()
def serving() -> None:
    """Keep the gold tables in Apache Cassandra or Astra DB as well.

    Where the cluster is, is in meterhouse.toml below [cassandra]; secrets come from the
    environment (docs/cassandra.md).
    """


@serving.command()
@click.option(
    "--replication",
    metavar="FORM",
    help="simple:1, network:dc1=3,dc2=3 or none; else cassandra.replication.",
)
@click.option("--keyspace", metavar="NAME", help="Else cassandra.keyspace.")
@click.pass_obj
def ddl(project: str | None, /, replication: str | None, keyspace: str | None) -> None:
    """Print the keyspace and its tables as CQL, for cqlsh.

    \b
    Example:
      meterhouse serving ddl --replication network:dc1=3 | cqlsh
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.serving.cassandra.ddl import ddl as text
    from meterhouse.serving.cassandra.tables import cql_tables

    house = opened(project)
    tables = cql_tables(house.models().by_name.values())
    click.echo(
        text(
            tables,
            keyspace or house.settings.cassandra_keyspace,
            replication or house.settings.cassandra_replication,
        ),
        nl=False,
    )


@serving.command()
@click.pass_obj
def status(project: str | None, /) -> int:
    """Show where the embedded store and the replica stand. Exit 1 when it is behind."""
    from meterhouse.serving.cassandra.replica import replica_position

    with _replica(project) as (replica, snapshot):
        session = replica.session
        found = replica_position(session)
        here = snapshot.served.stamp.position
        there = found.position if found is not None else 0
        rows = [
            ("embedded store", f"log position {here:,}", snapshot.served.ingest_ts.isoformat()),
            (
                f"Cassandra {session.version()}",
                f"log position {there:,}" if found else "empty, or being made anew",
                found.ingest_ts if found else "",
            ),
        ]
        for line in aligned(rows):
            click.echo(line)
        if there == here:
            return 0
        click.echo(f"{here - there:,} log entries behind: meterhouse serving sync")
        return 1


@serving.command()
@click.pass_obj
def sync(project: str | None, /) -> None:
    """Bring the replica to where the embedded store stands; safe to repeat.

    What changed is written; all of it where that is unclear (a first time, a restatement, a
    replica that was behind the last batch).
    """
    with _replica(project) as (replica, snapshot):
        _say(replica.sync(snapshot))


@serving.command()
@click.pass_obj
def rebuild(project: str | None, /) -> None:
    """Empty the replica and write it anew, whatever anybody changed by hand.

    Questions to the replica are refused meanwhile; the embedded store answers on.
    """
    with _replica(project) as (replica, snapshot):
        _say(replica.rebuild(snapshot))


@serving.command()
@click.pass_obj
def compare(project: str | None, /) -> int:
    """Compare every cell of the replica with the embedded store. Exit 1 when one differs."""
    from meterhouse.serving.cassandra.compare import compare as compared

    with _replica(project) as (replica, snapshot):
        found = compared(replica.session, snapshot, replica.tables)
    for one in found.shown:
        cell = f"{one.column}: {one.replica or 'NULL'}, should be {one.served or 'NULL'}"
        row = "a row too many" if one.replica else "a row is missing"
        click.echo(f"{one.table} ({one.key}): {cell if one.column else row}")
    click.echo(
        f"{found.rows:,} rows compared: {found.cells:,} cells differ, {found.missing:,} rows are "
        f"missing, {found.extra:,} too many"
        + (f", {found.waiting:,} on their way" if found.waiting else "")
    )
    if found.agrees:
        return 0
    click.echo("mend it: meterhouse serving rebuild", err=True)
    return 1


def _say(report: SyncReport) -> None:
    if not report.rows and not report.gone and not report.whole:
        click.echo(f"nothing new: the replica stands at log position {report.position:,}")
        return
    what = "every row" if report.whole else "what changed"
    click.echo(
        f"{what} written: {report.rows:,} rows, {report.gone:,} deleted; the replica stands at "
        f"log position {report.position:,}" + (f" ({report.why})" if report.why else "")
    )


@contextmanager
def _replica(project: str | None) -> Iterator[tuple[Replica, SqliteSnapshot]]:
    """Open the replica of a project, and what it is a replica of, at one position."""
    from meterhouse.serving.cassandra import opened_replica
    from meterhouse.serving.snapshot import opened as snapshot_of

    house = opened(project)
    with (
        snapshot_of(house.root / "serving.db") as snapshot,
        opened_replica(house.settings, _models(house, snapshot), os.environ) as replica,
    ):
        yield replica, snapshot


def _models(house: Project, snapshot: SqliteSnapshot) -> Iterable[Model]:
    """Return the models whose rows are served, as they were when these were computed."""
    from meterhouse.layers.generation import read_generation

    pinned = snapshot.served.details.get("models")
    found = read_generation(house.blobs, pinned).models if pinned else house.models()
    return found.by_name.values()
