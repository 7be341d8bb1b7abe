"""``lake/published.json``: which files make up each table, at one position of the log.

Delta has no commit over several tables, so this file is the one point at which a
publication becomes visible: it is replaced atomically, and our own readers follow it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import DamageError, UsageError
from meterhouse.ports import Blobs, ParquetFiles, Stamp

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "PUBLISHED",
    "LogFile",
    "Published",
    "PublishedTable",
    "StoredFile",
    "encoded_schema",
    "read_published",
    "write_published",
]

PUBLISHED: Final = "lake/published.json"
FORMAT: Final = 1
_REBUILD: Final = "make the lake anew from the log: meterhouse rebuild"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One Parquet file of a table."""

    path: str
    """Relative to ``lake/``: the real name on disk."""
    rows: int
    size: int
    """Bytes."""
    sha256: str
    partition: Mapping[str, str] = field(default_factory=dict)
    """Partition values as text; a column that is not here is NULL."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of a table's ``_delta_log``."""

    path: str
    """Relative to ``lake/``."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table: its Delta version and the files that a reader of ours opens."""

    name: str
    version: int
    """Delta version whose live files are ``files``."""
    rows: int
    model: str
    """SHA-256 of what computed it: model file (with those it reads) or contract."""
    schema: str
    """Arrow schema: base64 of its IPC encoding."""
    partition_by: tuple[str, ...]
    files: tuple[StoredFile, ...]
    """Sorted by path."""
    log: tuple[LogFile, ...]
    """The Delta log up to ``version``, as it was when this version was committed."""

    def arrow_schema(self) -> pa.Schema:
        """Return column order and types."""
        import pyarrow as pa

        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.schema)))


@dataclass(frozen=True)
class Published:
    """One publication of the whole lake."""

    stamp: Stamp
    """The log it covers: (0, position]."""
    ingest_ts: datetime
    """Time of the log entry at ``stamp.position``."""
    generation: int
    """Raised when models, contracts, parser or fork changed what the same log gives."""
    tables: Mapping[str, PublishedTable]
    details: Mapping[str, Any] = field(default_factory=dict)
    """Travels with every answer: ``latest_day`` (see layers.anchors), ``parser``; ``stale`` and
    ``stale_ingest_ts``, for tables left as they were, position and time that they stand for."""
    root: str = field(default="", compare=False)
    """Where ``lake/`` is; filled by ``read_published``."""

    def table(self, name: str) -> PublishedTable:
        """Return table ``name``.

        Raises:
            UsageError: There is no such table; names the nearest.
        """
        found = self.tables.get(name)
        if found is None:
            raise UsageError.unknown("table", name, self.tables, where=PUBLISHED)
        return found

    def relation(self, name: str) -> ParquetFiles:
        """Return the files of table ``name`` as an engine reads them.

        Raises:
            UsageError: There is no such table; names the nearest.
        """
        table = self.table(name)
        paths = tuple(f"{self.root}/{file.path}" for file in table.files)
        return ParquetFiles(paths, table.arrow_schema())

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over everything else, in canonical JSON."""
        return hashlib.sha256(_canonical(self._body())).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file's one canonical encoding."""
        return _canonical({**self._body(), "checksum": self.checksum}) + b"\n"

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "stamp": asdict(self.stamp),
            "ingest_ts": self.ingest_ts.astimezone(UTC).isoformat(timespec="microseconds"),
            "generation": self.generation,
            "details": dict(self.details),
            "tables": {name: _table_body(table) for name, table in self.tables.items()},
        }

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = PUBLISHED, root: str = "") -> Published:
        """Read a publication back.

        Raises:
            DamageError: The bytes are not what was written, or of a newer format.
        """
        try:
            body = json.loads(data)
            if body["format"] > FORMAT:
                raise DamageError(
                    f"the lake has format {body['format']}, newer than this program knows",
                    where,
                    "install a newer meterhouse; nothing was changed",
                )
            published = cls(
                stamp=Stamp(**body["stamp"]),
                ingest_ts=datetime.fromisoformat(body["ingest_ts"]),
                generation=body["generation"],
                tables={name: _table(name, found) for name, found in body["tables"].items()},
                details=body["details"],
                root=root,
            )
            intact = published.to_bytes() == data
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamageError(
                f"the publication of the lake can't be read: {type(error).__name__}",
                where,
                _REBUILD,
            ) from error
        if not intact:
            raise DamageError(
                "the publication of the lake does not fit its checksum", where, _REBUILD
            )
        return published


def read_published(source: Blobs | Path) -> Published | None:
    """Return what is published, None when nothing ever was.

    Args:
        source: The project's blobs, or the project folder.

    Raises:
        DamageError: The file is not what was written.
    """
    try:
        if isinstance(source, Path):
            data, root = (source / PUBLISHED).read_bytes(), str(source / "lake")
        else:
            data, root = source.read(PUBLISHED), source.uri("lake")
    except FileNotFoundError:
        return None
    return Published.from_bytes(data, where=PUBLISHED, root=root)


def write_published(blobs: Blobs, published: Published) -> None:
    """Make ``published`` the one that readers see, atomically and durably."""
    blobs.put(PUBLISHED, published.to_bytes(), durable=True)


def encoded_schema(schema: pa.Schema) -> str:
    """Return ``schema`` as ``PublishedTable`` keeps it."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode("ascii")


def _table_body(table: PublishedTable) -> dict[str, Any]:
    # Not dataclasses.asdict: it copies deeply, and a lake can have thousands of files.
    return {
        "version": table.version,
        "rows": table.rows,
        "model": table.model,
        "schema": table.schema,
        "partition_by": list(table.partition_by),
        "files": [
            {
                "path": file.path,
                "rows": file.rows,
                "size": file.size,
                "sha256": file.sha256,
                "partition": dict(file.partition),
            }
            for file in table.files
        ],
        "log": [
            {"path": file.path, "size": file.size, "sha256": file.sha256} for file in table.log
        ],
    }


def _table(name: str, body: Mapping[str, Any]) -> PublishedTable:
    return PublishedTable(
        name=name,
        version=body["version"],
        rows=body["rows"],
        model=body["model"],
        schema=body["schema"],
        partition_by=tuple(body["partition_by"]),
        files=tuple(StoredFile(**file) for file in body["files"]),
        log=tuple(LogFile(**file) for file in body["log"]),
    )


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode(
        "ascii"
    )
