"""Versions thin out with age: all of the last hour stay, then the first of each day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meterhouse.lake.retention import kept

NOW = datetime(2025, 9, 10, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def test_a_version_is_recent_until_an_hour_after_its_successor_came() -> None:
    times = {0: ago(hours=9), 1: ago(hours=8), 2: ago(minutes=59), 3: ago(minutes=1)}

    assert kept(times, (), NOW, WEEK).recent == 1
    assert kept(times, (), NOW, timedelta(minutes=5)).recent == 2
    assert kept(times, (), NOW, timedelta(0)).recent == 3


def test_the_first_version_of_each_day_stays_if_a_checkpoint_holds_it() -> None:
    times = {n: datetime(2025, 9, 7, tzinfo=UTC) + n * timedelta(hours=6) for n in range(12)}

    found = kept(times, (4, 5, 9, 11), NOW, WEEK)

    assert found.days == {0, 4, 9}
    assert (found.first, found.checkpoints) == (0, {4, 9, 11})  # 5 is read over


def test_the_same_versions_stay_when_the_others_are_gone() -> None:
    times = {n: datetime(2025, 9, 7, tzinfo=UTC) + n * timedelta(hours=6) for n in range(12)}
    checkpoints = (4, 5, 9, 11)

    once = kept(times, checkpoints, NOW, WEEK)
    left = {version: at for version, at in times.items() if version >= once.first}

    assert kept(left, once.checkpoints, NOW, WEEK) == once


def test_days_go_after_the_time_kept() -> None:
    times = {4: ago(days=8), 5: ago(days=7, seconds=1), 6: ago(days=6), 7: ago(days=1), 8: NOW}

    found = kept(times, (4, 5, 6, 7, 8), NOW, WEEK)

    assert found.days == {6, 7, 8}
    assert found.first == 6


def test_the_day_does_not_get_another_version_when_its_first_goes() -> None:
    times = {4: ago(hours=30), 5: ago(hours=23), 6: NOW}  # 4 and 5 are of one day

    assert kept(times, (4, 5, 6), NOW, timedelta(days=1)).days == {6}


def test_without_a_checkpoint_all_commits_before_stay() -> None:
    times = {n: ago(hours=9 - n) for n in range(9)}

    assert kept(times, (), NOW, WEEK).first == 0
    assert kept(times, (3,), NOW, timedelta(0)).first == 3


@pytest.mark.parametrize("keep", [timedelta(0), WEEK], ids=str)
def test_times_in_the_future_keep_everything(keep: timedelta) -> None:
    """The clock was set back."""
    times = {n: NOW + timedelta(hours=n + 1) for n in range(5)}

    found = kept(times, (), NOW, keep)

    assert (found.recent, found.first) == (0, 0)
