"""Commands and Python that pages show: run in order, and told with what they print.

A fenced block under ``<!-- run -->`` is run: ``console`` blocks line by line (``$ ``) in a
shell, ``pycon`` blocks in one interpreter. A block under ``<!-- file: PATH -->`` is written
there. All pages share one folder, which begins empty;
the README makes the project that the others go on with. A command that fails where its
block does not say ``<!-- run: exit N -->`` is an error of the page.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["PAGES", "retold", "stable"]

PAGES: Final = (
    "README.md",
    "docs/questions.md",
    "docs/python.md",
    "docs/contracts.md",
    "docs/models.md",
    "docs/errors.md",
    "docs/operations.md",
)
"""Pages with blocks to run, in the order of running them."""

_BLOCK: Final = re.compile(
    r"^<!-- (?:run(?:: exit (?P<exit>\d+))?|file: (?P<file>[^\n]+)) -->\n"
    r"```(?P<kind>\w+)\n(?P<body>.*?)^```$",
    re.M | re.S,
)
_CHANGING: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "<time>"),
    (re.compile(r"\b\d+ (s|min|h|days) ago"), "<age> ago"),
    (re.compile(r'"age_s":\d+'), '"age_s":<age>'),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "<hash>"),
    (re.compile(r"[\d,]+ +bytes"), "<size> bytes"),
    (re.compile(r"[\d,]+ +files"), "<count> files"),
    (re.compile(r"in \d+ s\b"), "in <age>"),
    (re.compile(r" +"), " "),
    (re.compile(r"[─ ]+$", re.M), ""),
)
"""What is another each time: times, ages, hashes, sizes; and the widths that follow them."""


def stable(text: str) -> str:
    """Return ``text`` without what differs from run to run."""
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return text


def retold(texts: Sequence[str], folder: Path) -> list[str]:
    """Return the pages with the output of what they run.

    A block whose output is the same but for times, hashes and sizes stays as it is.

    Args:
        texts: The pages, in the order of ``PAGES``.
        folder: An empty folder to run in.
    """
    stage = _Stage(folder.resolve())
    return [_BLOCK.sub(stage.block, text) for text in texts]


class _Stage:
    """A shell and an interpreter that stay where the block before left them."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._cwd = folder
        self._names: dict[str, Any] = {"__name__": "__console__"}

    def block(self, match: re.Match[str]) -> str:
        """Run one block and return it with its output; a file is put where it belongs."""
        if match["file"]:
            (self._cwd / match["file"]).write_text(match["body"], "utf-8")
            return match[0]
        body, wanted = match["body"], int(match["exit"] or 0)
        told = self._console(body, wanted) if match["kind"] == "console" else self._pycon(body)
        told = told.replace(str(self._root), "…")
        if stable(told) == stable(body):
            return match[0]
        return match[0].replace(body, told)

    def _console(self, body: str, wanted: int) -> str:
        told = []
        for command in _commands(body):
            told.append("$ " + command.replace("\n", "\n> ") + "\n")
            told.append(self._shell(command, wanted))
        return "".join(told)

    def _shell(self, command: str, wanted: int) -> str:
        state = self._root / ".cwd"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")
        }
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment |= {"COLUMNS": "100", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONUTF8": "1"}
        done = subprocess.run(
            ["sh", "-c", f'{command}\nresult=$?\npwd -P > "{state}"\nexit $result'],
            cwd=self._cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != wanted:
            message = f"$ {command}\n{done.stdout}exit {done.returncode}, not {wanted}"
            raise RuntimeError(message)
        self._cwd = Path(state.read_text("utf-8").strip())
        return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + (
            "\n" if done.stdout else ""
        )

    def _pycon(self, body: str) -> str:
        told = []
        for example in doctest.DocTestParser().get_examples(body):
            first, *others = example.source.rstrip("\n").split("\n")
            told.append("\n".join([f">>> {first}", *(f"... {line}" for line in others)]) + "\n")
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.chdir(self._cwd):
                try:
                    exec(compile(example.source, "<page>", "single"), self._names)
                except Exception as error:  # noqa: BLE001 - what it prints is part of the page
                    kind = type(error)
                    out.write(f"Traceback (most recent call last):\n  …\n{kind.__module__}.")
                    out.write(f"{kind.__qualname__}: {error}\n")
            told.append(out.getvalue())
        return "".join(told)


def _commands(body: str) -> list[str]:
    """Return the commands of a console block; ``> `` continues one."""
    found: list[str] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif line.startswith("> ") and found:
            found[-1] += "\n" + line[2:]
    return found
