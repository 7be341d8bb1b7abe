"""Lines of text in columns, for reports that people read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

__all__ = ["aligned", "printable"]


def aligned(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), *, indent: str = ""
) -> Iterator[str]:
    """Yield one line a row, columns as wide as their widest cell, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield (indent + "  ".join(cells)).rstrip()


def printable(text: str) -> str:
    """Keep control characters of names and values off the terminal; line ends stay."""
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text
    )
