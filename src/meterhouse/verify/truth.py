"""The truth: the chain of entries and the landed bytes, every one of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meterhouse.errors import DamageError, EnvironmentFailureError, MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract
from meterhouse.log.entry import Entry, entry_path
from meterhouse.log.landing import Landing, landing_path
from meterhouse.ports import Stamp
from meterhouse.verify.report import Check, Severity
from meterhouse.verify.subject import Scope, Subject

__all__ = ["check_landing", "check_log", "unreadable", "unreferenced"]

_NAME = re.compile(r"log/(\d{12})\.json\Z")
_CHUNK = 1 << 22


@dataclass(slots=True)
class _Chain:
    """The entries that could be read, and the hashes of their bytes."""

    entries: list[Entry]
    hashes: dict[int, str]


def check_log(subject: Subject, scope: Scope) -> Check:
    """Read every entry: canonical bytes, numbers without gap, chain, time, anchor.

    Fills ``subject.entries`` and ``subject.pinned``.
    """
    check = Check("log", unit="entries")
    chain = _read_chain(check, subject)
    _check_links(check, chain)
    check.covered = len(chain.entries)
    _check_anchor(check, scope, chain.hashes)
    intact = not check.findings
    _check_views(check, subject, chain, intact=intact)
    subject.entries = tuple(chain.entries)
    subject.pinned = _pinned(check, chain.entries)
    subject.truth_holds = not any(found.severity == "broken" for found in check.findings)
    return check


def _read_chain(check: Check, subject: Subject) -> _Chain:
    chain, expected = _Chain([], {}), 1
    for name in subject.blobs.list("log"):
        match = _NAME.match(name)
        if match is None:
            continue
        position = int(match[1])
        for missing in range(expected, position):
            check.fail("broken", "log entry is missing", file=entry_path(missing), entry=missing)
        expected = position + 1
        entry, sha256 = _entry(subject, check, name, position)
        if entry is None:
            continue
        if chain.entries and entry.ingest_ts < chain.entries[-1].ingest_ts:
            check.fail("broken", "time of log entry runs backwards", file=name, entry=position)
        chain.entries.append(entry)
        chain.hashes[position] = sha256
    return chain


def _check_links(check: Check, chain: _Chain) -> None:
    """See that each entry names the hash of the one before, and say which of two was changed."""
    by_position = {entry.position: entry for entry in chain.entries}
    odd = {
        entry.position
        for entry in chain.entries
        if entry.previous != chain.hashes.get(entry.position - 1, entry.previous)
        or (entry.position == 1 and entry.previous)
    }
    for position in sorted(odd):
        if position == 1 or position + 1 in odd:
            # Its own bytes are not what the next one names either.
            what, changed = "log entry does not follow from the one before", position
            expected, found = chain.hashes.get(position - 1, ""), by_position[position].previous
        else:
            what, changed = "log entry is not what the next one names", position - 1
            expected, found = by_position[position].previous, chain.hashes[position - 1]
        check.fail(
            "broken",
            what,
            file=entry_path(changed),
            entry=changed,
            expected=expected or "none",
            found=found or "none",
        )


def _entry(subject: Subject, check: Check, name: str, position: int) -> tuple[Entry | None, str]:
    try:
        data = subject.blobs.read(name)
        entry = Entry.from_bytes(data, name)
    except (OSError, DamageError, EnvironmentFailureError) as error:
        check.fail("broken", unreadable("log entry", error), file=name, entry=position)
        return None, ""
    check.expect(
        position,
        entry.position,
        "log entry has another number than its name",
        file=name,
        entry=position,
    )
    return entry, hashlib.sha256(data).hexdigest()


def unreadable(kind: str, error: OSError | MeterhouseError) -> str:
    """Return what is wrong with a file of ``kind`` that could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return f"{kind} is missing"
    if isinstance(error, OSError):
        return f"{kind} can't be read: {(error.strerror or str(error)).lower()}"
    return error.what


def _check_anchor(check: Check, scope: Scope, hashes: Mapping[int, str]) -> None:
    if scope.expect is None:
        return
    position, expected = scope.expect
    found = hashes.get(position, "no such entry")
    if not found.startswith(expected):
        check.fail(
            "broken",
            "log does not hold the anchor",
            file=entry_path(position),
            entry=position,
            expected=expected,
            found=found,
        )


