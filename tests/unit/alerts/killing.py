"""Kills a process that evaluates and delivers, before any line of the alerts' code it runs.

    PYTHONPATH=tests python -m unit.alerts.killing FOLDER EVERY

Prints one JSON object: points tried, points that killed, what differed afterwards. Each point
is a fork of its own, so this process has no threads and opens no engine before it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import meterhouse.alerts
from meterhouse.serving.schema import layouts
from meterhouse.testing_serving import MemoryServing
from unit.alerts.house import Desk, models_

RULES = """
deliver:
  log: {file: alerts.jsonl}
  script: {command: [sh, -c, "cat >> told.jsonl; echo >> told.jsonl"]}
rules:
  costly: {table: gold.windows, length: 5m, when: cost_usd > 50}
  slow: {metric: lag_s, above: 60}
"""
CODE = str(Path(meterhouse.alerts.__file__).parent)


def scenario(root: Path) -> None:
    """Raise two, clear one, raise it again; a metric too; deliver in between."""
    desk = Desk(root, MemoryServing(layouts(models_().by_name.values())), RULES)
    desk.publish()
    steps = (
        (("org-1", "2025-09-01T11:55", "40"), ("org-2", "2025-09-01T11:50", "60")),
        (("org-1", "2025-09-01T11:55", "20"),),
        (("org-1", "2025-09-01T11:55", "-20"),),
        (("org-1", "2025-09-01T11:55", "30"), ("org-3", "2025-01-01T00:00", "90")),
    )
    for charges in steps:
        desk.move(*charges)
        desk.look(lag_s="70")
        desk.clock.now += timedelta(seconds=5)
        desk.alerts.deliver_now()
    desk.clock.now += timedelta(hours=1)
    desk.alerts.deliver_now()
    desk.alerts.close()


def forked(action: Callable[[], None]) -> int:
    """Do ``action`` in a process of its own; return how that ended (``os.WIF…``)."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        action()
        status = 0
    finally:
        os._exit(status)


def counted(root: Path, upto: int, report: Path | None = None) -> None:
    """Run the scenario; die before line ``upto`` of the alerts' code, or count them all."""
    seen = 0

    def line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == upto:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(CODE) else None

    sys.settrace(call)
    scenario(root)
    sys.settrace(None)
    if report is not None:
        report.write_text(str(seen))


def outcome(root: Path) -> dict[str, Any]:
    """Return the alerts, and the keys that each place was told, without repeats."""
    from meterhouse.alerts.listing import listed

    alerts = listed(root / "alerts.db", ("raised", "silent", "cleared"))
    rows = [
        (one.rule, one.group.key, one.group.window, one.occurrence, one.state) for one in alerts
    ]
    found: dict[str, Any] = {"alerts": sorted(rows)}
    for name in ("alerts.jsonl", "told.jsonl"):
        lines = [json.loads(text) for text in (root / name).read_text("utf-8").splitlines() if text]
        found[name] = sorted({one["idempotency_key"] for one in lines})
    return found


def main() -> None:
    """Try every so many lines; print what differed from the unharmed run."""
    folder, every = Path(sys.argv[1]), int(sys.argv[2])
    whole = folder / "whole"
    whole.mkdir()
    forked(lambda: counted(whole, 0, folder / "lines"))
    wanted, lines = outcome(whole), int((folder / "lines").read_text())
    killed, tried, different = 0, 0, []
    for upto in range(1, lines + 1, every):
        root = folder / str(upto)
        root.mkdir()
        tried += 1
        killed += os.WIFSIGNALED(forked(lambda root=root, upto=upto: counted(root, upto)))
        if forked(lambda root=root: scenario(root)) or outcome(root) != wanted:
            different.append(upto)
    print(json.dumps({"lines": lines, "tried": tried, "killed": killed, "different": different}))


if __name__ == "__main__":
    main()
