"""Ways to damage a file, and what of a project there is to damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.house import House
from meterhouse.project import Project
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.synth import Options, generate
from meterhouse.verify import Report, Subject
from meterhouse.verify.served import check_serving

MODELS = (
    "silver.usage",
    "silver.orgs",
    "gold.org_daily_usage_by_service",
    "gold.finops_by_org_day",
)
TRUTH = ("landing", "log")


def made(root: Path) -> Path:
    """A small published project with a file of every kind; made in many small batches."""
    shutil.rmtree(root, ignore_errors=True)
    delivery, house = root / "delivery", House.new(root / "project", models=MODELS)
    generate(
        delivery,
        Options(events=240, orgs=5, days=6, files=12, poison=0.1, duplicates=0.1, conflicts=0.02),
    )
    masters = sorted(delivery.glob("customers_orgs*.csv"))
    for number, path in enumerate(sorted((delivery / "usage_events_stream").iterdir())):
        house.ingest(path, *(masters if not number else []))
        house.batch()
    house.verified()
    return house.root


def files(root: Path) -> dict[str, list[Path]]:
    """Kind → files of that kind, one of each sort, relative to the project."""
    lake = Path("lake")
    log = lake / "bronze/usage_events/_delta_log"

    def some(pattern: str, *which: int) -> list[Path]:
        found = sorted(path.relative_to(root) for path in root.glob(pattern) if path.is_file())
        return [found[index] for index in which]

    return {
        "landed events": some("landing/usage_events/*/*", 0),
        "landed snapshot": some("landing/customers_orgs/*/*", 0),
        "log": some("log/*.json", 0, 3, -1),
        "judged events": some("judged/usage_events/*.parquet", 0),
        "judged snapshot": some("judged/customers_orgs/*.parquet", 0),
        "state": [Path("index/state.db")],
        "run of keys": some("index/usage_events/keys/*.run", 0),
        "run of held": some("index/usage_events/held/*.run", 0),
        "lake data": some("lake/gold/finops_by_org_day/*.parquet", -1),
        "lake data, partitioned": some("lake/bronze/usage_events/*/*/*.parquet", 0),
        "delta log": [log / f"{0:020d}.json", log / f"{11:020d}.json"],
        "delta checkpoint": [log / f"{9:020d}.checkpoint.parquet", log / "_last_checkpoint"],
        "publication": [lake / "published.json"],
        "serving": [Path("serving.db")],
    }


@dataclass(frozen=True)
class Damage:
    """One way to damage a file."""

    name: str
    do: Callable[[bytes], bytes | None]
    """The file's bytes afterwards; None when it is gone."""


