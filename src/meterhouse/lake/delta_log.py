"""The folder ``_delta_log`` of one table, as files: what is in it, and what may go."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

__all__ = ["LAST", "DeltaLog"]

LAST: Final = "_last_checkpoint"
"""The one file of a Delta log that is replaced."""

_NAME = re.compile(r"(\d{20})\.(?:json|checkpoint(?:\.\d+\.\d+)?\.parquet)\Z")


class DeltaLog:
    """The Delta log in ``folder``, which need not be there."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet."""
        self.folder = folder

    def commit(self, version: int) -> Path:
        """Return where the commit of ``version`` is."""
        return self.folder / f"{version:020d}.json"

    def files(self) -> Iterator[tuple[int, Path]]:
        """Yield version and path of each commit and checkpoint, by name."""
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            match = _NAME.match(path.name)
            if match is not None:
                yield int(match[1]), path

    def times(self) -> dict[int, datetime]:
        """Return version → time of each commit; Delta, too, goes by that of the file."""
        return {
            version: datetime.fromtimestamp(path.stat().st_mtime, UTC)
            for version, path in self.files()
            if path.suffix == ".json"
        }

    def checkpoints(self) -> frozenset[int]:
        """Return the versions that have a checkpoint."""
        return frozenset(version for version, path in self.files() if path.suffix != ".json")

    def removed_after(self, version: int) -> set[str]:
        """Return the data files, relative to the table, that later commits took out."""
        removed = set()
        for number, path in self.files():
            if number > version and path.suffix == ".json":
                for line in path.read_text("utf-8").splitlines():
                    action = json.loads(line).get("remove")
                    if action is not None:
                        removed.add(unquote(action["path"]))
        return removed

    def put_aside(self, last: int) -> bool:
        """Rename what is later than version ``last``; return whether there was anything.

        A reader takes only ``<20 digits>.json`` and checkpoints. The pointer to the last of
        these may be torn as well; without it readers look for themselves.
        """
        late = [path for version, path in self.files() if version > last]
        if not late:
            return False
        for path in (*late, self.folder / LAST):
            if path.exists():
                path.rename(path.with_name(f"{path.name}.torn"))
        return True

    def drop(self, upto: int, keep: Collection[str]) -> None:
        """Delete commits and checkpoints up to version ``upto`` whose names aren't in ``keep``."""
        for version, path in self.files():
            if version <= upto and path.name not in keep:
                path.unlink()
