"""The core path in a process of its own: make, ingest, publish, read, ask, verify.

Run as ``python -m e2e.core_path ROOT DELIVERY``; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from e2e.house import House, rows_of, steady
from oracle import canonical_rows

QUESTIONS = (
    "daily-cost",
    "top-services",
    "ticket-sla",
    "monthly-revenue",
    "genai-usage --by month",
    "anomalies",
)


def main(root: Path, delivery: Path) -> None:
    house = House.new(root)
    house.ingest(delivery)
    house.batch()
    published = house.project.published()
    assert published is not None
    tables = {
        name: canonical_rows(rows_of(steady(house.project.read(name))))
        for name in published.tables
        if name != "bronze.removed_keys"
    }
    answers = {}
    for question in QUESTIONS:
        ran = house.cli("query", *question.split(), "--format", "csv")
        assert ran.code == 0, ran.err
        answers[question] = ran.out
    printed = house.cli("read", "bronze.usage_events", "--format", "csv").out
    held = house.cli("quarantine", "show", "--limit", "1000").out
    terms = [str(term) for term in house.verified().terms]
    body = {"tables": tables, "answers": answers, "csv": printed, "held": held, "terms": terms}
    sys.stdout.write(json.dumps(body, sort_keys=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
