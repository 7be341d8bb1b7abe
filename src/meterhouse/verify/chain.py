"""The chain of entries: those in files of their own one by one, sealed ones by attestation."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from meterhouse.errors import DamageError, EnvironmentFailureError, MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract
from meterhouse.log.entry import Entry, entry_path
from meterhouse.log.segments import Attestation, Segment, Segments, segment_path
from meterhouse.ports import Stamp
from meterhouse.verify.report import Check, Severity
from meterhouse.verify.subject import Scope, Subject

__all__ = ["check_log", "unreadable", "view_stamps"]

_NAME = re.compile(r"log/(\d{12})\.json\Z")
_SEGMENT = re.compile(r"log/segments/(\d{12})-(\d{12})\.jsonl\.zst\Z")


@dataclass(slots=True)
class _Chain:
    """What could be read."""

    segments: list[Segment] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    """Those in files of their own."""
    contracts: list[Entry] = field(default_factory=list)
    """Contract entries, wherever they lie."""
    hashes: dict[int, str] = field(default_factory=dict)
    """Of the entries in files of their own, and of the last one of each segment."""
    last_ts: str = ""
    covered: int = 0


def check_log(subject: Subject, scope: Scope) -> Check:
    """Look at every entry: canonical bytes, numbers without gap, chain, time, anchor.

    Of a sealed segment only the header is read, which attests to its entries, unless
    ``scope.full``. Fills what ``subject`` says of the log.
    """
    check = Check("log", unit="entries")
    chain = _read_chain(check, subject, scope)
    _check_links(check, subject, chain)
    check.covered = chain.covered
    subject.segments, subject.entries = tuple(chain.segments), tuple(chain.entries)
    _check_anchor(check, subject, scope)
    intact = not check.findings
    _check_views(check, subject, intact=intact)
    subject.pinned = _pinned(check, chain, subject)
    subject.truth_holds = not any(found.severity == "broken" for found in check.findings)
    return check


def unreadable(kind: str, error: OSError | MeterhouseError) -> str:
    """Return what is wrong with a file of ``kind`` that could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return f"{kind} is missing"
    if isinstance(error, OSError):
        return f"{kind} can't be read: {(error.strerror or str(error)).lower()}"
    return error.what


def _read_chain(check: Check, subject: Subject, scope: Scope) -> _Chain:
    chain, expected = _Chain(), 1
    own, sealed = _names(subject)
    last = max([*own, *(last for _, last in sealed)], default=0)
    cover = subject.state.stamp().position if subject.state is not None else last
    # Where the views end among sealed entries, their sums can't be compared with attested ones.
    subject.reread = scope.full or cover < max((last for _, last in sealed), default=0)
    while expected <= last:
        first, end = subject.span.of(expected)
        if (first, end) in sealed and expected == first:
            _segment(check, subject, chain, (first, end))
            expected = end + 1
        elif expected in own:
            _own(check, subject, chain, expected)
            expected += 1
        elif expected == first and not any(position in own for position in range(first, end + 1)):
            path = segment_path(first, end)
            check.fail("broken", "segment of the log is missing", file=path, entry=first)
            expected = end + 1
        else:
            path = entry_path(expected)
            check.fail("broken", "log entry is missing", file=path, entry=expected)
            expected += 1
    return chain


def _names(subject: Subject) -> tuple[set[int], set[tuple[int, int]]]:
    """Return the entries in files of their own, and the ranges of the segments."""
    own: set[int] = set()
    sealed: set[tuple[int, int]] = set()
    for name in subject.blobs.list("log"):
        if match := _NAME.match(name):
            own.add(int(match[1]))
        elif match := _SEGMENT.match(name):
            sealed.add((int(match[1]), int(match[2])))
    return own, sealed


def _segment(check: Check, subject: Subject, chain: _Chain, ends: tuple[int, int]) -> None:
    first, last = ends
    path = segment_path(first, last)
    try:
        segment = Segments(subject.blobs, subject.span).find(first)
    except (OSError, DamageError, EnvironmentFailureError) as error:
        check.fail("broken", unreadable("segment of the log", error), file=path, entry=first)
        return
    if segment is None:
        check.fail("broken", "segment of the log is missing", file=path, entry=first)
        return
    said = segment.attestation
    before = chain.hashes.get(first - 1, "" if first == 1 else said.previous)
    check.expect(
        before or "none",
        said.previous or "none",
        "segment of the log does not follow from the entry before",
        file=path,
        entry=first,
    )
    if said.first_ts < chain.last_ts or said.last_ts < said.first_ts:
        check.fail("broken", "time of log entry runs backwards", file=path, entry=first)
    chain.segments.append(segment)
    chain.hashes = {last: said.head}
    chain.last_ts = said.last_ts
    chain.covered += last - first + 1
    if subject.reread:
        _read_sealed(check, subject, segment, chain)
    else:
        _read_contracts(check, segment, said, chain)


