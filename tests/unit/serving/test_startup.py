"""``meterhouse query`` starts quickly because it imports little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from meterhouse.ports import Stamp
from meterhouse.serving.sqlite import SqliteServing

HEAVY = ("duckdb", "pyarrow", "sqlglot", "deltalake", "numpy", "yaml", "meterhouse.project")
PROGRAM = """
import sys
from meterhouse.cli import run
sys.argv = ["meterhouse", "query", "monthly-revenue", "--format", "json"]
code = run()
sys.stderr.write(",".join(sorted(sys.modules)))
sys.exit(code)
"""


def test_a_query_imports_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    (tmp_path / "meterhouse.toml").write_text("")
    money = pa.decimal128(38, 9)
    schema = pa.schema([("org_id", pa.string()), ("month", pa.date32())])
    for name in ("subtotal_usd", "credits_usd", "taxes_usd", "total_cost_usd"):
        schema = schema.append(pa.field(name, money))
    store = SqliteServing(tmp_path / "serving.db")
    store.load("one", "gold.revenue_by_org_month", schema.empty_table().to_reader())
    at = datetime(2025, 9, 1, tzinfo=UTC)
    store.publish("one", Stamp("p", 0, 5, "h"), ingest_ts=at, details="{}")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"METERHOUSE_PROJECT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["as_of"]["log_position"] == 5
    assert [name for name in HEAVY if name in done.stderr.split(",")] == []
