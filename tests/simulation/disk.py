"""What is left of real files when the power goes.

Assumed of the file system, and no more than this:

- the bytes of a file survive once it was fsynced after they were written;
- a name (made, replaced, removed, moved) survives once its folder was fsynced after that;
- all else may or may not survive, each by itself, and bytes that were not synced may come
  back whole, cut, or as zeros. A rename is one change: it happened, or it did not, and a
  name that was replaced is the old file or the new one;
- SQLite in WAL mode keeps what it committed with ``synchronous=FULL``; of what was committed
  with NORMAL since then a beginning is left, perhaps none of it.

A file is known by its inode: use a tmpfs, which does not give a number out twice.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from meterhouse.testing import torn

__all__ = ["Disk"]

_SQLITE_EXTRAS = ("-wal", "-shm", "-journal")
_DRAWN = re.compile(r"\.tmp-[0-9-]+|(?<=\.follow-)\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Parts of names that are other ones in each run."""


@dataclass
class _File:
    synced: bytes | None = None
    """Bytes as last synced; None when they never were."""
    images: list[bytes] = field(default_factory=list)
    """A database: what it held after each commit since then."""
    database: bool = False


class Disk:
    """Knows what of the files below a folder is synced."""

    def __init__(self, root: Path, ours: Callable[[str], bool]) -> None:
        """Watch ``root``; what is there already is synced.

        Args:
            root: A folder on a tmpfs.
            ours: Says of a name directly in it whether it can be lost.
        """
        self._root = root
        self._ours = ours
        self._folders: dict[int, dict[str, int]] = {}
        self._known_folders: set[int] = set()
        """Of all folders that a synced one named, itself synced or not."""
        self._files: dict[int, _File] = {}
        self._all_synced()

    def synced(self, descriptor: int) -> None:
        """Note that a file or folder was fsynced."""
        found = os.fstat(descriptor)
        place = f"/proc/self/fd/{descriptor}"
        if stat.S_ISDIR(found.st_mode):
            self._folders[found.st_ino] = names = _names(place)
            self._known_folders |= {
                inode for name, inode in names.items() if Path(place, name).is_dir()
            }
        else:
            self._files.setdefault(found.st_ino, _File()).synced = Path(place).read_bytes()

    def committed(self, path: Path, image: bytes, *, durable: bool) -> None:
        """Note that a transaction of the database at ``path`` was committed."""
        inode = path.stat().st_ino
        file = self._files.setdefault(inode, _File())
        file.database = True
        if not durable:
            file.images.append(image)
            return
        file.synced, file.images = image, []
        # With the first sync of a write-ahead log SQLite syncs its folder.
        self._folders.setdefault(path.parent.stat().st_ino, {})[path.name] = inode

    def power_loss(self, chance: random.Random) -> list[str]:
        """Leave of the files what the power leaves; return what was changed by it."""
        # One that was never synced itself is empty.
        empty: dict[int, dict[str, int]] = {inode: {} for inode in self._known_folders}
        loss = _Loss(self._root, self._ours, empty | self._folders, self._files, chance.random())
        left = loss.left()
        for path in list(self._root.iterdir()):
            if self._ours(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, data in left.items():
            path = self._root / name
            if data is None:
                path.mkdir()
            else:
                path.write_bytes(data)
        self._all_synced()
        return loss.changed

    def _all_synced(self) -> None:
        """Whatever is there after a start was read from the platter."""
        self._folders, self._known_folders, self._files = {}, set(), {}
        for folder, _, files in os.walk(self._root):
            self._folders[Path(folder).stat().st_ino] = _names(folder)
            for name in files:
                path = Path(folder, name)
                data = path.read_bytes()
                self._files[path.stat().st_ino] = _File(data, [], name.endswith(".db"))


class _Loss:
    """One power loss: decides for each name and each file, by chance, what is left."""

    def __init__(
        self,
        root: Path,
        ours: Callable[[str], bool],
        folders: dict[int, dict[str, int]],
        files: dict[int, _File],
        salt: float,
    ) -> None:
        self._root = root.stat().st_ino
        self._ours = ours
        self._synced = folders
        self._files = files
        self._salt = salt
        self._now: dict[int, dict[str, int]] = {}
        self._paths: dict[int, Path] = {}
        self._is_now: dict[int, bool] = {}
        self.changed: list[str] = []
        for folder, _, _ in os.walk(root):
            self._now[Path(folder).stat().st_ino] = names = _names(folder)
            self._paths |= {inode: Path(folder, name) for name, inode in names.items()}
        self._places = [_places(folders), _places(self._now)]

    def left(self) -> dict[str, bytes | None]:
        """Return path → bytes, None for a folder; folders before what is in them."""
        found: dict[str, bytes | None] = {}
        self._folder(self._root, "", found)
        return found

    def _folder(self, inode: int, prefix: str, found: dict[str, bytes | None]) -> None:
        synced, now = self._synced.get(inode, {}), self._now.get(inode, {})
        for name in sorted({*synced, *now}):
            if name.endswith(_SQLITE_EXTRAS) or not (prefix or self._ours(name)):
                continue
            where = f"{prefix}{name}"
            known = _DRAWN.sub("*", where)
            child = self._which(synced.get(name), now.get(name), known)
            if child != now.get(name):
                self.changed.append(f"{known}: " + ("gone" if child is None else "former"))
            if child is None:
                continue
            if child in self._now or child in self._synced:
                found[where] = None
                self._folder(child, f"{where}/", found)
            else:
                found[where] = self._bytes(child, known)

    def _which(self, synced: int | None, now: int | None, where: str) -> int | None:
        """Return which of two inodes a name leads to."""
        if synced == now:
            return now
        if synced is not None and now is not None and synced not in self._places[1]:
            # Replaced: one of the two, never neither.
            self._is_now[synced] = self._moved(now, where)
        came = now is not None and self._moved(now, where)
        stayed = synced is not None and not self._moved(synced, where)
        if came and stayed:
            return self._chance(where).choice([synced, now])
        return now if came else synced if stayed else None

    def _moved(self, inode: int, where: str) -> bool:
        """Return whether the names of ``inode`` are those of now, not those last synced."""
        if self._places[0].get(inode) == self._places[1].get(inode):
            return True
        if inode not in self._is_now:
            self._is_now[inode] = self._chance(where).random() < 0.5
        return self._is_now[inode]

    def _bytes(self, inode: int, where: str) -> bytes:
        file = self._files.get(inode, _File())
        path = self._paths.get(inode)
        synced = file.synced or b""
        chance = self._chance(where)
        if file.database:
            image = chance.choice([synced, *file.images])
            if image != [synced, *file.images][-1]:
                self.changed.append(f"{where}: former")
            return image
        if path is None:
            return synced
        now = path.read_bytes()
        if now == file.synced:
            return now
        left = chance.choice([synced, now, torn(now, chance)])
        if left != now:
            self.changed.append(f"{where}: torn")
        return left

    def _chance(self, where: str) -> random.Random:
        """Return chance of its own for each name: sizes and other names don't shift it.

        Libraries put times and random names into what they write.
        """
        return random.Random(f"{self._salt} {where}")


def _names(folder: str) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


def _places(folders: dict[int, dict[str, int]]) -> dict[int, set[tuple[int, str]]]:
    """Return inode → the folders and names that lead to it."""
    found: defaultdict[int, set[tuple[int, str]]] = defaultdict(set)
    for folder, names in folders.items():
        for name, inode in names.items():
            found[inode].add((folder, name))
    return dict(found)
