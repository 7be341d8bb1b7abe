"""The demo, as a newcomer runs it: every section, a ledger that adds up, and again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from e2e.house import House

SECTIONS = (
    "a delivery: meterhouse synth",
    "into the log: meterhouse ingest",
    "published: meterhouse batch",
    "meterhouse query daily-cost",
    "meterhouse query top-services",
    "meterhouse query ticket-sla",
    "meterhouse query monthly-revenue",
    "meterhouse query genai-usage",
    "meterhouse query anomalies",
    "held, with reasons: meterhouse quarantine",
    "where a number comes from",
    "the ledger: meterhouse verify",
    "next",
)


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    empty = folder / "home"
    empty.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "meterhouse", "demo", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(empty)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_shows_every_section_and_a_second_run_finds_it_done(tmp_path: Path) -> None:
    started = time.monotonic()
    first = demo(tmp_path, "shown")
    took = time.monotonic() - started

    assert (first.returncode, first.stderr) == (0, "")
    titles = [line for line in first.stdout.splitlines() if line.startswith("── ")]
    assert [
        section for title, section in zip(titles, SECTIONS, strict=True) if section not in title
    ] == []
    assert "the records add up to daily_cost_usd" in first.stdout
    assert "everything holds" in first.stdout
    assert "unit_missing" in first.stdout
    assert "cost_usd_increment USD" in first.stdout
    assert took < 60
    House(tmp_path / "shown" / "project").verified()

    second = demo(tmp_path, "shown")

    assert (second.returncode, second.stderr) == (0, "")
    assert "already done" in second.stdout
    assert "nothing new" in second.stdout
    assert answers(second.stdout) == answers(first.stdout)


def answers(text: str) -> list[str]:
    """What the questions were answered, without the age of the answer."""
    kept = text[text.index("query daily-cost") : text.index("the ledger:")]
    return [line for line in kept.splitlines() if not line.startswith("as of log position")]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine" / "delivery").mkdir(parents=True)
    (tmp_path / "mine" / "delivery" / "thesis.txt").write_text("years of work")

    ran = demo(tmp_path, "mine")

    assert ran.returncode == 2
    assert "is not empty" in ran.stderr
    assert (tmp_path / "mine" / "delivery" / "thesis.txt").read_text() == "years of work"
