"""Files and folders: which are found, what they are called, what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meterhouse.errors import EnvironmentFailureError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.scaffold import SHIPPED
from meterhouse.sources.files import Discovery, discover, identity


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    return load_contracts(SHIPPED / "contracts")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "inbox").mkdir(parents=True)
    return folder


def names(found: Discovery) -> list[str]:
    return [delivery.identity for delivery in found.files]


def put(path: Path, text: str = "x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_folders_are_searched_to_the_bottom_in_order_of_names(
    project: Path, contracts: dict[str, Contract]
) -> None:
    inbox = project / "inbox"
    for name in ("b/events_2.jsonl", "b/events_1.jsonl.gz", "a/c/users.csv.zst", "notes.txt"):
        put(inbox / name)

    found = discover([inbox], contracts, project=project)

    assert names(found) == [
        "inbox/a/c/users.csv.zst",
        "inbox/b/events_1.jsonl.gz",
        "inbox/b/events_2.jsonl",
    ]
    assert [delivery.contract.source for delivery in found.files] == [
        "users",
        "usage_events",
        "usage_events",
    ]
    assert [delivery.compression for delivery in found.files] == ["zst", "gz", ""]
    assert found.unrecognised == ["inbox/notes.txt"]
    assert found.problems == []


def test_a_file_outside_is_called_by_its_whole_path(
    project: Path, tmp_path: Path, contracts: dict[str, Contract]
) -> None:
    file = put(tmp_path / "elsewhere" / "users.csv")

    found = discover([file], contracts, project=project)

    assert names(found) == [os.path.realpath(file)]


def test_two_ways_to_one_file_are_one_delivery(
    project: Path, contracts: dict[str, Contract]
) -> None:
    file = put(project / "inbox" / "users.csv")
    (project / "inbox" / "again.csv").symlink_to(file)
    (project / "inbox" / "folder").symlink_to(project / "inbox")

    found = discover(
        [project / "inbox", file, project / "inbox" / ".." / "inbox" / "users.csv"],
        contracts,
        project=project,
    )

    assert names(found) == ["inbox/users.csv"]
    assert found.unrecognised == []


def test_links_that_lead_nowhere_matter_when_a_contract_would_take_them(
    project: Path, contracts: dict[str, Contract]
) -> None:
    inbox = project / "inbox"
    (inbox / "events.jsonl").symlink_to("events.jsonl")
    (inbox / "readme").symlink_to("gone")

    found = discover([inbox], contracts, project=project)

    assert names(found) == []
    assert [type(problem) for problem in found.problems] == [EnvironmentFailureError]
    assert "inbox/events.jsonl" in found.problems[0].what
    assert found.unrecognised == ["inbox/readme"]


def test_a_folder_called_like_a_file_is_a_folder(
    project: Path, contracts: dict[str, Contract]
) -> None:
    put(project / "inbox" / "events.jsonl" / "users.csv")

    found = discover([project / "inbox"], contracts, project=project)

    assert names(found) == ["inbox/events.jsonl/users.csv"]


def test_what_is_no_regular_file_is_not_opened(
    project: Path, contracts: dict[str, Contract]
) -> None:
    os.mkfifo(project / "inbox" / "events.jsonl")

    found = discover([project / "inbox"], contracts, project=project)

    assert names(found) == []
    assert "is not a regular file" in found.problems[0].what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_problem(
    project: Path, contracts: dict[str, Contract]
) -> None:
    locked = project / "inbox" / "locked"
    locked.mkdir(mode=0)

    found = discover([project / "inbox"], contracts, project=project)

    assert isinstance(found.problems[0], EnvironmentFailureError)


def test_odd_names_are_kept_apart(project: Path, contracts: dict[str, Contract]) -> None:
    inbox = os.fsencode(project / "inbox")
    for name in (b"events \xff.jsonl", b"events \\xff.jsonl", "events é\n.jsonl".encode()):
        with open(os.path.join(inbox, name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(b"{}\n")

    found = discover([project / "inbox"], contracts, project=project)

    assert sorted(names(found)) == [
        "inbox/events \\x5cxff.jsonl",
        "inbox/events \\xff.jsonl",
        "inbox/events é\n.jsonl",
    ]
    for delivery in found.files:
        with delivery.open() as reading:
            assert reading.read() == b"{}\n"


def test_a_named_source_takes_the_files_named_whatever_they_are_called(
    project: Path, contracts: dict[str, Contract]
) -> None:
    odd = put(project / "inbox" / "july.log")
    put(project / "inbox" / "users.csv")
    put(project / "inbox" / "events.jsonl")

    found = discover([odd, project / "inbox"], contracts, "usage_events", project=project)

    assert names(found) == ["inbox/events.jsonl", "inbox/july.log"]
    assert {delivery.contract.source for delivery in found.files} == {"usage_events"}
    assert found.unrecognised == ["inbox/users.csv"]


def test_two_contracts_for_one_file_are_an_error_that_names_both(
    project: Path, contracts: dict[str, Contract]
) -> None:
    put(project / "inbox" / "events.jsonl")
    both = {**contracts, "other": contracts["usage_events"]}

    found = discover([project / "inbox"], both, project=project)

    assert names(found) == []
    assert isinstance(found.problems[0], UsageError)


def test_a_projects_own_folders_are_passed_over(
    project: Path, contracts: dict[str, Contract]
) -> None:
    for name in ("landing/usage_events/aa/events.jsonl", "lake/users.csv", "log/events.jsonl"):
        put(project / name)
    put(project / "meterhouse.toml")
    put(project / "users.csv")

    found = discover([project], contracts, project=project)

    assert names(found) == ["users.csv"]
    assert found.unrecognised == []


def test_paths_and_sources_that_do_not_exist_are_the_users_mistake(
    project: Path, contracts: dict[str, Contract]
) -> None:
    with pytest.raises(UsageError, match="gone"):
        discover([project / "gone.jsonl"], contracts, project=project)
    with pytest.raises(UsageError, match='source "usage_event" does not exist') as raised:
        discover([project], contracts, "usage_event", project=project)
    assert "usage_events" in raised.value.fix


def test_a_file_that_is_gone_when_it_is_opened_is_named(
    project: Path, contracts: dict[str, Contract]
) -> None:
    file = put(project / "inbox" / "users.csv")
    found = discover([file], contracts, project=project)
    file.unlink()

    with pytest.raises(EnvironmentFailureError, match="could not be read"):
        found.files[0].open()


def test_a_reading_notices_writes(project: Path, contracts: dict[str, Contract]) -> None:
    file = put(project / "inbox" / "users.csv", "a\nb\n")
    delivery = discover([file], contracts, project=project).files[0]

    with delivery.open() as reading:
        assert (reading.changed(), reading.shrunk()) == (False, False)
        put(file, "a\nb\nc\n")
        assert (reading.changed(), reading.shrunk()) == (True, False)
        put(file, "a\n")
        assert reading.shrunk()


def test_a_folder_next_to_the_project_is_not_inside_it() -> None:
    assert identity("/a/project-2/x", "/a/project") == "/a/project-2/x"
    assert identity("/a/project/x", "/a/project") == "x"
