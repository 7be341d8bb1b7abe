"""The Blobs port on a folder of a POSIX file system."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from meterhouse.errors import EnvironmentFailureError

__all__ = ["FolderBlobs"]

_ENVIRONMENT = {
    errno.ENOSPC: "free some space, then run the command again; nothing was half written",
    errno.EDQUOT: "raise the quota or free some space, then run the command again",
    errno.EACCES: "check the owner and mode of this folder, then run the command again",
    errno.EPERM: "check the owner and mode of this folder, then run the command again",
    errno.EROFS: "mount the file system writable, then run the command again",
    errno.EIO: "check the disk, then run meterhouse verify",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run the command again",
    errno.ENAMETOOLONG: "use a project folder with a shorter path",
}
"""What a caller can mend. Anything else is a bug and keeps its traceback."""

_TEMPORARY = ".tmp-"
"""Prefix of files that are not yet whole; never listed. A crash may leave one behind."""


class FolderBlobs:
    """Names are paths below one root folder.

    A put is a temporary file in the target's folder, synced, then linked or renamed to its
    name, then the folder is synced: a reader sees nothing or all of it.
    """

    def __init__(self, root: Path, *, group_shared: bool = False) -> None:
        """Keep blobs below ``root``, made when something is put.

        Args:
            root: The folder.
            group_shared: Files and folders get modes that let the owner's group read them,
                whatever the umask.
        """
        self._root = root.absolute()
        self._group_shared = group_shared
        self._serial = itertools.count()
        self._synced: set[Path] = set()
        """Folders whose own names survive a power loss."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Store ``data`` unless ``name`` exists; exactly one of racing callers gets True."""
        target = self._path(name)
        with _environment(name):
            added = not target.exists() and self._link(target, data)
            if not added:
                # Whoever put it may have died before its name was synced.
                self._folder(target.parent)
            _sync_folder(target.parent)
        return added

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Store or replace ``name`` atomically."""
        target = self._path(name)
        with _environment(name):
            temporary = self._temporary(target, data, durable=durable)
            temporary.replace(target)
            if durable:
                _sync_folder(target.parent)

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> bytes:
        """Return bytes [lo, hi)."""
        with _environment(name), self._path(name).open("rb") as file:
            file.seek(lo)
            return file.read() if hi is None else file.read(max(hi - lo, 0))

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Yield the names below folder ``prefix``, sorted, greater than ``after``."""
        with _environment(prefix):
            yield from self._walk(prefix.strip("/"), after)

    def delete(self, name: str) -> None:
        """Remove ``name`` if it exists."""
        with _environment(name), suppress(FileNotFoundError):
            self._path(name).unlink()

    def uri(self, name: str) -> str:
        """Return the absolute path."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise ValueError(f"not a blob name: {name!r}")
        return self._root.joinpath(*parts).absolute()

    def _temporary(self, target: Path, data: bytes, *, durable: bool) -> Path:
        self._folder(target.parent)
        path = target.parent / f"{_TEMPORARY}{os.getpid()}-{id(self)}-{next(self._serial)}"
        with path.open("xb") as file:
            try:
                if self._group_shared:
                    os.fchmod(file.fileno(), 0o640)
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                path.unlink()
                raise
        return path

    def _link(self, target: Path, data: bytes) -> bool:
        temporary = self._temporary(target, data, durable=True)
        try:
            # A link fails when the name is there; a rename would replace it.
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _folder(self, folder: Path) -> None:
        """Make ``folder``, and its name durable, or the files in it would not be.

        A folder of ours that is there may not be durable: who made it may have died first.
        """
        there, below = folder.is_dir(), self._root in folder.parents
        if there and (folder in self._synced or not (below or folder == self._root)):
            return
        if below or not there:
            self._folder(folder.parent)
        if not there:
            with suppress(FileExistsError):
                folder.mkdir()
                if self._group_shared:
                    folder.chmod(0o2750)
        # Of the folder above the project we may lack the right to open it.
        with suppress(PermissionError):
            _sync_folder(folder.parent)
        self._synced.add(folder)

    def _walk(self, folder: str, after: str) -> Iterator[str]:
        try:
            with os.scandir(self._root / folder) as found:
                entries = [entry for entry in found if not entry.name.startswith(_TEMPORARY)]
        except (FileNotFoundError, NotADirectoryError):
            return
        # Names are compared whole: "a/b" comes after "a-b", so a folder sorts as "a/".
        keyed = sorted((entry.name + "/" * entry.is_dir(), entry) for entry in entries)
        for key, entry in keyed:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not key.endswith("/"):
                if name > after:
                    yield name
            elif f"{name}/\U0010ffff" > after:
                yield from self._walk(name, after)


@contextmanager
def _environment(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        fix = _ENVIRONMENT.get(error.errno or 0)
        if fix is None:
            raise
        reason = os.strerror(error.errno or 0).lower()
        raise EnvironmentFailureError(f'"{name}" can\'t be used: {reason}', name, fix) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
