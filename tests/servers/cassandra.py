"""Apache Cassandra: one node for all tests of a run, however many processes run them."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import subprocess
import time
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tools" / "servers" / "cassandra"
INSTALLED = ROOT / ".servers"
"""Kept between runs; git ignores it."""
PEERS = "SELECT schema_version FROM system.peers"


@dataclass(frozen=True)
class Node:
    """A running node."""

    address: str
    port: int
    run: Path
    options: tuple[str, ...] = ()
    """Of start.sh, each time it is started."""

    def settings(self, **more: str) -> dict[str, str]:
        """Return the settings of a project that replicates to it, in a keyspace of its own."""
        return {
            "cassandra.hosts": self.address,
            "cassandra.port": str(self.port),
            "cassandra.keyspace": f"k{secrets.token_hex(6)}",
            "cassandra.consistency": "ONE",
            **more,
        }

    def kill(self) -> None:
        """End it as a crash would."""
        _script("stop.sh", str(self.run), "--kill")

    def start(self, *more: str) -> None:
        """Start it again with the data it has."""
        _start(self.address, self.port, self.run, (*self.options, *more))


def _script(name: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(SCRIPTS / name), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


def _start(address: str, port: int, run: Path, more: Sequence[str]) -> None:
    home = INSTALLED / "cassandra"
    arguments = ["--home", str(home), "--run", str(run), "--address", address]
    _script("start.sh", *arguments, "--port", str(port), *more)


def installed() -> Path:
    """Install the server where it is not; return its folder."""
    home = INSTALLED / "cassandra"
    with _locked(INSTALLED / "cassandra.lock"):
        _script("install.sh", str(home))
    return home


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_node(run: Path, *more: str, address: str = "127.0.0.1") -> Iterator[Node]:
    """Start a node of one's own, to be hurt; it is gone afterwards."""
    installed()
    options = ("--storage-port", str(free_port(address)), *more)
    node = Node(address, free_port(address), run, options)
    node.start()
    try:
        yield node
    finally:
        node.kill()


@contextmanager
def own_cluster(folder: Path, *, dc: str, nodes: int = 3) -> Iterator[list[Node]]:
    """Start nodes on 127.0.0.1, .2 and so on that know each other; they are gone afterwards."""
    installed()
    addresses = [f"127.0.0.{number}" for number in range(1, nodes + 1)]
    port, storage = _free_on(addresses), _free_on(addresses)
    seeds = ",".join(f"{address}:{storage}" for address in addresses)
    common = ("--storage-port", str(storage), "--seeds", seeds, "--dc", dc, "--heap", "256m")
    found = [
        Node(address, port, folder / address, (*common, "--token", str(token)))
        for address, token in zip(addresses, range(-(2**63), 2**63, 2**64 // nodes), strict=False)
    ]
    try:
        with ThreadPoolExecutor(nodes) as pool:
            for done in [pool.submit(node.start) for node in found]:
                done.result()
        for node in found:
            _until_it_knows(node, nodes - 1)
        yield found
    finally:
        for node in found:
            node.kill()


def _free_on(addresses: Sequence[str]) -> int:
    """Return a port that nobody listens on at any of these addresses, nor the next one."""
    while True:
        port = free_port(addresses[0])
        try:
            for address in addresses:
                for one in (port, port + 1):
                    with socket.socket() as probe:
                        probe.bind((address, one))
        except OSError:
            continue
        return port


def _until_it_knows(node: Node, others: int) -> None:
    """Wait until a node lists its peers: before that a driver would drop them."""
    policy = WhiteListRoundRobinPolicy([node.address])
    profiles = {EXEC_PROFILE_DEFAULT: ExecutionProfile(load_balancing_policy=policy)}
    with Cluster(
        [node.address], port=node.port, protocol_version=5, execution_profiles=profiles
    ) as cluster:
        session = cluster.connect()
        end = time.monotonic() + 120
        while len({row.schema_version for row in session.execute(PEERS)}) != 1 or (
            len(list(session.execute(PEERS))) < others
        ):
            assert time.monotonic() < end
            time.sleep(0.1)


@contextmanager
def shared_node(folder: Path) -> Iterator[Node]:
    """Use the node of this run: the first process to come starts it, the last one stops it.

    Args:
        folder: One that all processes of the run know.
    """
    installed()
    run, users = folder / "cassandra", folder / "cassandra.users"
    lock = folder / "cassandra.lock"
    mine = f"{os.getpid()}\n"
    with _locked(lock):
        port_file = folder / "cassandra.port"
        if not users.exists() or not users.read_text():
            port_file.write_text(str(free_port()))
        node = Node("127.0.0.1", int(port_file.read_text()), run)
        # Every test has a keyspace of its own, and a table takes a megabyte of heap.
        node.start("--storage-port", str(free_port()), "--fast-schema", "--heap", "3g")
        with users.open("a") as file:
            file.write(mine)
    try:
        yield node
    finally:
        with _locked(lock):
            left = [line for line in users.read_text().splitlines(True) if line != mine]
            users.write_text("".join(left))
            if not left:
                node.kill()


def cqlsh() -> Path:
    """Return the real cqlsh, in an environment of its own: its driver's version differs."""
    folder = INSTALLED / "cqlsh"
    program = folder / "bin" / "cqlsh"
    with _locked(INSTALLED / "cqlsh.lock"):
        if not program.exists():
            venv.create(folder, with_pip=True)
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "cqlsh==6.2.2"]
            subprocess.run(pip, check=True)
    return program


def run_cqlsh(node: Node, *arguments: str, home: Path) -> str:
    """Run cqlsh against ``node``; return what it printed."""
    done = subprocess.run(
        [str(cqlsh()), node.address, str(node.port), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home), "TZ": "UTC"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
