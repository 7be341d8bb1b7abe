"""The story unharmed, once for all; and how many points were struck, at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from crash.programs import Programs, programs
from crash.story import LIVE
from crash.unharmed import Unharmed, run_unharmed
from e2e.house import once


@pytest.fixture(scope="session")
def runs() -> Iterator[Programs]:
    with programs() as found:
        yield found


@pytest.fixture(scope="session")
def unharmed(runs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Unharmed:
    found = once(tmp_path_factory, "unharmed", lambda folder: run_unharmed(runs, folder))
    assert found.seen[LIVE].position > found.seen["batch"].position
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for title, value in report.user_properties:
            if title.startswith("points "):
                found.setdefault(title, Counter()).update(value)
    for title, counts in sorted(found.items()):
        listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        kind = title.removeprefix("points ")
        terminalreporter.write_line(f"{counts.total()} points {kind}: {listed}")
