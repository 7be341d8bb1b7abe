"""What a publication rests on is synced, also where a batch that died had written it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from meterhouse.lake import delta
from meterhouse.lake.delta import Contents, DeltaTables
from meterhouse.testing import FixedClock

NAME = "bronze.usage"
EMPTY = Contents(schema=pa.schema([("service", pa.string())]), partition_by=(), files=())
OTHER = Contents(
    schema=pa.schema([("service", pa.string()), ("day", pa.date32())]), partition_by=(), files=()
)


class PowerError(Exception):
    """The batch dies before it has synced anything."""


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    real = delta.sync

    def sync(path: Path) -> None:
        found.append(path.name)
        real(path)

    monkeypatch.setattr(delta, "sync", sync)
    return found


def tables(lake: Path) -> DeltaTables:
    return DeltaTables(lake, timedelta(0), FixedClock(datetime(2025, 9, 1, tzinfo=UTC)))


def die_unsynced(lake: Path, contents: Contents, published: int | None) -> None:
    def dies(path: Path) -> None:
        raise PowerError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta, "sync", dies)
        with pytest.raises(PowerError):
            tables(lake).commit(NAME, contents, published=published)


def test_a_table_that_a_dead_batch_made_is_synced_before_it_is_published(
    tmp_path: Path, synced: list[str]
) -> None:
    die_unsynced(tmp_path, EMPTY, None)

    assert tables(tmp_path).commit(NAME, EMPTY) == 0

    assert synced == [f"{0:020d}.json", "_delta_log", "usage", "bronze", tmp_path.name]


def test_so_is_a_version_after_the_published_one(tmp_path: Path, synced: list[str]) -> None:
    assert tables(tmp_path).commit(NAME, EMPTY) == 0
    die_unsynced(tmp_path, OTHER, 0)
    synced.clear()

    assert tables(tmp_path).commit(NAME, OTHER, published=0) == 1

    assert synced == [f"{1:020d}.json", "_delta_log"]


def test_what_is_published_is_not_synced_again(tmp_path: Path, synced: list[str]) -> None:
    assert tables(tmp_path).commit(NAME, EMPTY) == 0
    synced.clear()

    assert tables(tmp_path).commit(NAME, EMPTY, published=0) == 0

    assert synced == []
