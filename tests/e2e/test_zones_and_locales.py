"""Zone, locale and clock of the machine change no answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from e2e.house import House, assert_same
from meterhouse.log.chain import Log
from meterhouse.synth import Options, generate
from meterhouse.testing import FixedClock
from unit.log.house import event

TESTS = Path(__file__).parents[1]
PLACES = {
    "Buenos Aires, without a locale": {
        "TZ": "America/Argentina/Buenos_Aires",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    },
    "Istanbul, Turkish": {"LC_ALL": "tr_TR.UTF-8", "TZ": "Europe/Istanbul"},
}
ODD = (
    event(900_001, timestamp="2025-07-03T23:30:00-03:00", service="STORAGE", region="ISTANBUL")
    + event(900_002, timestamp="2025-07-04T00:30:00+05:30", service="Identity", region="")
    + event(900_003, timestamp="2025-07-03T23:59:59.999999", org_id="örg İIıi", metric="REQUESTS")
    + event(900_004, timestamp="2025-03-30T02:30:00Z", unit="İ")
    + event(900_005, timestamp="2025-07-03 24:00:00")
    + "ungültig\n"
)


@pytest.fixture(scope="module")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes the Turkish locale known, where the machine can compile it."""
    folder = tmp_path_factory.mktemp("locales")
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")],
        capture_output=True,
        check=False,
    )
    return {"LOCPATH": str(folder)} if made and (folder / "tr_TR.UTF-8").exists() else {}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zones") / "delivery"
    generate(folder, Options(events=300, orgs=4, files=3, days=20, poison=0.1))
    (folder / "usage_events_stream" / "events_odd.jsonl").write_text(ODD, "utf-8")
    return folder


@pytest.fixture(scope="module")
def usual(delivered: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("usual"), delivered, {"TZ": "UTC", "LC_ALL": "C.UTF-8"})


def run(folder: Path, delivered: Path, place: dict[str, str]) -> Any:
    """Run the core path, everything below one folder so that names are the same."""
    shutil.copytree(delivered, folder / "project.delivery")
    found = subprocess.run(
        [sys.executable, "-m", "e2e.core_path", "project", "project.delivery"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS), **place},
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr.decode(errors="replace")[-2000:]
    return json.loads(found.stdout.decode().replace(str(folder), "…"))


@pytest.mark.parametrize("place", PLACES)
def test_tables_answers_text_and_ledger_are_the_same(
    usual: Any, delivered: Path, turkish: dict[str, str], tmp_path: Path, place: str
) -> None:
    found = run(tmp_path, delivered, PLACES[place] | turkish)

    assert found["tables"] == usual["tables"]
    assert found["answers"] == usual["answers"]
    assert found["terms"] == usual["terms"]
    assert without_times(found["csv"]) == without_times(usual["csv"])
    assert found["held"] == usual["held"]


def without_times(text: str) -> list[str]:
    """CSV of bronze without the column that says when this very run took a line."""
    head, *lines = text.splitlines()
    at = head.split(",").index("ingest_ts")
    return [
        line
        for row in lines
        for line in [",".join(cell for n, cell in enumerate(row.split(",")) if n != at)]
    ]


def test_a_local_day_is_the_utc_day(usual: Any) -> None:
    days = {
        row["event_id"]: (row["event_date"], row["service"], row["region"], row["metric"])
        for row in usual["tables"]["silver.usage_enriched"]
        if row["event_id"].startswith("e-9000")
    }

    assert days == {
        "e-900001": ("2025-07-04", "storage", "istanbul", "cpu_hours"),
        "e-900002": ("2025-07-03", "identity", "unknown", "cpu_hours"),
        "e-900003": ("2025-07-03", "compute", "us-east", "requests"),
        "e-900004": ("2025-03-30", "compute", "us-east", "cpu_hours"),
    }


@pytest.mark.parametrize(
    "step", [timedelta(days=-1), timedelta(hours=-5), timedelta(microseconds=1)]
)
def test_a_clock_that_goes_backwards_changes_no_answer(tmp_path: Path, step: timedelta) -> None:
    models = ("gold.finops_by_org_day", "silver.usage_enriched")
    start = datetime(2025, 9, 1, tzinfo=UTC)
    houses = {
        "steady": House.new(tmp_path / "steady", models=models),
        "moving": House.new(tmp_path / "moving", models=models, clock=FixedClock(start, step)),
    }
    for house in houses.values():
        for number in range(1, 5):
            house.ingest(house.put(f"events_{number}.jsonl", event(number) + event(1)))
            if number % 2 == 0:
                house.batch()
        house.verified()

    assert_same(houses["moving"].tables(), houses["steady"].tables())
    times = [entry.ingest_ts for entry in Log(houses["moving"].project.blobs).entries()]
    assert times == sorted(times)
    assert min(times) >= "2025-09-01T00:00:00"
    answers = [
        house.cli("query", "top-services", "--days", "30", "--format", "csv").out
        for house in houses.values()
    ]
    assert answers[0] == answers[1] != ""
