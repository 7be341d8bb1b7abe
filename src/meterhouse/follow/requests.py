"""Handing work to a running ``follow``: small files in ``.requests``, answered beside them.

Who asks keeps a lock on its request for as long as it lives, so that nobody works for the
dead; who follows holds the lock ``ingest``, so that whoever asked does the work itself
when the follower dies.
"""

from __future__ import annotations

import fcntl
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meterhouse.errors import error_from
from meterhouse.log.lock import Lock, held
from meterhouse.sources.files import Delivery

__all__ = [
    "FOLLOW_LOCK",
    "INGEST_LOCK",
    "REQUESTS",
    "Request",
    "Requests",
    "hand_over",
    "ingest_request",
]

REQUESTS: Final = ".requests"
FOLLOW_LOCK: Final = ".locks/follow"
INGEST_LOCK: Final = ".locks/ingest"

_LOOK_S: Final = 0.05
_DONE: Final = ".done.json"
_PROGRESS: Final = ".progress.json"


@dataclass(frozen=True, slots=True)
class Request:
    """Something that another process wants done."""

    path: Path
    kind: str
    """"ingest": take files. "checkpoint": make durable what was applied."""
    body: Mapping[str, Any]


class Requests:
    """The follower's side: what is wanted, and what came of it."""

    def __init__(self, root: Path) -> None:
        """Work for the project at ``root``."""
        self.folder = root / REQUESTS
        self.folder.mkdir(exist_ok=True)

    def pending(self) -> list[Request]:
        """Return what is wanted and not answered, oldest first; clean up after the dead."""
        found = []
        names = sorted(path.name for path in self.folder.iterdir())
        for name in names:
            path = self.folder / name
            stem = name.partition(".")[0]
            if not name.endswith(".json") or name.startswith("."):
                continue
            if name != f"{stem}.json":
                if f"{stem}.json" not in names:
                    path.unlink(missing_ok=True)
            elif not held(path):
                _remove(path)
            elif f"{stem}{_DONE}" not in names:
                with suppress(FileNotFoundError):
                    body = json.loads(path.read_bytes())
                    found.append(Request(path, body["kind"], body))
        return found

    def wanted(self, request: Request) -> bool:
        """Return whether whoever asked still waits for it."""
        return held(request.path)

    def progress(self, request: Request, size: int, file: str) -> None:
        """Say that ``size`` bytes are done with, and which file is next."""
        _put(_beside(request.path, _PROGRESS), {"bytes": size, "file": file})

    def answer(self, request: Request, body: Mapping[str, Any]) -> None:
        """Say that it is done; ``body`` holds what came of it, or "error"."""
        _put(_beside(request.path, _DONE), body)


def ingest_request(deliveries: Iterable[Delivery]) -> dict[str, Any]:
    """Return what asks for these files to be taken, in this order."""
    files = [
        {"path": str(one.path.absolute()), "source": one.contract.source} for one in deliveries
    ]
    return {"kind": "ingest", "files": files}


def hand_over(
    root: Path,
    lock: Lock,
    request: Mapping[str, Any],
    *,
    progress: Callable[[int, str], None] | None = None,
    waiting: Callable[[], None] = lambda: None,
    patient: bool = True,
) -> Mapping[str, Any] | None:
    """Have a running ``follow`` do it; None when the lock ``ingest`` is ours instead.

    Args:
        root: The project folder.
        lock: ``ingest``; taken when this returns None.
        request: What is wanted: "kind", and what that kind needs.
        progress: Called with bytes that the follower is done with, and the file.
        waiting: Called once when another command has to end first.
        patient: False gives None as well when another command than ``follow`` has the lock:
            for who holds what that command may be waiting for.

    Raises:
        MeterhouseError: The follower could not do it, for this reason.
    """
    told = False
    while not lock.take():
        if held(root / FOLLOW_LOCK):
            with _asked(root, request) as path:
                answer = _answered(root, path, progress)
            if answer is None:
                continue
            if "error" in answer:
                raise error_from(answer["error"])
            return answer
        if not patient:
            return None
        if not told:
            told = True
            waiting()
        time.sleep(_LOOK_S)
    return None


@contextmanager
def _asked(root: Path, request: Mapping[str, Any]) -> Iterator[Path]:
    """Put the request into the folder, locked for as long as we live."""
    folder = root / REQUESTS
    folder.mkdir(exist_ok=True)
    # The time only puts the oldest first.
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    draft, path = folder / f".{name}.json", folder / f"{name}.json"
    with draft.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(request, file)
        file.flush()
        draft.rename(path)
        try:
            yield path
        finally:
            _remove(path)


def _answered(
    root: Path, path: Path, progress: Callable[[int, str], None] | None
) -> Mapping[str, Any] | None:
    """Wait for the answer; None when the follower is gone."""
    said = 0
    while True:
        gone = not held(root / FOLLOW_LOCK)
        # In this order: the last thing it did may have been to answer.
        answer = _read(_beside(path, _DONE))
        if answer is not None or gone:
            return answer
        now = _read(_beside(path, _PROGRESS))
        if progress is not None and now is not None and now["bytes"] > said:
            progress(now["bytes"] - said, now["file"])
            said = now["bytes"]
        time.sleep(_LOOK_S)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.stem + ending)


def _remove(path: Path) -> None:
    """Remove a request with all that was said of it, the request last."""
    for each in (_beside(path, _DONE), _beside(path, _PROGRESS), path):
        each.unlink(missing_ok=True)


def _put(path: Path, body: Mapping[str, Any]) -> None:
    """Replace a file at once; nothing of it needs to survive a power loss."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(body))
    draft.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        body: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return body
