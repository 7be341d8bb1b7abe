"""The landed bytes, every one of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from meterhouse.errors import DamageError, EnvironmentFailureError, MeterhouseError
from meterhouse.log.entry import Entry
from meterhouse.log.landing import Landing, landing_path
from meterhouse.log.packs import pack_path
from meterhouse.verify.chain import check_log, unreadable
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Scope, Subject

__all__ = ["check_landing", "check_log", "unreadable", "unreferenced"]

_CHUNK = 1 << 22


def check_landing(subject: Subject, scope: Scope) -> Check:
    """Read every landed byte: object by its name, ranges by their roots.

    With ``scope.quick`` the objects are hashed and the ranges are not decoded. Of entries
    that are only attested to, the packs must be there.
    """
    check = Check("landing", unit="bytes")
    landing = Landing(subject.blobs, subject.span)
    _check_packs(subject, check, landing)
    intact: dict[str, bool] = {}
    opened = 0
    for entry in subject.data_entries(scope.since):
        first, _ = subject.span.of(entry.position)
        if first != opened:
            # Objects of other ranges lie elsewhere.
            opened, intact = first, {}
        path = landing_path(entry.source, entry.object)
        if path not in intact:
            intact[path] = _object_intact(check, landing, entry, path)
        if not intact[path]:
            continue
        _check_tiling(check, entry, path)
        if not scope.quick:
            _check_ranges(check, landing, entry, path)
    if check.findings:
        subject.truth_holds = False
    return check


def _check_packs(subject: Subject, check: Check, landing: Landing) -> None:
    """See that the packs are there; where sealed entries are read again, all bytes of them."""
    if not subject.segments:
        return
    there = set(subject.blobs.list("landing/packs"))
    for segment in subject.segments:
        said = segment.attestation
        for number in range(said.packs):
            path = pack_path(said.first, said.last, number)
            if path not in there:
                check.fail("broken", "pack of landed bytes is missing", file=path, entry=said.first)
            elif subject.reread:
                _check_pack(check, landing, said.first, number, path)


def _check_pack(check: Check, landing: Landing, first: int, number: int, path: str) -> None:
    try:
        pack = landing.packs.part(first, number)
        check.covered += sum(pack.checked()) if pack is not None else 0
    except (OSError, DamageError, EnvironmentFailureError) as error:
        what = unreadable("pack of landed bytes", error)
        check.fail("broken", what, file=path, entry=first)


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


def _object_intact(check: Check, landing: Landing, entry: Entry, path: str) -> bool:
    digest, size = hashlib.sha256(), 0
    try:
        while chunk := landing.read(entry, size, size + _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    except DamageError as error:
        if all(found.file != error.where for found in check.findings):
            check.fail("broken", error.what, file=error.where, entry=entry.position)
        return False
    except (OSError, EnvironmentFailureError) as error:
        check.fail("broken", unreadable("landed object", error), file=path, entry=entry.position)
        return False
    if landing.packs.known(entry.position, entry.object) is None:
        check.covered += size  # what a pack holds was counted with it
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
    """Return landed objects that no entry names: a crash left them, they may be removed.

    None where sealed entries are only attested to: these may name them.
    """
    if subject.attested or not (root / "landing").exists():
        return []
    known = {landing_path(entry.source, entry.object) for entry in subject.data_entries()}
    return [
        name
        for name in subject.blobs.list("landing")
        if name not in known and not name.startswith("landing/packs/")
    ]
