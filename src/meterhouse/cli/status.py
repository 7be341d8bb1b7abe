"""``meterhouse status``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.columns import aligned, printable
from meterhouse.cli.opening import opened

if TYPE_CHECKING:
    from meterhouse.follow.standing import Standing
    from meterhouse.project import ProjectStatus

__all__ = ["status"]


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print it.",
)
@click.pass_obj
def status(option: str | None, form: str) -> None:
    """Show sources, positions, lag, last batch, sizes, drift and unknown keys."""
    found = opened(option).status()
    if form == "json":
        click.echo(json.dumps(_body(found), indent=2, ensure_ascii=False))
    else:
        _print(found)


def _print(found: ProjectStatus) -> None:
    click.echo(f"project    {found.root}")
    if not found.position:
        click.echo("log        empty: take a delivery with `meterhouse ingest PATH`")
    else:
        click.echo(f"log        entry {found.position:,}, anchor {found.position}:{found.head}")
    click.echo(f"published  {_published(found)}")
    _print_following(found.following)
    for error in found.invalid:
        click.echo(f"invalid    {printable(error.where)}: {printable(error.what)}")
    if found.sources:
        click.echo("")
        head = ("source", "files", "landed", "accepted", "held", "duplicate", "last entry")
        rows = [
            (
                one.source,
                f"{one.files:,}",
                *(
                    f"{one.counts.get(name, 0):,}"
                    for name in ("landed", "accepted", "quarantined", "duplicate")
                ),
                f"{one.last_position:,} at {one.last_ingest_ts}",
            )
            for one in found.sources
        ]
        for line in aligned([head, *rows], right=(1, 2, 3, 4, 5)):
            click.echo(line)
    _print_drift(found)
    if found.sizes:
        click.echo("")
        rows = [
            (name, f"{files:,} files", f"{size:,} bytes")
            for name, (files, size) in found.sizes.items()
        ]
        for line in aligned(rows, right=(1, 2)):
            click.echo(line)


def _print_following(found: Standing | None) -> None:
    """Say what a running ``follow`` does, and what waits for what."""
    if found is None:
        return
    behind = found.position - found.served
    live = "live" if not behind else f"{behind:,} entries behind"
    click.echo(
        f"following  process {found.pid} since {found.since}, answers {live}, "
        f"{found.events_per_s:,.0f} events/s, lag {found.lag_s:.1f} s ({found.lag_bytes:,} bytes)"
    )
    for store, replica in found.replicas.items():
        click.echo(f"replica    {store}: {_replica(found, replica)}")
    for one in found.waiting:
        where = f"{one.file}, line {one.line:,}" if one.line else one.file
        click.echo(f"waiting    {printable(where)}: {one.size:,} bytes, {one.why}")
    for name, error in found.parked.items():
        click.echo(f"parked     {printable(name)}: {printable(error['what'])}")
    for table, reason in found.stale.items():
        click.echo(f"stale      {table}: {reason}")
    for name in found.unrecognised:
        click.echo(f"unknown    {printable(name)}: no contract recognises it")
    if found.failure is not None:
        click.echo(f"failing    {printable(found.failure['what'])}")


def _replica(found: Standing, replica: Mapping[str, Any]) -> str:
    """Say where a replica stands."""
    if not replica:
        return "not heard of yet"
    behind = found.served - replica["position"]
    where = "live" if behind <= 0 else f"{behind:,} entries behind"
    lag = f"at entry {replica['position']:,}, {where}, lag {replica['lag_s']:.1f} s"
    failure = replica["failure"]
    return f"{lag}, failing: {printable(failure['what'])}" if failure else lag


def _published(found: ProjectStatus) -> str:
    if not found.published:
        return "nothing yet: run `meterhouse batch`"
    lag = found.position - found.published
    entries = "1 entry" if lag == 1 else f"{lag:,} entries"
    behind = f"{entries} behind: run `meterhouse batch`" if lag else "up to date"
    return f"entry {found.published:,} of {found.published_at}, {behind}"


def _print_drift(found: ProjectStatus) -> None:
    said = []
    for drift in found.drift:
        if drift.undeclared:
            said.append(
                f"{drift.source}: undeclared fields, kept in extra: {_listed(drift.undeclared)}"
            )
        for column, values in drift.unknown.items():
            said.append(
                f"{drift.source}: values of {column} that the contract does not list: "
                f"{_listed(values)}"
            )
        for rule, records in drift.flags.items():
            said.append(f"{drift.source}: flagged {rule}: {records:,}")
    if found.unknown is not None:
        if found.unknown.of_unknown_org:
            said.append(f"events of unknown organisations: {found.unknown.of_unknown_org:,}")
        if found.unknown.of_unknown_resource:
            said.append(f"events of unknown resources: {found.unknown.of_unknown_resource:,}")
    if said:
        click.echo("")
    for line in said:
        click.echo(line)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _body(found: ProjectStatus) -> dict[str, Any]:
    return {
        "project": str(found.root),
        "position": found.position,
        "anchor": f"{found.position}:{found.head}" if found.position else None,
        "published": found.published,
        "published_at": found.published_at or None,
        "lag_entries": found.position - found.published,
        "sources": [
            {
                "source": one.source,
                "files": one.files,
                "entries": one.entries,
                **one.counts,
                "last_position": one.last_position,
                "last_ingest_ts": one.last_ingest_ts,
            }
            for one in found.sources
        ],
        "drift": [
            {
                "source": drift.source,
                "undeclared": dict(drift.undeclared),
                "unknown_values": {name: dict(v) for name, v in drift.unknown.items()},
                "flags": dict(drift.flags),
            }
            for drift in found.drift
        ],
        "unknown_keys": None
        if found.unknown is None
        else {
            "events": found.unknown.events,
            "of_unknown_org": found.unknown.of_unknown_org,
            "of_unknown_resource": found.unknown.of_unknown_resource,
        },
        "invalid_contracts": [error.body() for error in found.invalid],
        "following": None if found.following is None else asdict(found.following),
        "sizes": {name: {"files": f, "bytes": b} for name, (f, b) in found.sizes.items()},
    }
