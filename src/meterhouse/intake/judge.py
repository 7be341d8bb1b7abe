"""The verdict on each record of one log entry: accepted, quarantined or duplicate.

A pure function of the records, the contract, the entry's position and time, and what the
indexes hold of the entries before it. Every record has exactly one verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.identity import bytes_hash, key_hash
from meterhouse.intake.index import REMOVED_BIT, KeyIndex, Keys, place_of
from meterhouse.intake.judged_rows import Decided, judged_schema, judged_table, removed_rows
from meterhouse.intake.matching import Words, first_of, previous_of
from meterhouse.intake.money import money_by_verdict
from meterhouse.intake.parse import Parsed
from meterhouse.intake.rules import UNDECLARED_COLUMN, Broken, broken_rules
from meterhouse.intake.vanished import JudgedFileOf, Vanished, vanished_keys
from meterhouse.names import ACCEPTED, DUPLICATE, QUARANTINED, REMOVED
from meterhouse.ports import Engine

__all__ = ["Judged", "JudgedFileOf", "Piece", "judge", "judged_schema"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Money: TypeAlias = Mapping[str, Mapping[str, Mapping[str, str]]]

_VERDICTS: Final = (ACCEPTED, QUARANTINED, DUPLICATE)
_ACCEPTED, _QUARANTINED, _DUPLICATE = range(3)
_UNDECIDED: Final = 3
_CONFLICT: Final = "conflicting_duplicate"
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Piece:
    """The records of one input of an entry."""

    file: str
    """The input's identity."""
    parsed: Parsed
    repeated: bool
    """These very bytes were taken before: all duplicates."""
    whole: bool
    """The whole file, delivered at once."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An entry's judged rows, what they add up to, and what they add to the indexes."""

    table: pa.Table
    """``judged_schema(contract)``, in the order of ``row_number``."""
    counts: Mapping[str, int]
    """landed, accepted, quarantined, duplicate, blank, removed."""
    money: Money
    """As in the log's entry."""
    key_changes: Keys
    """To be added to the index of keys once the entry is in the log."""
    held_changes: Keys


@dataclass(slots=True)
class _Records:
    """The records of all pieces, in order, and what was decided about them so far."""

    contract: Contract
    position: int
    broken: Broken
    ids: Words
    """Key hash; zeros where the key can't be read."""
    keyed: Mask
    """Whether the key can be read."""
    raw: Callable[[npt.NDArray[np.int64]], Words]
    """Hash of the bytes of some records."""
    verdicts: npt.NDArray[np.int64]
    conflicts: Mask
    held: list[tuple[npt.NDArray[np.int64], Words]] = field(default_factory=list)
    """Rows newly held, with their identities."""

    @property
    def payload(self) -> Words:
        words: Words = self.broken.rows["payload_hash"].to_numpy()
        return words


def judge(
    pieces: Sequence[Piece],
    contract: Contract,
    *,
    position: int,
    ingest_ts: datetime,
    keys: KeyIndex,
    held: KeyIndex,
    engine: Engine,
    judged_file: JudgedFileOf | None = None,
) -> Judged:
    """Judge the records of ``pieces`` as log entry ``position``; change nothing.

    Validation comes first, so that an invalid copy never shadows a valid one. ``append``:
    the first record of a key is accepted, the same again is a duplicate, another payload
    is held. ``upsert`` and ``snapshot``: a record equal to its key's current version is a
    duplicate, any other becomes the current version. A held record that comes again is a
    duplicate: known by key and payload, or by its bytes where the key can't be read. What
    was accepted under former rules is a duplicate too when it comes again, not held.

    Args:
        pieces: The entry's inputs, in order. Of a snapshot source at most one that is
            whole and new: each is a version of all keys.
        contract: The contract in force.
        position: The entry's number.
        ingest_ts: The entry's time; rules may name it.
        keys: Index of accepted keys, with everything before this entry.
        held: Index of held records, likewise.
        engine: Evaluates the rules.
        judged_file: Where the judged rows of an earlier entry of this source are, perhaps
            with those of others; needed for snapshots.

    Raises:
        SourceRefusedError: A ``stop`` rule is broken, a field is undeclared where the
            contract stops on that, or a snapshot shrinks by more than it may. Nothing
            of the entry may be taken.
        ContractError: The engine refuses the SQL of a rule.
    """
    rows = pa.concat_tables([piece.parsed.rows for piece in pieces])
    broken = broken_rules(rows, contract, ingest_ts=ingest_ts, engine=engine)
    records = _records(pieces, contract, position, broken)
    _refuse_stopped(pieces, records)
    _decide_invalid(records, keys, held)
    if contract.mode == "append":
        key_changes = _decide_first_wins(records, keys, held)
    else:
        key_changes = _decide_versions(records, keys)
    _refuse_conflicts(pieces, records)

    table = _table(pieces, records, ingest_ts)
    snapshot = _snapshot(pieces, records)
    removed = 0
    if snapshot is not None:
        file, present = snapshot
        gone = vanished_keys(contract, present, keys, judged_file, file=file)
        removed = len(gone.ids)
        key_changes += _removed(gone, position, table.num_rows)
        after = removed_rows(
            contract,
            gone.values,
            file,
            position=position,
            first_row=table.num_rows,
            ingest_ts=ingest_ts,
        )
        table = pa.concat_tables([table, after])
    return Judged(
        table=table,
        counts=_counts(pieces, records, removed),
        money=money_by_verdict(
            broken.rows, contract, records.verdicts, _VERDICTS, _unreadable(records)
        ),
        key_changes=key_changes,
        held_changes=_held_changes(records),
    )


