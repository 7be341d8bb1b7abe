"""The tables of the current project, for commands that print from them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meterhouse.arrow_text import chunks_of, columns_of
from meterhouse.cli.opening import given_settings
from meterhouse.cli.output import Destination, print_answer, table_file
from meterhouse.clock import system_clock
from meterhouse.config import find_project, load_settings
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.layers.at_position import AtPosition, Generations, look
from meterhouse.ports import Engine
from meterhouse.reading import named_in
from meterhouse.serving.reader import Reader
from meterhouse.storage.folder import FolderBlobs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OpenLake", "open_lake"]


@dataclass(frozen=True, slots=True)
class OpenLake:
    """All tables at one position, and a locked engine to read them with."""

    root: Path
    tables: AtPosition
    engine: Engine

    def emit(self, rows: pa.RecordBatchReader, to: Destination, names: Iterable[str]) -> None:
        """Print ``rows``, read from tables ``names``, with the position they stand for."""
        as_of = self.tables.as_of(names, system_clock())
        sentences = [as_of.sentence()]
        if to.binary:
            table_file(to, rows.schema, rows, sentences)
            return
        extras = {"as_of": as_of.body()}
        print_answer(to, columns_of(rows.schema), chunks_of(rows), extras, sentences)


@contextmanager
def open_lake(project: str | None, text: str) -> Iterator[OpenLake]:
    """Open the project named on the command line, else the one around the current folder.

    Args:
        project: What the command line says of it.
        text: Names the tables that will be read, among other words.

    Raises:
        UsageError: Nothing was published yet.
        ConfigError: There is no project.
    """
    root = find_project(project, os.environ, Path.cwd())
    settings = load_settings(root, os.environ, given_settings())
    reader = Reader(root / "serving.db")
    blobs = FolderBlobs(root)
    tables = look(blobs, reader, Generations(blobs), lambda names: named_in(names, text))
    # Not in the project: whoever may only read it can still sort a large table.
    with tempfile.TemporaryDirectory(prefix="meterhouse-") as spill:
        engine = DuckDBEngine(
            settings.engine_memory, settings.engine_threads, Path(spill), locked=True
        )
        yield OpenLake(root, tables, engine)
