"""``meterhouse watch`` on a real terminal: it draws, follows the terminal, and gives it back."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from e2e.house import House
from unit.log.house import event

MODELS = ("gold.usage_by_5min", "gold.org_daily_usage_by_service")
LEAVE = b"\x1b[?25h\x1b[?1049l"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = House.new(tmp_path_factory.mktemp("watch") / "project", models=MODELS)
    house.put("events_1.jsonl", event(1, cost_usd_increment="5.25") + event(2))
    house.ingest()
    house.batch()
    return house


def test_one_frame_is_printed(house: House) -> None:
    ran = house.cli("watch", "--once")

    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("meterhouse watch  project")
    assert "nobody follows: start `meterhouse follow`" in lines
    assert any(line.startswith("compute") for line in lines)
    assert max(map(len, lines)) <= 80


def test_one_frame_without_answers_says_what_to_do(tmp_path: Path) -> None:
    ran = House.new(tmp_path / "project").cli("watch", "--once")

    assert ran.code == 0
    assert "nothing is published yet" in ran.out


def test_without_a_terminal_it_says_how(house: House) -> None:
    ran = house.cli("watch")

    assert ran.code == 2
    assert "--once" in ran.err


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "ctrl-c"])
def test_it_draws_on_a_terminal_until_it_is_told_to_end(house: House, key: bytes) -> None:
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 90, 0, 0))
    before = termios.tcgetattr(other)
    # A session of its own, whose terminal this is: or Ctrl-C would reach nobody.
    process = subprocess.Popen(
        house.program_line("watch", "--interval", "0.1"),
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(other, termios.TIOCSCTTY, 0),
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "", "LINES": ""},
    )
    try:
        drawn = read_until(main, lambda found: found.count(b"\x1b[H") >= 3)
        os.write(main, key)
        drawn += read_until(main, lambda found: found.endswith(LEAVE))
        code = process.wait(10)
    finally:
        process.kill()
        process.wait()
    after = termios.tcgetattr(other)
    os.close(other)
    os.close(main)

    frame = drawn.split(b"\x1b[H")[1].decode()
    assert code == 0
    assert drawn.startswith(b"\x1b[?1049h\x1b[?25l")
    assert "newest 5-minute windows" in frame
    assert len(frame.split("\r\n")) <= 20
    assert after == before


def read_until(terminal: int, enough: object, seconds: float = 20) -> bytes:
    """Read what is drawn until it is enough."""
    assert callable(enough)
    found = b""
    until = time.monotonic() + seconds
    while not enough(found):
        ready, _, _ = select.select([terminal], [], [], max(0, until - time.monotonic()))
        assert ready, f"nothing more was drawn after {found[-300:]!r}"
        found += os.read(terminal, 65_536)
    return found
