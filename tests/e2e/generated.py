"""A generated delivery with corrections and planted dirt, taken and published once."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.house import House, once
from meterhouse.synth import Options, generate

OPTIONS = Options(
    events=1500, orgs=8, files=12, days=45, poison=0.05, duplicates=0.06, conflicts=0.03, drift=True
)


def generated(factory: pytest.TempPathFactory) -> House:
    """The project; tests only read it. The delivery lies beside it."""

    def make(folder: Path) -> Path:
        generate(folder / "delivery", OPTIONS)
        house = House.new(folder / "project")
        house.ingest(folder / "delivery")
        house.batch()
        return house.root

    return House(once(factory, "generated", make))
