"""Ingest from files to judged rows: repeats, growth, corrections, refusals, crashes, races."""

from __future__ import annotations

import gzip
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard

from meterhouse.errors import (
    ContractError,
    DamageError,
    EnvironmentFailureError,
    SourceRefusedError,
)
from meterhouse.intake.contract import Rule
from meterhouse.log.apply import rebuild
from meterhouse.log.chain import Log
from meterhouse.log.landing import read_landed
from meterhouse.storage.folder import FolderBlobs
from meterhouse.testing import FixedClock
from unit.log.house import INVOICES, ORGS, House, engine, event, invoice, org


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "project")


def events(first: int, last: int) -> str:
    return "".join(event(number) for number in range(first, last + 1))


def kinds(house: House) -> list[tuple[str, str]]:
    return [(entry.kind, entry.source) for entry in house.log.entries()]


def accepted(house: House, source: str, column: str) -> list[object]:
    return [value for value, verdict in house.verdicts(source, column) if verdict == "accepted"]


def test_records_get_verdicts_and_the_entry_says_what_they_add_up_to(house: House) -> None:
    bad = event(3, cost_usd_increment=-5)
    house.put("events_1.jsonl", event(1) + "\n" + event(2) + event(1) + bad + "garbage\n")

    report = house.ingest()

    counts = {"landed": 5, "accepted": 2, "quarantined": 2, "duplicate": 1, "blank": 1}
    assert report.sources["usage_events"].counts == {**counts, "removed": 0}
    money = report.sources["usage_events"].money["cost_usd_increment"]["USD"]
    assert money["landed"] == Decimal("-4.25")
    assert money["accepted"] + money["quarantined"] + money["duplicate"] == money["landed"]
    entry = house.log.read(2)
    assert entry.counts == {**counts, "removed": 0}
    assert (entry.inputs[0].records, entry.inputs[0].lines, entry.inputs[0].blank) == (5, 6, 1)


def test_a_contract_entry_precedes_the_first_data_and_entry_one_names_the_project(
    house: House,
) -> None:
    house.put("events_1.jsonl", event(1))
    house.put("customers_orgs.csv", ORGS + org(1))
    house.put("billing_monthly.csv", INVOICES + invoice(1, "10"))

    house.ingest()

    assert kinds(house) == [
        ("contract", "customers_orgs"),
        ("data", "customers_orgs"),
        ("contract", "billing_monthly"),
        ("data", "billing_monthly"),
        ("contract", "usage_events"),
        ("data", "usage_events"),
    ]
    entries = list(house.log.entries())
    assert [entry.project for entry in entries] == ["p-1", "", "", "", "", ""]
    assert entries[0].text == house.contracts["customers_orgs"].text
    assert entries[1].contract == entries[0].contract


def test_the_same_files_again_are_already_done(house: House) -> None:
    house.put("events_1.jsonl", events(1, 3))
    house.put("customers_orgs.csv", ORGS + org(1))
    house.put("billing_monthly.csv", INVOICES + invoice(1, "10"))
    house.put("nps_surveys.csv.gz", gzip.compress(b"org_id,survey_date,nps_score,comment\n"))
    house.ingest()
    head = house.log.stamp()

    report = house.again().ingest()

    assert report.stamp == head
    assert (report.taken, report.already) == (0, 4)


def test_small_files_share_an_entry_and_large_ones_are_cut(house: House) -> None:
    for number in range(20):
        house.put(f"events_{number:02}.jsonl", event(number))
    house.put("events_large.jsonl", events(100, 160))
    small = house.again(piece_bytes=len(event(1)) * 10)

    small.ingest()

    entries = [entry for entry in small.log.entries() if entry.kind == "data"]
    assert max(len(entry.inputs) for entry in entries) >= 9
    assert len([entry for entry in entries if entry.inputs[0].file.endswith("large.jsonl")]) > 3
    assert sorted(accepted(small, "usage_events", "event_id")) == sorted(
        [f"e-{number}" for number in [*range(20), *range(100, 161)]]
    )
    for entry in entries:
        for item, data in read_landed(FolderBlobs(small.root), entry):
            assert (small.root / item.file).read_bytes()[item.lo : item.hi] == data


