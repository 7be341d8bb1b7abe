"""A folder of contracts in which some are not valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterhouse.errors import ContractError
from meterhouse.intake.contracts import load_contracts, read_contracts
from meterhouse.scaffold import SHIPPED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in (SHIPPED / "contracts").glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_one_that_is_not_valid_leaves_the_others_alone(folder: Path) -> None:
    edit(folder / "users.yaml", "mode: snapshot", "mode: sideways")

    found = read_contracts(folder)

    assert "users" not in found.contracts
    assert len(found.contracts) == 7
    [bad] = found.bad
    assert bad.source == "users"
    assert bad.claims("users_20250902.csv.gz")
    assert not bad.claims("orgs.csv")
    assert "users.yaml" in bad.error.where
    with pytest.raises(ContractError, match="sideways"):
        load_contracts(folder)


@pytest.mark.parametrize("text", [b"\xff", b"files: [", b"[]", b""])
def test_one_that_says_nothing_is_known_by_its_name(folder: Path, text: bytes) -> None:
    (folder / "users.yaml").write_bytes(text)

    [bad] = read_contracts(folder).bad

    assert bad.source == "users"
    assert not bad.claims("users.csv")


def test_two_for_the_same_source_are_both_out(folder: Path) -> None:
    (folder / "again.yaml").write_bytes((folder / "users.yaml").read_bytes())

    found = read_contracts(folder)

    assert "users" not in found.contracts
    assert [bad.source for bad in found.bad] == ["users", "users"]
