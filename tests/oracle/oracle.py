"""Deliveries in order of arrival to verdicts, versions, ledger, tables, answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import Any

from oracle import records, tables
from oracle.questions import Questions
from oracle.records import Record
from oracle.sources import SOURCES, Source, recognise, unusable
from oracle.values import UNREADABLE

EXACT = Context(prec=200)

Identity = tuple[Any, ...]
Row = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What became of one record."""

    source: str
    file: str
    line: int
    verdict: str
    invalid_reason: str | None
    broken_rules: tuple[str, ...]
    raw: bytes


class _State:
    """What one source has taken so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.accepted: list[Row] = []
        self.current: dict[Identity, Row] = {}
        self.payloads: dict[Identity, Any] = {}
        self.held: set[Any] = set()
        self.files: dict[str, bytes] = {}
        self.bodies: defaultdict[bytes, set[str]] = defaultdict(set)
        self.versions: list[tuple[Identity, Row | None]] = []
        self.counts: Counter[str] = Counter()
        self.money: dict[str, dict[str, dict[str, Decimal]]] = {}


class Oracle:
    """Everything the product must say about these deliveries.

    ``tables`` maps "silver.x" and "gold.x" to rows; ``ledger`` maps a source to
    {"records": verdict -> count, "money": column -> currency -> verdict -> sum};
    ``verdicts`` lists every record in order of arrival.
    """

    def __init__(
        self, deliveries: Sequence[tuple[str, bytes]], *, ingest_day: date | None = None
    ) -> None:
        """Judge ``deliveries`` (file name, decoded bytes) in order; compute all tables.

        ``ingest_day`` is the UTC day on which all was taken: later days anchor no
        default of "the last N days". None takes them all.
        """
        self.verdicts: list[Verdict] = []
        self._states = {name: _State(source) for name, source in SOURCES.items()}
        for name, data in deliveries:
            self._take(self._states[recognise(name).name], name, data)
        self.tables: dict[str, list[Row]] = tables.build(
            {name: state.accepted for name, state in self._states.items()},
            {name: list(state.current.values()) for name, state in self._states.items()},
            {name: state.versions for name, state in self._states.items()},
        )
        self.ledger = {name: self._ledger(state) for name, state in self._states.items()}
        self._questions = Questions(self.tables, ingest_day)

    def question(self, name: str, **args: Any) -> list[Row]:
        """Return the answer's rows; arguments as on the command line, ``from_`` and ``to``."""
        return self._questions.answer(name, **args)

    def _take(self, state: _State, name: str, data: bytes) -> None:
        known = state.files.get(name)
        if known == data:
            return
        start = skipped = 0
        repeated = False
        if state.source.mode == "append":
            if known is not None:
                if not data.startswith(known):
                    return  # refused: what was taken has changed
                before, skipped = records.read(state.source, name, known)
                start = len(before)
        else:
            # A file that goes back to what it was itself is a correction, not a copy.
            repeated = bool(state.bodies[data]) and name not in state.bodies[data]
        state.files[name] = data
        state.bodies[data].add(name)
        found, blank = records.read(state.source, name, data)
        state.counts["blank"] += blank - skipped
        for record in found[start:]:
            self._judge(state, record, repeated=repeated)
        if state.source.mode == "snapshot" and not repeated:
            self._remove_absent(state, found)

    def _judge(self, state: _State, record: Record, *, repeated: bool) -> None:
        broken = broken_rules(state.source, record)
        key = tuple(record.row.get(column) for column in state.source.key)
        if repeated:
            verdict, broken = "duplicate", ()
        elif broken:
            verdict = self._hold(state, record, key)
        elif state.source.mode == "append":
            verdict = self._append(state, record, key)
            broken = ("conflicting_duplicate",) if verdict == "quarantined" else ()
        else:
            verdict = self._version(state, record, key)
        reason = broken[0] if verdict == "quarantined" else None
        rules = broken if verdict == "quarantined" else ()
        self.verdicts.append(
            Verdict(state.source.name, record.file, record.line, verdict, reason, rules, record.raw)
        )
        self._count(state, record, verdict)

    def _hold(self, state: _State, record: Record, key: Identity) -> str:
        identity: Any = record.raw
        if not record.malformed and all(part is not None for part in key):
            identity = (key, record.payload)
        if identity in state.held:
            return "duplicate"
        state.held.add(identity)
        return "quarantined"

    def _append(self, state: _State, record: Record, key: Identity) -> str:
        payload = record.payload
        if key not in state.payloads:
            state.payloads[key] = payload
            state.accepted.append(record.row)
            return "accepted"
        if state.payloads[key] == payload:
            return "duplicate"
        return self._hold(state, record, key)

    def _version(self, state: _State, record: Record, key: Identity) -> str:
        payload = record.payload
        if state.payloads.get(key) == payload:
            return "duplicate"
        state.payloads[key] = payload
        state.current[key] = record.row
        state.accepted.append(record.row)
        state.versions.append((key, record.row))
        return "accepted"

    def _remove_absent(self, state: _State, found: list[Record]) -> None:
        keys = set()
        for record in found:
            key = tuple(record.row.get(column) for column in state.source.key)
            if record.malformed or None in key:
                return  # a key that can't be read may be any key: nothing is removed
            keys.add(key)
        for key in [key for key in state.current if key not in keys]:
            del state.current[key], state.payloads[key]
            state.versions.append((key, None))
            state.counts["removed"] += 1

    def _count(self, state: _State, record: Record, verdict: str) -> None:
        source = state.source
        state.counts["landed"] += 1
        state.counts[verdict] += 1
        currency = source.currency
        if currency in source.columns:
            currency = record.row.get(currency) or "?"
        for column in source.money:
            amounts = state.money.setdefault(column, {}).setdefault(currency, defaultdict(Decimal))
            amount = record.row.get(column)
            if amount is None:
                lost = record.malformed or source.delivered(column) in record.unreadable
                amounts["unreadable"] += int(lost)
                continue
            for term in ("landed", verdict):
                amounts[term] = EXACT.add(amounts[term], amount)

    def _ledger(self, state: _State) -> Row:
        counts = {
            term: state.counts[term]
            for term in ("landed", "accepted", "quarantined", "duplicate", "blank", "removed")
        }
        if state.source.mode != "append":
            counts["current"] = len(state.current)
            counts["superseded"] = len(state.accepted) - len(state.current)
        return {"records": counts, "money": state.money}


def broken_rules(source: Source, record: Record) -> tuple[str, ...]:
    """Return the names of all rules that ``record`` breaks, in the contract's order."""
    if record.malformed:
        return ("malformed",)
    problems = {problem for problem, _ in record.problems}
    broken = []
    for rule in source.rules:
        if rule in source.conditions:
            columns, breaks = source.conditions[rule]
            hit = not record.unread(columns) and breaks(record.row)
        elif rule == "key_unusable":
            hit = any(
                not record.unread((column,)) and unusable(record.row[column])
                for column in source.usable
            )
        elif rule.endswith("_unreadable"):
            column = rule.removesuffix("_unreadable")
            column = "event_ts" if column == "timestamp" and source.format == "jsonl" else column
            hit = (UNREADABLE, column) in record.problems
        else:
            hit = rule in problems
        if hit:
            broken.append(rule)
    return tuple(broken)
