"""``meterhouse serving``: the replica in Cassandra or Astra, made, followed and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from meterhouse.cli.columns import aligned
from meterhouse.cli.opening import opened
from meterhouse.cli.replicas import (
    keep_replica,
    opened_replica,
    sync_text,
    synced,
    writing,
)
from meterhouse.config import STORES

if TYPE_CHECKING:
    from meterhouse.serving.replication import Replication
    from meterhouse.serving.snapshot import SqliteSnapshot

__all__ = ["serving"]

_STORE = click.option(
    "--store",
    type=click.Choice(STORES),
    default=STORES[0],
    show_default=True,
    help="Where the replica is.",
)


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
@_STORE
@click.pass_obj
def status(project: str | None, /, store: str) -> int:
    """Show where the embedded store and the replica stand. Exit 1 when it is behind."""
    from meterhouse.serving.replication import batch_of

    with _replica(project, store) as (replica, snapshot):
        found = replica.position()
        here = snapshot.served.stamp.position
        there = found.position if found is not None else 0
        rows = [
            ("embedded store", f"log position {here:,}", snapshot.served.ingest_ts.isoformat()),
            (
                replica.label(),
                f"log position {there:,}" if found else "empty, or being made anew",
                found.ingest_ts if found else "",
            ),
        ]
        for line in aligned(rows):
            click.echo(line)
        if there != here:
            behind = f"{here - there:,} log entries behind"
        elif found is not None and found.batch != batch_of(snapshot):
            behind = "behind the last batch"
        else:
            return 0
        click.echo(f"{behind}: meterhouse serving sync --store {store}")
        return 1


@serving.command()
@click.option("--follow", is_flag=True, help="Go on, whenever the answers do, until stopped.")
@click.option("--parent", type=int, hidden=True, help="End with this process.")
@_STORE
@click.pass_obj
def sync(project: str | None, /, *, follow: bool, parent: int | None, store: str) -> None:
    """Bring the replica to where the embedded store stands; safe to repeat.

    What changed is written; all of it where that is unclear (a first time, a restatement, a
    replica that was behind the last batch). `meterhouse follow` and `meterhouse batch` do it
    by themselves for the stores of serving.replicas.
    """
    house = opened(project)
    if follow:
        keep_replica(house, store, parent=parent)
    else:
        click.echo(synced(house, store))


@serving.command()
@_STORE
@click.pass_obj
def rebuild(project: str | None, /, store: str) -> None:
    """Empty the replica and write it anew, whatever anybody changed by hand.

    Questions to the replica are refused meanwhile; the embedded store answers on.
    """
    # Not between two writes of a process that keeps it up: it goes on from what is made here.
    with writing(opened(project), store), _replica(project, store) as (replica, snapshot):
        click.echo(sync_text(replica.rebuild(snapshot)))


@serving.command()
@_STORE
@click.pass_obj
def compare(project: str | None, /, store: str) -> int:
    """Compare every cell of the replica with the embedded store. Exit 1 when one differs."""
    from meterhouse.serving.comparing import compare as compared

    with _replica(project, store) as (replica, snapshot):
        found = compared(replica, snapshot)
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
    click.echo(f"mend it: meterhouse serving rebuild --store {store}", err=True)
    return 1


@contextmanager
def _replica(project: str | None, store: str) -> Iterator[tuple[Replication, SqliteSnapshot]]:
    """Open the replica of a project, and what it is a replica of, at one position."""
    from meterhouse.serving.snapshot import opened as snapshot_of

    house = opened(project)
    with (
        snapshot_of(house.root / "serving.db") as snapshot,
        opened_replica(house, store, snapshot.served.details) as replica,
    ):
        yield replica, snapshot
