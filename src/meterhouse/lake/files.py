"""Hashes of stored files: made when they are written, checked before they are built upon."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from meterhouse.errors import DamageError, EnvironmentFailureError
from meterhouse.lake.published import StoredFile
from meterhouse.ports import DataFile

__all__ = ["check_files", "refused", "sha256_of", "stored", "sync"]

_THREADS = 2


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of the file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored(lake: Path, folder: str, files: Iterable[DataFile]) -> tuple[StoredFile, ...]:
    """Return ``files``, just written below ``lake/folder``, with their hashes."""
    written = list(files)
    # hashlib lets go of the interpreter lock for large pieces.
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = list(pool.map(sha256_of, (lake / folder / file.path for file in written)))
    return tuple(
        StoredFile(f"{folder}/{file.path}", file.rows, file.size, digest, dict(file.partition))
        for file, digest in zip(written, hashes, strict=True)
    )


def check_files(expected: Sequence[tuple[Path, str]], *, fix: str) -> None:
    """Compare files with their hashes: what is damaged must not flow into new results.

    Args:
        expected: Path and SHA-256 of each file.
        fix: What to do when one differs.

    Raises:
        DamageError: A file is missing or its bytes were changed.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_found, (path for path, _ in expected)))
    for (path, wanted), digest in zip(expected, found, strict=True):
        if digest is None:
            raise DamageError("a file that the lake is made from is missing", str(path), fix)
        if digest != wanted:
            raise DamageError(
                "a file that the lake is made from is not what was written", str(path), fix
            )


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power loss.

    Raises:
        OSError: The disk failed; it names ``path``.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def refused(error: OSError, place: Path) -> EnvironmentFailureError:
    """Return what the system refused, in our words: deltalake tells the number in a drawing."""
    number = error.errno or int(found[1] if (found := _NUMBER.search(str(error))) else 0)
    reason = os.strerror(number).lower() if number else str(error).splitlines()[0]
    return EnvironmentFailureError(
        f"the lake can't be written: {reason}",
        str(error.filename or place),
        "check free space and permissions, then run the command again; nothing was published",
    )


_NUMBER = re.compile(r"\(os error (\d+)\)")


def _found(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None
