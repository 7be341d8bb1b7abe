"""A real Cassandra reached as an Astra database is: by a bundle, a token and Astra's limits.

It is not Astra DB; it shows that the way there works, not what DataStax runs.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy

from servers.cassandra import SCRIPTS, Node, own_node

SUPERUSER = "cassandra"


@dataclass(frozen=True)
class Bundled:
    """A node behind a bundle; its only ordinary role is Astra's ``token``."""

    node: Node
    bundle: Path
    token: str
    """A secret: made for this run, and to be found in no output."""
    keyspace: str

    def environ(self, **more: str) -> dict[str, str]:
        """Return the variables that a user of the database sets."""
        return {
            "ASTRA_DB_SECURE_BUNDLE": str(self.bundle),
            "ASTRA_DB_APPLICATION_TOKEN": self.token,
            "ASTRA_DB_KEYSPACE": self.keyspace,
            **more,
        }


@contextmanager
def as_superuser(node: Node) -> Iterator[Any]:
    """Open a session that may do everything, past the bundle."""
    policy = WhiteListRoundRobinPolicy([node.address])
    with Cluster(
        [node.address],
        port=node.port,
        auth_provider=PlainTextAuthProvider(SUPERUSER, SUPERUSER),
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: ExecutionProfile(load_balancing_policy=policy)},
    ) as cluster:
        yield cluster.connect()


@contextmanager
def bundled_node(folder: Path) -> Iterator[Bundled]:
    """Start a node with Astra's limits, what stands before it, and make the bundle.

    Its schema is synced: it has to outlive a kill.
    """
    limits = str(SCRIPTS / "astra-limits.yaml")
    tls, bundle = folder / "tls", folder / "bundle.zip"
    subprocess.run([str(SCRIPTS / "make_tls.sh"), str(tls)], check=True, capture_output=True)
    with own_node(folder / "node", "--auth", "--yaml", limits) as node:
        made = Bundled(
            node, bundle, f"AstraCS:{secrets.token_hex(12)}:{secrets.token_hex(32)}", "app"
        )
        with as_superuser(node) as session:
            session.execute(
                f"CREATE ROLE \"token\" WITH PASSWORD = '{made.token}' AND LOGIN = true"
            )
        make_keyspace(node, made.keyspace)
        with _front(made, tls):
            yield made


def make_keyspace(node: Node, name: str) -> None:
    """Make a keyspace, as its user would on a database's page."""
    one = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    with as_superuser(node) as session:
        session.execute(f"CREATE KEYSPACE {name} WITH replication = {one}")
        session.execute(f'GRANT ALL ON KEYSPACE {name} TO "token"')


@contextmanager
def _front(made: Bundled, tls: Path) -> Iterator[None]:
    command = [sys.executable, str(SCRIPTS / "astra_local.py"), "--tls", str(tls)]
    command += ["--bundle", str(made.bundle), "--keyspace", made.keyspace, "--user", SUPERUSER]
    front = subprocess.Popen(
        [*command, "--node", f"{made.node.address}:{made.node.port}"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CASSANDRA_PASSWORD": SUPERUSER},
    )
    try:
        assert front.stdout is not None
        assert front.stdout.readline().startswith("ready ")
        yield
    finally:
        front.terminate()
        front.communicate(timeout=30)
