"""Following with real processes: answers while it runs, clean ends, crashes, two at once."""

from __future__ import annotations

import gzip
import random
import shutil
import signal
import subprocess
import time
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest

from e2e.following import Follow, answered, append, followed, until, until_answered
from e2e.house import DAILY, House, assert_same
from e2e.records import INVOICES, events, invoice, orgs
from meterhouse.log.chain import Log
from meterhouse.synth import Options, generate

REQUESTS = {"metric": "requests", "unit": "count"}
"""An event that counts as one request, which the daily answer sums up."""


GOLD = (
    "gold.org_daily_usage_by_service",
    "gold.usage_sliding_15min",
    "gold.revenue_by_org_month",
    "gold.tickets_by_org_date",
    "gold.nps_by_org",
)


def lines(first: int, last: int) -> str:
    return events(first, last, **REQUESTS)


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House.new(tmp_path / "project", models=(*DAILY, "gold.org_daily_usage_by_service"))
    made.inbox.mkdir(exist_ok=True)
    return made


def accepted(house: House) -> int:
    """What is accepted, by the entries."""
    log = Log(house.project.blobs)
    return sum(entry.counts.get("accepted", 0) for entry in log.entries())


def until_accepted(house: House, count: int) -> None:
    until(lambda: accepted(house) == count, f"{count:,} events accepted")


def test_answers_follow_a_growing_file_and_a_restart_goes_on(house: House) -> None:
    path = house.inbox / "events.jsonl"
    with followed(house):
        for number in range(3):
            append(path, lines(100 * number + 1, 100 * number + 100))
            until_accepted(house, 100 * (number + 1))
            until_answered(house, 100 * (number + 1))
    append(path, lines(301, 400))
    with followed(house) as follow:
        until_answered(house, 400)
        standing = follow.until_standing(lambda one: one.served == one.position, "live")
        assert standing.waiting == ()
    house.batch()
    assert answered(house) == 400
    house.verified()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_everything_durable(
    house: House, number: signal.Signals
) -> None:
    append(house.inbox / "events.jsonl", lines(1, 50))
    follow = Follow(house)
    until_accepted(house, 50)
    assert follow.stop(number) == 0
    assert follow.said("stopped")[0]["position"] == house.project.head
    assert answered(house) == 50
    house.verified()


