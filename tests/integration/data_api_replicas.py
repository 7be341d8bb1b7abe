"""A project with a replica in the Data API's stand-in, as its user has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.house import House, Ran, cli
from meterhouse.cli.replicas import opened_replica
from meterhouse.config import load_settings
from meterhouse.project import open_project
from meterhouse.serving.astra import opened_snapshot
from meterhouse.serving.astra.documents import DocumentsReplica, DocumentsSnapshot
from meterhouse.serving.astra.tables import TablesReplica, TablesSnapshot
from meterhouse.serving.comparing import Comparison, compare
from meterhouse.serving.snapshot import SqliteSnapshot, opened
from servers.data_api import StandIn

STORE = ("--store", "astra")


@dataclass(frozen=True)
class InApi:
    """A project, and how to reach its replica."""

    house: House
    settings: Mapping[str, str]
    environ: Mapping[str, str] = field(repr=False)

    @contextmanager
    def both(self) -> Iterator[tuple[TablesReplica | DocumentsReplica, SqliteSnapshot]]:
        """The replica, and what it is a replica of, at one position."""
        with self._environ(), opened(self.house.root / "serving.db") as snapshot:
            project = open_project(self.house.root, options=dict(self.settings))
            with opened_replica(project, "astra", snapshot.served.details) as replica:
                assert isinstance(replica, TablesReplica | DocumentsReplica)
                yield replica, snapshot

    @contextmanager
    def answers(self) -> Iterator[TablesSnapshot | DocumentsSnapshot]:
        """What the replica answers from."""
        settings = load_settings(self.house.root, os.environ, self.settings)
        with opened_snapshot(settings, self.environ) as snapshot:
            yield snapshot

    def cli(self, *arguments: str) -> Ran:
        """Run the program with the replica's settings."""
        given = [part for item in self.settings.items() for part in ("--set", "=".join(item))]
        with self._environ():
            return cli("--project", str(self.house.root), *given, *arguments)

    def program(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the program as a process of its own."""
        given = [part for item in self.settings.items() for part in ("--set", "=".join(item))]
        return self.house.program(*given, *arguments, **self.environ)

    def serving(self, command: str) -> Ran:
        return self.cli("serving", command, *STORE)

    def compared(self) -> Comparison:
        with self.both() as (replica, snapshot):
            return compare(replica, snapshot)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table's rows, sorted, without the position at which each was written."""
        with self.both() as (replica, _):
            return {
                table.name: sorted(replica.rows(table), key=repr)
                for found in replica.tables.values()
                for table in found
            }

    @contextmanager
    def _environ(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environ.items():
                patch.setenv(name, value)
            yield


def replica_of(house: House, api: StandIn, form: str, **environ: str) -> InApi:
    """A replica of ``house`` in a keyspace of its own, with nothing in it yet."""
    given = {
        "ASTRA_DB_API_ENDPOINT": api.endpoint,
        "ASTRA_DB_APPLICATION_TOKEN": api.token,
        "ASTRA_DB_KEYSPACE": api.keyspace(),
        **environ,
    }
    return InApi(house, {"astra.form": form}, given)


def own(house: House, factory: pytest.TempPathFactory) -> House:
    """A copy: only one process at a time keeps a project's replica up."""
    root = factory.mktemp("own") / "project"
    shutil.copytree(house.root, root)
    return House(root)
