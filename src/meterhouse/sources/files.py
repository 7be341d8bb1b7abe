"""Files and folders as deliveries: found, recognised, identified, opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal, TypeAlias

from meterhouse.errors import EnvironmentFailureError, MeterhouseError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import BadContract, recognise
from meterhouse.sources.walk import Found, identity, shown, walk

__all__ = [
    "Delivery",
    "Discovery",
    "Reading",
    "delivery_at",
    "discover",
    "identity",
    "not_readable",
    "unreadable",
]

_Compression: TypeAlias = Literal["", "gz", "zst"]

_ENDINGS: Final[Mapping[str, _Compression]] = {".gz": "gz", ".zst": "zst"}


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
            raise unreadable(delivery.identity, error) from error
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
            raise unreadable(self._delivery.identity, error) from error

    def seek(self, offset: int) -> None:
        """Go on reading at ``offset``."""
        self._file.seek(offset)

    @property
    def status(self) -> os.stat_result:
        """The open file's, when it was opened."""
        return self._before

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

    def wait_for(self, contracts: Sequence[BadContract]) -> None:
        """Note contracts that are not valid; what only they recognise waits for them."""
        self.problems += dict.fromkeys(bad.error for bad in contracts)
        self.unrecognised = [
            name
            for name in self.unrecognised
            if not any(bad.claims(name.rpartition("/")[2]) for bad in contracts)
        ]


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
    root = os.path.realpath(project)
    files = _Files(chosen, contracts[source] if source else None, root)
    for found in walk(paths, root):
        files.see(found)
    return files.found()


class _Files:
    """Recognises what a walk comes across; remembers the files it has seen."""

    def __init__(
        self, contracts: Mapping[str, Contract], forced: Contract | None, project: str
    ) -> None:
        self._contracts = contracts
        self._forced = forced
        self._project = project
        self._files: list[Delivery] = []
        self._problems: list[MeterhouseError] = []
        self._known: set[str] = set()
        self._left: set[str] = set()
        """No contract recognised them, yet: another link may give the file a better name."""

    def found(self) -> Discovery:
        """Return what was seen so far."""
        files = sorted(self._files, key=lambda delivery: delivery.identity)
        return Discovery(files, sorted(self._left - self._known), self._problems)

    def see(self, found: Found) -> None:
        """Look at one name."""
        name = identity(found.real, self._project)
        if found.folder:
            self._problems += [unreadable(name, found.error)] if found.error is not None else []
            return
        if name in self._known:
            return
        try:
            contract = self._forced if found.named else None
            contract = contract or recognise(self._contracts, shown(Path(found.path).name))
        except UsageError as ambiguous:
            self._known.add(name)
            self._problems.append(ambiguous)
            return
        if contract is None:
            self._left.add(name)
            return
        self._known.add(name)
        # A name that leads nowhere matters only when a contract would have taken it.
        problem = not_readable(found, name)
        if problem is not None:
            self._problems.append(problem)
        elif found.status is not None:
            self._files.append(delivery_at(found.path, name, contract, found.status.st_size))


def delivery_at(path: str, name: str, contract: Contract, size: int) -> Delivery:
    """Return the file at ``path``, which the log calls ``name``, as a delivery."""
    compression = _ENDINGS.get(Path(path).suffix, "")
    return Delivery(Path(path), name, contract, compression, size)


def not_readable(found: Found, name: str) -> MeterhouseError | None:
    """Return why the bytes of what was found can't be had, None when they can."""
    if found.error is not None:
        return unreadable(name, found.error)
    if found.regular:
        return None
    return UsageError(f'"{name}" is not a regular file', name, "deliver a file; it was left out")


def unreadable(name: str, error: OSError) -> EnvironmentFailureError:
    """Return the error for a file that the system does not let us read."""
    reason = error.strerror or type(error).__name__
    return EnvironmentFailureError(
        f'file "{name}" could not be read: {reason}',
        name,
        "see to it and run the same command again; nothing of it was taken",
    )