def _records(
    pieces: Sequence[Piece], contract: Contract, position: int, broken: Broken
) -> _Records:
    rows = broken.rows
    keyed = ~broken.malformed
    for name in contract.key:
        if rows[name].null_count:
            keyed &= rows[name].is_valid().to_numpy()
    ids = key_hash(rows, contract.key)
    ids[~keyed] = 0
    verdicts = np.full(rows.num_rows, _UNDECIDED)
    offset = 0
    for piece in pieces:
        if piece.repeated:
            verdicts[offset : offset + piece.parsed.rows.num_rows] = _DUPLICATE
        offset += piece.parsed.rows.num_rows

    def raw(indices: npt.NDArray[np.int64]) -> Words:
        hashes = np.zeros((len(indices), 2), np.uint64)
        lo = 0
        for piece in pieces:
            inside = (indices >= lo) & (indices < lo + piece.parsed.rows.num_rows)
            bodies = piece.parsed.raw(indices[inside] - lo)
            hashes[inside] = bytes_hash(bodies, np.arange(len(bodies)))
            lo += piece.parsed.rows.num_rows
        return hashes

    conflicts = np.zeros(rows.num_rows, bool)
    return _Records(contract, position, broken, ids, keyed, raw, verdicts, conflicts)


def _decide_invalid(records: _Records, keys: KeyIndex, held: KeyIndex) -> None:
    """Records that break a rule: held, unless they are held or accepted already."""
    undecided = records.verdicts == _UNDECIDED
    invalid = np.flatnonzero(undecided & records.broken.held.any(axis=1))
    if not len(invalid):
        return
    payload = records.payload[invalid]
    keyed = records.keyed[invalid]
    identity = _with_payload(records.ids[invalid], payload)
    if not keyed.all():
        identity[~keyed] = records.raw(invalid[~keyed])
    accepted = keys.find(records.ids[invalid])
    known = held.find(identity).mask | (keyed & accepted.mask & (accepted.payload == payload))
    known |= first_of(identity) != np.arange(len(invalid))
    records.verdicts[invalid] = np.where(known, _DUPLICATE, _QUARANTINED)
    records.held.append((invalid[~known], identity[~known]))


def _decide_first_wins(records: _Records, keys: KeyIndex, held: KeyIndex) -> Keys:
    """Valid records of an append source: lowest place wins, other payloads are held."""
    valid = np.flatnonzero(records.verdicts == _UNDECIDED)
    ids, payload = records.ids[valid], records.payload[valid]
    first = first_of(ids)
    known = keys.find(ids)
    winner = np.where(known.mask, known.payload, payload[first])
    accepted = ~known.mask & (first == np.arange(len(valid)))
    verdicts = np.where(accepted, _ACCEPTED, _DUPLICATE)
    other = np.flatnonzero(~accepted & (payload != winner))
    if len(other):
        identity = _with_payload(ids[other], payload[other])
        fresh = ~held.find(identity).mask & (first_of(identity) == np.arange(len(other)))
        verdicts[other[fresh]] = _QUARANTINED
        records.conflicts[valid[other[fresh]]] = True
        records.held.append((valid[other[fresh]], identity[fresh]))
    records.verdicts[valid] = verdicts
    places = place_of(records.position, valid[accepted])
    return Keys(ids[accepted], payload[accepted], places)


def _decide_versions(records: _Records, keys: KeyIndex) -> Keys:
    """Valid records of a versioned source: each is held against its key's current version."""
    valid = np.flatnonzero(records.verdicts == _UNDECIDED)
    ids, payload = records.ids[valid], records.payload[valid]
    known = keys.find(ids)
    # Whatever became of the record before, its payload is the current version after it.
    before = previous_of(ids)
    same = np.where(
        before >= 0, payload[before] == payload, known.mask & (known.payload == payload)
    )
    records.verdicts[valid] = np.where(same, _DUPLICATE, _ACCEPTED)
    places = place_of(records.position, valid[~same])
    return Keys(ids[~same], payload[~same], places)


