"""The state of a project on one screen: sources, positions, lag, sizes, drift."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from meterhouse.intake.contract import Contract
from meterhouse.lake.published import Published
from meterhouse.layers.judged import over_forms
from meterhouse.log.chain import Log
from meterhouse.log.state import State, Totals
from meterhouse.ports import Engine, Relation

__all__ = [
    "FOLDERS",
    "Drift",
    "SourceStatus",
    "Unknown",
    "drift_of",
    "sizes",
    "sources_of",
    "unknown_keys",
]

FOLDERS = ("landing", "log", "judged", "index", "lake", "serving.db")
_FLAGS_SHOWN = 20


@dataclass(slots=True)
class SourceStatus:
    """One source, as the log has it."""

    source: str
    files: int = 0
    entries: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """landed, accepted, quarantined, duplicate, blank, removed."""
    last_position: int = 0
    last_ingest_ts: str = ""


@dataclass(frozen=True, slots=True)
class Drift:
    """What one source delivers that its contract does not expect. Nothing of it is lost."""

    source: str
    undeclared: Mapping[str, int]
    """Field → records; kept in the column ``extra``."""
    unknown: Mapping[str, Mapping[str, int]]
    """Column → value → accepted records, for columns whose contract lists known values."""
    flags: Mapping[str, int]
    """Rule of severity flag or repair → records."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Published events whose master has not arrived."""

    events: int
    of_unknown_org: int
    of_unknown_resource: int


def sources_of(log: Log, state: State) -> list[SourceStatus]:
    """Return what the log holds of each source, by name.

    What the state covers was counted when it came; only what it did not count is read.
    """
    totals, since = state.totals()
    found = {one.source: _status(one) for one in totals}
    cover = state.stamp().position
    new: set[tuple[str, str]] = set()
    for entry in chain(log.entries(0, since), log.entries(cover)):
        if entry.kind != "data":
            continue
        status = found.setdefault(entry.source, SourceStatus(entry.source))
        if entry.position > cover:
            new |= {(entry.source, item.file) for item in entry.inputs}
        status.entries += 1
        for name, count in entry.counts.items():
            status.counts[name] = status.counts.get(name, 0) + count
        if entry.position > status.last_position:
            status.last_position, status.last_ingest_ts = entry.position, entry.ingest_ts
    for source, file in new:
        found[source].files += state.first_taken(source, file) is None
    return [found[name] for name in sorted(found)]


def _status(one: Totals) -> SourceStatus:
    return SourceStatus(
        one.source, one.files, one.entries, dict(one.counts), one.last_position, one.last_ingest_ts
    )


def drift_of(engine: Engine, contract: Contract, forms: Mapping[str, Relation]) -> Drift:
    """Return undeclared fields, unknown values and flags of one source's judged rows."""
    if not forms:
        return Drift(contract.source, {}, {}, {})
    unknown: dict[str, dict[str, int]] = {}
    with engine.session(forms) as session:
        session.view("judged", over_forms(forms, _judged_sql, contract))
        undeclared = session.query(
            "SELECT field AS name, count(*) AS records FROM (SELECT unnest(json_keys(extra)) AS "
            "field FROM judged WHERE extra IS NOT NULL) AS one GROUP BY field ORDER BY field"
        ).to_pylist()
        flags = session.query(
            "SELECT flag AS name, count(*) AS records FROM (SELECT unnest(flags) AS flag "
            "FROM judged) AS one GROUP BY flag ORDER BY flag"
        ).to_pylist()
        for column, known in _known(contract).items():
            listed = ", ".join(_text(value) for value in known)
            rows = session.query(
                f"SELECT value AS name, count(*) AS records FROM (SELECT lower(trim("
                f"{_name(column)}::VARCHAR)) AS value FROM judged WHERE verdict = 'accepted') "
                f"AS one WHERE value NOT IN ({listed}) GROUP BY value "
                f"ORDER BY records DESC, value LIMIT {_FLAGS_SHOWN}"
            ).to_pylist()
            if rows:
                unknown[column] = _counts(rows)
    return Drift(contract.source, _counts(undeclared), unknown, _counts(flags))


def _judged_sql(contract: Contract, relation: str, present: Iterable[str]) -> str:
    there = set(present)
    wanted = ("verdict", "extra", *_known(contract))
    columns = [
        f"{_name(n)}::VARCHAR AS {_name(n)}" if n in there else f"NULL::VARCHAR AS {n}"
        for n in wanted
    ]
    return f"SELECT {', '.join(columns)}, flags FROM {relation}"


def _known(contract: Contract) -> dict[str, list[str]]:
    known = {name: list(values) for name, values in contract.known_values.items()}
    if contract.schema_version and contract.known_schema_versions:
        known[contract.schema_version] = [str(v) for v in contract.known_schema_versions]
    return known


def unknown_keys(engine: Engine, published: Published) -> Unknown | None:
    """Count published events without their organisation or resource; None without events."""
    name = "silver.usage_enriched"
    if name not in published.tables:
        return None
    with engine.session({name: published.relation(name)}) as session:
        row = session.query(
            "SELECT count(*) AS events, count(*) FILTER (NOT org_known) AS org, "
            f"count(*) FILTER (NOT resource_known) AS resource FROM {name}"
        ).to_pylist()[0]
    return Unknown(row["events"], row["org"], row["resource"])


def sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Return (files, bytes) of each part of the project that is there."""
    found = {}
    for name in FOLDERS:
        path = root / name
        if path.is_dir():
            found[name] = _size(path)
        elif path.is_file():
            found[name] = (1, path.stat().st_size)
    return found


def _size(folder: Path) -> tuple[int, int]:
    files = size = 0
    for base, _, names in os.walk(folder):
        for name in names:
            files += 1
            size += (Path(base) / name).lstat().st_size
    return files, size


def _counts(rows: list[dict[str, object]]) -> dict[str, int]:
    return {str(row["name"]): int(str(row["records"])) for row in rows}


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
