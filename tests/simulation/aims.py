"""Where a seed aims at: each kind of operation that something can happen in between of."""

from __future__ import annotations

import re

__all__ = ["AIMS", "PUBLISHING", "REBUILDING", "SEALING", "aim_of"]

AIMS: dict[str, tuple[str, ...]] = {
    "entry put": ("put if absent log", "link log"),
    "entry synced": ("sync log", "fsync log"),
    "bytes landed": ("put if absent landing", "link landing"),
    "landing synced": ("sync landing", "fsync landing"),
    "judged file put": ("put judged", "replace judged"),
    "judged file synced": ("sync judged", "fsync judged"),
    "index run synced": ("fsync index",),
    "index run named": ("replace index",),
    "state begun": ("BEGIN state.db",),
    "state committed": ("COMMIT state.db",),
    "answers begun": ("BEGIN serving.db",),
    "answers committed": ("COMMIT serving.db",),
    "lake file synced": ("fsync lake",),
    "lake file named": ("replace lake", "link lake"),
    "lake set aside": ("rename lake",),
    "generation put": ("put if absent generations", "link generations"),
    "epoch pending": ("put serving.pending", "replace .tmp-*"),
    "epoch done": ("delete serving.pending", "unlink serving.pending"),
    "segment put": ("put if absent log/segments", "link log/segments"),
    "pack put": ("put if absent landing/packs", "link landing/packs"),
    "sealed entry deleted": ("delete log", "unlink log"),
    "judged file deleted": ("delete judged", "unlink judged"),
    "lock taken": ("flock ingest", "flock batch", "flock follow", "flock views"),
    "request made": ("rename .requests", "replace .requests"),
    "standing said": ("replace .meterhouse",),
}
"""Name → operations on the two kinds of blobs, without what comes after the folder."""

SEALING = frozenset({"segment put", "pack put", "sealed entry deleted"})
"""What only a project comes by whose entries are sealed."""

REBUILDING = frozenset({"lake set aside", "judged file deleted"})
"""What comes when nobody follows."""
PUBLISHING = frozenset({"lake file named", "epoch pending", "epoch done"}) | REBUILDING
"""What comes last in a long work: it is reached with few others beside it, and time."""

_OF = {operation: aim for aim, operations in AIMS.items() for operation in operations}
_DEEP = re.compile(r"(?:log/segments|landing/packs)(?=/|$)")


def aim_of(operation: str) -> str:
    """Return the aim that ``operation`` is of; empty when it is none's."""
    verb, _, name = operation.rpartition(" ")
    found = _DEEP.match(name)
    return _OF.get(f"{verb} {found[0] if found else name.partition('/')[0]}", "")
