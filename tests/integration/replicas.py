"""A project with a replica in Cassandra, as its user has it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.house import House, Ran, cli
from meterhouse.config import load_settings
from meterhouse.layers.generation import read_generation
from meterhouse.serving.cassandra import opened_replica
from meterhouse.serving.cassandra.compare import Comparison, compare
from meterhouse.serving.cassandra.connection import CqlSession
from meterhouse.serving.cassandra.layout import quoted
from meterhouse.serving.cassandra.replica import Replica
from meterhouse.serving.snapshot import SqliteSnapshot, opened

WHEN = "as_of"


@dataclass(frozen=True)
class Replicated:
    """A project, and how to reach its replica."""

    house: House
    settings: Mapping[str, str]

    @contextmanager
    def both(self) -> Iterator[tuple[Replica, SqliteSnapshot]]:
        """The replica, and what it is a replica of, at one position."""
        settings = load_settings(self.house.root, os.environ, self.settings)
        with opened(self.house.root / "serving.db") as snapshot:
            pinned = snapshot.served.details.get("models")
            project = self.house.project
            models = read_generation(project.blobs, pinned).models if pinned else project.models()
            with opened_replica(settings, models.by_name.values(), os.environ) as replica:
                yield replica, snapshot

    def cli(self, *arguments: str) -> Ran:
        """Run the program with the replica's settings."""
        given = [part for item in self.settings.items() for part in ("--set", "=".join(item))]
        return cli("--project", str(self.house.root), *given, *arguments)

    def compared(self) -> Comparison:
        with self.both() as (replica, snapshot):
            return compare(replica.session, snapshot, replica.tables)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table's rows, sorted, without the position at which each was written."""
        with self.both() as (replica, _):
            names = [table.name for found in replica.tables.values() for table in found]
            return {name: contents_of(replica.session, name) for name in [*names, "orgs"]}


def contents_of(session: CqlSession, table: str) -> list[tuple[Any, ...]]:
    rows = session.rows(f"SELECT * FROM {quoted(table)}")
    found = [
        tuple((name, value) for name, value in row._asdict().items() if name != WHEN)
        for row in rows
    ]
    return sorted(found, key=repr)
