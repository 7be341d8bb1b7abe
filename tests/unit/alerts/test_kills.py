"""Killed before any line of the alerts' code: raised once, delivered with the same keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "every", [311, pytest.param(29, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_kill_at_any_line_changes_nothing(tmp_path: Path, every: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unit.alerts.killing", str(tmp_path), str(every)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "tests"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["different"] == []
    assert found["killed"] == found["tried"] >= 10
