"""Damage of every kind of file is found and named, and what is a view is made anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from e2e.damage import (
    DELETED,
    GROWN,
    assert_each_found,
    assert_named,
    damaged,
    files,
    flip,
    made,
    serving_changes,
    state_changes,
    truncated,
)
from e2e.house import House, assert_same, once

KINDS = (
    "landed events",
    "landed snapshot",
    "log",
    "judged events",
    "judged snapshot",
    "state",
    "run of keys",
    "run of held",
    "lake data",
    "lake data, partitioned",
    "delta log",
    "delta checkpoint",
    "publication",
    "serving",
)
DAMAGES = (flip(0), flip(0.37, 5), flip(1, 3), truncated(0), truncated(0.6), DELETED)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A project of this worker's own; a test leaves it as it was."""
    whole = once(tmp_path_factory, "damage", made)
    root = tmp_path_factory.mktemp("damage") / "project"
    shutil.copytree(whole, root)
    return House(root)


def test_every_kind_of_file_is_looked_at(house: House) -> None:
    found = files(house.root)

    assert set(found) == set(KINDS)
    assert all((house.root / path).is_file() for paths in found.values() for path in paths)
    parts = {path.parts[0] for paths in found.values() for path in paths}
    assert parts == {"landing", "log", "judged", "index", "lake", "serving.db"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_a_truncation_and_a_deletion_are_found_and_named(
    house: House, kind: str, record_property: Any
) -> None:
    cases = 0
    project = house.project
    for path in files(house.root)[kind]:
        for damage in DAMAGES:
            with damaged(house.root, path, damage) as counts:
                # Values of the state view are compared with those that the log gives again.
                report = project.verify(quick=path.name != "state.db")

                if counts:
                    cases += 1
                    assert_named(report, path)

    record_property("damage cases", cases)
    assert cases
    assert house.project.verify(quick=True).verdict == "holds"


def test_the_program_exits_with_1_and_names_what_is_damaged(house: House) -> None:
    path = files(house.root)["log"][-1]

    with damaged(house.root, path, flip(0.5)):
        ran = house.cli("verify")

        assert ran.code == 1
        assert str(path) in ran.out
        assert "Traceback" not in ran.out + ran.err


def test_a_changed_value_of_the_state_view_is_found(house: House, record_property: Any) -> None:
    some = ("cover.position", "inputs.lo", "contracts.sha256", "judged.rows", "runs.position")
    statements = [statement for name in some for statement in state_changes(*name.split("."))]
    assert_each_found(house, Path("index/state.db"), statements)
    record_property("damage cases", len(statements))


def test_a_changed_value_of_serving_is_found(house: House, record_property: Any) -> None:
    statements = serving_changes(house.root / "serving.db")
    assert_each_found(house, Path("serving.db"), statements)
    record_property("damage cases", len(statements))


@pytest.mark.parametrize(
    "damage", [flip(0.5), truncated(0.5), DELETED, GROWN], ids=lambda d: d.name
)
def test_rebuild_restores_identical_tables_after_damage_to_every_view(
    house: House, tmp_path: Path, damage: Any
) -> None:
    root = tmp_path / "project"
    shutil.copytree(house.root, root)
    broken = House(root)
    layers = ("bronze", "silver", "gold")
    tables, answer = house.tables(layers=layers), house.cli("query", "daily-cost").out
    for kind, paths in files(root).items():
        for path in paths if kind not in ("landed events", "landed snapshot", "log") else []:
            after = damage.do((root / path).read_bytes())
            (root / path).unlink() if after is None else (root / path).write_bytes(after)
    assert broken.project.verify().verdict == "rebuildable"

    ran = broken.cli("rebuild")

    assert ran.code == 0, ran.err
    broken.verified()
    assert_same(broken.tables(layers=layers), tables)
    assert broken.cli("query", "daily-cost").out == answer


@pytest.mark.parametrize("kind", ["landed events", "log"])
def test_rebuild_deletes_nothing_when_the_truth_is_damaged(house: House, kind: str) -> None:
    path = files(house.root)[kind][0]
    answer = house.cli("query", "daily-cost").out

    with damaged(house.root, path, flip(0.5)):
        ran = house.cli("rebuild")

        assert ran.code == 1
        assert str(path) in ran.err
        assert "nothing was changed" in ran.err
        assert house.cli("query", "daily-cost").out == answer
    house.verified()


def test_rebuild_is_not_stopped_by_the_damage_that_it_mends(house: House, tmp_path: Path) -> None:
    """A table of the lake that can't be opened, beside a serving store that is whole."""
    root = tmp_path / "project"
    shutil.copytree(house.root, root)
    (path,) = files(root)["lake data"]
    (root / path).write_bytes((root / path).read_bytes()[:100])

    assert House(root).cli("rebuild").code == 0

    House(root).verified()
