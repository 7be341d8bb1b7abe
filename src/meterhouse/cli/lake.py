"""The published lake of the current project, for commands that print from it."""

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
from meterhouse.lake.published import Published
from meterhouse.ports import Engine
from meterhouse.reading import published_lake
from meterhouse.serving.answer import AsOf

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OpenLake", "open_lake"]


@dataclass(frozen=True, slots=True)
class OpenLake:
    """What is published, and a locked engine to read it with."""

    root: Path
    published: Published
    engine: Engine

    def emit(self, rows: pa.RecordBatchReader, to: Destination, tables: Iterable[str]) -> None:
        """Print ``rows``, read from ``tables``, with the position they stand for."""
        now = system_clock()
        as_of = AsOf.at(self.published.stamp.position, self.published.ingest_ts, now)
        as_of = AsOf.of_tables(as_of, tables, self.published.details, now)
        sentences = [as_of.sentence()]
        if to.binary:
            table_file(to, rows.schema, rows, sentences)
            return
        extras = {"as_of": as_of.body()}
        print_answer(to, columns_of(rows.schema), chunks_of(rows), extras, sentences)


@contextmanager
def open_lake(project: str | None) -> Iterator[OpenLake]:
    """Open the project named on the command line, else the one around the current folder.

    Raises:
        UsageError: Nothing was published yet.
        ConfigError: There is no project.
    """
    root = find_project(project, os.environ, Path.cwd())
    settings = load_settings(root, os.environ, given_settings())
    published = published_lake(root)
    # Not in the project: whoever may only read it can still sort a large table.
    with tempfile.TemporaryDirectory(prefix="meterhouse-") as spill:
        engine = DuckDBEngine(
            settings.engine_memory, settings.engine_threads, Path(spill), locked=True
        )
        yield OpenLake(root, published, engine)
