"""Fifty mixes of duplicated, late, reordered and re-cut deliveries give identical tables (G2).

Events come in any order, again and again, in other spellings and files. Invoices and lists of
organisations are versions: those come in their order, but cut anew, and old ones again.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

import pytest

from meterhouse.config import default_text, load_settings
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.ports import Engine
from meterhouse.project import Project
from meterhouse.testing import FixedClock

MIXES = 50
QUICK = 5
CATALOG = Path(__file__).parent.parent / "simulation" / "catalog"
SETTINGS = {"ingest.piece_bytes": "600B", "engine.threads": "1"}
TABLES = (
    "bronze.events",
    "bronze.invoices",
    "bronze.orgs",
    "bronze.quarantine_events",
    "bronze.quarantine_invoices",
    "gold.daily",
    "gold.monthly",
    "gold.revenue",
    "gold.services",
    "silver.enriched",
)
ARRIVAL = {
    "entry_position",
    "ingest_ts",
    "log_position",
    "row_number",
    "source_file",
    "source_line",
    "valid_from",
    "valid_from_position",
    "valid_to",
    "valid_to_position",
}
"""Columns that say when and from where a row came: the only ones that arrival may change."""

DAYS = ("2025-01-03", "2025-06-30", "2025-07-01", "2025-08-31")
COSTS = ("0.1", "0.10", "2.5", "-0.01", "1000000.000000001", "null", "3e-9")
EVENTS = [
    f'{{"id": "e{number}", "org": "{"abc"[number % 3]}", "ts": "{DAYS[number % 4]}T10:{number:02}:'
    f'00Z", "service": "{("compute", "genai")[number % 2]}", "cost": {COSTS[number % 7]}}}'
    for number in range(40)
]
HELD = [
    "no json at all",
    '{"id": "twice", "id": "twice", "org": "a"}',
    '{"id": "w", "org": "a", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": true}',
    '{"id": "t", "org": "b", "ts": null, "service": "x", "cost": 1}',
    '{"id": "r", "org": "b", "ts": "2025-07-01T00:00:00Z", "service": "x", "cost": -7}',
]
INVOICES = (
    ["i1,a,10", "i2,b,-3.333333333", "i3,c,7", "i4,a,x"],
    ["i1,a,10.50", "i5,b,0.000000001"],
    ["i1,a,10.0", "i3,c,", "i6,c,5"],
)
"""Versions, in their order; the third one takes the second one's correction back.

