"""Runs the program many times over, each time in a process of its own, importing it once.

Run as ``python -m crash.server SOCKET`` and spoken to by ``programs``. For each message with
a command line, and a socket for that process alone, it forks; it says when that one ended.
Nothing here writes to a file, so every call that changes one is the program's own.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Final

from crash.small import SMALL
from meterhouse.project import Project

__all__ = ["serve"]

_IMPORTED: Final = (
    "meterhouse.project",
    "meterhouse.cli.follow",
    "meterhouse.cli.batch",
    "meterhouse.cli.ingest",
    "meterhouse.cli.init",
    "meterhouse.cli.rebuild",
    "deltalake.transaction",
    "pyarrow.parquet",
    "pyarrow.json",
    "pyarrow.csv",
    "pyarrow.compute",
)
"""What a command would import; threads are only started later, so that forking is safe."""


def serve(descriptor: int) -> int:
    """Fork for each request until the other end closes; return the child's exit code, or 0."""
    for name in _IMPORTED:
        importlib.import_module(name)
    for name, value in SMALL.items():
        setattr(Project, name, value)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    with socket.socket(fileno=descriptor) as control:
        while True:
            ready, _, _ = select.select([control.fileno(), ended], [], [])
            if ended in ready:
                os.read(ended, 4096)
                _reap(control)
            if control.fileno() not in ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 1)
            if not message:
                return 0
            if (pid := os.fork()) == 0:
                control.close()
                return _child(json.loads(message), descriptors[0])
            os.close(descriptors[0])
            control.send(json.dumps({"started": pid}).encode())


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        control.send(json.dumps({"ended": pid, "code": code}).encode())


def _child(arguments: list[str], descriptor: int) -> int:
    """Wait for a byte, run the program, and say what it printed."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=descriptor) as harness:
        if not harness.recv(1):
            return 1
        sys.argv = ["meterhouse", *arguments]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code: int = importlib.import_module("meterhouse.cli").run()
        # Whatever waits to be closed is closed while it is looked at.
        gc.collect()
        harness.send(
            json.dumps({"out": out.getvalue()[-4000:], "err": err.getvalue()[-20000:]}).encode()
        )
    return code


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1])))