def test_a_grown_file_goes_on_and_its_lines_keep_their_numbers(house: House) -> None:
    path = house.put("events_1.jsonl", events(1, 2).rstrip("\n"))
    house.ingest()

    path.write_text(events(1, 2) + event(3).rstrip("\n"))
    house.again().ingest()
    path.write_text(events(1, 3) + "\r\n" + event(4))
    last = house.again()
    report = last.ingest()

    assert report.sources["usage_events"].counts["blank"] == 1
    table = last.judged("usage_events")
    assert table["source_line"].to_pylist() == [1, 2, 3, 5]
    assert table["verdict"].to_pylist() == ["accepted"] * 4


def test_an_incomplete_last_line_waits_until_it_is_whole(house: House) -> None:
    half = event(2)[:40]
    path = house.put("events_1.jsonl", event(1) + half)

    waiting = house.ingest().sources["usage_events"].waiting
    assert [(tail.line, tail.size) for tail in waiting] == [(2, 40)]

    path.write_text(events(1, 2))
    later = house.again()
    assert later.ingest().sources["usage_events"].waiting == []
    assert accepted(later, "usage_events", "event_id") == ["e-1", "e-2"]


def test_an_append_file_that_changed_is_refused_and_the_others_go_on(house: House) -> None:
    path = house.put("events_1.jsonl", events(1, 2))
    house.ingest()
    path.write_text(event(9) + event(2) + event(3))
    house.put("events_2.jsonl", event(4))
    later = house.again()

    report = later.ingest().sources["usage_events"]

    assert report.taken == ["inbox/events_2.jsonl"]
    assert [error.exit_code for error in report.refused] == [1]
    assert "inbox/events_1.jsonl" in report.refused[0].what
    assert accepted(later, "usage_events", "event_id") == ["e-1", "e-2", "e-4"]


def test_a_whole_append_file_under_another_name_is_duplicates(house: House) -> None:
    house.put("events_1.jsonl", events(1, 3))
    house.put("events_2.jsonl", events(1, 3))

    counts = house.ingest().sources["usage_events"].counts

    assert (counts["accepted"], counts["duplicate"]) == (3, 3)


def test_an_invoice_corrected_twice_and_back_has_four_versions(house: House) -> None:
    for subtotal in ("10", "20", "30", "10"):
        house.put("billing_monthly.csv", INVOICES + invoice(1, subtotal) + invoice(2, "5"))
        house = house.again()
        house.ingest()

    assert accepted(house, "billing_monthly", "subtotal") == [
        Decimal(10),
        Decimal(5),
        Decimal(20),
        Decimal(30),
        Decimal(10),
    ]


def test_old_bytes_under_another_name_are_duplicates_whole(house: House) -> None:
    old = INVOICES + invoice(1, "10")
    house.put("billing_monthly.csv", old)
    house.ingest()
    house.put("billing_monthly.csv", INVOICES + invoice(1, "20"))
    house.ingest()
    house.put("billing_monthly_copy.csv", old)

    counts = house.ingest().sources["billing_monthly"].counts

    assert (counts["landed"], counts["duplicate"]) == (1, 1)
    entry = house.log.head()
    assert entry is not None
    assert entry.inputs[0].repeated


def test_two_copies_of_one_new_file_in_one_call_are_one_delivery(house: House) -> None:
    house.put("billing_monthly_a.csv", INVOICES + invoice(1, "10"))
    house.put("billing_monthly_b.csv", INVOICES + invoice(1, "10"))

    counts = house.ingest().sources["billing_monthly"].counts

    assert (counts["accepted"], counts["duplicate"]) == (1, 1)
    entry = house.log.head()
    assert entry is not None
    assert [item.repeated for item in entry.inputs] == [False, True]