def test_a_folder_in_which_everything_happens_at_once(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project")
    inbox = house.inbox
    (inbox / "many").mkdir(parents=True)
    for number in range(2000):
        (inbox / "many" / f"events_{number}.jsonl").write_text(lines(number, number))
    with followed(house, settle="1s") as follow, (inbox / "billing_monthly.csv").open("w") as half:
        half.write(INVOICES + invoice("10"))
        half.flush()
        append(inbox / "events_a.jsonl", lines(2000, 2009) + lines(2010, 2010).rstrip("\n"))
        (inbox / "events_b.jsonl.gz").write_bytes(gzip.compress(lines(2011, 2020).encode()))
        append(inbox / "customers_orgs.csv", orgs(*range(10)))
        until_accepted(house, 2021 + 10)
        assert follow.standing().waiting[0].file == "inbox/billing_monthly.csv"

        (inbox / "customers_orgs.csv").write_text(orgs(1))
        (inbox / "events_a.jsonl").write_text(lines(1, 3))
        follow.until_standing(lambda one: len(one.parked) == 2, "parked")
        assert set(follow.standing().parked) == {"customers_orgs", "inbox/events_a.jsonl"}
        house.edit("contracts/customers_orgs.yaml", "shrink_limit: 0.2", "shrink_limit: 0.95")
        half.write(invoice("20", 2))
        half.close()
        (inbox / "events_a.jsonl").write_text(lines(2000, 2010) + lines(2021, 2030))
        follow.until_standing(lambda one: not one.parked and not one.waiting, "mended")
        until_accepted(house, 2031 + 10 + 2)
        until_answered(house, 2031)
    house.batch()
    house.verified()
    assert answered(house) == 2031
    [month] = house.rows("gold.revenue_by_org_month")
    assert month["invoice_count"] == 2


def test_followed_in_crumbs_a_delivery_gives_the_tables_it_gives_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "delivery"
    generate(folder, Options(events=2000, orgs=8, files=1, poison=0.02, conflicts=0.01))
    whole = House.new(tmp_path / "whole")
    report = whole.ingest(folder)
    landed = sum(source.counts["landed"] for source in report.sources.values())
    whole.batch()
    house, chance = House.new(tmp_path / "project"), random.Random(7)
    with followed(house, "--batch-every", "2s", settle="1s") as follow:
        for path in sorted(folder.glob("*.csv")):
            shutil.copy(path, house.inbox)
        [usage] = (folder / "usage_events_stream").iterdir()
        data, at = usage.read_bytes(), 0
        with (house.inbox / usage.name).open("ab", buffering=0) as file:
            while at < len(data):
                size = chance.randrange(1, 30_000)
                file.write(data[at : at + size])
                at += size
                time.sleep(0.02)
        follow.until_standing(
            lambda one: one.landed == landed and one.served == one.position, "all of it live"
        )
        live = {name: house.rows(name) for name in GOLD}
    house.batch()
    assert {name: house.rows(name) for name in GOLD} == live
    assert_same(house.tables(), whole.tables())
    house.verified()


def test_no_version_goes_before_one_that_came_earlier_and_only_rests(tmp_path: Path) -> None:
    """The first is found with a time of just now, and nobody was seen closing it."""
    house = House.new(tmp_path / "project", models=("gold.revenue_by_org_month",))
    house.inbox.mkdir(exist_ok=True)
    (house.inbox / "billing_monthly_1.csv").write_text(INVOICES + invoice("1"))
    with followed(house, settle="2s") as follow:
        (house.inbox / "billing_monthly_2.csv").write_text(INVOICES + invoice("2"))
        follow.until_standing(lambda one: one.landed == 2, "both")
    taken = [part.file for entry in Log(house.project.blobs).entries() for part in entry.inputs]
    assert taken == ["inbox/billing_monthly_1.csv", "inbox/billing_monthly_2.csv"]
    house.batch()
    [month] = house.rows("gold.revenue_by_org_month")
    assert month["subtotal_usd"] == Decimal("2.2")


def test_killed_at_any_moment_it_goes_on_where_it_was(house: House) -> None:
    path = house.inbox / "events.jsonl"
    for number in range(4):
        follow = Follow(house)
        append(path, lines(200 * number + 1, 200 * number + 200))
        until_accepted(house, 200 * number + 200)
        follow.kill()
    with followed(house):
        until_answered(house, 800)
    house.batch()
    house.verified()
    assert accepted(house) == 800


def test_a_second_one_refuses_or_waits(house: House) -> None:
    with followed(house) as first:
        refused = Follow(house)
        assert refused.ended() == 3
        assert f"process {first.process.pid}" in refused.log.read_text()
        second = Follow(house, "--wait")
        second.until_said("waiting")
        first.stop()
        second.until_said("started")
        append(house.inbox / "events.jsonl", lines(1, 10))
        until_answered(house, 10)
        assert second.stop() == 0


def test_once_takes_what_there_is_and_ends(house: House) -> None:
    append(house.inbox / "events.jsonl", lines(1, 30).rstrip("\n"))
    append(house.inbox / "broken.txt", "x")
    follow = Follow(house, "--once")
    assert follow.ended() == 0
    assert accepted(house) == 30
    assert answered(house) == 30

    append(house.inbox / "events_2.jsonl.gz", "not compressed")
    assert Follow(house, "--once").ended() == 1


def test_what_ingest_is_given_is_taken_by_the_follower(house: House, tmp_path: Path) -> None:
    append(tmp_path / "history" / "events_1.jsonl", lines(1, 500))
    append(tmp_path / "history" / "notes.txt", "x")
    with followed(house):
        ran = house.cli("ingest", str(tmp_path / "history"))
        assert ran.code == 0
        assert "500 landed = 500 accepted" in ran.out
        assert "notes.txt" in ran.err
        until_answered(house, 500)
        again = house.cli("ingest", str(tmp_path / "history"))
        assert "0 files taken, 1 already done" in again.out
        empty = tmp_path / "nothing" / "events.jsonl.gz"
        append(empty, "x")
        assert house.cli("ingest", str(empty)).code == 1


def test_a_follower_killed_over_a_request_leaves_it_to_who_asked(
    house: House, tmp_path: Path
) -> None:
    for number in range(40):
        first = 250 * number + 1
        append(tmp_path / "history" / f"events_{number}.jsonl", lines(first, first + 249))
    follow = Follow(house, "--interval", "0s")
    follow.until_said("started")
    asking = subprocess.Popen(
        house.program_line(
            "--set", "ingest.piece_bytes=64KiB", "ingest", str(tmp_path / "history")
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: accepted(house) > 0, "begun")
    follow.kill()
    out, _ = asking.communicate(timeout=60)
    assert asking.returncode == 0
    assert "log entry" in out
    assert accepted(house) == 10_000
    house.verified()


def test_figures_are_served_and_said(house: House) -> None:
    with followed(house, "--metrics", "0", "--interval", "1s") as follow:
        address = follow.until_said("metrics")["address"]
        append(house.inbox / "events.jsonl", lines(1, 20) + lines(1, 3) + "garbage\n")
        until_accepted(house, 20)
        follow.until_standing(lambda one: one.landed == 24, "counted")
        with urllib.request.urlopen(address) as page:
            text = page.read().decode()
        for line in (
            'meterhouse_rows_accepted_total{source="usage_events"} 20.0',
            'meterhouse_rows_duplicate_total{source="usage_events"} 3.0',
            'meterhouse_rows_quarantined_total{rule="malformed",table="bronze.usage_events"} 1.0',
            "meterhouse_failing 0.0",
        ):
            assert line in text.splitlines()
        line = follow.until_said("interval")
        assert {"events_per_s", "lag_s", "held", "duplicates", "position"} <= line.keys()


def test_batches_run_beside_it(house: House) -> None:
    append(house.inbox / "events.jsonl", lines(1, 50))
    with followed(house, "--batch-every", "1s") as follow:
        until_answered(house, 50)
        until(lambda: len(follow.said("batch_done")) > 1, "two batches done")
        append(house.inbox / "events.jsonl", lines(51, 80))
        until_answered(house, 80)
    published = house.project.published()
    assert published is not None
    assert answered(house) == 80
    house.verified()


def test_a_batch_that_fails_stops_nothing(house: House) -> None:
    model = house.root / "models" / "gold" / "org_daily_usage_by_service.sql"
    text = model.read_text()
    audits = text.index("audits:")
    model.write_text(f"{text[:audits]}audits:\n  - not_null: [nothing_like_it]\n---\n*/SELECT")
    append(house.inbox / "events.jsonl", lines(1, 5))
    with followed(house, "--batch-every", "1s") as follow:
        until_accepted(house, 5)
        append(house.inbox / "events.jsonl", lines(6, 9))
        until_accepted(house, 9)
        assert follow.process.poll() is None


def test_status_says_what_waits(house: House) -> None:
    append(house.inbox / "events.jsonl", lines(1, 5) + '{"half')
    with followed(house) as follow:
        follow.until_standing(lambda one: len(one.waiting) == 1, "waiting")
        out = house.cli("status").out
        assert f"following  process {follow.process.pid}" in out
        assert "waiting    inbox/events.jsonl, line 6: 6 bytes" in out
    assert "following" not in house.cli("status").out


def test_a_path_that_does_not_exist_is_the_users_mistake(house: House) -> None:
    follow = Follow(house, str(house.root / "gone"))
    assert follow.ended() == 2


def test_a_file_that_no_contract_recognises_is_named_once(house: House) -> None:
    append(house.inbox / "clicks.jsonl", "{}\n")
    append(house.inbox / "events.jsonl", lines(1, 5))
    with followed(house) as follow:
        said = follow.until_said("unrecognised")
        until_accepted(house, 5)
        append(house.inbox / "taps.jsonl", "{}\n")
        until(lambda: len(follow.said("unrecognised")) == 2, "the second one")
    assert said["files"] == ["inbox/clicks.jsonl"]
    assert follow.said("unrecognised")[1]["files"] == ["inbox/taps.jsonl"]
