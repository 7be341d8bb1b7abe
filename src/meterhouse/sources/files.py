"""Files and folders as deliveries: found, recognised, identified, opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal, TypeAlias

from meterhouse.errors import EnvironmentFailureError, MeterhouseError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import recognise

__all__ = ["Delivery", "Discovery", "Reading", "discover", "identity"]

_Compression: TypeAlias = Literal["", "gz", "zst"]

_ENDINGS: Final[Mapping[str, _Compression]] = {".gz": "gz", ".zst": "zst"}
_OWN: Final = frozenset(
    (".locks", ".meterhouse", "contracts", "index", "judged", "lake", "landing", "log", "models")
)
"""Folders of a project that never hold deliveries."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One file that a contract recognises."""

    path: Path
    identity: str
    """What the log calls it; two paths to one file have the same."""
    contract: Contract
    compression: _Compression
    size: int
    """Bytes as stored, when it was found."""

    def open(self) -> Reading:
        """Open it for reading from its beginning.

        Raises:
            EnvironmentFailureError: It is gone or may not be read.
        """
        return Reading(self)


class Reading:
    """The stored bytes of one open file, in order, in chunks."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        try:
            self._file: BinaryIO = delivery.path.open("rb")
        except OSError as error:
            raise _unreadable(delivery.identity, error) from error
        self._before = os.fstat(self._file.fileno())

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` further bytes (all when negative), b"" at the end.

        Raises:
            EnvironmentFailureError: The system could not read them.
        """
        try:
            return self._file.read(size)
        except OSError as error:
            raise _unreadable(self._delivery.identity, error) from error

    def changed(self) -> bool:
        """Return whether the open file was written to since it was opened."""
        now = os.fstat(self._file.fileno())
        before = self._before
        return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)

    def shrunk(self) -> bool:
        """Return whether the open file is shorter than when it was opened."""
        return os.fstat(self._file.fileno()).st_size < self._before.st_size


@dataclass
class Discovery:
    """What was found below some paths."""

    files: list[Delivery] = field(default_factory=list)
    """Sorted by identity; each file once, however many paths lead to it."""
    unrecognised: list[str] = field(default_factory=list)
    """Identities of files that no contract recognises, sorted."""
    problems: list[MeterhouseError] = field(default_factory=list)
    """Files and folders that could not be looked at, and files that two contracts claim."""


def discover(
    paths: Sequence[str | Path],
    contracts: Mapping[str, Contract],
    source: str | None = None,
    *,
    project: Path,
) -> Discovery:
    """Find the deliveries at ``paths``; folders are searched to the bottom.

    Symbolic links are followed, each folder is visited once. A project's own folders
    (landing, log, lake, …) are passed over.

    Args:
        paths: Files and folders.
        contracts: By source.
        source: Take only this source: of folders the files that its contract recognises,
            and every file that ``paths`` names itself, whatever its name.
        project: The project folder; files inside are identified relative to it.

    Raises:
        UsageError: A path or the source does not exist.
    """
    if source is not None and source not in contracts:
        raise UsageError.unknown("source", source, contracts, where="--source")
    chosen = contracts if source is None else {source: contracts[source]}
    search = _Search(chosen, contracts[source] if source else None, os.path.realpath(project))
    for path in paths:
        search.named(Path(path))
    return search.found()


def identity(real: str, project: str) -> str:
    r"""Return what the log calls the file at resolved path ``real``.

    Relative to the resolved folder ``project`` when it lies inside. Bytes that are not
    UTF-8 become ``\xNN`` (and a name's own ``\x`` becomes ``\x5cx``), so that different
    names stay different.
    """
    inside = os.path.commonpath([real, project]) == project and real != project
    name = os.path.relpath(real, project) if inside else real
    return os.fsencode(name).replace(b"\\x", b"\\x5cx").decode("utf-8", "backslashreplace")


class _Search:
    """One walk: remembers the folders it has been to and the files it has seen."""

    def __init__(
        self, contracts: Mapping[str, Contract], forced: Contract | None, project: str
    ) -> None:
        self._contracts = contracts
        self._forced = forced
        self._project = project
        self._folders: set[tuple[int, int]] = set()
        self._files: list[Delivery] = []
        self._problems: list[MeterhouseError] = []
        self._known: set[str] = set()
        self._left: set[str] = set()
        """No contract recognised them, yet: another link may give the file a better name."""

    def found(self) -> Discovery:
        """Return what the walk has come across so far."""
        files = sorted(self._files, key=lambda delivery: delivery.identity)
        return Discovery(files, sorted(self._left - self._known), self._problems)

    def named(self, path: Path) -> None:
        """Look at a path that the user gave."""
        if not (path.is_symlink() or path.exists()):
            raise UsageError(
                f'path "{_shown(path)}" does not exist', "", "see the spelling; nothing was taken"
            )
        self._look(path, self._forced)

    def _look(self, path: Path, forced: Contract | None) -> None:
        try:
            status = path.stat()
        except OSError as error:
            # A name that leads nowhere matters only when a contract would have taken it.
            self._file(path, forced, _unreadable(self._identity(path), error))
            return
        if stat.S_ISDIR(status.st_mode):
            self._folder(path, (status.st_dev, status.st_ino))
        elif stat.S_ISREG(status.st_mode):
            self._file(path, forced, None, status.st_size)
        else:
            name = self._identity(path)
            fix = "deliver a file; it was left out"
            self._file(path, forced, UsageError(f'"{name}" is not a regular file', name, fix))

    def _folder(self, path: Path, key: tuple[int, int]) -> None:
        if key in self._folders:
            return
        self._folders.add(key)
        own = os.path.realpath(path) == self._project
        try:
            names = sorted(child.name for child in path.iterdir())
        except OSError as error:
            self._problems.append(_unreadable(self._identity(path), error))
            return
        for name in names:
            if not (own and (name in _OWN or name == "meterhouse.toml")):
                self._look(path / name, None)

    def _file(
        self, path: Path, forced: Contract | None, problem: MeterhouseError | None, size: int = 0
    ) -> None:
        name = self._identity(path)
        if name in self._known:
            return
        try:
            contract = forced or recognise(self._contracts, _shown(path.name))
        except UsageError as ambiguous:
            self._known.add(name)
            self._problems.append(ambiguous)
            return
        if contract is None:
            self._left.add(name)
            return
        self._known.add(name)
        if problem is not None:
            self._problems.append(problem)
        else:
            compression = _ENDINGS.get(path.suffix, "")
            self._files.append(Delivery(path, name, contract, compression, size))

    def _identity(self, path: Path) -> str:
        if path.exists():
            return identity(os.path.realpath(path), self._project)
        # A link that leads nowhere has no other name than its own.
        return identity(str(Path(os.path.realpath(path.parent), path.name)), self._project)


def _shown(name: str | Path) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unreadable(name: str, error: OSError) -> EnvironmentFailureError:
    reason = error.strerror or type(error).__name__
    return EnvironmentFailureError(
        f'file "{name}" could not be read: {reason}',
        name,
        "see to it and run the same command again; nothing of it was taken",
    )


_AMBIGUOUS: Final = object.__new__(Contract)
"""Stands for "two contracts claim it": already reported, not to be taken."""