def _read_contracts(check: Check, segment: Segment, said: Attestation, chain: _Chain) -> None:
    for position in said.contracts:
        try:
            chain.contracts.append(Entry.from_bytes(segment.entry(position), segment.name))
        except (OSError, DamageError, EnvironmentFailureError) as error:
            what = unreadable("log entry", error)
            check.fail("broken", what, file=segment.name, entry=position)
    segment.close()


def _read_sealed(check: Check, subject: Subject, segment: Segment, chain: _Chain) -> None:
    """Read a segment whole; name each block that can't be, and what is not as attested."""
    damaged = False
    for positions in segment.positions():
        try:
            segment.entry(positions[0])
        except (OSError, DamageError, EnvironmentFailureError) as error:
            what = unreadable("segment of the log", error)
            check.fail("broken", what, file=segment.name, entry=positions[0])
            damaged = True
    chain.contracts += [
        entry for entry in subject.sealed_entries(segment) if entry.kind == "contract"
    ]
    try:
        if not damaged:
            segment.check()
    except (OSError, DamageError, EnvironmentFailureError) as error:
        what = unreadable("segment of the log", error)
        check.fail("broken", what, file=segment.name, entry=segment.attestation.first)
    segment.close()


def _own(check: Check, subject: Subject, chain: _Chain, position: int) -> None:
    name = entry_path(position)
    try:
        data = subject.blobs.read(name)
        entry = Entry.from_bytes(data, name)
    except (OSError, DamageError, EnvironmentFailureError) as error:
        check.fail("broken", unreadable("log entry", error), file=name, entry=position)
        return
    check.expect(
        position,
        entry.position,
        "log entry has another number than its name",
        file=name,
        entry=position,
    )
    if entry.ingest_ts < chain.last_ts:
        check.fail("broken", "time of log entry runs backwards", file=name, entry=position)
    chain.entries.append(entry)
    chain.hashes[position] = hashlib.sha256(data).hexdigest()
    chain.last_ts = entry.ingest_ts
    chain.covered += 1
    if entry.kind == "contract":
        chain.contracts.append(entry)


def _check_links(check: Check, subject: Subject, chain: _Chain) -> None:
    """See that each entry names the hash of the one before, and say which of two was changed."""
    by_position = {entry.position: entry for entry in chain.entries}
    sealed = chain.segments[-1].attestation.last if chain.segments else 0
    odd = {
        entry.position
        for entry in chain.entries
        if entry.previous != chain.hashes.get(entry.position - 1, entry.previous)
        or (entry.position == 1 and entry.previous)
    }
    for position in sorted(odd):
        if position in (1, sealed + 1) or position + 1 in odd:
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


def _check_anchor(check: Check, subject: Subject, scope: Scope) -> None:
    if scope.expect is None:
        return
    position, expected = scope.expect
    found = subject.stamp_of(position)
    head = found.head if found is not None else "no such entry"
    if not head.startswith(expected):
        check.fail(
            "broken",
            "log does not hold the anchor",
            file=entry_path(position),
            entry=position,
            expected=expected,
            found=head,
        )


def _check_views(check: Check, subject: Subject, *, intact: bool) -> None:
    """The last entry has none after it that names its hash; the views do."""
    stamps = view_stamps(subject)
    known = {stamp.position: subject.stamp_of(stamp.position) for stamp in stamps.values()}
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


def view_stamps(subject: Subject) -> dict[str, Stamp]:
    """Return up to where each view says that it covers the log, by its file."""
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


def _pinned(check: Check, chain: _Chain, subject: Subject) -> dict[str, Contract]:
    """Return every contract of the log by its hash; fill ``subject.contract_entries``."""
    found: dict[str, Contract] = {}
    subject.contract_entries = tuple(chain.contracts)
    for entry in chain.contracts:
        where = subject.where(entry.position)
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
    known = {entry.contract: entry.position for entry in reversed(chain.contracts)}
    for entry in subject.data_entries():
        if known.get(entry.contract, entry.position) >= entry.position:
            check.fail(
                "broken",
                "no entry before holds its contract",
                file=subject.where(entry.position),
                entry=entry.position,
            )
    return found
