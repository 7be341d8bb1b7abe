"""Damage in many places of every file of a project: found each time, or nothing changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from e2e.damage import (
    DELETED,
    GROWN,
    STATE_VALUES,
    assert_each_found,
    assert_named,
    damaged,
    files,
    flip,
    made,
    state_changes,
    truncated,
)
from e2e.house import House, assert_same

PARTS = ("landing", "log", "judged", "index", "lake", "serving.db")
FLIPS_OF_DATABASES = 60


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(made(tmp_path_factory.mktemp("damage")))


@pytest.mark.parametrize("part", PARTS)
def test_each_file_flipped_cut_grown_or_deleted_is_found(
    house: House, part: str, record_property: Any
) -> None:
    random, project, cases = Random(part), house.project, 0
    for path in _files(house.root, part):
        flips = [flip(random.random(), random.randrange(8)) for _ in range(2)]
        for damage in (flip(0), flip(1, 7), *flips, truncated(0), truncated(0.9), DELETED, GROWN):
            if path.suffix == ".db" and damage is GROWN:
                continue  # SQLite counts pages: bytes after the last one are no value
            with damaged(house.root, path, damage) as counts:
                report = project.verify(quick=path.suffix != ".db")
                if counts:
                    cases += 1
                    assert_named(report, path)
    record_property("damage cases", cases)
    assert project.verify().verdict == "holds"


def _files(root: Path, part: str) -> list[Path]:
    """Files of a part of the project; of the lake every tenth, each of the Delta logs' too."""
    if (root / part).is_file():
        return [Path(part)]
    found = sorted(path.relative_to(root) for path in (root / part).rglob("*") if path.is_file())
    published = House(root).project.published()
    assert published is not None
    named = {"lake/published.json"}
    for table in published.tables.values():
        named |= {f"lake/{file.path}" for file in (*table.files, *table.log)}
    if part == "lake":
        found = [path for path in found if str(path) in named]
        return found[::10] + [path for path in found if path.name == "published.json"]
    return found


@pytest.mark.parametrize("name", ["index/state.db", "serving.db"])
def test_a_flip_anywhere_in_a_database_is_found_or_changes_no_value(
    house: House, name: str, record_property: Any
) -> None:
    random, project, cases = Random(name), house.project, 0
    for _ in range(FLIPS_OF_DATABASES):
        with damaged(house.root, Path(name), flip(random.random(), random.randrange(8))) as counts:
            report = project.verify()
            if counts:
                cases += 1
                assert report.findings
    record_property("damage cases", cases)


@pytest.mark.parametrize("table", STATE_VALUES)
def test_every_value_of_the_state_view_counts(
    house: House, table: str, record_property: Any
) -> None:
    statements = state_changes(table, *STATE_VALUES[table])
    assert_each_found(house, Path("index/state.db"), statements)
    record_property("damage cases", len(statements))


def test_rebuild_restores_each_kind_of_view_alone(house: House, tmp_path: Path) -> None:
    layers = ("bronze", "silver", "gold")
    tables = house.tables(layers=layers)
    for number, (kind, paths) in enumerate(files(house.root).items()):
        if kind.startswith(("landed", "log")):
            continue
        for damage in (flip(0.4), truncated(0.5), DELETED):
            root = tmp_path / f"{number} {damage.name}"
            shutil.copytree(house.root, root)
            for path in paths:
                after = damage.do((root / path).read_bytes())
                (root / path).unlink()
                if after is not None:
                    (root / path).write_bytes(after)

            House(root).project.rebuild()

            House(root).verified()
            assert_same(House(root).tables(layers=layers), tables)
            shutil.rmtree(root)
