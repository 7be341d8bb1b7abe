"""Every statement that SQLite runs, as it runs it: to look at transactions, and to die in one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call ``watcher`` with each statement of connections that are opened in the block."""
    connect = sqlite3.connect

    def traced(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_trace_callback(watcher)
        return connection

    sqlite3.connect = traced
    try:
        yield
    finally:
        sqlite3.connect = connect


def dies_at(number: int, work: Callable[[], object], *, only: str = "") -> bool:
    """Run ``work`` in a process that ends before its statement ``number`` (0, 1, …) runs.

    With ``only``, statements that begin so are counted, no others. False when it ended by
    itself, because it has fewer.
    """
    child = os.fork()
    if child == 0:
        left = number

        def count(statement: str) -> None:
            nonlocal left
            left -= statement.startswith(only)
            if left < 0:
                os._exit(9)

        code = 1
        try:
            with watched(count):
                work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9
