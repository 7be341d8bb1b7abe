"""The truth: the chain of entries and the landed bytes, every one of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from meterhouse.errors import DamageError
from meterhouse.intake.contracts import parse_contract
from meterhouse.log.entry import Entry, entry_path
from meterhouse.log.landing import Landing, landing_path
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Scope, Subject

__all__ = ["check_landing", "check_log", "unreferenced"]

_NAME = re.compile(r"log/(\d{12})\.json\Z")
_CHUNK = 1 << 22


def check_log(subject: Subject, scope: Scope) -> Check:
    """Read every entry: canonical bytes, numbers without gap, chain, time, anchor.

    Fills ``subject.entries`` and ``subject.contracts``.
    """
    check = Check("log", unit="entries")
    entries: list[Entry] = []
    hashes: list[str] = []
    previous, expected = "", 1
    for name in subject.blobs.list("log"):
        match = _NAME.match(name)
        if match is None:
            continue
        position = int(match[1])
        while expected < position:
            check.fail("broken", "log entry is missing", file=entry_path(expected), entry=expected)
            expected, previous = expected + 1, "?"
        expected = position + 1
        entry, sha256 = _entry(subject, check, name, position)
        if entry is None:
            previous = "?"
            continue
        if previous != "?":
            check.expect(
                previous or "none",
                entry.previous or "none",
                "log entry does not follow from the one before",
                file=name,
                entry=position,
            )
        if entries and entry.ingest_ts < entries[-1].ingest_ts:
            check.fail("broken", "time of log entry runs backwards", file=name, entry=position)
        entries.append(entry)
        hashes.append(sha256)
        previous = sha256
    check.covered = len(entries)
    _check_anchor(check, scope, {e.position: sha for e, sha in zip(entries, hashes, strict=True)})
    _check_view(check, subject, entries, hashes)
    _pin_contracts(check, subject, entries)
    subject.entries = tuple(entries)
    subject.truth_holds = not any(found.severity == "broken" for found in check.findings)
    return check


def _entry(subject: Subject, check: Check, name: str, position: int) -> tuple[Entry | None, str]:
    try:
        data = subject.blobs.read(name)
        entry = Entry.from_bytes(data, name)
    except (DamageError, OSError) as error:
        what = error.what if isinstance(error, DamageError) else f"log entry: {error.strerror}"
        check.fail("broken", what, file=name, entry=position)
        return None, ""
    check.expect(
        position,
        entry.position,
        "log entry has another number than its name",
        file=name,
        entry=position,
    )
    return entry, hashlib.sha256(data).hexdigest()


def _check_anchor(check: Check, scope: Scope, hashes: dict[int, str]) -> None:
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


def _check_view(check: Check, subject: Subject, entries: list[Entry], hashes: list[str]) -> None:
    """The last entry has none after it that names its hash; the views do."""
    known = {entry.position: sha for entry, sha in zip(entries, hashes, strict=True)}
    stamps = {
        "index/state.db": subject.state.stamp() if subject.state is not None else None,
        "lake/published.json": subject.published.stamp if subject.published is not None else None,
    }
    for view, stamp in stamps.items():
        if stamp is None or stamp.position == 0:
            continue
        found = known.get(stamp.position)
        if found is None:
            check.fail(
                "broken",
                f"log ends before what {view} was made from",
                file=entry_path(stamp.position),
                entry=stamp.position,
                expected=stamp.head,
                found="no such entry",
            )
        else:
            check.expect(
                stamp.head,
                found,
                f"log entry is not the one that {view} was made from",
                file=entry_path(stamp.position),
                entry=stamp.position,
            )


def _pin_contracts(check: Check, subject: Subject, entries: list[Entry]) -> None:
    pinned = dict(subject.contracts)
    for entry in entries:
        if entry.kind != "contract":
            continue
        if hashlib.sha256(entry.text.encode("utf-8")).hexdigest() != entry.contract:
            check.fail(
                "broken",
                "contract text does not fit its hash",
                file=entry_path(entry.position),
                entry=entry.position,
            )
            continue
        pinned[entry.source] = parse_contract(entry.text, entry_path(entry.position))
    subject.contracts = pinned


def check_landing(subject: Subject, scope: Scope) -> Check:
    """Read every landed byte: object by its name, ranges by their roots.

    With ``scope.quick`` the objects are hashed and the ranges are not decoded.
    """
    check = Check("landing", unit="bytes")
    landing = Landing(subject.blobs)
    hashed: set[str] = set()
    for entry in subject.data_entries(scope.since):
        path = landing_path(entry.source, entry.object)
        if path not in hashed:
            hashed.add(path)
            if not _object_intact(subject, check, entry, path):
                continue
        _check_tiling(check, entry, path)
        if not scope.quick:
            try:
                for _ in landing.ranges(entry):
                    pass
            except DamageError as error:
                check.fail("broken", error.what, file=path, entry=entry.position)
    if check.findings:
        subject.truth_holds = False
    return check


def _object_intact(subject: Subject, check: Check, entry: Entry, path: str) -> bool:
    digest, size = hashlib.sha256(), 0
    try:
        while chunk := subject.blobs.read(path, size, size + _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    except OSError as error:
        what = (
            "landed object is missing"
            if isinstance(error, FileNotFoundError)
            else (f"landed object can't be read: {error.strerror}")
        )
        check.fail("broken", what, file=path, entry=entry.position)
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
