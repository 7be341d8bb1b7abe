"""The next publication while it is being made: files are on disk, nobody can see them yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meterhouse.lake.files import check_files, stored
from meterhouse.lake.maintenance import compaction
from meterhouse.lake.published import Published, StoredFile, encoded_schema
from meterhouse.ports import DataFile, Engine, ParquetFiles, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Draft", "DraftTable", "Shape", "Written"]

_REBUILD: Final = "see what is damaged with meterhouse verify, and make it anew: meterhouse rebuild"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table is, whatever rows it holds."""

    name: str
    schema: pa.Schema
    partition_by: tuple[str, ...]
    model: str
    """SHA-256 of what computes it."""


@dataclass(frozen=True, slots=True)
class Written:
    """Files that were just written and synced."""

    files: tuple[StoredFile, ...] = ()
    statistics: Mapping[str, DataFile] = field(default_factory=dict)
    """By path, relative to the lake."""

    @property
    def rows(self) -> int:
        """Return how many rows they hold."""
        return sum(file.rows for file in self.files)

    def __add__(self, other: Written) -> Written:
        """Return both."""
        return Written(self.files + other.files, {**self.statistics, **other.statistics})


@dataclass(frozen=True, slots=True)
class DraftTable:
    """One table of the next publication."""

    shape: Shape
    files: tuple[StoredFile, ...]
    """All of them, sorted by path."""
    new: Written = Written()
    """Of ``files``, those that hold rows which the table did not have before."""
    rearranged: frozenset[str] = frozenset()
    """Paths of files that hold the same rows as others did, and of those others."""
    statistics: Mapping[str, DataFile] = field(default_factory=dict)
    kept: bool = False
    """True when it is what is published already."""

    @property
    def rows(self) -> int:
        """Return how many rows the table has."""
        return sum(file.rows for file in self.files)


class Draft:
    """Tables of the next publication, and the way their files get onto disk."""

    def __init__(
        self, lake: Path, engine: Engine, before: Published | None, *, name: str, file_bytes: int
    ) -> None:
        """Start from what is published.

        Args:
            lake: The folder ``lake/``.
            engine: Rewrites small files.
            before: What is published now.
            name: First part of every new file's name; no other attempt uses it.
            file_bytes: Files at least that large are not rewritten for their size.
        """
        self.lake = lake
        self.before = before
        self.tables: dict[str, DraftTable] = {}
        self._engine = engine
        self._name = name
        self._file_bytes = file_bytes
        self._checked: set[str] = set()

    def write(
        self, session: Session, shape: Shape, sql: str, *, part: str = "", ordered: str = ""
    ) -> Written:
        """Write the rows of ``sql`` as files of table ``shape.name``.

        Args:
            session: Sees what ``sql`` reads.
            shape: The table.
            sql: Gives its columns, in any order.
            part: Tells apart files that one batch writes for one table twice.
            ordered: ORDER BY of the rows, without the words.
        """
        columns = ", ".join(_quoted(column) for column in shape.schema.names)
        order = f" ORDER BY {ordered}" if ordered else ""
        folder = shape.name.replace(".", "/", 1)
        files = session.write(
            f"SELECT {columns} FROM ({sql}) AS drafted{order}",
            str(self.lake / folder),
            name=f"{self._name}{part}",
            partition_by=shape.partition_by,
        )
        written = stored(self.lake, folder, files)
        self._checked.update(file.path for file in written)
        return Written(
            written, {done.path: file for done, file in zip(written, files, strict=True)}
        )

    def keep(self, name: str) -> DraftTable:
        """Take over table ``name`` as it is published; ``before`` must have it."""
        if self.before is None:
            raise KeyError(name)
        table = self.before.table(name)
        shape = Shape(name, table.arrow_schema(), table.partition_by, table.model)
        self.tables[name] = DraftTable(shape, table.files, kept=True)
        return self.tables[name]

    def replace(self, shape: Shape, written: Written) -> DraftTable:
        """Let table ``shape.name`` consist of ``written`` alone."""
        files = _sorted(written.files)
        self.tables[shape.name] = DraftTable(shape, files, written, statistics=written.statistics)
        return self.tables[shape.name]

    def append(self, shape: Shape, written: Written) -> DraftTable:
        """Add ``written`` to table ``shape.name`` as it is published; join small files."""
        old = self.keep(shape.name)
        if not written.files:
            return old
        kept, moved = self._compacted(old)
        self.tables[shape.name] = DraftTable(
            shape,
            _sorted((*kept, *written.files)),
            written,
            rearranged=moved,
            statistics=written.statistics,
        )
        return self.tables[shape.name]

    def relation(self, name: str) -> ParquetFiles:
        """Return table ``name`` as the draft has it; files from before are checked.

        Raises:
            DamageError: One of its files is not what was written.
        """
        table = self.tables[name]
        return self._relation(table.files, table.shape.schema)

    def old_relation(self, name: str) -> ParquetFiles:
        """Return the rows that table ``name`` had before and still has.

        Raises:
            DamageError: One of its files is not what was written.
        """
        table = self.tables[name]
        new = {file.path for file in table.new.files}
        old = [file for file in table.files if file.path not in new]
        return self._relation(old, table.shape.schema)

    def published_relation(self, name: str) -> ParquetFiles:
        """Return table ``name`` as it is published; its files are checked.

        Raises:
            DamageError: One of its files is not what was written.
        """
        if self.before is None:
            raise KeyError(name)
        table = self.before.table(name)
        return self._relation(table.files, table.arrow_schema())

    def same_shape(self, shape: Shape) -> bool:
        """Return whether what is published under this name was computed in the same way."""
        table = self.before.tables.get(shape.name) if self.before is not None else None
        return table is not None and (table.model, table.schema, table.partition_by) == (
            shape.model,
            encoded_schema(shape.schema),
            shape.partition_by,
        )

    def _relation(self, files: Sequence[StoredFile], schema: pa.Schema) -> ParquetFiles:
        unchecked = [file for file in files if file.path not in self._checked]
        check_files([(self.lake / file.path, file.sha256) for file in unchecked], fix=_REBUILD)
        self._checked.update(file.path for file in unchecked)
        # DuckDB takes every file for as large as the first: a small one there makes it hold
        # all facts in memory to join a few dimension rows.
        largest = sorted(files, key=lambda file: -file.rows)
        return ParquetFiles(tuple(str(self.lake / file.path) for file in largest), schema)

    def _compacted(self, table: DraftTable) -> tuple[list[StoredFile], frozenset[str]]:
        """Join small files; return all files then, and the paths that came or went.

        The files of this batch wait for the next one: joined with older rows they would be
        neither new nor the same to a reader that follows the changes of the Delta log.
        """
        small = compaction(table.files, self._file_bytes)
        if not small:
            return list(table.files), frozenset()
        relation = self._relation(small, table.shape.schema)
        with self._engine.session({"small": relation}) as session:
            joined = self.write(session, table.shape, "SELECT * FROM small", part="-joined")
        gone = {file.path for file in small}
        files = [*(file for file in table.files if file.path not in gone), *joined.files]
        return files, frozenset(file.path for file in (*small, *joined.files))


def _sorted(files: Iterable[StoredFile]) -> tuple[StoredFile, ...]:
    return tuple(sorted(files, key=lambda file: file.path))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