def test_a_snapshot_overwritten_with_one_row_less_removes_it(house: House) -> None:
    many = "".join(org(number) for number in range(10))
    house.put("customers_orgs.csv", ORGS + many)
    house.ingest()
    house.put("customers_orgs.csv", ORGS + many.removeprefix(org(0)))
    later = house.again()

    counts = later.ingest().sources["customers_orgs"].counts

    assert (counts["duplicate"], counts["removed"], counts["accepted"]) == (9, 1, 0)
    assert later.verdicts("customers_orgs", "org_id")[-1] == ("o-0", "removed")


def test_a_snapshot_that_lost_half_stops_its_source_only(house: House) -> None:
    house.put("customers_orgs.csv", ORGS + "".join(org(number) for number in range(10)))
    house.ingest()
    house.put("customers_orgs.csv", ORGS + "".join(org(number) for number in range(5)))
    house.put("events_1.jsonl", event(1))
    later = house.again()

    report = later.ingest()

    stopped = report.sources["customers_orgs"].stopped
    assert isinstance(stopped, SourceRefusedError)
    assert "inbox/customers_orgs.csv" in stopped.where
    assert "shrink_limit" in str(stopped)
    assert report.sources["usage_events"].counts["accepted"] == 1
    assert [kind for kind in kinds(later) if kind[1] == "customers_orgs"] == [
        ("contract", "customers_orgs"),
        ("data", "customers_orgs"),
    ]


def test_a_stop_rule_stops_at_the_file_to_blame_and_numbers_nothing_of_it(house: House) -> None:
    usage = house.contracts["usage_events"]
    stop = Rule("org_known", "stop", "test", holds="org_id <> 'o-bad'", columns=("org_id",))
    house.contracts["usage_events"] = replace(usage, rules=(*usage.rules, stop))
    house.put("events_1.jsonl", event(1))
    house.put("events_2.jsonl", event(2) + event(3, org_id="o-bad"))
    house.put("events_3.jsonl", event(4))
    house.put("customers_orgs.csv", ORGS + org(1))

    report = house.ingest()

    usage_report = report.sources["usage_events"]
    assert usage_report.taken == ["inbox/events_1.jsonl"]
    assert usage_report.stopped is not None
    assert "inbox/events_2.jsonl" in usage_report.stopped.where
    assert usage_report.not_tried == ["inbox/events_3.jsonl"]
    assert accepted(house, "usage_events", "event_id") == ["e-1"]
    assert report.sources["customers_orgs"].counts["accepted"] == 1


def test_a_source_that_stops_at_once_leaves_no_trace(house: House) -> None:
    usage = house.contracts["usage_events"]
    house.contracts["usage_events"] = replace(usage, on_new_column="stop")
    house.put("events_1.jsonl", event(1, surprise=1))

    report = house.ingest()

    assert report.sources["usage_events"].stopped is not None
    assert report.stamp.position == 0
    assert not (house.root / "landing").exists()


def test_csv_without_a_usable_header_is_refused_by_name(house: House) -> None:
    house.put("billing_monthly_1.csv", "")
    house.put("billing_monthly_2.csv", "a,b\n1,2\n")
    house.put("billing_monthly_3.csv", INVOICES)
    house.put("billing_monthly_4.csv", INVOICES + invoice(1, "10"))

    report = house.ingest().sources["billing_monthly"]

    assert [error.where.split(",")[0] for error in report.refused] == [
        "inbox/billing_monthly_1.csv",
        "inbox/billing_monthly_2.csv",
    ]
    assert report.taken == ["inbox/billing_monthly_3.csv", "inbox/billing_monthly_4.csv"]
    assert report.counts["accepted"] == 1


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)])
@pytest.mark.parametrize("piece_bytes", [700, 1 << 20])
def test_compressed_files_are_landed_as_they_came(
    house: House, ending: str, pack: Callable[[bytes], bytes], piece_bytes: int
) -> None:
    house = house.again(piece_bytes=piece_bytes)
    one, two = pack(events(1, 10).encode()), pack(events(11, 12).encode())
    house.put(f"events_1.jsonl.{ending}", one)
    house.put(f"events_2.jsonl.{ending}", two)

    house.ingest()

    assert accepted(house, "usage_events", "event_id") == [f"e-{n}" for n in range(1, 13)]
    landed = b"".join(path.read_bytes() for path in (house.root / "landing").rglob("*/*/*"))
    assert one in landed
    assert two in landed
    texts = [
        data
        for entry in house.log.entries()
        if entry.kind == "data"
        for _, data in read_landed(FolderBlobs(house.root), entry)
    ]
    assert b"".join(texts).decode() == events(1, 12)


