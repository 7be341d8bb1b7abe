"""Messages arrive at least once, with one key, whatever fails in between; secrets stay secret."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meterhouse.alerts.channels import signature
from meterhouse.alerts.delivery import Deliverer, back_off
from meterhouse.alerts.register import FILE_NAME, Register, moment_text
from meterhouse.alerts.rule import Channel, CommandChannel, LogChannel, WebhookChannel
from meterhouse.testing import FixedClock
from unit.alerts.receiver import receiving

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
TEN = timedelta(seconds=10)
BODY = '{"event":"raised","rule":"costly","alerts":[{"key":{"org":"Ä"}}]}'


class House:
    """A project's folder, a clock that is set by hand, and what was posted."""

    def __init__(self, root: Path, channel: Channel, environ: dict[str, str]) -> None:
        self.root = root
        self.clock = FixedClock(NOW)
        self.channels = {channel.name: channel}
        self.register = Register(root / FILE_NAME)
        self.deliverer = Deliverer(root, self.clock, environ, random.Random(1))

    def post(self, key: str = "k1", body: str = BODY) -> None:
        with self.register.transaction():
            self.register.post(*self.channels, key, body, moment_text(self.clock.now))

    def run(self, later: timedelta = timedelta(0)) -> int:
        self.clock.now += later
        return self.deliverer.run(self.channels)

    def error(self) -> str:
        rows = self.register._db.execute("SELECT error FROM deliveries ORDER BY id").fetchall()
        return str(rows[0][0])


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[list[House]]:
    opened: list[House] = []
    yield opened
    for house in opened:
        house.register.close()


def house(
    houses: list[House], root: Path, channel: Channel, environ: dict[str, str] | None = None
) -> House:
    houses.append(House(root, channel, environ or {}))
    return houses[-1]


def hook(url: str, **more: str) -> WebhookChannel:
    found = {"url_env": "", "secret_env": "PAGER", "secret_file": ""} | more
    return WebhookChannel(name="hook", url=url, timeout=TEN, **found)


def test_a_webhook_that_fails_twice_gets_the_same_message_a_third_time(
    houses: list[House], tmp_path: Path
) -> None:
    with receiving(500, 503) as told:
        one = house(houses, tmp_path, hook(told.url), {"PAGER": "s3cret"})
        one.post()
        arrived = [one.run(), one.run(timedelta(seconds=1)), one.run(timedelta(seconds=2))]

    assert arrived == [0, 0, 1]
    assert told.bodies == [BODY.encode()] * 3
    assert [one["Idempotency-Key"] for one in told.headers] == ["k1"] * 3
    assert all(told.signed_by(b"s3cret", number) for number in range(3))
    assert not told.signed_by(b"other")
    assert one.run(timedelta(days=1)) == 0


def test_what_failed_waits_longer_each_time_and_is_not_tried_before(
    houses: list[House], tmp_path: Path
) -> None:
    with receiving(500, 500) as told:
        one = house(houses, tmp_path, hook(told.url), {"PAGER": "s"})
        one.post()
        one.run()
        one.run(timedelta(milliseconds=499))
        assert len(told.bodies) == 1
        one.run(timedelta(milliseconds=501))
        one.run(timedelta(milliseconds=999))

    assert len(told.bodies) == 2
    assert one.error() == "HTTP 500"


def test_back_off_doubles_up_to_an_hour_and_is_spread() -> None:
    chance = random.Random(7)

    spans = [back_off(attempts, chance).total_seconds() for attempts in range(1, 40)]

    assert all(2.0**n / 2 <= span <= 2.0**n for n, span in enumerate(spans[:12]))
    assert all(1800 <= span <= 3600 for span in spans[12:])
    assert len(set(spans)) == len(spans)


def test_a_channel_that_is_down_costs_one_attempt_a_run(
    houses: list[House], tmp_path: Path
) -> None:
    with receiving(500) as told:
        one = house(houses, tmp_path, hook(told.url), {"PAGER": "s"})
        for number in range(5):
            one.post(f"k{number}")
        assert (one.run(), len(told.bodies)) == (0, 1)
        assert one.run(TEN) == 5

    assert sorted(head["Idempotency-Key"] for head in told.headers[1:]) == [
        f"k{number}" for number in range(5)
    ]


def test_a_redirect_is_not_followed(houses: list[House], tmp_path: Path) -> None:
    with receiving(302, 307) as told:
        one = house(houses, tmp_path, hook(told.url), {"PAGER": "s"})
        one.post()
        one.run()
        one.run(TEN)

    assert len(told.bodies) == 2
    assert one.error() == "HTTP 307"


def test_nobody_listening_is_an_error_and_a_later_attempt(
    houses: list[House], tmp_path: Path
) -> None:
    with receiving() as told:
        pass
    one = house(houses, tmp_path, hook(told.url), {"PAGER": "s"})
    one.post()

    assert one.run() == 0
    assert "refused" in one.error()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "environment variable PAGER is not set"),
        ({"secret_env": "", "secret_file": "no.txt"}, "no.txt: No such file or directory"),
        ({"url_env": "HOOK_URL"}, "environment variable PAGER is not set"),
    ],
)
def test_a_missing_secret_sends_nothing(
    houses: list[House], tmp_path: Path, more: dict[str, str], said: str
) -> None:
    with receiving() as told:
        one = house(houses, tmp_path, hook(told.url, **more))
        one.post()
        assert one.run() == 0

    assert told.bodies == []
    assert one.error() == said


