"""A serving store that an older program wrote is made anew, and says so until then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import meterhouse
from meterhouse.cli import run
from meterhouse.scaffold import init


@pytest.mark.parametrize("mend", ["batch", "rebuild"])
def test_an_older_serving_store_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mend: str
) -> None:
    init(tmp_path / "house")
    (tmp_path / "nps_surveys.csv").write_text(
        "org_id,survey_date,nps_score,comment\norg_1,2025-08-01,50,fine\n"
    )
    house = meterhouse.open(tmp_path / "house")
    house.ingest(tmp_path / "nps_surveys.csv")
    house.batch()
    with closing(sqlite3.connect(tmp_path / "house" / "serving.db")) as connection:
        connection.execute("PRAGMA user_version = 1")

    monkeypatch.setattr(
        "sys.argv", ["meterhouse", "--project", str(house.root), "query", "anomalies"]
    )
    assert run() == 2
    said = capsys.readouterr().err
    assert "layout 1, which is older" in said
    assert "meterhouse batch" in said

    getattr(house, mend)()

    assert run() == 0
    assert house.query("anomalies").as_of.position == house.head
    assert house.verify().verdict == "holds"
