"""What folders can hold: odd names, links, files that may not be read or do not stay."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from e2e.house import House
from meterhouse.log.report import IngestReport
from meterhouse.project import Project
from meterhouse.sources.files import Delivery, Discovery, Reading
from unit.log.house import ORGS, event, org

MODELS = ("gold.finops_by_org_day", "silver.orgs")
ODD_NAMES = (
    b"events with spaces .jsonl",
    b"events\nnewline.jsonl",
    "events_größe_漢字_😀.jsonl".encode(),
    b"events_latin_\xe9\xff.jsonl",
    b"events_\\xff.jsonl",
    b"events_\x1b[31m\x07.jsonl",
    b"events_'quote\"$(x)`;&|*?[a].jsonl",
    b"events_%41+%2F#.jsonl",
    b"events_" + b"n" * 230 + b".jsonl",
    b"-events.jsonl",
)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House.new(tmp_path / "project", models=MODELS)


def put(house: House, name: bytes, data: str) -> None:
    path = os.fsencode(house.inbox) + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(data.encode())


def test_odd_names_go_the_whole_way(house: House) -> None:
    house.edit("contracts/usage_events.yaml", "usage*.jsonl", "*events*.jsonl")
    for number, name in enumerate(ODD_NAMES, start=1):
        put(house, b"deep/er folder\n/" + name, event(number) + f"garbage {number}\n")

    assert house.cli("ingest").code == 0
    assert house.cli("batch").code == 0

    house.verified()
    again = house.cli("ingest")
    assert (again.code, "10 already done" in again.out) == (0, True)
    rows = house.rows("bronze.usage_events")
    files = {row["event_id"]: row["source_file"] for row in rows}
    assert len(set(files.values())) == len(ODD_NAMES)
    assert files["e-4"].endswith(r"events_latin_\xe9\xff.jsonl")
    assert files["e-5"].endswith(r"events_\x5cxff.jsonl")
    assert files["e-2"].endswith("events\nnewline.jsonl")
    for form in ("csv", "json", "jsonl", "table"):
        ran = house.cli("read", "bronze.usage_events", "--format", form)
        assert ran.code == 0
    listed = json.loads(house.cli("read", "bronze.usage_events", "--format", "json").out)["rows"]
    assert {row["source_file"] for row in listed} == set(files.values())


def test_odd_names_are_printed_printably(house: House) -> None:
    house.edit("contracts/usage_events.yaml", "usage*.jsonl", "*events*.jsonl")
    for number, name in enumerate(ODD_NAMES, start=1):
        put(house, name, event(number) + "half")
        put(house, b"other_" + name + b".txt", "")
    first = house.cli("ingest")
    house.batch()
    key = ("org_id=o-1", "usage_date=2025-07-03")

    shown = [
        first,
        house.cli("ingest", "inbox"),
        house.cli("status"),
        house.cli("quarantine", "show"),
        house.cli("explain", "gold.finops_by_org_day", *key, "--limit", "100"),
        house.cli("verify"),
    ]

    for ran in shown:
        text = ran.out + ran.err
        assert "Traceback" not in text
        assert all(char.isprintable() for char in text.replace("\n", ""))


def test_a_folder_called_like_a_delivery_is_searched(house: House) -> None:
    house.put("events_1.jsonl/events_2.jsonl", event(2))
    (house.inbox / "customers_orgs.csv").mkdir()

    report = house.ingest()

    assert report.sources["usage_events"].taken == ["inbox/events_1.jsonl/events_2.jsonl"]


def test_a_link_to_itself_is_named_and_the_rest_taken(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    (house.inbox / "events_2.jsonl").symlink_to("events_2.jsonl")
    (house.inbox / "loop").symlink_to(".")
    (house.inbox / "up").symlink_to(house.root)

    ran = house.cli("ingest")

    assert ran.code == 3
    assert "inbox/events_2.jsonl" in ran.err
    assert "fix:" in ran.err
    house.batch()
    assert [row["event_id"] for row in house.rows("bronze.usage_events")] == ["e-1"]


def test_a_link_and_its_file_are_one_delivery(house: House, tmp_path: Path) -> None:
    outside = tmp_path / "events_out.jsonl"
    outside.write_text(event(1))
    (house.inbox / "events_link.jsonl").symlink_to(outside)
    (house.inbox / "events_other.jsonl").symlink_to(outside)

    report = house.ingest(house.inbox, outside)

    assert report.sources["usage_events"].taken == [str(outside)]


def test_what_is_no_file_is_never_opened(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    os.mkfifo(house.inbox / "events_pipe.jsonl")

    ran = house.cli("ingest")

    assert ran.code == 2
    assert "events_pipe.jsonl" in ran.err
    assert "1 file taken" in ran.out


@dataclass(frozen=True, slots=True)
class Disturbed(Delivery):
    """A file to which something happens while it is read."""

    meanwhile: Callable[[Path], None] = lambda path: None

    def open(self) -> Reading:
        return _DisturbedReading(self, self.meanwhile)


class _DisturbedReading(Reading):
    def __init__(self, delivery: Delivery, meanwhile: Callable[[Path], None]) -> None:
        super().__init__(delivery)
        self._path = delivery.path
        self._meanwhile = meanwhile

    def read(self, size: int = -1) -> bytes:
        data = super().read(min(size, 100) if size > 0 else 100)
        self._meanwhile(self._path)
        return data


def take(project: Project, name: str, meanwhile: Callable[[Path], None]) -> IngestReport:
    """Take the inbox while something happens to one file."""
    found = project.discover([project.root / "inbox"])
    files = [
        Disturbed(
            **{item.name: getattr(one, item.name) for item in fields(Delivery)}, meanwhile=meanwhile
        )
        if one.path.name == name
        else one
        for one in found.files
    ]
    return project.take(Discovery(files))


def test_a_file_that_is_gone_before_it_is_read_leaves_the_others_alone(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    gone = house.put("events_2.jsonl", event(2))
    found = house.project.discover([house.inbox])
    gone.unlink()

    report = house.project.take(found)

    assert [error.exit_code for error in report.errors] == [3]
    assert "inbox/events_2.jsonl" in str(report.errors[0])
    assert report.sources["usage_events"].taken == ["inbox/events_1.jsonl"]
    house.verified()


def test_a_file_that_is_removed_while_it_is_read_is_taken_whole(house: House) -> None:
    """Its bytes stay readable until it is closed: what was opened is what is landed."""
    house.put("events_1.jsonl", event(1) + event(2))

    report = take(house.project, "events_1.jsonl", lambda path: path.unlink(missing_ok=True))

    assert report.errors == []
    assert report.sources["usage_events"].counts["accepted"] == 2
    house.verified()


def test_a_file_that_is_emptied_while_it_is_read_is_not_taken(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    house.put("events_2.jsonl", event(2) + event(3))

    report = take(house.project, "events_2.jsonl", lambda path: os.truncate(path, 0))

    assert [error.exit_code for error in report.errors] == [3]
    assert "inbox/events_2.jsonl" in str(report.errors[0])
    assert report.sources["usage_events"].counts["accepted"] == 1
    house.verified()


def test_a_snapshot_that_is_replaced_while_it_is_read_is_not_taken(house: House) -> None:
    house.put("customers_orgs.csv", ORGS + org(1) + org(2))

    def written(path: Path) -> None:
        path.write_text(ORGS + org(3))

    report = take(house.project, "customers_orgs.csv", written)

    assert [error.exit_code for error in report.errors] == [3]
    assert house.ingest().sources["customers_orgs"].counts["accepted"] == 1
    house.verified()


@contextmanager
def somebody_else(uid: int) -> Iterator[None]:
    """Act as another Unix user for a while: permissions do not bind root."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another Unix user")
def test_what_may_not_be_read_is_named_and_the_rest_taken() -> None:
    folder = Path(tempfile.mkdtemp(prefix="meterhouse-folders-"))
    uid = 40_002
    try:
        folder.chmod(0o755)
        house = House.new(folder / "project", models=MODELS)
        house.put("events_0.jsonl", event(0))
        house.ingest()  # as root once, so that everything is imported
        house.put("events_1.jsonl", event(1))
        house.put("events_2.jsonl", event(2)).chmod(0)
        house.put("closed/events_3.jsonl", event(3))
        for base, folders, names in os.walk(folder):
            for name in (*folders, *names):
                os.chown(Path(base) / name, uid, uid)
        (house.inbox / "closed").chmod(0)

        with somebody_else(uid):
            ran = house.cli("ingest")

        assert ran.code == 3, ran.err
        assert "inbox/events_2.jsonl" in ran.err
        assert "inbox/closed" in ran.err
        assert "ermission denied" in ran.err
        assert "1 file taken, 1 already done" in ran.out
    finally:
        shutil.rmtree(folder)
