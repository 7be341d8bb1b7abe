"""A project whose judged rows are written by hand: the batch layer without a parser."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import meterhouse
from meterhouse.clock import system_clock
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contract, load_contracts, parse_contract
from meterhouse.lake.delta import DeltaTables
from meterhouse.lake.published import Published, read_published
from meterhouse.layers.batch import Batch, BatchReport
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.state import JudgedFile, Pinned, State
from meterhouse.models.graph import Models, load_models, models_of
from meterhouse.names import entry_name
from meterhouse.ports import Blobs
from meterhouse.storage.folder import FolderBlobs
from meterhouse.testing_serving import MemoryServing

CATALOG = Path(meterhouse.__file__).parent / "catalog"
TYPES = {
    "text": pa.string(),
    "decimal": pa.decimal128(38, 9),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "json": pa.string(),
}
START = datetime(2025, 9, 1, tzinfo=UTC)


def shipped_contracts() -> dict[str, Contract]:
    return load_contracts(CATALOG / "contracts")


def few_contracts() -> dict[str, Contract]:
    """Return an append, a snapshot and an upsert source: few tables are made quickly."""
    wanted = ("customers_orgs", "support_tickets", "usage_events")
    return {name: load_contract(CATALOG / f"contracts/{name}.yaml") for name in wanted}


def judged_schema(contract: Contract) -> pa.Schema:
    names = pa.list_(pa.string())
    return pa.schema(
        [
            ("log_position", pa.int64()),
            ("row_number", pa.int64()),
            ("source_file", pa.string()),
            ("source_line", pa.int64()),
            ("ingest_ts", pa.timestamp("us", tz="UTC")),
            ("verdict", pa.string()),
            ("invalid_reason", pa.string()),
            ("broken_rules", names),
            ("flags", names),
            ("raw", pa.binary()),
            *((column.name, TYPES[column.type]) for column in contract.columns),
            ("extra", pa.string()),
            ("unreadable", pa.string()),
        ]
    )


def event(number: int, **changed: Any) -> dict[str, Any]:
    """Return an accepted usage event of 2025-07-03, service compute, 0.1 USD."""
    row = {
        "event_id": f"e-{number}",
        "timestamp": "2025-07-03T10:00:00Z",
        "event_ts": datetime(2025, 7, 3, 10, tzinfo=UTC),
        "org_id": "org-1",
        "resource_id": "res-1",
        "service": "compute",
        "region": "eu",
        "metric": "requests",
        "value_num": Decimal(5),
        "unit": "count",
        "cost_usd_increment": Decimal("0.1"),
        "schema_version": 1,
    }
    return row | changed


def org(number: int, **changed: Any) -> dict[str, Any]:
    row = {"org_id": f"org-{number}", "org_name": f"Org {number}", "industry": "Retail"}
    return row | changed


def ticket(number: int, **changed: Any) -> dict[str, Any]:
    row = {
        "ticket_id": f"t-{number}",
        "org_id": "org-1",
        "severity": "critical",
        "created_at": datetime(2025, 7, 3, tzinfo=UTC).date(),
        "sla_breached": False,
    }
    return row | changed


@dataclass
class House:
    """One project folder; ``take`` adds an entry, ``run`` publishes."""

    root: Path
    models: Models
    contracts: dict[str, Contract] = field(default_factory=shipped_contracts)
    keep: timedelta = timedelta(days=7)
    file_bytes: int = 64 << 20
    serving: Any = field(default_factory=MemoryServing)

    def __post_init__(self) -> None:
        self.blobs: Blobs = FolderBlobs(self.root)
        self.log = Log(self.blobs)
        self.state = State.open(self.root / "index/state.db")
        self.engine = DuckDBEngine(384 << 20, 2, self.root / "spill")
        self.lake = DeltaTables(self.root / "lake", self.keep, system_clock)
        self._attempts = count(1)

    def copy(self, root: Path) -> House:
        """Return the same project in another folder, its serving store too."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        serving = copy.deepcopy(self.serving)
        return House(root, self.models, dict(self.contracts), serving=serving)

    def close(self) -> None:
        self.state.close()
        self.engine.close()

    def take(self, source: str, *rows: Mapping[str, Any], verdict: str = "accepted") -> Entry:
        """Add an entry with these judged rows; a row may name its own ``verdict``."""
        contract = self.contracts[source]
        if self.state.contract(source) != contract.sha256:
            self._append(source, "contract", text=contract.text)
            entry = self.log.head()
            assert entry is not None
            self.state.stage(entry.position, [Pinned(source, contract.sha256, entry.position)])
            self.state.advance(self.log.stamp())
        head = self.log.head()
        assert head is not None
        position, taken_at = head.position + 1, START + timedelta(seconds=head.position + 1)
        technical = {"log_position": position, "source_file": f"inbox/{source}", "verdict": verdict}
        listed = [
            {**technical, "ingest_ts": taken_at, "row_number": n, "source_line": n + 1, **row}
            for n, row in enumerate(rows)
        ]
        return self.take_table(source, pa.Table.from_pylist(listed, schema=judged_schema(contract)))

    def take_table(self, source: str, table: pa.Table) -> Entry:
        """Add an entry whose judged rows are ``table``."""
        entry = self._append(source, "data")
        path = self.root / f"judged/{source}/{entry_name(entry.position)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd", compression_level=1)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.state.stage(
            entry.position,
            [JudgedFile(entry.position, source, table.num_rows, path.stat().st_size, digest)],
        )
        self.state.advance(self.log.stamp())
        return entry

    def _append(self, source: str, kind: Any, text: str = "") -> Entry:
        head = self.log.head()
        position = head.position + 1 if head is not None else 1
        entry = Entry(
            position=position,
            kind=kind,
            previous=head.sha256 if head is not None else "",
            ingest_ts=(START + timedelta(seconds=position)).isoformat(timespec="microseconds"),
            project="house" if head is None else "",
            source=source,
            contract=self.contracts[source].sha256,
            text=text,
        )
        assert self.log.append(entry)
        return entry

    def batch(self, **changed: Any) -> Batch:
        """Return a batch; ``changed`` replaces some of its parts."""
        parts: dict[str, Any] = {
            "blobs": self.blobs,
            "log": self.log,
            "state": self.state,
            "contracts": self.contracts,
            "models": self.models,
            "engine": self.engine,
            "serving": self.serving,
            "lake": self.lake,
            "file_bytes": self.file_bytes,
            "attempt": lambda: f"attempt{next(self._attempts)}",
        }
        return Batch(**parts | changed)

    def run(self, *, full: bool = False, **changed: Any) -> BatchReport:
        """Publish."""
        return self.batch(**changed).run(full=full)

    def published(self) -> Published:
        found = read_published(self.blobs)
        assert found is not None
        return found

    def read(self, name: str) -> list[dict[str, Any]]:
        """Return the published rows of a table, in a stable order."""
        published = self.published()
        with self.engine.session({name: published.relation(name)}) as session:
            rows: list[dict[str, Any]] = session.query(f"SELECT * FROM {name}").to_pylist()
        return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Return all published tables."""
        return {name: self.read(name) for name in self.published().tables}


def filled(house: House) -> House:
    """Add an entry of each source: one accepted event of org-1, one held."""
    house.take("customers_orgs", org(1), org(2))
    house.take("usage_events", event(1), event(2, verdict="quarantined", invalid_reason="other"))
    house.take("support_tickets", ticket(1))
    return house


def costs(house: House) -> dict[str, tuple[Decimal, int]]:
    """Return gold.costs as organisation → (cost, events); one day only."""
    return {
        row["org_id"]: (row["cost_usd"], row["event_count"]) for row in house.read("gold.costs")
    }


def contents_of(house: House) -> dict[str, list[str]]:
    """Return all tables by value, rows in one order."""
    return {
        name: sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)
        for name, rows in house.everything().items()
    }


def files_of(house: House) -> list[str]:
    """Return every file below lake/."""
    lake = house.root / "lake"
    return sorted(str(path.relative_to(lake)) for path in lake.rglob("*") if path.is_file())


def with_contract(contract: Contract, old: str, new: str) -> Contract:
    """Return ``contract`` with a change in its text."""
    assert old in contract.text
    return parse_contract(contract.text.replace(old, new), f"{contract.source}.yaml")


def shipped_models(contracts: Mapping[str, Contract]) -> Models:
    return load_models(CATALOG / "models", bronze_schemas(contracts))


def small_models(contracts: Mapping[str, Contract], **changed: str) -> Models:
    """Return a few models of each kind; ``changed`` replaces the text of some ("gold_costs")."""
    texts = {
        "silver.enriched": _ENRICHED,
        "silver.usage": _USAGE,
        "gold.costs": _COSTS,
        "gold.org_costs": _ORG_COSTS,
        "gold.tickets": _TICKETS,
    }
    for name, text in changed.items():
        texts[name.replace("_", ".", 1)] = text
    given = {
        name: (text, f"models/{name.replace('.', '/')}.sql") for name, text in texts.items() if text
    }
    return models_of(given, bronze_schemas(contracts))


def model_text(name: str) -> str:
    """Return the text of one of ``small_models``, to be changed."""
    return {"costs": _COSTS, "tickets": _TICKETS, "enriched": _ENRICHED, "usage": _USAGE}[name]


def names(report: BatchReport, action: str) -> Sequence[str]:
    """Return the tables with which a batch did this."""
    return [table.name for table in report.tables if table.action == action]


_USAGE = """/* ---
description: Events in one spelling.
owner: a@example.com
kind: rows
stored: false
grain: [event_id]
columns: {event_id: Id., org_id: Organisation., event_date: Day., cost_usd: {unit: USD, doc: Cost.}}
--- */
SELECT
    event.event_id::VARCHAR AS event_id,
    event.org_id::VARCHAR AS org_id,
    event.event_date::DATE AS event_date,
    event.cost_usd_increment::DECIMAL(38, 9) AS cost_usd
