"""Where a running ``follow`` stands: one small file that ``status`` and others read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from meterhouse.follow.requests import FOLLOW_LOCK
from meterhouse.log.lock import held

__all__ = ["STANDING", "Standing", "WaitingFile", "read_standing", "write_standing"]

STANDING: Final = ".meterhouse/follow.json"


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file of which something is not in the log yet."""

    file: str
    source: str
    size: int
    """Bytes that wait."""
    why: str
    line: int = 0
    """Of its last record, when that is not whole."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a follower is doing. Counts are of this process; times ISO 8601, UTC."""

    pid: int
    since: str
    """When it began."""
    at: str
    """When this was written."""
    position: int
    """Last log entry applied."""
    served: int
    """Up to which entry the answers stand."""
    lag_bytes: int
    """Bytes that were noticed and are not in the log."""
    lag_s: float
    """Seconds since the oldest of them was noticed."""
    events_per_s: float
    """Records landed a second, over ten seconds."""
    landed: int
    duplicates: int
    held: int
    """Newly held."""
    files: int
    """Files that are followed."""
    waiting: tuple[WaitingFile, ...] = ()
    """At most a hundred."""
    parked: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Source or file → the error for which nothing is taken of it."""
    stale: Mapping[str, str] = field(default_factory=dict)
    """Gold table that does not follow → why."""
    unrecognised: tuple[str, ...] = ()
    """Files that no contract recognises; at most a hundred."""
    failure: Mapping[str, str] | None = None
    """What the machine refused last, while it does."""
    requests: int = 0
    """Requests of other commands that are being worked on."""
    replicas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Store → where its replica stands (``ReplicaStanding``); empty before it is known."""
    polling: str = ""
    """Why files are looked at every second instead of being told of."""


def write_standing(root: Path, standing: Standing) -> None:
    """Replace the file at once; nothing of it needs to survive a power loss.

    Raises:
        OSError: The disk is full, or the like.
    """
    path = root / STANDING
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".follow-{os.getpid()}.json")
    try:
        draft.write_text(json.dumps(asdict(standing), indent=1))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_standing(root: Path) -> Standing | None:
    """Return where the running follower stands; None while none runs."""
    if not held(root / FOLLOW_LOCK):
        return None
    try:
        body: dict[str, Any] = json.loads((root / STANDING).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    waiting = tuple(WaitingFile(**one) for one in body.pop("waiting"))
    unrecognised = tuple(body.pop("unrecognised"))
    return Standing(**body, waiting=waiting, unrecognised=unrecognised)
