"""Where the sample delivery is, and which tests are slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEARBY = Path("..") / "shared" / "data" / "landing"
SLOW_FOLDERS = ("crash", "integration")


def find_sample() -> Path | None:
    """Return the folder of the sample delivery; None when it is on neither place."""
    named = os.environ.get("METERHOUSE_SAMPLE")
    for place in (Path(named) if named else None, ROOT / NEARBY):
        if place is not None and (place / "usage_events_stream").is_dir():
            return place.resolve()
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if any(folder in item.path.relative_to(ROOT / "tests").parts for folder in SLOW_FOLDERS):
            item.add_marker("slow")
    if find_sample() is not None:
        return
    without = [item for item in items if item.get_closest_marker("sample")]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("sample")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cases = sum(
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == "damage cases"
    )
    if cases:
        terminalreporter.write_line(f"{cases} cases of damage, each found and named")
    if find_sample() is None:
        terminalreporter.write_line(
            "no sample delivery: tests marked `sample` are deselected"
            f" (looked at METERHOUSE_SAMPLE, then {NEARBY})"
        )


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the sample delivery, seven CSV files and 120 of events."""
    found = find_sample()
    assert found is not None, "mark this test with pytest.mark.sample"
    return found
