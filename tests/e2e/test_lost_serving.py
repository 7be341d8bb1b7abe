"""What a user is told when answers were there and are not."""

from __future__ import annotations

from pathlib import Path

import pytest

import meterhouse
from meterhouse.cli import run
from meterhouse.scaffold import init


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init(tmp_path / "house")
    (tmp_path / "nps_surveys.csv").write_text(
        "org_id,survey_date,nps_score,comment\norg_1,2025-08-01,50,fine\n"
    )
    house = meterhouse.open(tmp_path / "house")
    house.ingest(tmp_path / "nps_surveys.csv")
    house.batch()
    return tmp_path / "house"


def told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["meterhouse", "--project", str(folder), *words])
    code = run()
    return code, capsys.readouterr().err


def test_a_lost_serving_store_is_loaded_again_by_the_next_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "serving.db").unlink()

    code, said = told(folder, monkeypatch, capsys, "query", "anomalies")

    assert code == 2
    assert "the serving store is gone" in said
    assert "meterhouse batch" in said
    meterhouse.open(folder).batch()
    assert told(folder, monkeypatch, capsys, "query", "anomalies")[0] == 0


def test_verify_since_an_entry_that_does_not_exist_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = told(folder, monkeypatch, capsys, "verify", "--since", "999")

    assert code == 2
    assert "the log has no entry 999" in said
