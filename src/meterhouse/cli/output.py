"""Where answers go: standard output or a file, in the format asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from meterhouse.errors import UsageError
from meterhouse.formats import BINARY_FORMATS, FORMATS, SUFFIXES, Chunk, Column, refuse_twins, write

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Destination", "output_options", "print_answer", "say", "table_file"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def output_options(command: _Command) -> _Command:
    """Add ``--format`` and ``--output`` to a command (parameters ``format_`` and ``output``)."""
    command = click.option(
        "--output",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write to FILE instead of standard output.",
    )(command)
    return click.option(
        "--format",
        "format_",
        metavar="NAME",
        help=f"One of {', '.join(FORMATS)}; a table on a terminal, else csv.",
    )(command)


class Destination:
    """A format and where it goes, checked before any work is done."""

    def __init__(self, format_: str | None, output: Path | None) -> None:
        """Take what the command line said.

        Raises:
            UsageError: The format does not exist or needs a file, or there is no folder for it.
        """
        if format_ is not None and format_ not in FORMATS:
            raise UsageError.unknown("format", format_, FORMATS)
        self.format = format_ or _usual_format(output)
        self.output = output
        if self.format in BINARY_FORMATS and output is None:
            raise UsageError(
                f"format {self.format} is not for the screen", "", "name a file with --output FILE"
            )
        if output is not None and not output.parent.is_dir():
            raise UsageError(
                f'folder "{output.parent}" does not exist', f"--output {output}", "make it first"
            )

    @property
    def binary(self) -> bool:
        """True for formats that Arrow writes."""
        return self.format in BINARY_FORMATS

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the place to write to; a file appears whole or not at all."""
        if self.output is None:
            # Bytes, so that neither locale nor platform changes an answer.
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        if self.output.exists() and not self.output.is_file():
            # A pipe or a device: nothing to put in its place.
            with self.output.open("wb") as file:
                yield file
            return
        part = self.output.with_name(f".{self.output.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                yield file
            part.replace(self.output)
        finally:
            part.unlink(missing_ok=True)


def _usual_format(output: Path | None) -> str:
    if output is not None:
        return SUFFIXES.get(output.suffix.lower(), "csv")
    return "table" if sys.stdout.isatty() else "csv"


def print_answer(
    to: Destination,
    columns: Sequence[Column],
    chunks: Iterable[Chunk],
    extras: Mapping[str, object],
    sentences: Iterable[str],
) -> None:
    """Write an answer in a text format, and what it stands for to standard error.

    Args:
        to: Format and place.
        columns: The columns, in order.
        chunks: The rows.
        extras: What the JSON object holds beside them.
        sentences: The same for people; JSON has it in the answer.
    """
    with to.opened() as out:
        write(out, to.format, columns, chunks, extras)
    if to.format != "json":
        say(sentences)


def table_file(
    to: Destination,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    sentences: Iterable[str],
) -> None:
    """Write Arrow batches as a Parquet or Arrow (IPC) file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from meterhouse.arrow_text import columns_of

    refuse_twins(columns_of(schema))
    with to.opened() as out:
        if to.format == "parquet":
            writer = pq.ParquetWriter(out, schema, compression="zstd")
        else:
            writer = pa.ipc.new_file(out, schema)
        with writer:
            for batch in batches:
                writer.write_batch(batch)
    say(sentences)


def say(sentences: Iterable[str]) -> None:
    """Print messages to standard error, for people."""
    for sentence in sentences:
        click.echo(sentence, err=True)
