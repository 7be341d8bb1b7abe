"""The watermark rule of bench/watermark.py: worked examples, corner cases, the real Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from late_data import SPARK, Setting, against_spark, delivered, settings, simulated, watermark_rows
from watermark import Event, Mart, Watermark, watermarked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "late-data.md"
TEN_MINUTES = timedelta(minutes=10)


def at(clock: str, usd: int = 1) -> Event:
    """An event of 2025-07-03 at ``clock``, as "12:14" or "12:14:59.999999"."""
    moment = datetime.fromisoformat(f"2025-07-03T{clock}").replace(tzinfo=UTC)
    since = moment - datetime.fromtimestamp(0, UTC)
    return Event(since // timedelta(microseconds=1), Decimal(usd))


def kept(*triggers: list[Event], paced: bool = True, delay: timedelta = TEN_MINUTES) -> int:
    return watermarked(triggers, delay, paced=paced, window=TEN_MINUTES).events


def test_the_example_of_sparks_guide() -> None:
    dog_and_owl = [at("12:07"), at("12:08")]
    late_but_kept = [at("12:14"), at("12:09")]
    owl_raises_it_to_12_11 = [at("12:15"), at("12:08"), at("12:13"), at("12:21")]
    donkey_too_late = at("12:04")

    seen = [dog_and_owl, late_but_kept, owl_raises_it_to_12_11]

    assert kept(*seen) == 8
    assert kept(*seen, [donkey_too_late, at("12:17")]) == 9


def test_the_watermark_of_the_guide_step_by_step() -> None:
    watermark = Watermark(TEN_MINUTES)
    told = []
    for latest in ("12:08", "12:14", "12:21"):
        watermark.begin()
        watermark.end(at(latest).micros)
        watermark.begin()  # the micro-batch without data
        told.append(watermark.begin())

    assert told == [at(clock).micros for clock in ("11:58", "12:04", "12:11")]


def test_nothing_is_late_in_the_first_trigger() -> None:
    assert kept([at("23:00"), at("00:01")]) == 2
    assert kept([at("23:00"), at("00:01")], paced=False) == 2


def test_a_backlog_is_measured_against_what_was_seen_two_triggers_ago() -> None:
    new, old = [at("12:30")], [at("12:01")]

    assert kept(new, old) == 1
    assert kept(new, old, paced=False) == 2
    assert kept(new, old, old, paced=False) == 2


def test_a_row_goes_when_its_window_ends_at_the_watermark_and_stays_a_millisecond_before() -> None:
    just_in_time = at("12:29:59.999")

    assert kept([at("12:30")], [at("12:19")]) == 1
    assert kept([just_in_time], [at("12:19")]) == 2


def test_microseconds_of_the_latest_event_are_cut_off() -> None:
    assert kept([at("12:29:59.999999")], [at("12:19")]) == 2


def test_the_window_counts_not_the_event_itself() -> None:
    before_the_watermark = at("12:20")

    assert kept([at("12:39")], [before_the_watermark]) == 2


def test_the_watermark_never_goes_back() -> None:
    assert kept([at("13:00")], [at("12:55")], [at("12:39")]) == 2


def test_late_rows_are_seen_but_raise_nothing() -> None:
    assert kept([at("13:00")], [at("01:00")], [at("12:55")]) == 2


def test_money_is_added_digit_for_digit() -> None:
    found = watermarked([[at("12:00", 3), at("12:01", -1)]], TEN_MINUTES, paced=True)

    assert found == Mart(2, Decimal(2))


def test_every_setting_of_the_page_was_run_by_the_real_spark() -> None:
    told = json.loads(SPARK.read_text("utf-8"))

    ran = {Setting(one["delay"], one["files"], one["pace"]) for one in told["runs"]}

    assert ran == set(settings())


@pytest.mark.sample
def test_the_simulation_gives_what_the_real_spark_gave(sample: Path) -> None:
    files = delivered(sample)
    told = json.loads(SPARK.read_text("utf-8"))["runs"]

    found = {one: simulated(files, one) for one in settings()}

    assert found == {
        Setting(run["delay"], run["files"], run["pace"]): Mart(run["events"], Decimal(run["usd"]))
        for run in told
    }


@pytest.mark.sample
def test_the_page_says_what_the_simulation_says(sample: Path) -> None:
    files, page = delivered(sample), PAGE.read_text("utf-8")

    assert [row for row in watermark_rows(files) if row not in page] == [], "run make bench-late"
    assert against_spark(files) in page
