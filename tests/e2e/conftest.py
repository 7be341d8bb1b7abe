"""The sample delivery, taken and published once, and what the oracle says about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from e2e.house import House, delivery, once
from oracle import Oracle
from oracle.oracle import Verdict
from oracle.questions import Questions

INGEST_DAY = date(2025, 9, 1)
"""Of the tests' clock."""


@dataclass(frozen=True)
class Computed:
    """The oracle's results, as they travel between the workers of a test run."""

    tables: dict[str, list[dict[str, Any]]]
    ledger: dict[str, Any]
    verdicts: list[Verdict]

    @classmethod
    def of(cls, oracle: Oracle) -> Computed:
        return cls(oracle.tables, oracle.ledger, oracle.verdicts)

    def question(self, name: str, **arguments: Any) -> list[dict[str, Any]]:
        return Questions(self.tables, INGEST_DAY).answer(name, **arguments)


@pytest.fixture(scope="session")
def sample_oracle(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """What the sample must come to."""
    return once(tmp_path_factory, "oracle", lambda folder: Computed.of(Oracle(delivery(sample))))


@pytest.fixture(scope="session")
def sample_house(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """The sample, ingested and published. Tests only read it."""

    def make(root: Path) -> Path:
        house = House.new(root)
        house.ingest(sample)
        house.batch()
        return root

    return House(once(tmp_path_factory, "sample", make))
