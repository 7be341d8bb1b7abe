"""A project with a replica in Cassandra, as its user has it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.beside import LiveHouse
from e2e.house import House, Ran, cli
from meterhouse.config import load_settings
from meterhouse.errors import UsageError
from meterhouse.follow.keeping import read_replica
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

    def arguments(self, *arguments: str) -> list[str]:
        """The program's arguments, with the replica's settings before them."""
        given = [part for item in self.settings.items() for part in ("--set", "=".join(item))]
        return [*given, *arguments]

    def cli(self, *arguments: str) -> Ran:
        """Run the program with the replica's settings."""
        return cli("--project", str(self.house.root), *self.arguments(*arguments))

    def compared(self) -> Comparison:
        with self.both() as (replica, snapshot):
            return compare(replica.session, snapshot, replica.tables)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table's rows, sorted, without the position at which each was written."""
        with self.both() as (replica, _):
            names = [table.name for found in replica.tables.values() for table in found]
            return {name: contents_of(replica.session, name) for name in [*names, "orgs"]}


def configured(folder: Path, settings: Mapping[str, str], models: Sequence[str]) -> LiveHouse:
    """Make a project whose own file says where its replica is, and that it is kept up.

    In Cassandra, unless the settings say otherwise.
    """
    house = LiveHouse.new(folder, models=models)
    for name, value in {"serving.replicas": "cassandra", **settings}.items():
        section, _, key = name.partition(".")
        shown = value if value.isdecimal() else f'"{value}"'
        if key in ("hosts", "replicas"):
            shown = "[" + ", ".join(f'"{one}"' for one in value.split(",")) + "]"
        house.edit("meterhouse.toml", f"[{section}]\n", f"[{section}]\n{key} = {shown}\n")
    return house


def until_replicated(house: House, store: str = "cassandra", seconds: float = 90) -> None:
    """Wait until the replica stands where the answers do."""
    end = time.monotonic() + seconds
    while True:
        # What the file says of the answers may be a second old.
        found, stand = read_replica(house.root, store), _answers_stand(house)
        if found is not None and found.failure is None and found.position >= stand > 0:
            return
        assert time.monotonic() < end, found
        time.sleep(0.02)


def _answers_stand(house: House) -> int:
    """Return their position; 0 while nothing was ever published."""
    try:
        return house.project.answers.read(lambda snapshot: snapshot.served.stamp.position)
    except UsageError:
        return 0


def contents_of(session: CqlSession, table: str) -> list[tuple[Any, ...]]:
    rows = session.rows(f"SELECT * FROM {quoted(table)}")
    found = [
        tuple((name, value) for name, value in row._asdict().items() if name != WHEN)
        for row in rows
    ]
    return sorted(found, key=repr)
