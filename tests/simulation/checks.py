"""What must hold after every step, whatever happened before it."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.errors import UsageError
from meterhouse.lake.published import PUBLISHED, Published
from meterhouse.serving.schema import Served
from meterhouse.serving.snapshot import SqliteSnapshot, read
from meterhouse.serving.sqlite import finished_rows
from simulation.stored import Stored
from simulation.truth import Truth, Variant, comparable, variant_of

__all__ = ["BrokenError", "Checks"]

_TABLES = ("silver.enriched", "gold.daily", "gold.monthly", "gold.revenue", "gold.services")
_ROWS = 1_000


class BrokenError(AssertionError):
    """A promise was broken."""


@dataclass
class Checks:
    """Looks at a project from outside and holds it against the truth."""

    root: Path
    variants: Mapping[str, Variant]
    """``Model.sha256`` → what the text was."""
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """Log entries that somebody was told are in the log."""
    stood: list[frozenset[int]] = field(default_factory=lambda: [frozenset({0})])
    """Positions of lake and answers, again whenever one of them moved."""
    counted: dict[str, int] = field(default_factory=dict)
    """Kind of check → how often it was made."""
    moved: Counter[str] = field(default_factory=Counter)
    """What was seen to move → how often."""

    def __post_init__(self) -> None:
        self.stored = Stored(self.root)
        self._seen: dict[str, Any] = {}
        self._positions: dict[str, int] = {}
        self._parsed: tuple[bytes, Published] | None = None
        self.restart()

    def restart(self) -> None:
        """Look at everything anew: what was looked at may have been lost."""
        self.truth = Truth(self.stored.read)
        self._judged: set[tuple[str, str]] = set()
        self._seen.clear()

    def log(self) -> None:
        """The log has no gap and no lost entry, and says what its landed bytes say."""
        self._count("log")
        self._refuse(self.truth.follow())
        names = sorted(path.name for path in self.root.glob("log/[0-9]*.json"))
        expected = {f"{position:012d}.json" for position in range(1, self.truth.head + 1)}
        self._refuse([f"log holds {names}"] if not expected.issuperset(names) else [])
        for name, data in self.acknowledged.items():
            if self.stored.read(name) != data:
                raise BrokenError(f"acknowledged entry {name} is lost or changed")

    def all_taken(self, refused: str) -> None:
        """Every byte that was delivered is in the log, but for files that ``refused`` names."""
        self._count("all taken")
        for path in sorted((self.root / "inbox").iterdir()):
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            taken = self.truth.taken.get(f"inbox/{path.name}", b"")
            # A last line is taken without its newline, which waits for what comes after it.
            if data not in (taken, taken + b"\n") and path.name not in refused:
                raise BrokenError(f"{path.name} holds {data!r}, the log has {taken!r} of it")

    def state(self) -> None:
        """The state claims nothing that is not there; judged rows are what the bytes say."""
        self._count("state")
        path = self.root / "index/state.db"
        if not path.exists():
            return
        with _reading(path) as db:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'cover'").fetchone():
                return
            cover = db.execute("SELECT position, head FROM cover").fetchone() or (0, "")
            judged = db.execute("SELECT position, source, sha256, first FROM judged").fetchall()
            runs = db.execute("SELECT source, which, name, sha256 FROM runs").fetchall()
        self._within("the state", *cover)
        for position, source, sha256, first in judged:
            name = f"judged/{source}/{position:012d}.parquet"
            if first:
                name = f"judged/{source}/0-joined/{first:012d}-{position:012d}.parquet"
            self._file(name, sha256)
            if (name, sha256) not in self._judged:
                self.moved["joined judged files"] += bool(first)
                self._rows(self.root / name, source, range(first or position, position + 1))
                self._judged.add((name, sha256))
        for source, which, name, sha256 in runs:
            self._file(f"index/{source}/{which}/{name}", sha256)

    def lake(self, *, whole: bool = True) -> None:
        """What is published is the batch over the log up to its position.

        Args:
            whole: False looks at what is named only, not at the rows.
        """
        self._count("lake")
        published = self._published()
        if published is None:
            return
        stamp = published.stamp
        self._within("the lake", stamp.position, stamp.head)
        self._stands("published", stamp.position)
        if self._seen.get("lake") == published.checksum or not whole:
            return
        self._seen["lake"] = published.checksum
        self.moved["lake published"] += 1
        for name in _TABLES:
            if name in published.tables:
                position = published.details.get("stale", {}).get(name, stamp.position)
                variants = [self.variants[published.tables[name].model]]
                rows = _lake_rows(published, name)
                self._table(f"lake {name}", name, rows, position, variants)

    def serving(self) -> None:
        """What is served is the batch over the log up to its position, whole."""
        self._count("serving")
        path = self.root / "serving.db"
        try:
            served, tables = read(path, _served)
        except UsageError:
            return
        stamp, details = served.stamp, served.details
        before = self._seen.get("served", (0, 0))
        if served.epoch != before[0]:
            self.moved["promotion"] += 1
        elif stamp.position != before[1]:
            self.moved["live answers"] += 1
        self._seen["served"] = (served.epoch, stamp.position)
        self._within("the serving store", stamp.position, stamp.head)
        self._stands("served", stamp.position)
        variant = self._variant(details["models"])
        for name, rows in tables.items():
            position = details.get("stale", {}).get(name)
            # A table whose model is not valid now is what another text made of it.
            variants = {variant} if position is None else set(self.variants.values())
            at = stamp.position if position is None else position
            self._table(f"served {name}", name, rows, at, variants)

    def reader(self, name: str, rows: list[dict[str, Any]], since: int) -> None:
        """What a reader got is a table at one position of those since ``stood[since]``."""
        self._count("reader")
        found = comparable(rows)
        for position in frozenset().union(*self.stood[since:]):
            for variant in set(self.variants.values()):
                if found == self.truth.table(name, position, variant):
                    return
        raise BrokenError(f"a reader got {name} as it never was since: {rows}")

    def _published(self) -> Published | None:
        """Return what is published; bytes that were read before are not parsed again."""
        data = self._blob(PUBLISHED)
        if data is None:
            return None
        if self._parsed is None or self._parsed[0] != data:
            root = str(self.root / "lake")
            self._parsed = data, Published.from_bytes(data, where=PUBLISHED, root=root)
        return self._parsed[1]

    def _table(
        self,
        where: str,
        name: str,
        rows: list[dict[str, Any]],
        position: int,
        variants: Iterable[Variant],
    ) -> None:
        found = comparable(rows)
        expected: list[str] = []
        for variant in variants:
            expected = self.truth.table(name, position, variant)
            if found == expected:
                return
        missing = [row for row in expected if row not in found]
        more = [row for row in found if row not in expected]
        raise BrokenError(f"{where} at position {position}: missing {missing}, unexpected {more}")

    def _variant(self, generation: str) -> Variant:
        """Return what the texts of a generation make of the events."""
        data = self._blob(f"generations/{generation}.json")
        if data is None or hashlib.sha256(data).hexdigest() != generation:
            raise BrokenError(f"generation {generation} is served, but missing or changed")
        return variant_of({name: one["text"] for name, one in json.loads(data)["models"].items()})

    def _rows(self, path: Path, source: str, positions: Iterable[int]) -> None:
        moments = [self.truth.moments[position] for position in positions]
        moments = [moment for moment in moments if moment.source == source]
        found = pq.ParquetFile(path).read(use_threads=False).to_pylist()
        rows = [
            (row["verdict"], row["invalid_reason"] or "", row["source_line"], _at(row))
            for row in found
            if row["verdict"] != "removed"
        ]
        expected = [
            (one.verdict, one.reason, one.line, moment.ingest_ts)
            for moment in moments
            for one in moment.judged
        ]
        if rows != expected:
            raise BrokenError(f"{path.name} holds {rows}, its bytes say {expected}")
        if {_at(row) for row in found} - {moment.ingest_ts for moment in moments}:
            raise BrokenError(f"{path.name} was judged at another time than its entry says")

    def _within(self, what: str, position: int, head: str) -> None:
        if position > self.truth.head:
            raise BrokenError(f"{what} claims entry {position}, the log has {self.truth.head}")
        if position and hashlib.sha256(self._entry(position)).hexdigest() != head:
            raise BrokenError(f"{what} claims another entry {position} than the log has")

    def _entry(self, position: int) -> bytes:
        return self.stored.read(f"log/{position:012d}.json") or b""

    def _file(self, name: str, sha256: str) -> None:
        data = self._blob(name)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise BrokenError(f"{name} is claimed, but {'missing' if data is None else 'other'}")

    def _blob(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def _stands(self, what: str, position: int) -> None:
        self._positions[what] = position
        found = frozenset(self._positions.values())
        if self.stood[-1] != found:
            self.stood.append(found)

    def _count(self, kind: str) -> None:
        self.counted[kind] = self.counted.get(kind, 0) + 1

    @staticmethod
    def _refuse(problems: list[str]) -> None:
        if problems:
            raise BrokenError("; ".join(problems))


def _at(row: Mapping[str, Any]) -> str:
    return f"{row['ingest_ts']:%Y-%m-%dT%H:%M:%S.%fZ}"


def _lake_rows(published: Published, name: str) -> list[dict[str, Any]]:
    relation = published.relation(name)
    parts = [pq.ParquetFile(path).read(use_threads=False) for path in relation.paths]
    rows: list[dict[str, Any]] = pa.concat_tables(
        [relation.schema.empty_table(), *(part.cast(relation.schema) for part in parts)]
    ).to_pylist()
    return rows


def _served(snapshot: SqliteSnapshot) -> tuple[Served, dict[str, list[dict[str, Any]]]]:
    tables = {}
    for name, table in sorted(snapshot.stored.items()):
        rows = [row for rows in snapshot.raw(table, _ROWS) for row in rows]
        tables[name] = finished_rows(table, rows).to_pylist()
    return snapshot.served, tables


def _reading(path: Path) -> Any:
    return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True))