def test_a_truncated_gz_is_refused_and_the_next_file_is_taken(house: House) -> None:
    house.put("events_1.jsonl.gz", gzip.compress(events(1, 50).encode())[:-9])
    house.put("events_2.jsonl", event(60))

    report = house.ingest().sources["usage_events"]

    assert isinstance(report.refused[0], SourceRefusedError)
    assert "ends in the middle" in report.refused[0].what
    assert accepted(house, "usage_events", "event_id") == ["e-60"]


def test_a_file_that_disappears_does_not_hinder_the_others(house: House) -> None:
    gone = house.put("events_1.jsonl", event(1))
    house.put("events_2.jsonl", event(2))
    found = house.found()
    gone.unlink()

    report = house.ingest(found).sources["usage_events"]

    assert isinstance(report.refused[0], EnvironmentFailureError)
    assert report.taken == ["inbox/events_2.jsonl"]


def test_a_changed_contract_holds_for_what_lands_after_it(house: House) -> None:
    house.put("events_1.jsonl", event(1, cost_usd_increment=5))
    house.ingest()
    usage = house.contracts["usage_events"]
    text = usage.text.replace("-0.01", "10")
    from meterhouse.intake.contracts import parse_contract

    house.contracts["usage_events"] = parse_contract(text, "usage_events.yaml")
    assert house.contracts["usage_events"].sha256 != usage.sha256
    house.put("events_2.jsonl", event(2, cost_usd_increment=5))
    later = house.again()

    later.ingest()

    assert [kind for kind, _ in kinds(later)] == ["contract", "data", "contract", "data"]
    assert later.verdicts("usage_events", "event_id") == [
        ("e-1", "accepted"),
        ("e-2", "quarantined"),
    ]


def test_a_key_can_not_change_in_place(house: House) -> None:
    house.put("billing_monthly.csv", INVOICES + invoice(1, "10"))
    house.ingest()
    billing = house.contracts["billing_monthly"]
    house.contracts["billing_monthly"] = replace(billing, key=("org_id",), sha256="0" * 64)
    house.put("billing_monthly.csv", INVOICES + invoice(1, "20"))

    report = house.again().ingest().sources["billing_monthly"]

    assert isinstance(report.stopped, ContractError)
    assert "key" in report.stopped.what


def test_time_in_the_log_never_goes_back(tmp_path: Path) -> None:
    clock = FixedClock(datetime(2025, 9, 1, tzinfo=UTC), timedelta(hours=-1))
    house = House(tmp_path / "project", clock=clock)
    house.put("events_1.jsonl", event(1))
    house.ingest()
    house.put("events_2.jsonl", event(2))
    house.ingest()

    times = [entry.ingest_ts for entry in house.log.entries()]
    assert times == ["2025-09-01T00:00:00.000000Z"] * 3


def test_what_was_committed_but_not_checkpointed_is_applied_by_the_next_process(
    house: House,
) -> None:
    house.put("events_1.jsonl", events(1, 30))
    house = house.again(piece_bytes=len(event(1)) * 10)
    house.ingest()
    house.state.close()
    shutil.rmtree(house.root / "index")
    whole = {path: path.read_bytes() for path in (house.root / "judged").rglob("*.parquet")}
    next(iter(whole)).unlink()
    house.put("events_2.jsonl", events(1, 31))

    later = house.again()
    assert later.state.stamp().position == 0
    counts = later.ingest().sources["usage_events"].counts

    assert (counts["accepted"], counts["duplicate"]) == (1, 30)
    assert {path: path.read_bytes() for path in whole} == whole


