"""However batches, crashes and pauses follow each other: what stays of the lake can be read.

The tables are real ones; a step is one batch at a virtual time. The truth is a list: version →
files it consisted of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meterhouse.lake.delta import CHECKPOINT_EVERY, Contents, DeltaTables
from meterhouse.lake.files import sha256_of
from meterhouse.lake.published import PublishedTable, StoredFile
from meterhouse.lake.retention import RECENT
from meterhouse.testing import FixedClock

NAME = "bronze.usage"
SCHEMA = pa.schema([("service", pa.string()), ("cost_usd", pa.decimal128(38, 9))])
SERVICES = ("compute", "a/b", "100%", "é")
PAUSES = (timedelta(minutes=15), timedelta(minutes=50), timedelta(hours=7), timedelta(days=2))


class Lake:
    """One table, its publications, and what each of its versions was."""

    def __init__(self, root: Path, keep: timedelta) -> None:
        self.root = root / "lake"
        self.folder = self.root / "bronze/usage"
        self.keep = keep
        self.clock = FixedClock(datetime(2025, 9, 1, 9, tzinfo=UTC))
        self.tables = DeltaTables(self.root, keep, self.clock)
        self.published: PublishedTable | None = None
        self.versions: dict[int, tuple[datetime, set[str]]] = {}
        self.count = 0

    def batch(self, replaced: int, *, dies: bool) -> None:
        """Write a file, take out the oldest ``replaced``, commit; publish if it doesn't die."""
        before = self.published
        files = before.files if before is not None else ()
        new = (*files[replaced:], self._file())
        version = self.tables.commit(
            NAME, Contents(SCHEMA, ("service",), new), published=before.version if before else None
        )
        self._age()
        self.versions[version] = (self.clock.now, {file.path for file in new})
        if dies:
            return
        log = self.tables.log_files(NAME, version, before.log if before is not None else ())
        self.published = PublishedTable(NAME, version, 0, "", "", ("service",), new, log)
        self.tables.tidy(self.published, frozenset(file.path for file in (*files, *new)))

    def _file(self) -> StoredFile:
        self.count += 1
        service = SERVICES[self.count % len(SERVICES)]
        partition = "service=" + "".join(f"%{byte:02X}" for byte in service.encode())
        path = self.folder / partition / f"{self.count}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table([[service], [Decimal(1)]], schema=SCHEMA), path)
        name = str(path.relative_to(self.root))
        return StoredFile(name, 1, path.stat().st_size, sha256_of(path), {"service": service})

    def _age(self) -> None:
        """Give new files their virtual age."""
        for path in self.files():
            if path.stat().st_mtime > datetime(2026, 1, 1, tzinfo=UTC).timestamp():
                os.utime(path, (self.clock.now.timestamp(),) * 2)

    def files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]

    def promised(self) -> Iterator[int]:
        """Yield versions that shall be readable: recent ones, and of each day the first."""
        days: set[date] = set()
        ordered = sorted(self.versions)
        for index, version in enumerate(ordered):
            at = self.versions[version][0]
            last = index == len(ordered) - 1
            until = self.clock.now if last else self.versions[ordered[index + 1]][0]
            recent = last or until > self.clock.now - min(self.keep, RECENT)
            if recent or (at.date() not in days and at > self.clock.now - self.keep):
                yield version
            days.add(at.date())

    def read(self, version: int) -> set[str]:
        """Return the files of ``version`` that are there, as other readers of Delta see it."""
        table = pa.table(DeltaTable(str(self.folder), version=version).get_add_actions())
        paths = {f"bronze/usage/{unquote(path)}" for path in table["path"].to_pylist()}
        return {path for path in paths if (self.root / path).exists()}


def at_time(lake: Lake, moment: datetime) -> int:
    """Return the version that other readers of Delta find when they look back to a time."""
    table = DeltaTable(str(lake.folder))
    table.load_as_version(moment)
    return table.version()


STEPS = st.lists(
    st.tuples(st.sampled_from(PAUSES), st.integers(0, 3), st.sampled_from((False, False, True))),
    min_size=1,
    max_size=24,
)


def _after_a_first_batch_that_died(*pauses: timedelta) -> list[tuple[timedelta, int, bool]]:
    return [(PAUSES[0], 0, True), *((pause, 0, False) for pause in pauses)]


@settings(max_examples=15, deadline=None)
@example(steps=_after_a_first_batch_that_died(*[PAUSES[3]] * 4), keep=timedelta(days=7))
@example(
    steps=[*_after_a_first_batch_that_died(PAUSES[3]), *[(PAUSES[0], 1, False)] * 9],
    keep=timedelta(days=7),
)
@given(steps=STEPS, keep=st.sampled_from([timedelta(0), RECENT, timedelta(days=7)]))
def test_versions_that_stay_are_whole_and_so_is_what_is_published(
    steps: list[tuple[timedelta, int, bool]], keep: timedelta
) -> None:
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder), keep)
        for pause, replaced, dies in steps:
            lake.clock.now += pause
            lake.batch(replaced, dies=dies)

            if lake.published is not None:
                named = (*lake.published.files, *lake.published.log)
                assert [one.path for one in named if not (lake.root / one.path).exists()] == []
                assert lake.read(lake.published.version) == {
                    file.path for file in lake.published.files
                }
            for version in lake.promised():
                assert lake.read(version) == lake.versions[version][1]


def test_the_lake_stops_growing() -> None:
    """Ten days, a batch each hour that replaces the oldest file; it repeats every five days."""
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder), timedelta(days=2))
        counts = []
        for _ in range(10 * 24):
            lake.clock.now += timedelta(hours=1)
            lake.batch(int(lake.count > 8), dies=False)
            counts.append(len(lake.files()))

        a_day = 24
        assert max(counts[-5 * a_day :]) <= max(counts[: -5 * a_day])
        live, days = 9, 2
        # Each day kept: its files, commits, checkpoint. Besides, what waits for a cleaning.
        assert max(counts) <= (days + 1) * (live + a_day + 1) + 5 * CHECKPOINT_EVERY
        for version in lake.promised():
            assert at_time(lake, lake.versions[version][0]) == version
