"""``meterhouse ingest`` as a program: what it prints and what it exits with."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meterhouse.cli import run
from meterhouse.scaffold import init
from unit.log.house import INVOICES, event, invoice

Program = Callable[..., int]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    init(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["meterhouse", *arguments])
        return run()

    return call


def test_what_was_taken_is_said_with_its_money(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "inbox" / "events_1.jsonl").write_text(event(1) + event(2, unit=None))

    assert program("ingest") == 0

    said = capsys.readouterr()
    assert "2 landed = 1 accepted + 1 quarantined + 0 duplicate" in said.out
    assert "cost_usd_increment USD 0.5 landed = 0.25 accepted + 0.25 quarantined" in said.out
    assert said.err == ""
    assert program("ingest", "inbox") == 0
    assert "0 files taken, 1 already done" in capsys.readouterr().out


def test_files_no_contract_recognises_are_listed_and_the_others_taken(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "inbox" / "notes.txt").write_text("hello")
    assert program("ingest", "inbox") == 2
    assert "inbox/notes.txt" in capsys.readouterr().err

    (project / "inbox" / "events_1.jsonl").write_text(event(1))
    assert program("ingest", "inbox") == 0
    assert "inbox/notes.txt" in capsys.readouterr().err


def test_a_named_source_takes_a_file_of_any_name(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "july.log").write_text(event(1))

    assert program("ingest", "july.log", "--source", "usage_events") == 0
    assert "1 accepted" in capsys.readouterr().out


def test_a_refused_file_exits_1_with_the_others_taken(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "inbox" / "billing_monthly_1.csv").write_text("not,it\n1,2\n")
    (project / "inbox" / "billing_monthly_2.csv").write_text(INVOICES + invoice(1, "10"))

    assert program("ingest", "inbox") == 1

    said = capsys.readouterr()
    assert "inbox/billing_monthly_1.csv" in said.err
    assert "fix:" in said.err
    assert "1 landed = 1 accepted" in said.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["nowhere"], "does not exist"), (["inbox", "--source", "usage_event"], "usage_events")],
)
def test_a_mistake_exits_2_and_takes_nothing(
    project: Path,
    program: Program,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    assert program("ingest", *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not (project / "log").exists()


def test_an_empty_folder_is_nothing_to_do(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program("ingest", "inbox") == 0
    assert "no files" in capsys.readouterr().err


def test_a_link_to_itself_exits_3_with_the_others_taken(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "inbox" / "events_0.jsonl").symlink_to("events_0.jsonl")
    (project / "inbox" / "events_1.jsonl").write_text(event(1))

    assert program("ingest", "inbox") == 3

    said = capsys.readouterr()
    assert "inbox/events_0.jsonl" in said.err
    assert "1 accepted" in said.out


def test_a_damaged_log_exits_1_and_says_what_to_do(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "inbox" / "events_1.jsonl").write_text(event(1))
    assert program("ingest", "inbox") == 0
    (project / "log" / "000000000001.json").unlink()
    (project / "inbox" / "events_2.jsonl").write_text(event(2))

    assert program("ingest", "inbox") == 1
    assert "docs/backup.md" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_broken_promise(
    project: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def fileno(self) -> int:
            return spare

        def write(self, data: object) -> int:
            raise BrokenPipeError(errno.EPIPE, "closed")

    spare = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Closed(), write_through=True))

    assert program("config") == 0
    os.close(spare)
