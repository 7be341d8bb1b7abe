"""What tests of verdicts share: small contracts, records as JSON lines, an index in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract
from meterhouse.intake.index import KeyIndex
from meterhouse.intake.judge import Judged, JudgedFileOf, Piece, judge
from meterhouse.intake.parse import parse
from meterhouse.ports import Engine

INGESTED = datetime(2025, 9, 1, 12, 0, 0, 5, tzinfo=UTC)

HEAD = """
source: meter
description: Readings.
owner: test@example.com
table: bronze.meter
quarantine: bronze.quarantine_meter
files: ["meter*.jsonl"]
format: jsonl
"""
COLUMNS = """
columns:
  id: {type: text, doc: "Key."}
  org: {type: text, doc: "Organisation."}
  at: {type: timestamp, doc: "When."}
  cost: {type: decimal, unit: as in column currency, doc: "Charge."}
  currency: {type: text, doc: "Of the charge."}
"""
RULES = """
rules:
  - {name: malformed, check: malformed, severity: quarantine, because: Nothing can be trusted.}
  - {name: wrong_type, check: wrong_type, severity: quarantine, because: A guess.}
  - {name: id_missing, holds: "id IS NOT NULL AND id <> ''", severity: quarantine, because: None.}
  - {name: key_unusable, check: key_unusable, columns: [id, org], severity: quarantine, because: N.}
  - {name: at_unreadable, check: unreadable, severity: quarantine, because: No day.}
  - {name: out_of_range, check: number_out_of_range, severity: quarantine, because: Rounding.}
  - {name: cost_low, holds: cost >= -0.01, severity: quarantine, because: A refund.}
"""
CONFLICT = """
  - {name: conflict, check: conflicting_duplicate, severity: quarantine, because: First wins.}
"""


def contract(
    *,
    mode: str = "append",
    more: str = "",
    rules: str = RULES,
    columns: str = COLUMNS,
    key: str = "id",
) -> Contract:
    """Return a contract over columns id, org, at, cost, currency."""
    conflict = CONFLICT if mode == "append" else ""
    head = f"{HEAD}mode: {mode}\nkey: [{key}]\nmoney: [cost]\ncurrency: {{column: currency}}\n"
    return parse_contract(f"{head}{more}\n{columns}{rules}{conflict}", "meter.yaml")


def lines(*records: Mapping[str, Any] | bytes) -> bytes:
    """Return records as JSON lines; bytes stand as they are."""
    return b"".join(
        (record if isinstance(record, bytes) else json.dumps(record).encode()) + b"\n"
        for record in records
    )


def reading(id_: str, cost: Any = 1, **fields: Any) -> dict[str, Any]:
    """Return a record that breaks no rule."""
    return {"id": id_, "org": "o", "at": "2025-07-03T00:00:00Z", "cost": cost, **fields}


@dataclass
class Bench:
    """Judges entry after entry, as the log does, with an index in memory."""

    engine: Engine
    contract: Contract
    folder: Path
    ingest_ts: datetime = INGESTED
    entries: list[Judged] = field(default_factory=list)
    judged_file: JudgedFileOf | None = None

    def __post_init__(self) -> None:
        """Start with nothing."""
        self.keys = KeyIndex(self.folder / "keys")
        self.held = KeyIndex(self.folder / "held")

    def take(
        self, *datas: bytes, repeated: bool = False, whole: bool = False, adopt: bool = True
    ) -> Judged:
        """Judge one entry whose inputs are ``datas``, named f0, f1, …"""
        pieces = [
            Piece(f"f{index}", parse(data, self.contract), repeated, whole)
            for index, data in enumerate(datas)
        ]
        judged = judge(
            pieces,
            self.contract,
            position=len(self.entries) + 1,
            ingest_ts=self.ingest_ts,
            keys=self.keys,
            held=self.held,
            engine=self.engine,
            judged_file=self.judged_file,
        )
        if adopt:
            self.keys.add(judged.key_changes)
            self.held.add(judged.held_changes)
            self.entries.append(judged)
        return judged


def verdicts(judged: Judged) -> list[str]:
    """Return verdicts in order."""
    found: list[str] = judged.table["verdict"].to_pylist()
    return found


def reasons(judged: Judged) -> list[list[str] | None]:
    """Return all broken rules in order."""
    found: list[list[str] | None] = judged.table["broken_rules"].to_pylist()
    return found


def columns_of(judged: Judged, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return some columns of the judged rows."""
    table: pa.Table = judged.table.select(list(names))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
