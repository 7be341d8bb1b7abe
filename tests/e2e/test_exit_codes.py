"""Exit codes: 0 done, 1 a promise or a source, 2 the user, 3 the machine, 70 a bug of ours."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.house import House, Ran, cli
from meterhouse.cli import COMMANDS
from meterhouse.verify import Report
from unit.log.house import ORGS, event, org

MODELS = ("gold.org_daily_usage_by_service", "gold.finops_by_org_day", "silver.orgs")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A small project; tests only read it."""
    house = House.new(tmp_path_factory.mktemp("codes") / "project", models=MODELS)
    house.put("events_1.jsonl", event(1) + "garbage\n")
    house.put("customers_orgs.csv", ORGS + org(1) + org(2) + org(3) + org(4))
    house.ingest()
    house.batch()
    return house


@pytest.fixture
def house(published: House, tmp_path: Path) -> House:
    """A copy to change."""
    root = tmp_path / "project"
    shutil.copytree(published.root, root)
    return House(root)


def assert_told(ran: Ran, code: int) -> None:
    """The code, and an error with what, where and fix, and no traceback."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err + ran.out
    error = ran.err[ran.err.index("error: ") :] if "error: " in ran.err else ran.err
    assert "where:" in error, ran.err
    assert "fix:" in error, ran.err
    assert ran.err.isprintable() or set(ran.err) - {"\n"} <= set(filter(str.isprintable, ran.err))


def test_0_when_it_is_done_held_lines_included(house: House) -> None:
    house.put("events_2.jsonl", "garbage\n" + event(2, unit=None))

    assert house.cli("ingest").code == 0
    assert house.cli("batch").code == 0
    for words in (
        ("batch",),
        ("batch", "--full"),
        ("query", "daily-cost"),
        ("read", "finops_by_org_day"),
        ("sql", "SELECT 1"),
        ("verify",),
        ("status",),
        ("quarantine",),
        ("models",),
        ("config",),
        ("--help",),
        ("--version",),
        ("verify", "--help"),
    ):
        ran = house.cli(*words)
        assert (ran.code, "Traceback" in ran.err) == (0, False), (words, ran.err)


def test_1_when_a_source_stops_and_the_others_are_done(house: House) -> None:
    house.put("customers_orgs.csv", ORGS + org(1))
    house.put("events_2.jsonl", event(2))

    ran = house.cli("ingest")

    assert ran.code == 1
    assert 'stopped source "customers_orgs"' in ran.err
    assert "shrink_limit" in ran.err
    assert "1 file taken, 1 already done" in ran.out


def test_1_when_a_file_changed_in_what_was_taken(house: House) -> None:
    (house.inbox / "events_1.jsonl").write_text(event(7) + "garbage\n")
    house.put("events_2.jsonl", event(2))

    ran = house.cli("ingest")

    assert ran.code == 1
    assert "inbox/events_1.jsonl" in ran.err
    assert "fix:" in ran.err
    assert house.verified().position == 5


def test_1_when_an_audit_does_not_hold_and_the_last_answer_stays(house: House) -> None:
    before = house.cli("query", "daily-cost").out
    house.edit(
        "models/gold/finops_by_org_day.sql",
        "  - unique: [org_id, usage_date]\n",
        "  - nothing_is_free: SELECT org_id FROM gold.finops_by_org_day WHERE daily_cost_usd > 0\n",
    )

    ran = house.cli("batch")

    assert_told(ran, 1)
    assert "nothing_is_free" in ran.err
    assert "org_id=o-1" in ran.err
    assert house.cli("query", "daily-cost").out == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("log/000000000001.json", ("ingest",)),
        ("log/000000000001.json", ("status",)),
        ("lake/published.json", ("batch",)),
        ("lake/published.json", ("read", "finops_by_org_day")),
        ("serving.db", ("query", "daily-cost")),
        ("index/state.db", ("ingest",)),
        ("index/state.db", ("batch",)),
        ("index/state.db", ("quarantine",)),
    ],
)
def test_1_when_something_is_damaged(house: House, name: str, words: tuple[str, ...]) -> None:
    path = house.root / name
    path.write_bytes(b"not what it was" + path.read_bytes()[15:])

    assert_told(house.cli(*words), 1)


MISTAKES = {
    "an unknown command": (("qurey", "daily-cost"), 'did you mean "query"?'),
    "a command far from any": (("xyzzy",), "use one of"),
    "an unknown option": (("verify", "--qiuck"), "--quick"),
    "a missing argument": (("query",), "meterhouse query --help"),
    "an unknown format": (("verify", "--format", "xml"), "'table', 'json'"),
    "a format of answers": (("query", "daily-cost", "--format", "jsn"), 'did you mean "json"?'),
    "an unknown question": (("query", "daily-csot"), 'did you mean "daily-cost"?'),
    "an unknown organisation": (("query", "daily-cost", "--org", "o-11"), 'did you mean "o-1"?'),
    "a day that is none": (("query", "daily-cost", "--from", "2025-13-01"), "write a day as"),
    "an unknown table": (("read", "gold.finops_by_org_dya"), "gold.finops_by_org_day"),
    "an unknown column": (("read", "finops_by_org_day", "--columns", "org"), "org_id"),
    "a condition that is none": (("read", "finops_by_org_day", "--where", "1; DROP"), "fix:"),
    "a second statement": (("sql", "SELECT 1; SELECT 2"), "fix:"),
    "a statement that writes": (("sql", "DROP TABLE gold.finops_by_org_day"), "fix:"),
    "a path that is not there": (("ingest", "nowhere"), "fix:"),
    "an unknown source": (("ingest", "--source", "usage_event"), "usage_events"),
    "an unknown model": (("models", "show", "gold.finops"), "fix:"),
    "a project that is none": (("--project", "/nonexistent", "status"), "meterhouse init"),
    "a project that is one already": (("init", "."), "fix:"),
    "no number": (("verify", "--since", "soon"), "fix:"),
    "no key": (("explain", "finops_by_org_day", "org_id"), "column=value"),
    "a file for the screen": (("read", "finops_by_org_day", "--format", "parquet"), "--output"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_2_when_the_user_is_mistaken(
    published: House, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    words, said = MISTAKES[mistake]
    monkeypatch.chdir(published.root)

    ran = cli(*words)

    assert_told(ran, 2)
    assert said in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "words", "said"),
    [
        ("meterhouse.toml", "[engine]", "[engin]", ("status",), "engine"),
        ("contracts/usage_events.yaml", "mode: append", "mode: apend", ("ingest",), "append"),
        (
            "contracts/usage_events.yaml",
            "key: [event_id]",
            "key: [event]",
            ("contract", "check"),
            "usage_events.yaml:",
        ),
        ("models/gold/finops_by_org_day.sql", "sum(", "avg(", ("models", "lint"), "finops"),
    ],
)
def test_2_when_a_file_of_the_author_is_mistaken(
    house: House, file: str, old: str, new: str, words: tuple[str, ...], said: str
) -> None:
    path = house.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    ran = house.cli(*words)

    assert_told(ran, 2)
    assert said in ran.err


def test_2_when_nothing_is_recognised(house: House) -> None:
    for path in house.inbox.iterdir():
        path.unlink()
    house.put("notes.txt", "not a delivery")

    ran = house.cli("ingest")

    assert_told(ran, 2)
    assert "notes.txt" in ran.err


def test_2_when_two_contracts_recognise_a_file(house: House) -> None:
    text = (house.root / "contracts" / "usage_events.yaml").read_text()
    text = text.replace("usage_events", "more_events").replace("quarantine_usage", "held_more")
    (house.root / "contracts" / "more_events.yaml").write_text(text)

    ran = house.cli("ingest")

    assert_told(ran, 2)
    assert "usage_events" in ran.err
    assert "more_events" in ran.err


def test_2_with_help_when_no_command_is_given() -> None:
    ran = cli()

    assert ran.code == 2
    assert "Commands:" in ran.err


@contextmanager
def mounted(target: Path, *options: str) -> Iterator[None]:
    """Mount something at ``target`` for a while; skips where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    made = subprocess.run(["mount", *options, str(target)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine lets nobody mount: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


def test_3_when_the_disk_is_full_and_the_same_command_finishes_later(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    delivery = tmp_path / "events_1.jsonl"
    delivery.write_text("".join(event(number) for number in range(1, 400)))
    with mounted(disk, "-t", "tmpfs", "-o", "size=3m", "tmpfs"):
        house = House.new(disk / "project", models=MODELS)
        filler = disk / "filler"
        for words in (("ingest", str(delivery)), ("batch",), ("rebuild",)):
            codes = [attempt(house, filler, room, words).code for room in (8, 40, 120)]
            filler.unlink()
            assert 3 in codes, words
            done = house.cli(*words)
            assert done.code == 0, done.err
        report: Report = house.verified()
        assert [term.accepted for term in report.terms] == ["399", "99.75"]


def attempt(house: House, filler: Path, room: int, words: tuple[str, ...]) -> Ran:
    """Run a command with ``room`` KiB left on the disk."""
    filler.unlink(missing_ok=True)
    free = shutil.disk_usage(filler.parent).free
    filler.write_bytes(b"\0" * max(free - room * 1024, 0))
    ran = house.cli(*words)
    if ran.code:
        assert_told(ran, 3)
        assert house.project.verify(quick=True).verdict != "broken"
    return ran


def test_3_when_a_file_may_grow_no_further(house: House, tmp_path: Path) -> None:
    big = tmp_path / "events_big.jsonl"
    big.write_text("".join(event(number) for number in range(10, 2000)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        ran = house.cli("ingest", str(big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert_told(ran, 3)
    house.verified()
    assert house.cli("ingest", str(big)).code == 0
    house.verified()


@pytest.mark.parametrize("words", [("ingest",), ("batch", "--full"), ("rebuild",)])
def test_3_when_the_project_can_not_be_written(house: House, words: tuple[str, ...]) -> None:
    house.put("events_2.jsonl", event(2))
    with mounted(house.root, "--bind", str(house.root)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(house.root)], check=True)

        assert_told(house.cli(*words), 3)
        assert house.cli("query", "daily-cost").code == 0
        assert house.cli("read", "finops_by_org_day").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("bug", 70, "Traceback"),
        ("statement", 70, "Traceback"),
        ("exhausted", 3, "there is not enough memory"),
        ("interrupted", 130, "stopped"),
    ],
)
def test_70_for_a_bug_and_others_for_what_is_none(
    monkeypatch: pytest.MonkeyPatch, words: str, code: int, said: str
) -> None:
    monkeypatch.setitem(COMMANDS, words, (f"e2e.broken_command:{words}", ""))

    ran = cli(words)

    assert ran.code == code
    assert said in ran.err
    assert ("this is a bug in meterhouse" in ran.err) == (code == 70)


def test_a_reader_that_has_seen_enough_is_no_error(published: House) -> None:
    command = f"{sys.executable} -m meterhouse --project {published.root} read bronze.usage_events"
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"], capture_output=True, check=False
    )

    assert found.returncode == 0
    assert b"Traceback" not in found.stderr
    assert b"BrokenPipe" not in found.stderr


def test_text_that_the_terminal_can_not_show_is_no_error(published: House) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "meterhouse", "--project", str(published.root), "verify"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    help_ = subprocess.run(
        [sys.executable, "-m", "meterhouse", "ingest", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )

    assert (found.returncode, found.stderr) == (0, b"")
    assert (help_.returncode, help_.stderr) == (0, b"")