def flip(share: float, bit: int = 0) -> Damage:
    def do(data: bytes) -> bytes:
        at = min(int(len(data) * share), len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

    return Damage(f"bit {bit} flipped at {share:.0%}", do)


def truncated(share: float) -> Damage:
    return Damage(
        f"cut to {share:.0%}", lambda data: data[: min(int(len(data) * share), len(data) - 1)]
    )


DELETED = Damage("deleted", lambda data: None)
GROWN = Damage("one byte longer", lambda data: data + b"\0")


@contextmanager
def damaged(root: Path, path: Path, damage: Damage) -> Iterator[bool]:
    """Damage a file for a while; yields whether anything that counts was changed."""
    file = root / path
    before = file.read_bytes()
    values = sql_values(file) if path.suffix == ".db" else None
    after = damage.do(before)
    try:
        if after is None:
            file.unlink()
        else:
            file.write_bytes(after)
        yield values is None or after is None or sql_values(file) != values
    finally:
        for end in ("-wal", "-shm", "-journal"):
            file.with_name(file.name + end).unlink(missing_ok=True)
        file.write_bytes(before)


def sql_values(path: Path) -> object:
    """Every value of an SQLite file; what it says when it can't be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            rows = {
                name: db.execute(f'SELECT * FROM "{name}"').fetchall()
                for (name,) in tables
                if not name.startswith("sqlite_")
            }
            return rows, db.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def assert_named(report: Report, path: Path) -> None:
    """Something does not hold, it is named, and told from what can be made anew."""
    assert report.findings, f"{path}: nothing found"
    names = {finding.file for finding in report.findings}
    tables = {finding.table.replace(".", "/") for finding in report.findings if finding.table}
    if path.suffix != ".db":
        assert str(path) in names or any(table in str(path) for table in tables), (path, names)
    assert all(finding.what and (finding.file or finding.table) for finding in report.findings)
    if path.parts[0] in TRUTH:
        assert report.verdict == "broken", report.findings
    elif path.name != "state.db":
        assert report.verdict == "rebuildable", report.findings


STATE_VALUES = {
    "cover": ("project", "fork", "position", "head"),
    "files": ("id", "source", "file"),
    "inputs": ("file", "position", "number", "lo", "hi", "lines_end", "root", "flags"),
    "contracts": ("source", "sha256", "position"),
    "judged": ("position", "source", "rows", "size", "sha256", "first"),
    "runs": ("source", "which", "name", "tier", "rows", "sha256", "position"),
    "totals": (
        "source",
        "entries",
        "landed",
        "accepted",
        "quarantined",
        "duplicate",
        "blank",
        "removed",
        "last_position",
        "last_ingest_ts",
    ),
}
_TEXTS = ("project", "head", "source", "sha256", "which", "name", "last_ingest_ts")


def state_changes(table: str, *columns: str) -> list[str]:
    """SQL that changes one value of the state view each, or takes a row out."""
    key = "file, position, number" if table == "inputs" else "rowid"
    first = f"WHERE ({key}) = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1)"
    changes = []
    for column in columns:
        text = column in _TEXTS or (table, column) == ("files", "file")
        other = f"{column} || 'x'" if text else f"{column} + 1000"
        if column in ("root", "flags"):
            other = {"root": "zeroblob(32)", "flags": "(flags + 1) % 8"}[column]
        changes.append(f"UPDATE {table} SET {column} = {other} {first}")
    return [*changes, f"DELETE FROM {table} {first}"]


def serving_changes(path: Path) -> list[str]:
    """SQL that changes one value of the serving store each, of every table and column."""
    with closing(sqlite3.connect(path)) as db:
        physical = dict(db.execute("SELECT name, physical FROM tables"))
        columns = {
            table: [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
            for table in physical.values()
        }
    statements = []
    for table in physical.values():
        first = f'WHERE org_id = (SELECT min(org_id) FROM "{table}")'
        statements += [
            f'UPDATE "{table}" SET "{column}" = {_served(column)} {first}'
            for column in columns[table]
        ]
        statements += [
            f'DELETE FROM "{table}" {first}',
            f'UPDATE "{table}" SET daily_cost_usd = NULL {first}',
            f"UPDATE \"{table}\" SET daily_cost_usd = 'lots' {first}",
            f"UPDATE \"{table}\" SET event_count = 'many' {first}",
        ]
    visible = ("epoch", "project", "fork", "position", "head", "ingest_ts", "details")
    least = "WHERE id = (SELECT min(id) FROM tables)"
    return [
        *statements,
        *(f"UPDATE visible SET {column} = {column} || '1'" for column in visible),
        "UPDATE visible SET details = replace(details, '2025', '2024')",
        "DELETE FROM visible",
        f"UPDATE tables SET visible = 0 {least}",
        f"UPDATE tables SET name = 'gold.other' {least}",
        "UPDATE tables SET physical = (SELECT max(physical) FROM tables)",
        "UPDATE tables SET columns = replace(columns, 'decimal', 'text')",
        "UPDATE tables SET arrow_schema = replace(arrow_schema, 'A', 'B')",
        "UPDATE tables SET rows = rows + 1",
        "UPDATE tables SET epoch = 'x'",
        "UPDATE tables SET id = id + 1000",
        "DELETE FROM tables",
    ]


def _served(column: str) -> str:
    if column == "usage_date":
        return "date(usage_date, '+1000 days')"
    return f"{column} || 'x'" if column in ("org_id", "service") else f"{column} + 1"


def assert_each_found(house: House, path: Path, statements: Iterable[str]) -> None:
    """Run each statement on an SQLite file; what it changes is found."""
    file, project = house.root / path, house.project
    before = file.read_bytes()
    for statement in statements:
        with closing(sqlite3.connect(file)) as db:
            changed = db.execute(statement).rowcount
            db.commit()
        os.utime(file, (0, 0))  # at rest for long, so that a reader need not wait
        if path.name == "serving.db":
            findings = check_serving(_serving_alone(project)).findings
        else:
            findings = project.verify().findings
        file.write_bytes(before)
        assert changed, statement
        assert findings, statement
        assert all(found.file or found.table for found in findings), statement


def _serving_alone(project: Project) -> Subject:
    serving = SqliteServing(project.root / "serving.db")
    return Subject(project.root, project.blobs, project.engine, None, project.published(), serving)
