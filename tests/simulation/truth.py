"""What the log says, evaluated from its landed bytes with the standard library alone.

Knows the three contracts and the models of ``catalog/`` by heart, and nothing of the
product but the layout of an entry.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

__all__ = ["Judged", "Moment", "Truth", "Variant", "comparable", "table_of", "variant_of"]

Row = dict[str, Any]

ACCEPTED, QUARANTINED, DUPLICATE = "accepted", "quarantined", "duplicate"
EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
SCALE = Decimal("0.000000001")


@dataclass(frozen=True)
class Variant:
    """Which text of a model computed a table, as far as its rows depend on it."""

    factor: int = 1
    """silver.usage: what each charge is multiplied by."""
    descending: bool = False
    """gold.services: order of the services."""


def variant_of(texts: Mapping[str, str]) -> Variant:
    """Return the variant that model texts, by name, are."""
    return Variant(
        2 if " * 2)" in texts.get("silver.usage", "") else 1,
        "service DESC" in texts.get("gold.services", ""),
    )


@dataclass(frozen=True)
class Judged:
    """One record of an entry."""

    verdict: str
    reason: str
    line: int


@dataclass
class Moment:
    """Everything that follows from the log up to one entry."""

    position: int = 0
    source: str = ""
    ingest_ts: str = ""
    events: dict[str, Row] = field(default_factory=dict)
    """Accepted events by id."""
    invoices: dict[str, Row] = field(default_factory=dict)
    """Current versions."""
    orgs: dict[str, Row] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(source, verdict) → records."""
    judged: list[Judged] = field(default_factory=list)
    """Of the entry itself, in order."""
    removed: int = 0


