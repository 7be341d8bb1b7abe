"""One entry of the log: its fields, its bytes, its hash. See docs/log-format.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from meterhouse.errors import DamageError
from meterhouse.names import PARSER_VERSION, entry_name

__all__ = ["FORMAT_VERSION", "Entry", "EntryKind", "Input", "entry_path"]

FORMAT_VERSION = 1
EntryKind = Literal["data", "contract", "release", "redaction", "fork"]


@dataclass(frozen=True, slots=True)
class Input:
    """One range of one file, as landed. An entry's inputs tile its object in order."""

    file: str
    """Identity: normalised path, relative to the project where it lies inside; \\xNN for
    bytes that are not UTF-8."""
    lo: int
    hi: int
    """Range [lo, hi) of the decoded (decompressed) file, in bytes."""
    first_line: int
    """1-based physical line number at ``lo``."""
    lines: int
    """Physical lines in the range."""
    records: int
    blank: int
    """Blank lines, which are no records."""
    root: str
    """Hash-tree root over the range's decoded bytes, hex (intake.lines.tree_root)."""
    offset: int
    size: int
    """Where the stored bytes lie in the landed object; when compressed, those of the whole
    compressed file, of which [lo, hi) is a decoded part."""
    compression: Literal["", "gz", "zst"] = ""
    header: str = ""
    """CSV: the header record's text, so that every range can be read on its own."""
    whole: bool = False
    """Upsert, snapshot: True when the range completes a delivery of the whole file, which
    a snapshot is in one range always."""
    joined: bool = False
    """True when the range begins with the end of a line that the range before took without
    its newline: up to the first newline nothing is a record, nor a blank line, nor counted
    in ``lines``; ``first_line`` is the line after it."""
    repeated: bool = False
    """True when these very bytes were taken before under another name: all duplicates."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Entry ``position`` of the project's one log. Fields not used by a kind are empty."""

    position: int
    kind: EntryKind
    previous: str
    """SHA-256 (hex) of entry ``position - 1``'s bytes; empty in entry 1."""
    ingest_ts: str
    """max(clock, the previous one), ISO 8601 UTC with microseconds, "…Z"."""
    project: str = ""
    """The project's id; in entry 1 only."""
    fork: int = 0
    format: int = FORMAT_VERSION
    parser: int = PARSER_VERSION
    source: str = ""
    contract: str = ""
    """SHA-256 of the contract text in force (data), or of ``text`` (contract)."""
    text: str = ""
    """Kind contract: the YAML, whole."""
    object: str = ""
    """Name of the landed object: SHA-256 hex; at landing/<source>/<first 2>/<object>."""
    inputs: tuple[Input, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """landed, accepted, quarantined, duplicate, blank, removed (records of this entry)."""
    money: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    """money column → currency ("?" when it is not known) → {landed, accepted, quarantined,
    duplicate: exact decimal text; unreadable: count of records whose amount could not be read}."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Fork: {"lost": {fork, generation, position, head} of the newest view that knew of more}.
    Reserved for release and redaction."""

    def to_bytes(self) -> bytes:
        """Return the entry's one canonical encoding: sorted keys, ASCII, one line."""
        body = {name: value for name, value in _shallow(self).items() if value not in ("", (), {})}
        text = json.dumps(
            body, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_shallow
        )
        return (text + "\n").encode("ascii")

    @property
    def time(self) -> datetime:
        """``ingest_ts`` as a datetime in UTC."""
        return datetime.fromisoformat(self.ingest_ts)

    @property
    def sha256(self) -> str:
        """Hash of ``to_bytes()``: what the next entry names as ``previous``."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Entry:
        """Read an entry back.

        Raises:
            DamageError: The bytes are not the canonical encoding of an entry, or of a
                newer format.
        """
        try:
            body = json.loads(data)
            if body["format"] > FORMAT_VERSION:
                raise DamageError(
                    f"log entry has format {body['format']}, newer than this program knows",
                    where,
                    "install a newer meterhouse; nothing was changed",
                )
            inputs = tuple(Input(**item) for item in body.pop("inputs", ()))
            entry = cls(**{"previous": "", **body}, inputs=inputs)
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(
                f"log entry can't be read: {type(error).__name__}",
                where,
                "restore this file from a backup (docs/backup.md); nothing was changed",
            ) from error
        if entry.to_bytes() != data:
            raise DamageError(
                "log entry is not in its canonical form: its bytes were changed",
                where,
                "restore this file from a backup (docs/backup.md); nothing was changed",
            )
        return entry


def _shallow(item: Entry | Input) -> dict[str, Any]:
    """Return the fields of ``item``; ``asdict`` copies them through and through, at a price."""
    return {field.name: getattr(item, field.name) for field in fields(item)}


def entry_path(position: int) -> str:
    """Return the blob name of entry ``position``."""
    return f"log/{entry_name(position)}.json"
