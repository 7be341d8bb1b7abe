"""A delivery cut up, shuffled, repeated and packed: the same records, arriving in disorder."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random

import zstandard

from e2e.house import House, arrival, plain
from meterhouse.verify import Term
from oracle import records
from oracle.sources import SOURCES

File = tuple[str, bytes]
Terms = dict[tuple[str, str], Term]

SNAPSHOTS = ("customers_orgs", "users", "resources")
VERSIONED = (*SNAPSHOTS, "billing_monthly", "support_tickets")
APPENDED = ("marketing_touches", "nps_surveys")


@dataclass
class Mess:
    """Files by the call of ``ingest`` that takes them, and what was added to them."""

    calls: list[list[File]]
    extra: Counter[str] = field(default_factory=Counter)
    """Source → records delivered once more than in the tidy delivery."""
    copies: list[bytes] = field(default_factory=list)
    """Lines of events that were delivered once more."""

    def arrived(self) -> list[File]:
        """Every file by name and decoded bytes, in the order of the log."""
        return [
            (name, unpacked(name, data)) for files in self.calls for name, data in arrival(files)
        ]


def mess(
    files: Sequence[File],
    seed: int,
    *,
    calls: int,
    redelivered: float = 0.05,
    doubled: float = 0.1,
    masters: str = "between",
) -> Mess:
    """Return the records of ``files`` in other files.

    Events and rows of append sources are shuffled and cut anew; what has versions stays one
    file and in its order. A share of the lines and of the files comes twice.

    Args:
        files: A tidy delivery, in order.
        seed: Of everything random here.
        calls: Of ``ingest``; 0: one for each file.
        redelivered: Share of event lines delivered again somewhere.
        doubled: Share of files delivered again under another name.
        masters: before, between or after the events.
    """
    random = Random(seed)
    found = Mess([])
    appended = _events(files, random, redelivered, found) + _rows(files, random)
    versioned = [(name, data) for name, data in files if _source(name) in VERSIONED]
    again = [(name, data) for name, data in (*appended, *versioned) if random.random() < doubled]
    for name, data in again:
        source = _source(name)
        found.extra[source] += _records(source, data)
        if source == "usage_events":
            found.copies += [line for line in data.split(b"\n") if line.strip()]
    loose = [(f"again/{name}", data) for name, data in again if _source(name) not in VERSIONED]
    bound = {name for name, _ in again if _source(name) in VERSIONED}
    count = calls or len(appended) + len(versioned) + len(again)
    found.calls = [[] for _ in range(count)]
    last = max(count - 1, 0)
    first_event = 1 if masters == "before" and count > 1 else 0
    last_event = last - 1 if masters == "after" and count > 1 else last
    for file in [*appended, *loose]:
        found.calls[random.randint(first_event, last_event)].append(_packed(file, random))
    _in_order(found, versioned, bound, random, masters)
    found.calls = [taken for taken in found.calls if taken]
    return found


def _in_order(
    found: Mess, versioned: list[File], bound: set[str], random: Random, masters: str
) -> None:
    """Put files with versions into calls such that no version overtakes another.

    A copy comes with its first or later; its bytes are known then, so it changes nothing.
    """
    last = len(found.calls) - 1
    for source in VERSIONED:
        own = [file for file in versioned if _source(file[0]) == source]
        places = {
            "before": [0] * len(own),
            "after": [last] * len(own),
            "between": sorted(random.randint(0, last) for _ in own),
        }[masters]
        for (name, data), place in zip(own, places, strict=True):
            found.calls[place].append(_packed((name, data), random))
            if name in bound:
                copy = (f"zz/{name}", data)  # sorts behind its source's other files
                found.calls[random.randint(place, last)].append(_packed(copy, random))


def _events(files: Sequence[File], random: Random, redelivered: float, found: Mess) -> list[File]:
    lines = [
        line
        for name, data in files
        if _source(name) == "usage_events"
        for line in unpacked(name, data).removesuffix(b"\n").split(b"\n")
    ]
    full = [line for line in lines if line.strip()]
    copies = random.sample(full, int(len(full) * redelivered))
    found.copies += copies
    found.extra["usage_events"] += len(copies)
    lines += copies
    random.shuffle(lines)
    made = []
    for number, part in enumerate(_cut(lines, random, most=12)):
        end = b"" if _whole(part[-1]) and random.random() < 0.5 else b"\n"
        made.append((f"stream/events_{number:03}.jsonl", b"\n".join(part) + end))
    return made


def _rows(files: Sequence[File], random: Random) -> list[File]:
    made = []
    for source in APPENDED:
        own = [data for name, data in files if _source(name) == source]
        header = own[0].partition(b"\n")[0] if own else b""
        rows = [row for data in own for row in data.split(b"\n")[1:] if row]
        random.shuffle(rows)
        for number, part in enumerate(_cut(rows, random, most=3)):
            made.append((f"csv/{source}_{number}.csv", b"\n".join([header, *part, b""])))
    return made


def _cut(lines: list[bytes], random: Random, *, most: int) -> list[list[bytes]]:
    if not lines:
        return []
    count = min(random.randint(2, most), len(lines))
    places = [0, *sorted(random.sample(range(1, len(lines)), count - 1)), len(lines)]
    return [lines[lo:hi] for lo, hi in pairwise(places)]


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _records(source: str, data: bytes) -> int:
    lines = [line for line in data.split(b"\n") if line.strip()]
    return len(lines) - (source != "usage_events")


def _source(name: str) -> str:
    base = name.rpartition("/")[2]
    return next((it for it in (*VERSIONED, *APPENDED) if base.startswith(it)), "usage_events")


def _packed(file: File, random: Random) -> File:
    name, data = file
    kind = random.choice(("", "", "gz", "zst"))
    if kind == "gz":
        return f"{name}.gz", gzip.compress(data, 1, mtime=0)
    if kind == "zst":
        return f"{name}.zst", zstandard.compress(data, 1)
    return file


def unpacked(name: str, data: bytes) -> bytes:
    """The decoded bytes of a file."""
    if name.endswith(".gz"):
        return gzip.decompress(data)
    return zstandard.decompress(data) if name.endswith(".zst") else data


def played(
    root: Path, calls: Mess, *, batches: Sequence[int] = (), models: Sequence[str] = ()
) -> House:
    """A project that took the delivery call by call, published after some and at the end."""
    house = House.new(root, models=models)
    for number, files in enumerate(calls.calls):
        folder = house.inbox / f"{number:03}"
        for name, data in files:
            house.put(f"{number:03}/{name}", data)
        house.ingest(folder)
        if number in batches:
            house.batch()
    house.batch()
    return house


def cost(lines: Sequence[bytes]) -> Decimal:
    """What the readable amounts of event lines add up to."""
    found, _ = records.read(SOURCES["usage_events"], "copies", b"\n".join(lines))
    return sum((one.row.get("cost_usd_increment") or Decimal(0) for one in found), Decimal(0))


def assert_explained(house: House, before: Terms, messed: Mess) -> None:
    """Every record that came once more is a duplicate, to the cent; nothing else moved."""
    after = terms(house)
    assert set(after) == set(before)
    for source, measure in before:
        if measure != "records":
            continue
        was, now = before[source, measure], after[source, measure]
        extra = messed.extra[source]
        assert (now.accepted, now.quarantined) == (was.accepted, was.quarantined), source
        assert (now.current, now.superseded) == (was.current, was.superseded), source
        assert int(now.landed) == int(was.landed) + extra, source
        assert int(now.duplicate) == int(was.duplicate) + extra, source
    was, now = (one["usage_events", "cost_usd_increment USD"] for one in (before, after))
    added = cost(messed.copies)
    assert (now.accepted, now.quarantined) == (was.accepted, was.quarantined)
    assert now.landed == plain(Decimal(was.landed) + added)
    assert now.duplicate == plain(Decimal(was.duplicate) + added)


def terms(house: House) -> Terms:
    """The proven ledger: (source, measure) → its terms."""
    return {(term.source, term.measure): term for term in house.verified().terms}
