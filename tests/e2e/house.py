"""A project as its user has it: made, fed, published, read and proved; in this process."""

from __future__ import annotations

import fcntl
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.cli import run
from meterhouse.layers.batch import BatchReport
from meterhouse.log.report import IngestReport
from meterhouse.ports import Clock
from meterhouse.project import Project, open_project
from meterhouse.scaffold import init
from meterhouse.testing import FixedClock
from meterhouse.verify import Report
from oracle import Oracle, canonical_rows, differences

TECHNICAL = {
    "log_position",
    "row_number",
    "source_file",
    "source_line",
    "ingest_ts",
    "valid_from",
    "valid_to",
    "valid_from_position",
    "valid_to_position",
}
"""Columns that say when and from where a row came: the only ones that arrival may change."""

DAILY = ("gold.finops_by_org_day",)
"""The models of a small project about events alone."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Ran:
    """What a run of the program left behind."""

    code: int
    out: str
    err: str


@dataclass
class House:
    """One project and the clock it lives by."""

    root: Path
    clock: Clock = field(default_factory=FixedClock)

    @classmethod
    def new(cls, root: Path, *, models: Sequence[str] = (), **given: Any) -> House:
        """Make a project; with ``models`` it has these, and what they are made of, only."""
        init(root)
        if models:
            reduce_catalog(root, models)
        return cls(root, **given)

    @property
    def project(self) -> Project:
        """The project as a new process opens it."""
        return open_project(self.root, clock=self.clock)

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    def put(self, name: str, data: str | bytes) -> Path:
        """Write a file into the inbox."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def ingest(self, *paths: str | Path, source: str | None = None) -> IngestReport:
        """Take files (all of the inbox when none is named); nothing may be refused."""
        report = self.project.ingest(*(paths or [self.inbox]), source=source)
        assert report.errors == []
        return report

    def batch(self, *, full: bool = False) -> BatchReport:
        report = self.project.batch(full=full)
        assert report.problems == ()
        return report

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a contract or a model, as its author would."""
        path = self.root / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} holds it {text.count(old)} times: {old}"
        path.write_text(text.replace(old, new))

    def table(self, name: str) -> pa.Table:
        """A published table by its files, read by nothing of the product; a view as it is read."""
        published = self.project.published()
        assert published is not None
        if name not in published.tables:
            return self.project.read(name)
        table, lake = published.table(name), self.root / "lake"
        parts = [pq.ParquetFile(lake / file.path).read() for file in table.files]
        schema = table.arrow_schema()
        return pa.concat_tables([schema.empty_table(), *(part.cast(schema) for part in parts)])

    def rows(self, name: str) -> list[dict[str, Any]]:
        """A published table as the Python API reads it; maps as dictionaries."""
        return rows_of(self.project.read(name))

    def tables(self, *, layers: Sequence[str] = ("silver", "gold")) -> dict[str, pa.Table]:
        """Every silver and gold table, sorted, without technical columns."""
        published = self.project.published()
        assert published is not None
        return {
            name: steady(self.table(name))
            for name in published.tables
            if name.partition(".")[0] in layers
        }

    def verified(self) -> Report:
        """Verify; everything must hold."""
        report = self.project.verify()
        assert report.verdict == "holds", "\n".join(map(str, report.findings))
        return report

    def ledger(self) -> dict[str, dict[str, int]]:
        """Source → term → records, as verify counted them, which must hold."""
        terms = ("landed", "accepted", "quarantined", "duplicate", "blank")
        return {
            term.source: {name: int(getattr(term, name)) for name in terms}
            for term in self.verified().terms
            if term.measure == "records"
        }

    def cli(self, *arguments: str) -> Ran:
        """Run the program in this process."""
        return cli("--project", str(self.root), *arguments)

    def program(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the program as a process of its own."""
        return subprocess.Popen(
            self.program_line(*arguments),
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def program_line(self, *arguments: str) -> list[str]:
        """The program's command line."""
        return [sys.executable, "-m", "meterhouse", "--project", str(self.root), *arguments]


def reduce_catalog(root: Path, wanted: Sequence[str]) -> None:
    """Leave only these models, those that they read, and the contracts of their sources.

    Doing it again changes nothing.
    """
    texts = {
        f"{path.parent.name}.{path.stem}": path for path in (root / "models").glob("[sg]*/*.sql")
    }
    kept: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in texts and name not in kept:
            waiting += re.findall(r"(?:bronze|silver|gold)\.\w+", texts[name].read_text())
        kept.add(name)
    for name, path in texts.items():
        if name not in kept:
            path.unlink()
    sources = {name.removeprefix("bronze.").removesuffix("_current") for name in kept}
    for path in (root / "contracts").glob("*.yaml"):
        if path.stem not in sources:
            path.unlink()


def cli(*arguments: str) -> Ran:
    """Run the program in this process, output caught as bytes."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["meterhouse", *arguments])
        code = run()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Ran(code, *texts)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Arrow rows as dictionaries; a map, which Arrow gives as pairs, as a dictionary."""
    maps = [item.name for item in table.schema if pa.types.is_map(item.type)]
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in maps:
            row[name] = None if row[name] is None else dict(row[name])
    return rows


def steady(table: pa.Table) -> pa.Table:
    """``table`` without technical columns, its rows in an order of their own."""
    kept = table.select([name for name in table.schema.names if name not in TECHNICAL])
    keys = [item.name for item in kept.schema if item.type.num_fields == 0]
    return kept.sort_by([(name, "ascending") for name in keys]).combine_chunks()


def assert_same(found: Mapping[str, pa.Table], expected: Mapping[str, pa.Table]) -> None:
    """Every table holds the same rows, cell by cell, type by type."""
    assert sorted(found) == sorted(expected)
    for name, table in expected.items():
        if found[name].equals(table):
            continue
        assert found[name].schema == table.schema, name
        problems = differences(rows_of(table), rows_of(found[name]))
        raise AssertionError(f"{name}: {problems or 'NULL and empty differ'}")


def assert_oracle(house: House, oracle: Oracle, tables: Iterable[str] = ()) -> None:
    """Each table the oracle computes is published with just these rows."""
    for name in tables or oracle.tables:
        expected = oracle.tables[name]
        actual = rows_of(house.table(name))
        columns = list(expected[0]) if expected else []
        assert canonical_rows(actual, columns) == canonical_rows(expected, columns), (
            name,
            differences(expected, actual),
        )
        assert len(actual) == len(expected), name


def assert_ledger(house: House, oracle: Oracle) -> None:
    """The proven ledger has the oracle's terms: records of each source, money by currency."""
    report = house.verified()
    found = {(term.source, term.measure): term for term in report.terms}
    for source, expected in oracle.ledger.items():
        records = expected["records"]
        if not records["landed"]:
            continue
        term = found[source, "records"]
        for name in ("landed", "accepted", "quarantined", "duplicate", "blank"):
            assert getattr(term, name) == str(records[name]), (source, name)
        for name in ("current", "superseded"):
            assert getattr(term, name) == str(records.get(name, "")), (source, name)
        for column, currencies in expected["money"].items():
            for currency, sums in currencies.items():
                _assert_money(found, source, f"{column} {currency}", sums)


def _assert_money(found: Mapping[Any, Any], source: str, measure: str, sums: Any) -> None:
    names = ("landed", "accepted", "quarantined", "duplicate")
    term = found.get((source, measure))
    for name in names:
        expected = plain(sums.get(name, 0))
        assert (getattr(term, name) if term else "0") == expected, (source, measure, name)
    found_unreadable = term.unreadable if term else "0"
    assert found_unreadable == str(sums.get("unreadable", 0)), (source, measure, "unreadable")


def plain(amount: Any) -> str:
    """An exact amount without exponent or trailing zeros."""
    text = f"{amount:f}" if not isinstance(amount, int) else str(amount)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def delivery(folder: Path) -> list[tuple[str, bytes]]:
    """The files of a delivery in order of arrival, but for the truth about it."""
    return [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "truth.json"
    ]


ORDER = (
    "customers_orgs",
    "resources",
    "users",
    "billing_monthly",
    "support_tickets",
    "marketing_touches",
    "nps_surveys",
    "",
)


def arrival(files: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Files in the order in which one call of ``ingest`` takes them."""
    return sorted(files, key=lambda item: (_rank(item[0]), item[0]))


def _rank(name: str) -> int:
    base = re.split(r"[/\\]", name)[-1]
    return next(rank for rank, start in enumerate(ORDER) if base.startswith(start))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time in."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What ``make`` made in a folder of that name: once for all workers of a test run."""
    base = factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder, done = shared / f"shared-{name}", shared / f"shared-{name}.pickle"
    with locked(shared / f"shared-{name}.lock"):
        if not done.exists():
            done.write_bytes(pickle.dumps(make(folder)))
    made: Made = pickle.loads(done.read_bytes())
    return made