@dataclass
class _Source:
    """What judging a source remembers."""

    current: dict[str, Any] = field(default_factory=dict)
    """Key → payload of what is accepted, of versions the newest."""
    held: set[Any] = field(default_factory=set)
    names: defaultdict[tuple[int, bytes], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Range taken → names of the files it was of."""
    contract: str = ""


class Truth:
    """Follows a log, entry by entry."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        """Read blobs by name with ``read``; None for what is not there."""
        self._read = read
        self.moments: list[Moment] = [Moment()]
        self.taken: dict[str, bytes] = {}
        """File → its decoded bytes, as far as the log has them."""
        self._sources: defaultdict[str, _Source] = defaultdict(_Source)
        self._last = b""
        self._tables: dict[tuple[str, int, Variant], list[str]] = {}

    @property
    def head(self) -> int:
        """Position of the last entry followed."""
        return len(self.moments) - 1

    def head_sha(self) -> str:
        """Return the hash of the last entry followed; empty when there is none."""
        return hashlib.sha256(self._last).hexdigest() if self._last else ""

    def table(self, name: str, position: int, variant: Variant) -> list[str]:
        """Return the rows of a table at ``position`` as ``comparable`` does.

        What the log says up to an entry is that for ever, so it is evaluated once.
        """
        key = name, position, variant
        if key not in self._tables:
            self._tables[key] = comparable(table_of(name, self.moments[position], variant))
        return self._tables[key]

    def follow(self) -> list[str]:
        """Take in new entries; return what is wrong with them."""
        problems: list[str] = []
        while (data := self._read(f"log/{self.head + 1:012d}.json")) is not None:
            entry = json.loads(data)
            if entry["position"] != self.head + 1:
                problems.append(f"entry {self.head + 1} says it is {entry['position']}")
            if entry.get("previous", "") != self.head_sha():
                problems.append(f"entry {self.head + 1} does not follow from the one before")
            if entry["ingest_ts"] < self.moments[-1].ingest_ts:
                problems.append(f"entry {self.head + 1} is older than the one before")
            problems += self._take(entry)
            self._last = data
        return problems

    def _take(self, entry: Row) -> list[str]:
        before = self.moments[-1]
        source = self._sources[entry["source"]]
        now = Moment(
            self.head + 1,
            entry["source"],
            entry["ingest_ts"],
            before.events,
            before.invoices,
            before.orgs,
            before.counts,
        )
        self.moments.append(now)
        if entry["kind"] == "contract":
            source.contract = entry["text"]
            return []
        if hashlib.sha256(source.contract.encode()).hexdigest() != entry["contract"]:
            return [f"entry {now.position} was judged by a contract that is not in force"]
        landed = list(self._landed(entry))
        if any(data is None for _, data in landed):
            return [f"landed bytes of entry {now.position} are missing or changed"]
        for item, data in landed:
            self.taken[item["file"]] = self.taken.get(item["file"], b"")[: item["lo"]] + data
        if entry["source"] == "events":
            self._events(source, landed, now)
        else:
            self._versions(entry["source"], source, landed, now)
        found = Counter(judged.verdict for judged in now.judged)
        now.counts = before.counts + Counter(
            {(entry["source"], verdict): count for verdict, count in found.items()}
        )
        expected = {**found, "landed": len(now.judged), "removed": now.removed}
        return [
            f"entry {now.position} counts {entry['counts'].get(name, 0)} {name}, "
            f"its bytes say {expected.get(name, 0)}"
            for name in ("landed", ACCEPTED, QUARANTINED, DUPLICATE, "removed")
            if entry["counts"].get(name, 0) != expected.get(name, 0)
        ]

    def _landed(self, entry: Row) -> Iterator[tuple[Row, Any]]:
        name = entry["object"]
        whole = self._read(f"landing/{entry['source']}/{name[:2]}/{name}")
        for item in entry.get("inputs", ()):
            if whole is None or hashlib.sha256(whole).hexdigest() != name:
                yield item, None
                continue
            data = whole[item["offset"] : item["offset"] + item["size"]]
            if item["compression"]:
                data = gzip.decompress(data)[item["lo"] : item["hi"]]
            yield item, data

    def _events(self, source: _Source, landed: Sequence[tuple[Row, bytes]], now: Moment) -> None:
        lines = [
            (line, number)
            for item, data in landed
            for number, line in _lines(data, item["first_line"], joined=item["joined"])
        ]
        least = Decimal(re.findall(r"holds: cost >= (\S+)", source.contract)[0])
        parsed = [(_event(line, least, now.ingest_ts), number) for line, number in lines]
        seen: set[Any] = set()
        verdicts: dict[int, tuple[str, str]] = {}
        # What breaks a rule is decided before anything else of the entry.
        for index, (event, _) in enumerate(parsed):
            if event.reason:
                same = event.key is not None and source.current.get(event.key) == event.payload
                known = event.identity in source.held or event.identity in seen or same
                verdicts[index] = (DUPLICATE, "") if known else (QUARANTINED, event.reason)
                seen.add(event.identity)
        events = dict(now.events)
        for index, (event, _) in enumerate(parsed):
            if event.reason:
                continue
            if event.key not in source.current:
                source.current[event.key] = event.payload
                events[event.key] = event.row
                verdicts[index] = (ACCEPTED, "")
            elif (
                source.current[event.key] == event.payload
                or event.identity in source.held
                or event.identity in seen
            ):
                verdicts[index] = (DUPLICATE, "")
            else:
                verdicts[index] = (QUARANTINED, "conflicting_duplicate")
                seen.add(event.identity)
        source.held |= seen
        now.events = events
        now.judged = [Judged(*verdicts[index], number) for index, (_, number) in enumerate(parsed)]

    def _versions(
        self, name: str, source: _Source, landed: Sequence[tuple[Row, bytes]], now: Moment
    ) -> None:
        rows = dict(now.invoices if name == "invoices" else now.orgs)
        listed: list[_Record] | None = None
        here: defaultdict[tuple[int, bytes], set[str]] = defaultdict(set)
        seen: set[Any] = set()
        for item, data in landed:
            place = (item["lo"], data)
            names = here[place]
            names |= source.names[place]
            repeated = bool(names) and item["file"] not in names
            names.add(item["file"])
            records = list(_rows(name, data, item["header"], first=item["lo"] == 0))
            if item["whole"] and not repeated:
                listed = records
            for record in records:
                verdict, reason = ACCEPTED, ""
                if repeated:
                    verdict = DUPLICATE
                elif record.reason:
                    known = record.identity in source.held or record.identity in seen
                    verdict = DUPLICATE if known else QUARANTINED
                    reason = "" if known else record.reason
                    seen.add(record.identity)
                elif source.current.get(record.key) == record.payload:
                    verdict = DUPLICATE
                else:
                    source.current[record.key] = record.payload
                    rows[record.key] = record.row
                now.judged.append(Judged(verdict, reason, item["first_line"] + record.line))
        for place, names in here.items():
            source.names[place] |= names
        source.held |= seen
        if name == "orgs" and listed is not None and all(one.key is not None for one in listed):
            gone = rows.keys() - {one.key for one in listed}
            now.removed = len(gone)
            for key in gone:
                del rows[key], source.current[key]
        if name == "invoices":
            now.invoices = rows
        else:
            now.orgs = rows


@dataclass(frozen=True)
class _Record:
    """A record, read."""

    reason: str
    """First rule it breaks; empty when it breaks none."""
    key: Any
    """None when it can't be read."""
    payload: Any
    row: Row
    line: int = 0
    raw: bytes = b""

    @property
    def identity(self) -> Any:
        """What a held record is known by."""
        return (self.key, self.payload) if self.key is not None else self.raw


def _lines(data: bytes, first: int, *, joined: bool) -> Iterator[tuple[int, bytes]]:
    if joined:
        data = data[data.index(b"\n") + 1 :]
    for number, line in enumerate(data.split(b"\n")):
        if line.strip(b" \t\r"):
            yield first + number, line


def _event(line: bytes, least: Decimal, ingest_ts: str) -> _Record:
    malformed = _Record("malformed", None, None, {}, raw=line)
    try:
        pairs = json.loads(
            line, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=lambda pairs: pairs
        )
    except ValueError:
        return malformed
    if not line.lstrip().startswith(b"{") or len(dict(pairs)) != len(pairs):
        return malformed
    row = dict(pairs)
    payload = frozenset((name, _plain(value)) for name, value in pairs if value is not None)
    cost, ts = row.get("cost"), row.get("ts")
    moment = _moment(ts)
    number = cost if isinstance(cost, Decimal) else None
    reason = (
        "wrong_type"
        if isinstance(cost, bool)
        else "key_unusable"
        if not (row.get("id") and row.get("org") and row.get("service"))
        else "number_out_of_range"
        if number is not None and number != number.quantize(SCALE, context=EXACT)
        else "ts_unreadable"
        if ts is not None and moment is None
        else "ts_missing"
        if ts is None
        else "too_cheap"
        if number is not None and number < least
        else "from_tomorrow"
        if moment is not None and moment > datetime.fromisoformat(ingest_ts)
        else ""
    )
    made = {**row, "ts": moment, "cost": number}
    return _Record(reason, row.get("id"), payload, made, raw=line)


def _plain(value: Any) -> Any:
    return value.normalize(EXACT) if isinstance(value, Decimal) else value


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def _rows(name: str, data: bytes, header: str, *, first: bool) -> Iterator[_Record]:
    columns = header.split(",")
    raws = data.split(b"\n")
    for number, cells in enumerate(csv.reader(io.StringIO(data.decode()))):
        if not cells or (first and number == 0):
            continue
        if len(cells) != len(columns):
            yield _Record("malformed", None, None, {}, number, raws[number])
            continue
        row: Row = {column: cell or None for column, cell in zip(columns, cells, strict=True)}
        payload = frozenset((column, cell) for column, cell in row.items() if cell is not None)
        key, reason = row[columns[0]], ""
        if name == "invoices":
            reason, row["amount"] = _amount(row["amount"])
            payload = frozenset((*row.items(), ("text", cells[2] if reason else "")))
        yield _Record(reason, key, payload, row, number, raws[number])


def _amount(text: str | None) -> tuple[str, Decimal | None]:
    if text is None:
        return "amount_missing", None
    try:
        return "", Decimal(text)
    except InvalidOperation:
        return "wrong_type", None


def table_of(name: str, moment: Moment, variant: Variant) -> list[Row]:
    """Return the rows of a silver or gold table at ``moment``."""
    usage = [
        {
            "id": event["id"],
            "org": event["org"],
            "day": event["ts"].date(),
            "service": event["service"],
            "cost": (event["cost"] or Decimal(0)) * variant.factor,
        }
        for event in moment.events.values()
    ]
    makers: Mapping[str, Callable[[], list[Row]]] = {
        "silver.enriched": lambda: _enriched(usage, moment),
        "gold.daily": lambda: _daily(usage),
        "gold.monthly": lambda: _monthly(usage),
        "gold.revenue": lambda: _revenue(moment),
        "gold.services": lambda: _services(usage, variant),
    }
    return makers[name]()


def _enriched(usage: Iterable[Row], moment: Moment) -> list[Row]:
    return [
        {
            "id": event["id"],
            "org": event["org"],
            "cost": event["cost"],
            "plan": moment.orgs.get(event["org"], {}).get("plan"),
        }
        for event in usage
    ]


def _daily(usage: Iterable[Row]) -> list[Row]:
    return [
        {
            "org": org,
            "day": day,
            "service": service,
            "cost": _sum(costs),
            "highest": max(costs),
            "events": len(costs),
            "average": (_sum(costs) / len(costs)).quantize(Decimal("0.000001"), context=EXACT),
        }
        for (org, day, service), costs in _grouped(usage, ("org", "day", "service"), "cost")
    ]


def _monthly(usage: Iterable[Row]) -> list[Row]:
    months = [{**event, "month": event["day"].replace(day=1)} for event in usage]
    return [
        {"org": org, "month": month, "cost": _sum(costs), "events": len(costs)}
        for (org, month), costs in _grouped(months, ("org", "month"), "cost")
    ]


def _revenue(moment: Moment) -> list[Row]:
    return [
        {"org": org, "amount": _sum(amounts), "invoices": len(amounts)}
        for (org,), amounts in _grouped(moment.invoices.values(), ("org",), "amount")
    ]


def _services(usage: Sequence[Row], variant: Variant) -> list[Row]:
    found = []
    for (org,), services in _grouped(usage, ("org",), "service"):
        listed = sorted(set(services), reverse=variant.descending)
        costs = [event["cost"] for event in usage if event["org"] == org]
        found.append({"org": org, "services": listed, "cost": _sum(costs)})
    return found


def _grouped(
    rows: Iterable[Row], keys: tuple[str, ...], value: str
) -> Iterable[tuple[tuple[Any, ...], list[Any]]]:
    groups: defaultdict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row[value])
    return groups.items()


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def comparable(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return ``rows`` so that equal tables are equal lists."""
    return sorted(
        json.dumps({name: _text(value) for name, value in row.items()}, sort_keys=True)
        for row in rows
    )


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value.normalize(EXACT):f}"
    if isinstance(value, date):
        return value.isoformat()
    return value
