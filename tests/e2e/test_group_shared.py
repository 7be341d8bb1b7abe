"""Another Unix user of the same group may ask and read, and never write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.house import House
from unit.log.house import event

TESTS = Path(__file__).parents[1]
GROUP, COLLEAGUE, STRANGER, OTHERS = 40_001, 40_002, 40_003, 40_004
MODELS = ("gold.org_daily_usage_by_service", "silver.usage_enriched", "gold.finops_by_org_day")
COMMANDS = (
    ("query", "daily-cost"),
    ("query", "top-services", "--format", "json"),
    ("read", "gold.finops_by_org_day"),
    ("read", "bronze.usage_events", "--where", "event_id = 'e-1'"),
    ("sql", "SELECT count(*) AS events FROM silver.usage_enriched"),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another Unix user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="meterhouse-shared-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def umask() -> Iterator[None]:
    """The strictest: what is shared is shared by the program, not by the shell."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def project(folder: Path, shared: str) -> House:
    """A project given to the group as docs/operations.md says, then fed and published twice."""
    house = House.new(folder / "project", models=MODELS)
    house.edit("meterhouse.toml", "# group_shared = false", f"group_shared = {shared}")
    os.chown(house.root, 0, GROUP)
    house.root.chmod(0o2750)
    for base, folders, names in os.walk(house.root):
        for name in (*folders, *names):
            path = Path(base) / name
            os.chown(path, 0, GROUP)
            path.chmod(path.stat().st_mode | (0o050 if path.is_dir() else 0o040))
    for number in (1, 2):
        house.ingest(house.put(f"events_{number}.jsonl", event(number)))
        house.batch()
    return house


def as_user(house: House, uid: int, gid: int, *commands: tuple[str, ...]) -> Any:
    words = [json.dumps(["--project", str(house.root), *command]) for command in commands]
    found = subprocess.run(
        [sys.executable, "-m", "e2e.as_other_user", str(uid), str(gid), *words],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


@pytest.mark.usefixtures("umask")
def test_a_colleague_of_the_group_gets_every_answer(folder: Path) -> None:
    house = project(folder, "true")
    own = [house.cli(*command) for command in COMMANDS]

    found = as_user(house, COLLEAGUE, GROUP, *COMMANDS)

    for command, (code, out, err), mine in zip(COMMANDS, found, own, strict=True):
        assert (code, without_age(out)) == (0, without_age(mine.out)), (command, err)


def without_age(text: str) -> str:
    return text.split('"age_s"')[0]


@pytest.mark.usefixtures("umask")
def test_a_colleague_reads_while_the_owner_publishes(folder: Path) -> None:
    house = project(folder, "true")
    house.ingest(house.put("events_3.jsonl", event(3)))
    house.batch()

    ((code, out, _),) = as_user(house, COLLEAGUE, GROUP, ("read", "bronze.usage_events"))

    assert code == 0
    assert "e-3" in out


@pytest.mark.usefixtures("umask")
def test_whoever_may_not_is_told_so_without_a_traceback(folder: Path) -> None:
    closed = project(folder, "false")

    refused = as_user(closed, COLLEAGUE, GROUP, *COMMANDS)
    stranger = as_user(closed, STRANGER, OTHERS, ("query", "daily-cost"))

    for code, out, err in (*refused, *stranger):
        assert (code, out) == (3, ""), err
        assert "where:" in err
        assert "fix:" in err
        assert "Traceback" not in err


@pytest.mark.usefixtures("umask")
def test_a_colleague_can_change_nothing(folder: Path) -> None:
    house = project(folder, "true")

    found = as_user(house, COLLEAGUE, GROUP, ("ingest",), ("batch", "--full"), ("rebuild",))

    for code, _, err in found:
        assert code == 3, err
        assert "fix:" in err
        assert "Traceback" not in err
    house.verified()
