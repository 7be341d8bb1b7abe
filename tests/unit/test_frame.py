"""A frame of ``meterhouse watch`` fits the terminal and says what there is."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from meterhouse.alerts.evaluation import Group
from meterhouse.alerts.register import Alert
from meterhouse.analysis.latest import Latest, Window
from meterhouse.cli.frame import Scene, frame
from meterhouse.follow.standing import Standing

NOW = datetime(2025, 9, 1, 12, 0, 30, tzinfo=UTC)
LATEST = Latest(
    position=1234,
    ingest_ts=NOW - timedelta(seconds=2.4),
    day=date(2025, 9, 1),
    services=[
        ("compute", Decimal("1252.145"), 40),
        ("storage", Decimal("313.03625"), 9),
        ("refunds", Decimal("-5"), 1),
    ],
    windows=[
        Window(NOW.replace(minute=0, second=0) - timedelta(minutes=5 * n), Decimal(n) / 7, n)
        for n in range(60)
    ],
)
STANDING = Standing(
    pid=1,
    since="2025-09-01T11:00:00Z",
    at="2025-09-01T12:00:30Z",
    position=1234,
    served=1234,
    lag_bytes=10,
    lag_s=0.42,
    events_per_s=1020.4,
    landed=100_000,
    duplicates=3,
    held=12,
    files=4,
)


def scene(
    latest: Latest | None = LATEST, standing: Standing | None = STANDING, *alerts: Alert
) -> Scene:
    return Scene("usage", NOW, latest, standing, alerts)


def drawn(what: Scene, columns: int = 80, rows: int = 24) -> str:
    return "\n".join(frame(what, columns, rows, colour=False))


def test_a_frame_says_what_is_newest_and_how_it_goes() -> None:
    text = drawn(scene())

    assert text.splitlines()[:8] == [
        "meterhouse watch  usage                                  2025-09-01 12:00:30 UTC",
        "position 1,234, entry taken 2.4 s ago",
        "following: lag 0.4 s, 1,020 events/s, held 12, duplicates 3, waiting 0 files",
        "",
        "cost on 2025-09-01, USD                     newest 5-minute windows, UTC",
        "compute              1,252.14  ████████████ 12:00           0.00       0 events",
        "storage                313.04  ███          11:55           0.14        1 event",
        "refunds                 -5.00               11:50           0.29       2 events",
    ]
    assert "all                  1,560.18" in text


@pytest.mark.parametrize("columns", [20, 40, 60, 77, 78, 80, 200])
@pytest.mark.parametrize("rows", [1, 5, 10, 24, 100])
def test_a_frame_fits(columns: int, rows: int) -> None:
    lines = frame(scene(), columns, rows, colour=False)

    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns


def test_colours_change_nothing_but_colours() -> None:
    plain = drawn(scene())
    coloured = "\n".join(frame(scene(), 80, 24, colour=True))

    assert "\x1b[1m" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain


def test_parked_sources_failures_and_stale_tables_are_shown() -> None:
    troubled = Standing(
        **{name: getattr(STANDING, name) for name in list(Standing.__slots__)[:12]},
        parked={f"source-{n}": {"what": "the file\x1b[2J shrank"} for n in range(5)},
        stale={"gold.x": "its SQL fails"},
        failure={"what": "disk is full"},
        unrecognised=("inbox/a.txt", "inbox/b.txt"),
    )
    text = drawn(scene(LATEST, troubled))

    assert "failing: disk is full" in text
    assert "parked source-0: the file\\x1b[2J shrank" in text
    assert "parked: 2 more" in text
    assert "stale gold.x: its SQL fails" in text
    assert "not recognised: inbox/a.txt and 1 more" in text


def alert(number: int) -> Alert:
    return Alert(
        rule="costly",
        group=Group('{"org_id":"org-1"}', "2025-09-01T11:55:00Z"),
        occurrence=number,
        state="raised",
        numbers={"cost_usd": "70.5"},
        raised_at="",
        raised_position=1,
        late_by_s=None,
        cleared_at="",
        cleared_position=0,
        idempotency_key=str(number),
        delivered="",
    )


def test_open_alerts_are_shown() -> None:
    text = drawn(scene(LATEST, STANDING, *(alert(number) for number in range(5))))

    assert "alert costly 2025-09-01T11:55:00Z org-1: cost_usd 70.5" in text
    assert "alerts: 2 more open, see `meterhouse alerts`" in text


def test_without_answers_or_follower_it_says_what_to_do() -> None:
    text = drawn(scene(None, None))

    assert "nobody follows: start `meterhouse follow`" in text
    assert "nothing is published yet: run `meterhouse follow`, or `meterhouse batch`" in text


def test_without_usage_it_says_so() -> None:
    empty = Latest(1, NOW, None, (), ())

    assert "no usage is published yet" in drawn(scene(empty))