def _check_views(check: Check, subject: Subject, chain: _Chain, *, intact: bool) -> None:
    """The last entry has none after it that names its hash; the views do."""
    stamps = _stamps(subject)
    forks = {entry.position: entry.fork for entry in chain.entries}
    project = chain.entries[0].project if chain.entries else ""
    known = {
        position: Stamp(project, forks[position], position, sha256)
        for position, sha256 in chain.hashes.items()
    }
    for view, stamp in stamps.items():
        found = known.get(stamp.position)
        if found == stamp:
            continue
        # A hash names all entries before it: what one view vouches for, holds for all.
        vouched = intact and any(
            other.position >= stamp.position and known.get(other.position) == other
            for name, other in stamps.items()
            if name != view
        )
        severity: Severity = "rebuildable" if vouched else "broken"
        where = {"file": entry_path(stamp.position), "entry": stamp.position}
        if vouched:
            where = {"file": view, "entry": stamp.position}
        if found is None:
            what = f"log ends before what {view} was made from"
            check.fail(severity, what, expected=stamp.head, found="no such entry", **where)
        else:
            check.fail(
                severity,
                f"log entry is not the one that {view} was made from",
                expected=_shown(stamp),
                found=_shown(found),
                **where,
            )


def _stamps(subject: Subject) -> dict[str, Stamp]:
    found: dict[str, Stamp | None] = {
        "index/state.db": subject.state.stamp() if subject.state is not None else None,
        "lake/published.json": subject.published.stamp if subject.published is not None else None,
    }
    try:
        found["serving.db"] = subject.serving.stamp() if subject.serving is not None else None
    except (MeterhouseError, OSError):
        found["serving.db"] = None  # check_serving says so
    return {view: stamp for view, stamp in found.items() if stamp is not None and stamp.position}


def _shown(stamp: Stamp) -> str:
    return f"entry {stamp.position} {stamp.head}, fork {stamp.fork}, project {stamp.project}"


def _pinned(check: Check, entries: list[Entry]) -> dict[str, Contract]:
    """Return every contract of the log by its hash."""
    found: dict[str, Contract] = {}
    for entry in entries:
        where = entry_path(entry.position)
        if entry.kind == "data" and entry.contract not in found:
            check.fail(
                "broken", "no entry before holds its contract", file=where, entry=entry.position
            )
        if entry.kind != "contract":
            continue
        if hashlib.sha256(entry.text.encode("utf-8")).hexdigest() != entry.contract:
            check.fail(
                "broken", "contract text does not fit its hash", file=where, entry=entry.position
            )
            continue
        try:
            found[entry.contract] = parse_contract(entry.text, where)
        except MeterhouseError as error:
            check.fail(
                "broken",
                f"contract of log entry can't be read: {error.what}",
                file=where,
                entry=entry.position,
            )
    return found


def check_landing(subject: Subject, scope: Scope) -> Check:
    """Read every landed byte: object by its name, ranges by their roots.

    With ``scope.quick`` the objects are hashed and the ranges are not decoded.
    """
    check = Check("landing", unit="bytes")
    landing = Landing(subject.blobs)
    intact: dict[str, bool] = {}
    for entry in subject.data_entries(scope.since):
        path = landing_path(entry.source, entry.object)
        if path not in intact:
            intact[path] = _object_intact(subject, check, entry, path)
        if not intact[path]:
            continue
        _check_tiling(check, entry, path)
        if not scope.quick:
            _check_ranges(check, landing, entry, path)
    if check.findings:
        subject.truth_holds = False
    return check


def _check_ranges(check: Check, landing: Landing, entry: Entry, path: str) -> None:
    try:
        for _ in landing.ranges(entry):
            pass
    except MeterhouseError as error:
        check.fail("broken", error.what, file=path, entry=entry.position)
    except (OSError, ValueError) as error:
        # Only a last entry that nothing vouches for can hold numbers that make no sense.
        check.fail(
            "broken", f"landed bytes can't be read: {error}", file=path, entry=entry.position
        )


def _object_intact(subject: Subject, check: Check, entry: Entry, path: str) -> bool:
    digest, size = hashlib.sha256(), 0
    try:
        while chunk := subject.blobs.read(path, size, size + _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    except (OSError, EnvironmentFailureError) as error:
        check.fail("broken", unreadable("landed object", error), file=path, entry=entry.position)
        return False
    check.covered += size
    return check.expect(
        entry.object,
        digest.hexdigest(),
        "landed object does not hold what its name says",
        file=path,
        entry=entry.position,
    )


def _check_tiling(check: Check, entry: Entry, path: str) -> None:
    """Inputs of one entry lie one after the other in its object."""
    if any(item.compression for item in entry.inputs):
        return
    at = 0
    for item in entry.inputs:
        check.expect(
            at,
            item.offset,
            "inputs of log entry do not tile its object",
            file=path,
            entry=entry.position,
        )
        at = item.offset + item.size


def unreferenced(subject: Subject, root: Path) -> list[str]:
    """Return landed objects that no entry names: a crash left them, they may be removed."""
    known = {landing_path(entry.source, entry.object) for entry in subject.data_entries()}
    if not (root / "landing").exists():
        return []
    return [name for name in subject.blobs.list("landing") if name not in known]