def test_secret_and_address_may_come_from_a_file_and_the_environment(
    houses: list[House], tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("from a file\n")
    with receiving() as told:
        channel = hook("", url_env="HOOK_URL", secret_env="", secret_file="secret.txt")
        one = house(houses, tmp_path, channel, {"HOOK_URL": told.url})
        one.post()
        assert one.run() == 1

    assert told.signed_by(b"from a file")


def test_the_signature_is_what_openssl_makes_of_time_dot_and_body() -> None:
    # printf '1756728000.{"event":"raised"}' | openssl dgst -sha256 -hmac secret
    mac = "3ce69d1a2207bd8c3e42228fbac03e8872883842c5d1c775b6b5a651cd805338"

    assert signature(b"secret", 1756728000, b'{"event":"raised"}') == f"t=1756728000,v1={mac}"


def test_a_file_gets_a_line_each_and_mends_one_that_a_crash_cut_off(
    houses: list[House], tmp_path: Path
) -> None:
    one = house(houses, tmp_path, LogChannel("log", "told/alerts.jsonl"))
    one.post("k1")
    assert one.run() == 1
    path = tmp_path / "told" / "alerts.jsonl"
    path.write_bytes(path.read_bytes() + b'{"delivered_at":"2025-')
    one.post("k2")

    assert one.run() == 1
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line)["rule"] for line in (lines[0], lines[2])] == ["costly"] * 2
    assert json.loads(lines[0])["delivered_at"] == "2025-09-01T12:00:00.000000Z"


def test_a_folder_in_the_way_of_the_file_is_an_error(houses: list[House], tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").mkdir()
    one = house(houses, tmp_path, LogChannel("log", "alerts.jsonl"))
    one.post()

    assert one.run() == 0
    assert one.error() == "alerts.jsonl: Is a directory"


def command(*words: str, timeout: timedelta = TEN) -> CommandChannel:
    return CommandChannel("script", words, timeout)


def test_a_command_gets_the_message_on_its_standard_input(
    houses: list[House], tmp_path: Path
) -> None:
    one = house(houses, tmp_path, command("sh", "-c", "cat > got.json"), {"PATH": "/usr/bin:/bin"})
    one.post()

    assert one.run() == 1
    assert (tmp_path / "got.json").read_text("utf-8") == BODY


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo one; echo two >&2; echo three >&2; exit 7", "it exited with 7: three"),
        ("exit 1", "it exited with 1"),
        ("kill -9 $$", "it exited with -9"),
    ],
)
def test_a_command_that_fails_is_tried_again(
    houses: list[House], tmp_path: Path, script: str, said: str
) -> None:
    one = house(houses, tmp_path, command("sh", "-c", script), {"PATH": "/usr/bin:/bin"})
    one.post()

    assert one.run() == 0
    assert one.error() == said


def test_a_command_that_hangs_is_stopped_with_its_children(
    houses: list[House], tmp_path: Path
) -> None:
    short = timedelta(milliseconds=200)
    channel = command("sh", "-c", "sleep 60 & echo $! > child; wait", timeout=short)
    one = house(houses, tmp_path, channel, {"PATH": "/usr/bin:/bin"})
    one.post()

    assert one.run() == 0
    assert one.error() == "it took longer than 0.2 s"
    child = int((tmp_path / "child").read_text())
    assert "sleep" not in _command_line(child)


def _command_line(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
        return "" if state == "Z" else Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def test_a_command_that_does_not_exist_is_an_error(houses: list[House], tmp_path: Path) -> None:
    one = house(houses, tmp_path, command("no-such-program"), {"PATH": "/usr/bin:/bin"})
    one.post()

    assert one.run() == 0
    assert one.error() == "no-such-program: No such file or directory"


def test_a_command_that_reads_nothing_has_the_message(houses: list[House], tmp_path: Path) -> None:
    one = house(houses, tmp_path, command("true"), {"PATH": "/usr/bin:/bin"})
    one.post(body=json.dumps({"rule": "x" * 1_000_000}))

    assert one.run() == 1


def test_starting_returns_at_once_and_delivers_in_the_background(
    houses: list[House], tmp_path: Path
) -> None:
    channel = command("sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.01; done")
    one = house(houses, tmp_path, channel, {"PATH": "/usr/bin:/bin"})
    one.post()

    one.deliverer.start(one.channels)
    one.deliverer.start(one.channels)
    running = [thread for thread in threading.enumerate() if thread.name == "alerts"]
    while not (tmp_path / "begun").exists():
        running[0].join(0.01)
    (tmp_path / "go").touch()
    one.deliverer.close(wait_s=10)

    assert len(running) == 1
    rows = one.register._db.execute("SELECT attempts, delivered_at <> '' FROM deliveries")
    assert rows.fetchall() == [(1, 1)]


def test_one_process_delivers_at_a_time(houses: list[House], tmp_path: Path) -> None:
    one = house(houses, tmp_path, LogChannel("log", "alerts.jsonl"))
    other = Deliverer(tmp_path, one.clock, {}, random.Random(1))
    one.post()

    with other._alone() as alone:
        assert alone
        assert one.run() == 0
    assert one.run() == 1


def test_a_message_is_posted_once(houses: list[House], tmp_path: Path) -> None:
    one = house(houses, tmp_path, LogChannel("log", "alerts.jsonl"))
    one.post()
    one.post(body='{"other":1}')

    assert one.run() == 1
    assert one.run() == 0