FROM bronze.usage_events AS event
"""
_ENRICHED = """/* ---
description: Events with their organisation.
owner: a@example.com
kind: rows
grain: [event_id]
columns: {event_id: Id., org_id: Organisation., org_name: Its name.}
audits:
  - unique: [event_id]
  - same_count: silver.usage
--- */
SELECT
    usage.event_id::VARCHAR AS event_id,
    usage.org_id::VARCHAR AS org_id,
    org.org_name::VARCHAR AS org_name
FROM silver.usage AS usage
LEFT JOIN bronze.customers_orgs_current AS org ON usage.org_id = org.org_id
"""
_COSTS = """/* ---
description: Cost by day.
owner: a@example.com
kind: mergeable
grain: [org_id, event_date]
columns:
  org_id: Organisation.
  event_date: Day.
  cost_usd: {unit: USD, doc: Cost.}
  event_count: Events.
  average_usd: {unit: USD, doc: Cost of an event.}
ratios:
  average_usd: cost_usd / event_count
serving: {partition_key: [org_id], clustering: [event_date]}
audits:
  - unique: [org_id, event_date]
  - same_total: {cost_usd: silver.usage.cost_usd}
--- */
SELECT
    usage.org_id::VARCHAR AS org_id,
    usage.event_date::DATE AS event_date,
    coalesce(sum(usage.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM silver.usage AS usage
GROUP BY usage.org_id, usage.event_date
"""
_ORG_COSTS = """/* ---
description: Cost of all days.
owner: a@example.com
kind: view
grain: [org_id]
columns: {org_id: Organisation., cost_usd: {unit: USD, doc: Cost.}}
serving: {partition_key: [org_id], clustering: []}
audits:
  - same_total: {cost_usd: gold.costs.cost_usd}
--- */
SELECT
    cost.org_id::VARCHAR AS org_id,
    sum(cost.cost_usd)::DECIMAL(38, 9) AS cost_usd
FROM gold.costs AS cost
GROUP BY cost.org_id
"""
_TICKETS = """/* ---
description: Tickets by organisation.
owner: a@example.com
kind: view
batch_only: An example of a table that a batch computes.
grain: [org_id]
columns: {org_id: Organisation., ticket_count: Tickets.}
serving: {partition_key: [org_id], clustering: []}
--- */
SELECT
    ticket.org_id::VARCHAR AS org_id,
    count(*)::BIGINT AS ticket_count
FROM bronze.support_tickets_current AS ticket
GROUP BY ticket.org_id
"""