In other bytes: those of an older file, under another name, would be that file again.
"""
ORGS = (["a,free", "b,pro", "c,pro"], ["a,pro", "c,pro"])


class MixedProject(Project):
    """A project with one engine for all: opening one costs more than a mix."""

    shared: Engine

    @cached_property
    def engine(self) -> Engine:
        return self.shared


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = DuckDBEngine(256 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


class Mix:
    """One way to deliver it all."""

    def __init__(self, root: Path, engine: Engine, seed: int) -> None:
        root.mkdir()
        shutil.copytree(CATALOG / "contracts", root / "contracts")
        shutil.copytree(CATALOG / "models", root / "models")
        (root / "meterhouse.toml").write_text(default_text())
        self.inbox = root / "inbox"
        self.inbox.mkdir()
        self.project = MixedProject(root, load_settings(root, {}, SETTINGS), FixedClock())
        self.project.shared = engine
        self.chance = random.Random(seed)
        self.files = 0
        self.growing: list[Path] = []
        self.tables: dict[str, list[Path]] = {"invoices": [], "orgs": []}

    def everything_once(self) -> None:
        for rows in INVOICES:
            self.table("invoices", "invoice,org,amount", rows)
            self.take()
        for rows in ORGS:
            self.table("orgs", "org,plan", rows)
            self.take()
        self.put("events", "\n".join([*EVENTS, *HELD, ""]))
        self.take()

    def anyhow(self) -> None:
        lines = [line for line in EVENTS for _ in range(self.chance.choice((1, 1, 2, 3)))]
        lines = [self.respelled(line) for line in lines]
        lines += [line for line in HELD for _ in range(self.chance.randint(1, 2))]
        self.chance.shuffle(lines)
        stages = [("invoices", "invoice,org,amount", rows) for rows in INVOICES]
        for place, rows in zip((self.chance.randint(0, 3), 5), ORGS, strict=True):
            stages.insert(place, ("orgs", "org,plan", rows))
        while lines or stages:
            for _ in range(self.chance.randint(0, 3)):
                lines = self.deliver(lines)
            if stages and self.chance.random() < 0.5:
                self.version(*stages.pop(0))
            if self.chance.random() < 0.3:
                self.copy()
            if self.chance.random() < 0.7:
                self.take()
            if self.chance.random() < 0.2:
                self.project.batch(full=self.chance.random() < 0.2)
        self.take()

    def deliver(self, lines: list[str]) -> list[str]:
        """Deliver some of ``lines``, in a new file or at the end of one; return the others."""
        count = self.chance.randint(1, 12)
        data = "".join(f"{line}\n" for line in lines[:count])
        if data and self.growing and self.chance.random() < 0.4:
            with self.chance.choice(self.growing).open("a") as file:
                file.write(data)
        elif data and self.chance.random() < 0.2:
            self.put("events", gzip.compress(data.encode(), mtime=0), ".jsonl.gz")
        elif data:
            self.growing.append(self.put("events", data))
        return lines[count:]

    def version(self, source: str, header: str, rows: list[str]) -> None:
        """Deliver the next version, invoices perhaps in several files; take it."""
        cut = self.chance.randint(1, len(rows)) if source == "invoices" else len(rows)
        for part in filter(None, (rows[:cut], rows[cut:])):
            self.table(source, header, part)
            self.take()

    def copy(self) -> None:
        """Deliver what was taken once more, under another name."""
        source = self.chance.choice(["events", *self.tables])
        known = self.growing if source == "events" else self.tables[source]
        if known:
            old = self.chance.choice(known)
            self.put(source, old.read_bytes(), old.suffix)

    def table(self, source: str, header: str, rows: list[str]) -> None:
        self.tables[source].append(self.put(source, "\n".join([header, *rows, ""]), ".csv"))

    def put(self, source: str, data: str | bytes, ending: str = ".jsonl") -> Path:
        self.files += 1
        path = self.inbox / f"{source}-{self.files:03}{ending}"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def respelled(self, line: str) -> str:
        """The same record in other bytes: fields in another order, other blanks."""
        fields = [field.split(": ", 1) for field in line.strip("{}").split(", ")]
        if self.chance.random() < 0.5:
            self.chance.shuffle(fields)
        blank = self.chance.choice(["", " ", "  "])
        return "{" + ",".join(f"{name}:{blank}{value}" for name, value in fields) + blank + "}"

    def take(self) -> None:
        """Take what is in the inbox, live or not."""
        report = self.project.ingest(self.inbox)
        assert report.errors == []
        if self.chance.random() < 0.5:
            self.follow()

    def follow(self) -> None:
        """Bring the answers up to the log."""
        with (
            self.project._views() as state,
            closing(self.project._speed(self.project._log(), state)) as speed,
        ):
            speed.catch_up(state.stamp())

    def seen(self) -> dict[str, list[str]]:
        """Every table's rows, but for when and from where they came."""
        return {
            name: sorted(
                json.dumps({key: str(row[key]) for key in row if key not in ARRIVAL})
                for row in self.project.read(name).to_pylist()
            )
            for name in TABLES
        }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> dict[str, list[str]]:
    mix = Mix(tmp_path_factory.mktemp("once") / "project", engine, 0)
    mix.everything_once()
    mix.project.batch()
    return mix.seen()


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=[pytest.mark.slow] * (seed > QUICK)) for seed in range(1, MIXES + 1)],
)
def test_a_mix_gives_the_same_tables(
    tmp_path: Path, engine: Engine, expected: dict[str, list[str]], seed: int
) -> None:
    mix = Mix(tmp_path / "project", engine, seed)

    mix.anyhow()

    mix.follow()
    assert mix.seen() == expected, "live"
    mix.project.batch()
    assert mix.seen() == expected, "published"
    assert mix.project.verify(quick=True).verdict == "holds"


def test_nothing_in_a_mix_is_empty(expected: dict[str, list[str]]) -> None:
    assert {name: len(rows) for name, rows in expected.items()} == {
        "bronze.events": 40,
        "bronze.invoices": 7,
        "bronze.orgs": 4,
        "bronze.quarantine_events": 5,
        "bronze.quarantine_invoices": 2,
        "gold.daily": 12,
        "gold.monthly": 12,
        "gold.revenue": 3,
        "gold.services": 3,
        "silver.enriched": 40,
    }
