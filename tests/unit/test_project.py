"""The Python API before it touches any data."""

from __future__ import annotations

from pathlib import Path

import pytest

import meterhouse
from meterhouse.errors import UsageError
from meterhouse.scaffold import init


def test_a_project_says_where_it_is(tmp_path: Path) -> None:
    init(tmp_path / "house")

    assert repr(meterhouse.open(tmp_path / "house")) == f"<meterhouse project {tmp_path}/house>"


def test_columns_given_as_one_text_are_refused(tmp_path: Path) -> None:
    init(tmp_path / "house")

    with pytest.raises(UsageError) as raised:
        meterhouse.open(tmp_path / "house").read("gold.finops_by_org_day", columns="org_id")

    assert raised.value.fix == 'give a list: columns=["org_id"]'


def test_ingest_tells_which_files_no_contract_recognises(tmp_path: Path) -> None:
    init(tmp_path / "house")
    (tmp_path / "notes.txt").write_text("not a delivery\n")

    report = meterhouse.open(tmp_path / "house").ingest(tmp_path / "notes.txt")

    assert report.taken == 0
    assert [Path(name).name for name in report.unrecognised] == ["notes.txt"]