def _snapshot(pieces: Sequence[Piece], records: _Records) -> tuple[str, Words] | None:
    """Return file and keys of the entry's whole snapshot, None when nothing may vanish.

    Records that break a rule count as present; one whose key can't be read could be any,
    so nothing vanishes beside it.
    """
    if records.contract.mode != "snapshot":
        return None
    found: list[tuple[str, slice]] = []
    offset = 0
    for piece in pieces:
        span = slice(offset, offset + piece.parsed.rows.num_rows)
        offset = span.stop
        if piece.whole and not piece.repeated:
            found.append((piece.file, span))
    if len(found) > 1:
        raise ValueError("two snapshots in one entry: each is a version of all keys")
    if not found or not records.keyed[found[0][1]].all():
        return None
    file, span = found[0]
    return file, records.ids[span]


def _removed(gone: Vanished, position: int, first_row: int) -> Keys:
    count = len(gone.ids)
    places = place_of(position, np.arange(first_row, first_row + count))
    return Keys(gone.ids, np.zeros(count, np.uint64), places | REMOVED_BIT)


def _with_payload(ids: Words, payload: Words) -> Words:
    """Return the identity of records by key and payload, shape (n, 2)."""
    return np.stack([ids[:, 0] ^ payload, ids[:, 1] + payload * _ODD], axis=1)


def _held_changes(records: _Records) -> Keys:
    if not records.held:
        return Keys()
    parts = [
        Keys(ids, records.payload[rows], place_of(records.position, rows))
        for rows, ids in records.held
    ]
    return sum(parts[1:], start=parts[0])


def _unreadable(records: _Records) -> dict[str, Mask]:
    """Return for each money column which records' amounts could not be read."""
    found = {}
    for name in records.contract.money:
        mask = records.broken.malformed.copy()
        if name in records.broken.unreadable:
            mask |= records.broken.unreadable[name]
        found[name] = mask
    return found


def _counts(pieces: Sequence[Piece], records: _Records, removed: int) -> dict[str, int]:
    by_verdict = np.bincount(records.verdicts, minlength=len(_VERDICTS)).tolist()
    return {
        "landed": len(records.verdicts),
        **dict(zip(_VERDICTS, by_verdict, strict=True)),
        "blank": sum(piece.parsed.blank for piece in pieces),
        REMOVED: removed,
    }


def _table(pieces: Sequence[Piece], records: _Records, ingest_ts: datetime) -> pa.Table:
    broken = records.broken
    held = records.verdicts == _QUARANTINED
    reasons = broken.held & held[:, np.newaxis]
    names = broken.names
    if records.conflicts.any():
        conflict = _conflict(records.contract)[0]
        if conflict not in names:
            names = (*names, conflict)
            reasons = np.column_stack([reasons, records.conflicts])
        reasons[:, names.index(conflict)] |= records.conflicts
    flags = broken.flags & (records.verdicts != _DUPLICATE)[:, np.newaxis]
    return judged_table(
        records.contract,
        broken.rows,
        [(piece.file, piece.parsed) for piece in pieces],
        Decided(records.verdicts, _VERDICTS, held, reasons, names, flags, broken.flag_names),
        position=records.position,
        ingest_ts=ingest_ts,
    )


def _conflict(contract: Contract) -> tuple[str, str, str]:
    """Return name, severity and because of the rule about conflicting duplicates."""
    for rule in contract.rules:
        if rule.check == _CONFLICT:
            return rule.name, rule.severity, rule.because
    return _CONFLICT, "quarantine", ""


def _refuse_stopped(pieces: Sequence[Piece], records: _Records) -> None:
    broken = records.broken
    if not broken.stopping.any():
        return
    because = {rule.name: rule.because for rule in records.contract.rules}
    because[UNDECLARED_COLUMN] = "Fields that the contract does not declare stop this source."
    for index in np.flatnonzero(broken.stopping).tolist():
        found = np.flatnonzero(broken.held[:, index] & (records.verdicts != _DUPLICATE))
        if len(found):
            name = broken.names[index]
            raise _stopped(pieces, records, name, because[name], found)


def _refuse_conflicts(pieces: Sequence[Piece], records: _Records) -> None:
    name, severity, because = _conflict(records.contract)
    if severity == "stop" and records.conflicts.any():
        raise _stopped(pieces, records, name, because, np.flatnonzero(records.conflicts))


def _stopped(
    pieces: Sequence[Piece],
    records: _Records,
    name: str,
    because: str,
    found: npt.NDArray[np.int64],
) -> SourceRefusedError:
    row = int(found[0])
    line = records.broken.rows["source_line"][row].as_py()
    file = ""
    for piece in pieces:
        file = piece.file
        if row < piece.parsed.rows.num_rows:
            break
        row -= piece.parsed.rows.num_rows
    source = records.contract.source
    return SourceRefusedError(
        f'{len(found):,} records break rule "{name}", which stops source "{source}": {because}',
        f"{file}:{line}",
        f'correct the delivery, or change the severity of "{name}" in the contract of "{source}"; '
        "nothing of it was taken",
    )
