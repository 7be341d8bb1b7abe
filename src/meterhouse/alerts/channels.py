"""How a message is handed over: a line in a file, a program's input, a signed POST."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from meterhouse.alerts.register import Delivery, moment_text
from meterhouse.alerts.rule import Channel, CommandChannel, LogChannel, WebhookChannel

__all__ = ["SIGNATURE_HEADER", "NotDeliveredError", "hand_over", "signature"]

SIGNATURE_HEADER: Final = "Meterhouse-Signature"
LONGEST_WORDS: Final = 200


class NotDeliveredError(Exception):
    """A message was not taken; it is tried again."""


def hand_over(
    channel: Channel, delivery: Delivery, project: Path, environ: Mapping[str, str], now: datetime
) -> None:
    """Hand ``delivery`` over; when this returns, it was taken.

    Raises:
        NotDeliveredError: It was not, or nobody knows; why, without secrets.
    """
    if isinstance(channel, LogChannel):
        _append(project / channel.file, delivery, now)
    elif isinstance(channel, CommandChannel):
        _run(channel, delivery, project, environ)
    else:
        _post(channel, delivery, project, environ, now)


def _append(path: Path, delivery: Delivery, now: datetime) -> None:
    """Add a line and sync it; a line that a crash cut off is ended first."""
    told = {"delivered_at": moment_text(now)} | json.loads(delivery.body)
    line = json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NotDeliveredError(f"{path.name}: {error.strerror}") from error


def _run(
    channel: CommandChannel, delivery: Delivery, project: Path, environ: Mapping[str, str]
) -> None:
    """Run the program in the project's folder; it has the message when it exits with 0."""
    seconds = channel.timeout.total_seconds()
    try:
        process = subprocess.Popen(
            channel.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=project,
            env=dict(environ),
            # Its children too are stopped when it takes too long.
            start_new_session=True,
        )
    except OSError as error:
        raise NotDeliveredError(f"{channel.command[0]}: {error.strerror}") from error
    with process:
        try:
            _, said = process.communicate(delivery.body.encode(), timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise NotDeliveredError(f"it took longer than {seconds:g} s") from error
        finally:
            _stop(process)
    if process.returncode:
        words = said.decode("utf-8", "replace").strip().splitlines()
        why = f": {words[-1][:LONGEST_WORDS]}" if words else ""
        raise NotDeliveredError(f"it exited with {process.returncode}{why}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the header's value: the time of sending, and HMAC-SHA256 over time, dot and body.

    Who checks it refuses old times, so that a copy of the request can't be sent again later.
    """
    mac = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


def _post(
    channel: WebhookChannel,
    delivery: Delivery,
    project: Path,
    environ: Mapping[str, str],
    now: datetime,
) -> None:
    body = delivery.body.encode()
    secret = _secret(channel, project, environ)
    url = channel.url or environ.get(channel.url_env, "")
    if not url.startswith(("http://", "https://")):
        raise NotDeliveredError(f"{channel.url_env} is not set to an address")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Idempotency-Key": delivery.idempotency_key,
        SIGNATURE_HEADER: signature(secret, int(now.timestamp()), body),
        "User-Agent": "meterhouse",
    }
    opener = urllib.request.build_opener(_NoRedirect())
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with opener.open(request, timeout=channel.timeout.total_seconds()):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise NotDeliveredError(f"HTTP {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError, ssl.SSLError) as error:
        reason = getattr(error, "reason", error)
        raise NotDeliveredError(str(reason)[:LONGEST_WORDS] or type(error).__name__) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The body is signed for one receiver; another one must be named in the file."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _secret(channel: WebhookChannel, project: Path, environ: Mapping[str, str]) -> bytes:
    if channel.secret_env:
        found = environ.get(channel.secret_env, "").encode()
        if not found:
            raise NotDeliveredError(f"environment variable {channel.secret_env} is not set")
        return found
    try:
        found = (project / channel.secret_file).read_bytes().strip()
    except OSError as error:
        raise NotDeliveredError(f"{channel.secret_file}: {error.strerror}") from error
    if not found:
        raise NotDeliveredError(f"{channel.secret_file} is empty")
    return found
