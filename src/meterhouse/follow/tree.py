"""The folders that are followed: which files there are, found once and then told of."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.follow.files import File, signature_of
from meterhouse.follow.source import Source
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import BadContract, recognise
from meterhouse.sources.files import delivery_at, not_readable, unreadable
from meterhouse.sources.walk import Found, identity, shown, walk
from meterhouse.sources.watch import Sign, Watch

__all__ = ["Tree"]

_STEP: Final = 64
"""Names between two looks at the clock."""


class Tree:
    """Finds files below some paths and tells their sources when one changes.

    Everything is walked at the start, then again when notices were lost, and now and then.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        project: Path,
        watch: Watch,
        *,
        settle: float,
        ticks: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        """Follow ``paths``; nothing is looked at before ``look``.

        Args:
            paths: Files and folders that exist.
            project: The project folder.
            watch: Tells what changes.
            settle: Seconds without a write after which a file is at rest.
            ticks: Seconds that never go back.
            wall: The time that files carry.
        """
        self.unrecognised: set[str] = set()
        """Names of files that no contract recognises."""
        self.blocked: set[str] = set()
        """Names of files whose contract is not valid."""
        self.problems: dict[str, MeterhouseError] = {}
        """By name: what could not be looked at, or two contracts claim."""
        self.elsewhere: set[str] = set()
        """Other paths that were watched and changed; who asked for them empties it."""
        self._given = paths
        self._named = {str(path) for path in paths}
        self._project = os.path.realpath(project)
        self._watch = watch
        self._settle = settle
        self._ticks = ticks
        self._wall = wall
        self._sources: Mapping[str, Source] = {}
        self._contracts: Mapping[str, Contract] = {}
        self._bad: Sequence[BadContract] = ()
        self._files: dict[str, File] = {}
        self._paths: dict[str, File] = {}
        self._asides: dict[str, str] = {}
        self._walks: deque[tuple[float, Iterator[Found]]] = deque()
        """Each with the time when it began."""
        self._seen: set[str] = set()
        self._whole = False
        self.walked = False
        """Whether everything was looked at since the start, or since the contracts changed."""

    def recognise_by(self, sources: Mapping[str, Source], bad: Sequence[BadContract]) -> None:
        """Find out anew which file is whose."""
        self._sources = sources
        self._contracts = {name: source.contract for name, source in sources.items()}
        self._bad = bad
        self._paths.clear()
        self.unrecognised.clear()
        self.blocked.clear()
        self.problems.clear()
        self.walked = False
        self.again()

    def aside(self, folder: Path, name: str) -> None:
        """Watch ``folder`` too; report it as ``name`` in ``elsewhere``. Nothing in it is taken."""
        if not folder.is_dir():
            return
        self._asides[str(folder)] = name
        self._watch.see(Found(str(folder), str(folder), folder.stat(), None, False, True))

    def again(self) -> None:
        """Look at everything once more, in the steps that ``look`` makes."""
        self._walks.clear()
        self._walk(self._there())
        self._seen.clear()
        self._whole = True

    @property
    def walking(self) -> bool:
        """Whether there are names that were not looked at yet."""
        return bool(self._walks)

    def look(self, until: float) -> None:
        """Note what changed; go on finding files until the time ``until``."""
        changes, now = self._watch.changes(), self._ticks()
        for path, sign in changes.names.items():
            self._noticed(path, sign, now)
        for path in changes.folders:
            if str(Path(path).parent) not in self._asides:
                self._walk([Path(path)])
        if changes.lost:
            for file in self._files.values():
                # Whether somebody writes, or has closed it, is not known any more.
                file.writing = file.closed = False
                file.changed = self._ticks()
            self.again()
        while self._walks and self._go_on():
            if self._ticks() >= until:
                break

    def files(self) -> Iterable[File]:
        """Return every file that is followed."""
        return self._files.values()

    def _walk(self, paths: Iterable[Path]) -> None:
        self._walks.append((self._ticks(), walk(paths, self._project)))

    def _there(self) -> Iterator[Path]:
        """Yield the given paths that exist now: a folder may go and come again."""
        for path in self._given:
            if path.is_symlink() or path.exists():
                yield path
            else:
                self.problems[str(path)] = UsageError(
                    f'path "{shown(path)}" is gone', "", "put it back; it is looked for"
                )

    def _go_on(self) -> bool:
        """Look at a few more names; False when the walk has ended."""
        begun, names = self._walks[0]
        for _ in range(_STEP):
            try:
                found = next(names, None)
            except UsageError:
                # It went away between two looks.
                found = None
            if found is None:
                self._walks.popleft()
                if self._whole:
                    self._leave_unseen()
                return False
            self._found(found, None, begun)
        return True

    def _leave_unseen(self) -> None:
        """Forget files that the walk over everything did not come to."""
        self._whole = False
        self.walked = True
        for name in set(self._files) - self._seen:
            self._leave(self._files[name])
        self._paths = {path: file for path, file in self._paths.items() if file.name in self._files}
        self.unrecognised &= self._seen
        self.blocked &= self._seen
        for name in set(self.problems) - self._seen:
            if name in self._files or not any(str(path) == name for path in self._given):
                del self.problems[name]

    def _leave(self, file: File) -> None:
        self._files.pop(file.name, None)
        source = self._sources.get(file.contract.source)
        if source is not None:
            source.leave(file)

    def _noticed(self, path: str, sign: Sign, since: float) -> None:
        aside = self._asides.get(path.rpartition("/")[0])
        if aside is not None:
            self.elsewhere.add(aside)
            return
        whole = Path(path)
        try:
            status = whole.stat()
        except OSError:
            file = self._paths.pop(path, None)
            if file is not None and str(file.delivery.path) == path:
                self._leave(file)
            return
        if stat.S_ISDIR(status.st_mode):
            self._walk([whole])
            return
        real = os.path.realpath(path)
        linked, named = whole.is_symlink(), path in self._named
        self._found(Found(path, real, status, None, linked, named), sign, since)

    def _found(self, found: Found, sign: Sign | None, since: float) -> None:
        if found.folder or found.linked or found.named:
            self._watch.see(found)
        name = identity(found.real, self._project)
        self._seen.add(name)
        if found.folder:
            if found.error is not None:
                self.problems[name] = unreadable(name, found.error)
            return
        file = self._paths.get(found.path)
        if file is None or self._files.get(file.name) is not file:
            file = self._recognised(found, name, since)
        if file is None or found.status is None:
            return
        if file.name != name:
            # The name leads to another file now.
            del self._paths[found.path]
            self._found(found, sign, since)
            return
        self._paths[found.path] = file
        if file.noticed(signature_of(found.status), sign, self._ticks(), since):
            self._sources[file.contract.source].noticed(file)

    def _recognised(self, found: Found, name: str, since: float) -> File | None:
        """Return the file that was found, as its source's; None when it is nobody's."""
        known = self._files.get(name)
        try:
            contract = self._contract_of(found.path)
            if contract is None and known is not None:
                # Another link may have given it the name by which it is known.
                contract = self._contract_of(str(known.delivery.path))
        except UsageError as ambiguous:
            self.problems[name] = ambiguous
            return None
        if known is not None and (contract is None or known.contract.source != contract.source):
            self._leave(known)
            known = None
        if contract is None:
            claimed = any(bad.claims(shown(Path(found.path).name)) for bad in self._bad)
            (self.blocked if claimed else self.unrecognised).add(name)
            return None
        problem = not_readable(found, name)
        if problem is not None:
            self.problems[name] = problem
            return None
        return known or self._new(found, name, contract, since)

    def _contract_of(self, path: str) -> Contract | None:
        return recognise(self._contracts, shown(Path(path).name))

    def _new(self, found: Found, name: str, contract: Contract, since: float) -> File | None:
        if found.status is None:
            return None
        self.unrecognised.discard(name)
        self.problems.pop(name, None)
        now, status = self._ticks(), found.status
        # Of a file that nobody was seen writing its own time says how long it rests already.
        rested = min(max(self._wall().timestamp() - status.st_mtime, 0.0), self._settle)
        file = File(
            delivery_at(found.path, name, contract, status.st_size),
            self._settle,
            signature_of(status),
            changed=now - rested,
            since=since,
        )
        self._files[name] = file
        self._sources[contract.source].follow(file)
        return file
