"""A real HTTP server that receives webhooks, fails as often as asked, and checks signatures."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What arrived, and what is answered: one status each, then 204."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def signed_by(self, secret: bytes, number: int = -1) -> bool:
        """Check the signature as a receiver does, by the description in docs/alerts.md alone."""
        parts = dict(
            part.split("=", 1) for part in self.headers[number]["Meterhouse-Signature"].split(",")
        )
        signed = parts["t"].encode() + b"." + self.bodies[number]
        wanted = hmac.new(secret, signed, hashlib.sha256).hexdigest()
        return hmac.compare_digest(wanted, parts["v1"])


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    """Serve on a free port of this machine; answer ``answers`` in turn, then 204."""
    told = Receiver(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            told.headers.append(dict(self.headers.items()))
            status = told.answers.pop(0) if told.answers else 204
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", f"{told.url}elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
