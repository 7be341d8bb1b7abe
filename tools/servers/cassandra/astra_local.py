"""Serve local Cassandra nodes by a secure connect bundle, as Astra DB serves its own.

A metadata service and an SNI proxy, both with mutual TLS, and a bundle that points at them:

    python astra_local.py --tls TLS_DIR --bundle OUT.zip --node 127.0.0.1:9042 [--node ...]
        [--dc datacenter1] [--keyspace KS] [--user cassandra]

TLS_DIR comes from make_tls.sh. The nodes speak plain CQL, so start them without --tls; with
--auth, name a role that may read system.local and put its password into CASSANDRA_PASSWORD.
Prints "ready" once the bundle is written; runs until a signal. This is not Astra DB: it has no
hibernation, no rate limit and no other region.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy

_PIECE = 65_536
_LOCAL = "127.0.0.1"


def host_id(host: str, port: int, user: str | None, password: str) -> str:
    """Return the id of the node there: the name by which the proxy routes to it."""
    profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([host]))
    with Cluster(
        [host],
        port=port,
        auth_provider=PlainTextAuthProvider(user, password) if user else None,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    ) as cluster:
        return str(cluster.connect().execute("SELECT host_id FROM system.local").one()[0])


def server_context(tls: Path) -> ssl.SSLContext:
    """Return TLS that asks for a client certificate and remembers the name asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "node.crt", tls / "node.key")
    context.load_verify_locations(tls / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED

    def remember(connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        connection.server_name = name

    context.sni_callback = remember
    return context


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes, until one side ends."""
    try:
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


@dataclass
class Front:
    """What stands before the nodes: one service that names them, one that leads to them."""

    dc: str
    nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Address and port by host id."""
    proxy_port: int = 0

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lead a connection to the node whose id it asks for by SNI."""
        name = getattr(writer.get_extra_info("ssl_object"), "server_name", None)
        if name not in self.nodes:
            writer.close()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.nodes[name])
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    async def metadata(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say which nodes there are and where the proxy is."""
        request = await reader.readuntil(b"\r\n\r\n")
        found = request.startswith(b"GET /metadata ")
        body = json.dumps(self._contact()).encode() if found else b""
        status = b"200 OK" if found else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n" % status
        head += b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()
        writer.close()

    def _contact(self) -> dict[str, Any]:
        contact = {
            "type": "sni_proxy",
            "local_dc": self.dc,
            "contact_points": list(self.nodes),
            "sni_proxy_address": f"{_LOCAL}:{self.proxy_port}",
        }
        return {"version": 1, "region": "local", "contact_info": contact}


def write_bundle(bundle: Path, tls: Path, config: dict[str, Any]) -> None:
    """Write the bundle as a user downloads it; whole or not at all."""
    part = bundle.with_name(f"{bundle.name}.part")
    with zipfile.ZipFile(part, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.write(tls / "ca.crt", "ca.crt")
        file.write(tls / "client.crt", "cert")
        file.write(tls / "client.key", "key")
    part.replace(bundle)


async def serve(given: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    password = os.environ.get("CASSANDRA_PASSWORD", "")
    front = Front(given.dc)
    for node in given.node:
        host, _, port = node.rpartition(":")
        found = await asyncio.to_thread(host_id, host, int(port), given.user, password)
        front.nodes[found] = (host, int(port))
    tls = Path(given.tls)
    context = server_context(tls)
    proxy = await asyncio.start_server(front.proxy, _LOCAL, 0, ssl=context)
    front.proxy_port = proxy.sockets[0].getsockname()[1]
    metadata = await asyncio.start_server(front.metadata, _LOCAL, 0, ssl=context)
    config = {
        "host": _LOCAL,
        "port": metadata.sockets[0].getsockname()[1],
        "cql_port": front.proxy_port,
        "keyspace": given.keyspace,
        "localDC": given.dc,
        "caCertLocation": "./ca.crt",
        "keyLocation": "./key",
        "certLocation": "./cert",
    }
    write_bundle(Path(given.bundle), tls, config)
    sys.stdout.write(f"ready {' '.join(front.nodes)}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--node", action="append", required=True)
    parser.add_argument("--dc", default="datacenter1")
    parser.add_argument("--keyspace", default="app")
    parser.add_argument("--user")
    asyncio.run(serve(parser.parse_args()))