@pytest.mark.parametrize("failing", ["landing", "log", "judged"])
def test_a_full_disk_loses_nothing_and_the_next_run_goes_on(house: House, failing: str) -> None:
    class FullDisk(FolderBlobs):
        full = False

        def _refuse(self, name: str) -> None:
            if self.full and name.startswith(failing):
                raise EnvironmentFailureError("disk full", name)

        def put_if_absent(self, name: str, data: bytes) -> bool:
            self._refuse(name)
            return super().put_if_absent(name, data)

        def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
            self._refuse(name)
            super().put(name, data, durable=durable)

    blobs = FullDisk(house.root)
    house = house.again(blobs=blobs)
    house.put("events_1.jsonl", event(1))
    house.ingest()
    blobs.full = True
    house.put("events_2.jsonl", event(1) + event(2))

    with pytest.raises(EnvironmentFailureError):
        house.ingest()

    blobs.full = False
    for later in (house, house.again()):
        later.ingest()
        assert later.verdicts("usage_events", "event_id") == [
            ("e-1", "accepted"),
            ("e-1", "duplicate"),
            ("e-2", "accepted"),
        ]


def test_rebuilding_gives_the_same_views(house: House) -> None:
    house = house.again(piece_bytes=len(event(1)) * 4)
    house.put("events_1.jsonl", events(1, 9).rstrip("\n"))
    house.put("events_2.jsonl.gz", gzip.compress(events(5, 20).encode()))
    house.put("customers_orgs.csv", ORGS + "".join(org(number) for number in range(9)))
    house.ingest()
    house.put("events_1.jsonl", events(1, 9) + event(3, value=2) + "junk\n")
    house.put("customers_orgs.csv", ORGS + "".join(org(number) for number in range(8)))
    house = house.again()
    house.ingest()
    before = house.views()

    state = rebuild(
        FolderBlobs(house.root),
        Log(FolderBlobs(house.root)),
        engine(),
        index_folder=house.root / "index",
    )

    assert state.stamp() == house.log.stamp()
    assert house.again().views() == before
    assert house.again().ingest().taken == 0


def test_a_damaged_landed_object_stops_rebuilding(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    house.ingest()
    landed = next((house.root / "landing").rglob("*/*/*"))
    landed.write_bytes(landed.read_bytes().replace(b"o-1", b"o-2"))

    with pytest.raises(DamageError, match="log entry 2"):
        rebuild(
            FolderBlobs(house.root),
            Log(FolderBlobs(house.root)),
            engine(),
            index_folder=house.root / "index",
        )


def test_a_log_that_went_back_under_its_views_is_refused(house: House) -> None:
    house.put("events_1.jsonl", event(1))
    house.ingest()
    (house.root / "log" / "000000000002.json").unlink()
    house.put("events_2.jsonl", event(2))

    with pytest.raises(DamageError, match="ends at entry 1"):
        house.again().ingest()


def test_of_racing_processes_each_file_is_taken_once(tmp_path: Path) -> None:
    first = House(tmp_path / "project", piece_bytes=len(event(1)) * 2)
    for number in range(3):
        first.put(f"events_{number}.jsonl", events(number * 5, number * 5 + 7))
    first.put("customers_orgs.csv", ORGS + org(1))
    failures: list[BaseException] = []
    start = threading.Barrier(3)

    def run() -> None:
        try:
            house = first.again()
            start.wait()
            house.ingest()
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    house = first.again()
    assert house.ingest().taken == 0
    assert sorted(accepted(house, "usage_events", "event_id")) == sorted(
        f"e-{number}" for number in range(18)
    )
    assert len(house.judged("usage_events")) == 3 * 8
    assert len(house.judged("customers_orgs")) == 1
    before = house.views()
    rebuild(
        FolderBlobs(house.root),
        Log(FolderBlobs(house.root)),
        engine(),
        index_folder=house.root / "index",
    ).close()
    assert house.again().views() == before
