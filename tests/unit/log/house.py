"""The write side of a project, put together by hand for tests of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.log.apply import Apply
from meterhouse.log.chain import Log
from meterhouse.log.ingest import Ingest, IngestReport
from meterhouse.log.state import State
from meterhouse.ports import Blobs, Clock
from meterhouse.scaffold import SHIPPED
from meterhouse.sources.files import Discovery, discover
from meterhouse.storage.folder import FolderBlobs
from meterhouse.testing import FixedClock


@cache
def engine() -> DuckDBEngine:
    """One engine for all tests: opening the database costs more than most of them."""
    return DuckDBEngine(256 << 20, 1, Path("/nonexistent"))


@cache
def shipped() -> Mapping[str, Contract]:
    return load_contracts(SHIPPED / "contracts")


@dataclass
class House:
    """A project folder and the parts that write to it."""

    root: Path
    contracts: dict[str, Contract] = field(default_factory=lambda: dict(shipped()))
    clock: Clock = field(default_factory=FixedClock)
    piece_bytes: int = 32 << 20
    blobs: Blobs | None = None

    def __post_init__(self) -> None:
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.blobs = self.blobs or FolderBlobs(self.root)
        self.log = Log(self.blobs)
        self.state = State.open(self.root / "index" / "state.db")
        self.apply = Apply(
            self.blobs, self.log, self.state, engine(), index_folder=self.root / "index"
        )

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    def again(self, **changes: Any) -> House:
        """The same project as the next process sees it."""
        given = {"contracts": self.contracts, "clock": self.clock, "piece_bytes": self.piece_bytes}
        return House(self.root, **{**given, **changes})

    def put(self, name: str, data: str | bytes) -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def found(self) -> Discovery:
        """What lies in the inbox now."""
        found = discover([self.inbox], self.contracts, project=self.root)
        assert found.problems == []
        return found

    def ingest(self, found: Discovery | None = None) -> IngestReport:
        found = found or self.found()
        return self.taking().run(found.files)

    def taking(self) -> Ingest:
        """What takes files, as one process has it."""
        assert self.blobs is not None
        return Ingest(
            self.blobs,
            self.log,
            self.state,
            self.apply,
            self.clock,
            piece_bytes=self.piece_bytes,
            new_project=lambda: "p-1",
        )

    def judged(self, source: str) -> pa.Table:
        """All judged rows of a source, in the order of the log."""
        files = self.state.judged_files(source)
        return pa.concat_tables([pq.read_table(self.root / file.path) for file in files])

    def verdicts(self, source: str, column: str) -> list[tuple[Any, str]]:
        table = self.judged(source)
        return list(zip(table[column].to_pylist(), table["verdict"].to_pylist(), strict=True))

    def views(self) -> dict[str, bytes]:
        """Every judged file and the inputs of the state: what rebuilding must give again."""
        found = {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted((self.root / "judged").rglob("*.parquet"))
        }
        return {**found, "inputs": repr(self.state.inputs()).encode()}


def event(number: int, **fields: Any) -> str:
    """One line of a usage event that holds every rule."""
    import json

    body = {
        "event_id": f"e-{number}",
        "timestamp": "2025-07-03T10:00:00Z",
        "org_id": "o-1",
        "resource_id": "r-1",
        "service": "compute",
        "region": "us-east",
        "metric": "cpu_hours",
        "value": 1,
        "unit": "hours",
        "cost_usd_increment": 0.25,
        "schema_version": 1,
        **fields,
    }
    return json.dumps(body) + "\n"


ORGS = (
    "org_id,org_name,industry,hq_region,plan_tier,is_enterprise,signup_date,sales_rep,"
    "lifecycle_stage,marketing_source,nps_score\n"
)


def org(number: int, name: str = "Acme") -> str:
    return f"o-{number},{name} {number},Retail,us-east,pro,True,2025-01-01,r,active,ads,10\n"


INVOICES = "invoice_id,org_id,month,subtotal,credits,taxes,currency,exchange_rate_to_usd\n"


def invoice(number: int, subtotal: str) -> str:
    return f"i-{number},o-1,2025-07-01,{subtotal},,1,USD,1\n"
