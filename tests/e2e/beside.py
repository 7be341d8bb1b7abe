"""A live project without a ``follow``: entries are applied, and the answers brought up to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from e2e.house import House
from meterhouse.layers.batch import BatchReport
from meterhouse.layers.speed import Speed
from meterhouse.log.state import State
from meterhouse.project import Project
from meterhouse.serving.answer import Answer
from meterhouse.serving.queries import QUESTIONS

BATCH_ONLY = {"gold.cost_anomaly_mart"}
"""Tables of the catalog that stand where the last batch stood."""

__all__ = ["LiveHouse", "answers", "assert_as_batch"]


@dataclass
class LiveHouse(House):
    """A house whose answers follow when they are told to."""

    def live(self) -> int:
        """Take the inbox, and bring the answers up to the head; return where they stand."""
        self.ingest()
        return self.catch_up()

    def batch_of_inbox(self) -> BatchReport:
        """Take the inbox, and publish."""
        self.ingest()
        return self.batch()

    def catch_up(self) -> int:
        """Bring the answers up to what is applied, as a new process would."""
        with self.speeding() as (speed, state):
            return speed.catch_up(state.stamp()).stamp.position

    @contextmanager
    def speeding(self) -> Iterator[tuple[Speed, State]]:
        """A speed layer as ``follow`` has it."""
        project = self.project
        with (
            project._views() as state,
            closing(project._speed(project._log(), state)) as speed,
        ):
            yield speed, state

    def batched_copy(self, folder: Path) -> House:
        """The same log in another project, where a batch computes everything from it."""
        shutil.copytree(self.root, folder, ignore=shutil.ignore_patterns(".locks", ".requests"))
        shutil.rmtree(folder / "lake", ignore_errors=True)
        for path in folder.glob("serving.db*"):
            path.unlink()
        copy = House(folder, self.clock)
        copy.batch(full=True)
        return copy


def answers(project: Project) -> dict[str, Answer]:
    """Every question that the tables answer, without arguments."""
    tables = project.at_position("information_schema").tables
    return {
        name: project.query(name)
        for name, question in QUESTIONS.items()
        if set(question.tables) <= set(tables)
    }


def assert_as_batch(house: LiveHouse, folder: Path) -> None:
    """Every reader of ``house`` sees what a full batch over the same log comes to."""
    mine, other = house.project, house.batched_copy(folder).project
    published = other.published()
    assert published is not None
    at = mine.at_position("information_schema")
    assert at.position == published.stamp.position
    tables = other.at_position("information_schema").tables
    assert sorted(at.tables) == sorted(tables)
    for name in sorted(set(tables) - BATCH_ONLY):
        expected = other.read(name)
        assert_equal(name, mine.read(name), expected)
        sql = f"SELECT * FROM {name}"
        assert_equal(name, in_order(mine.sql(sql)), in_order(expected))
    asked = answers(mine)
    for name, answer in answers(other).items():
        if not asked[name].as_of.batch_only:
            assert asked[name].rows == answer.rows, name
            assert asked[name].as_of.position == answer.as_of.position, name


def assert_equal(name: str, found: pa.Table, expected: pa.Table) -> None:
    """The same rows in the same order, cell by cell, type by type."""
    assert found.schema == expected.schema, name
    if not found.equals(expected):
        odd = [
            pair
            for pair in zip(found.to_pylist(), expected.to_pylist(), strict=False)
            if pair[0] != pair[1]
        ]
        raise AssertionError(f"{name}: {found.num_rows} rows for {expected.num_rows}; {odd[:2]}")


def in_order(table: pa.Table) -> pa.Table:
    """The rows in an order of their own."""
    rows = sorted(table.to_pylist(), key=lambda row: json.dumps(row, default=_text))
    return pa.Table.from_pylist(rows, schema=table.schema)


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
