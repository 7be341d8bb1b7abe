"""Ways for a process to die, and a delivery in two parts to die over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from e2e.house import House, Ran, assert_same, plain
from e2e.records import INVOICES, event, events, invoice, orgs
from meterhouse.project import Project
from meterhouse.storage.folder import FolderBlobs

MODELS = ("gold.finops_by_org_day", "gold.revenue_by_org_month", "silver.orgs")
Tables = dict[str, pa.Table]


class KilledError(BaseException):
    """Stands for the end of the process: nothing may catch it and go on."""


class MortalBlobs(FolderBlobs):
    """A folder whose process dies at the n-th change, just before it or just after it."""

    def __init__(self, root: Path, changes: int, *, after: bool) -> None:
        super().__init__(root)
        self.left = changes
        self._after = after

    def _count(self) -> bool:
        """Return whether this change is the last one to be made."""
        if self.left <= 0:
            raise KilledError
        self.left -= 1
        if self.left == 0 and not self._after:
            raise KilledError
        return self.left == 0

    def put_if_absent(self, name: str, data: bytes) -> bool:
        last = self._count()
        done = super().put_if_absent(name, data)
        if last:
            raise KilledError
        return done

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        last = self._count()
        super().put(name, data, durable=durable)
        if last:
            raise KilledError

    def delete(self, name: str) -> None:
        last = self._count()
        super().delete(name)
        if last:
            raise KilledError


def mortal(house: House, changes: int, *, after: bool) -> Project:
    """The project, on blobs that die."""
    project = house.project
    vars(project)["blobs"] = MortalBlobs(house.root, changes, after=after)
    return project


def new_house(root: Path) -> House:
    """A project that cuts its entries small, with a delivery in its inbox."""
    house = House.new(root, models=MODELS)
    house.edit("meterhouse.toml", '# piece_bytes = "32MiB"', 'piece_bytes = "8KiB"')
    put_first(house)
    return house


def put_first(house: House) -> None:
    house.put("events_1.jsonl", events(1, 60) + "garbage\n" + events(50, 70))
    house.put("events_2.jsonl", events(71, 130, org_id="o-2", service="genai"))
    house.put("customers_orgs.csv", orgs(*range(1, 11)))
    house.put("billing_monthly.csv", INVOICES + invoice("10") + invoice("7.5", 2))


def put_second(house: House) -> None:
    house.put("events_3.jsonl", events(100, 220) + event(5, cost_usd_increment=9))
    house.put("customers_orgs.csv", orgs(*range(2, 11)))
    house.put("billing_monthly.csv", INVOICES + invoice("20") + invoice("7.5", 2))


def answers(tables: Tables) -> dict[str, str]:
    """Day, organisation and service → cost, as the daily question must give them."""
    rows = tables["gold.org_daily_usage_by_service"].to_pylist()
    return {
        f"{row['usage_date']} {row['org_id']} {row['service']}": plain(row["daily_cost_usd"])
        for row in rows
    }


def assert_answers(house: House, tables: Tables) -> None:
    assert asked(house.cli("query", "daily-cost", "--format", "json")) == answers(tables)


def asked(ran: Ran) -> dict[str, str]:
    assert ran.code == 0, ran.err
    return {
        f"{row['usage_date']} {row['org_id']} {row['service']}": row["cost_usd"]
        for row in json.loads(ran.out)["rows"]
    }


def assert_whole(house: House, states: list[Tables]) -> None:
    """What readers see is one publication, never something between two."""
    assert asked(house.cli("query", "daily-cost", "--format", "json")) in map(answers, states)
    found = house.tables()
    for tables in states:
        try:
            assert_same(found, tables)
        except AssertionError:
            continue
        return
    raise AssertionError("the lake is neither the former publication nor the next")


def entries(root: Path) -> int:
    """How much there is below a project: a clock that ticks with the work, not with time."""
    return sum(1 for _ in walk(root))


def walk(folder: Path) -> Iterator[Path]:
    try:
        found = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in found:
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from walk(path)


def killed(house: House, *arguments: str, ticks: int, delay: float) -> bool:
    """Kill the program once it has made ``ticks`` files, and a moment later; False: it ended."""
    start = entries(house.root)
    running = house.program(*arguments)
    deadline = time.monotonic() + 60
    while running.poll() is None and entries(house.root) < start + ticks:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(delay)
    done = running.poll() is not None
    running.kill()
    _, err = running.communicate(timeout=60)
    if done:
        assert running.returncode == 0, err
    return not done
