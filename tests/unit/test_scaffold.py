"""A project folder is whole or not there; an update never loses what the user wrote."""

from __future__ import annotations

import difflib
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.config import FILE_NAME, load_settings
from meterhouse.errors import ConfigError
from meterhouse.intake.contracts import load_contracts
from meterhouse.scaffold import SHIPPED, catalog_diff, catalog_update, init, merge

CONTRACT = "contracts/users.yaml"
MINE = "doc: User as we call them."
THEIRS = "Role in the organisation, as of the delivery."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    init(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A later release of the catalog, to be edited by the test."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "release"))


def edit(root: Path, old: str, new: str, name: str = CONTRACT) -> None:
    text = (root / name).read_text("utf-8")
    assert old in text
    (root / name).write_text(text.replace(old, new, 1), "utf-8")


def states(project: Path, release: Path) -> dict[str, str]:
    return {d.path: d.state for d in catalog_diff(project, release)}


def test_a_new_project_has_settings_contracts_models_and_an_inbox(project: Path) -> None:
    assert load_settings(project, {}).ingest_folders == ("inbox",)
    assert len(load_contracts(project / "contracts")) == 8
    assert (project / "inbox").is_dir()
    assert catalog_diff(project) == []


def test_a_project_is_not_made_twice(project: Path) -> None:
    with pytest.raises(ConfigError, match="project already"):
        init(project)


def test_init_writes_nothing_over_and_nothing_at_all_when_a_file_is_in_the_way(
    tmp_path: Path,
) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / CONTRACT).write_text("mine")

    with pytest.raises(ConfigError, match="in the way"):
        init(tmp_path)

    assert (tmp_path / CONTRACT).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["contracts"]


def test_init_finishes_what_a_crash_left_and_keeps_other_files(tmp_path: Path) -> None:
    init(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / "delivery.csv").write_text("a")

    init(tmp_path)

    assert (tmp_path / FILE_NAME).is_file()
    assert (tmp_path / "delivery.csv").read_text() == "a"


def test_shipped_changes_reach_files_the_user_did_not_touch(project: Path, release: Path) -> None:
    edit(release, "Role within the organisation.", THEIRS)
    (release / "models/gold/new_table.sql").write_text("SELECT 1 AS one\n")
    (release / "contracts/resources.yaml").unlink()

    assert states(project, release) == {
        CONTRACT: "updated",
        "contracts/resources.yaml": "removed",
        "models/gold/new_table.sql": "added",
    }
    catalog_update(project, release)

    assert THEIRS in (project / CONTRACT).read_text("utf-8")
    assert states(project, release) == {}


def test_changes_of_both_sides_in_different_places_are_merged(project: Path, release: Path) -> None:
    edit(project, 'doc: "User."', MINE)
    edit(release, "Day of the last login; NULL when there was none.", THEIRS)

    assert states(project, release) == {CONTRACT: "merged"}
    catalog_update(project, release)

    text = (project / CONTRACT).read_text("utf-8")
    assert MINE in text
    assert THEIRS in text
    assert states(project, release) == {CONTRACT: "yours"}


def test_a_conflict_keeps_the_users_file_and_puts_the_shipped_one_beside_it(
    project: Path, release: Path
) -> None:
    edit(project, "Role within the organisation.", "mine")
    edit(release, "Role within the organisation.", THEIRS)
    mine = (project / CONTRACT).read_bytes()

    found = catalog_update(project, release)

    beside = project / f"{CONTRACT}.new"
    assert [(d.path, d.state) for d in found] == [(CONTRACT, "conflict")]
    assert (project / CONTRACT).read_bytes() == mine
    assert beside.read_bytes() == (release / CONTRACT).read_bytes()
    assert states(project, release) == {CONTRACT: "open"}
    beside.unlink()
    assert states(project, release) == {CONTRACT: "yours"}


def test_lines_that_merge_into_an_invalid_contract_are_a_conflict(
    project: Path, release: Path
) -> None:
    edit(project, "  user_id: {", "  login: {type: text}\n  user_id: {")
    edit(release, "  last_login: {", "  login: {type: date}\n  last_login: {")

    assert states(project, release) == {CONTRACT: "conflict"}


def test_what_the_user_added_or_deleted_stays_so(project: Path, release: Path) -> None:
    (project / "models/gold/mine.sql").write_text("SELECT 2 AS two\n")
    (project / "contracts/nps_surveys.yaml").unlink()
    edit(release, "Answers to", "Replies to", "contracts/nps_surveys.yaml")
    before = states(project, release)

    catalog_update(project, release)

    assert before == {
        "contracts/nps_surveys.yaml": "deleted by you",
        "models/gold/mine.sql": "yours",
    }
    assert (project / "models/gold/mine.sql").read_text() == "SELECT 2 AS two\n"
    assert not (project / "contracts/nps_surveys.yaml").exists()


def test_an_update_is_safe_to_repeat_after_a_crash_before_the_base_moved(
    project: Path, release: Path, tmp_path: Path
) -> None:
    edit(project, 'doc: "User."', MINE)
    edit(release, "Day of the last login; NULL when there was none.", THEIRS)
    shutil.copytree(project / ".meterhouse", tmp_path / "base")
    catalog_update(project, release)
    once = (project / CONTRACT).read_bytes()
    shutil.rmtree(project / ".meterhouse")
    shutil.copytree(tmp_path / "base", project / ".meterhouse")

    catalog_update(project, release)

    assert (project / CONTRACT).read_bytes() == once


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=12)


@given(base=LINES, ours=LINES)
def test_a_merge_with_one_unchanged_side_is_the_other_side(
    base: list[str], ours: list[str]
) -> None:
    assert merge(base, ours, base) == ours
    assert merge(base, base, ours) == ours
    assert merge(base, ours, ours) == ours


@given(base=LINES, ours=LINES, theirs=LINES)
def test_a_merge_does_not_depend_on_which_side_is_ours(
    base: list[str], ours: list[str], theirs: list[str]
) -> None:
    assert merge(base, ours, theirs) == merge(base, theirs, ours)


@given(seed=st.integers(0, 10_000))
def test_edits_with_a_line_between_them_are_both_kept(seed: int) -> None:
    chance = random.Random(seed)
    base = [f"{number}\n" for number in range(20)]
    at = chance.randrange(0, 17)
    first, second = [*base], [*base]
    first[at : at + 1] = chance.choice([[], ["mine\n"], ["mine\n", "more\n"]])
    second[at + 2 : at + 3] = chance.choice([[], ["theirs\n"]])

    merged = merge(base, first, second)

    assert merged is not None
    changes = [line for line in difflib.ndiff(base, merged) if line[0] in "+-"]
    both = [
        line for side in (first, second) for line in difflib.ndiff(base, side) if line[0] in "+-"
    ]
    assert sorted(changes) == sorted(both)
