"""Settings: the last place that names one wins, and every mistake names the nearest."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from meterhouse.cli import run
from meterhouse.config import (
    FILE_NAME,
    SETTINGS,
    default_text,
    find_project,
    load_settings,
    read_duration,
    read_size,
)
from meterhouse.errors import ConfigError
from meterhouse.scaffold import init


def project(folder: Path, text: str = "") -> Path:
    (folder / FILE_NAME).write_text(text, "utf-8")
    return folder


def test_a_project_without_settings_has_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(project(tmp_path), {})

    assert settings.ingest_folders == ("inbox",)
    assert settings.ingest_piece_bytes == 32 * 2**20
    assert settings.lake_keep == timedelta(days=7)
    assert settings.access_group_shared is False
    assert {origin.place for origin in settings.origins} == {"default"}


def test_the_file_that_init_writes_changes_nothing_and_names_every_setting(
    tmp_path: Path,
) -> None:
    text = default_text()

    assert load_settings(project(tmp_path, text), {}) == load_settings(project(tmp_path), {})
    for setting in SETTINGS:
        assert f"# {setting.name.split('.')[1]} = {setting.default}\n" in text


def test_taking_away_the_comment_signs_keeps_every_default(tmp_path: Path) -> None:
    lines = default_text().splitlines()
    bare = [line[2:] if line.startswith("# ") and " = " in line else line for line in lines]

    settings = load_settings(project(tmp_path, "\n".join(bare)), {})

    assert settings.engine_threads == 2
    assert not any(origin.place == "default" for origin in settings.origins)


def test_options_go_before_environment_before_file_before_default(tmp_path: Path) -> None:
    project(tmp_path, '[engine]\nthreads = 3\nmemory = "1GiB"\n[lake]\nkeep = "1h"\n')

    settings = load_settings(
        tmp_path,
        {"METERHOUSE_ENGINE_THREADS": "4", "METERHOUSE_LAKE_KEEP": "2h", "PATH": "/bin"},
        {"engine.threads": "5"},
    )

    places = {origin.setting.name: origin.place for origin in settings.origins}
    assert (settings.engine_threads, settings.lake_keep) == (5, timedelta(hours=2))
    assert settings.engine_memory == 2**30
    assert places["engine.threads"] == "--set engine.threads"
    assert places["lake.keep"] == "METERHOUSE_LAKE_KEEP"
    assert places["engine.memory"] == f"{tmp_path / FILE_NAME}:3"
    assert places["lake.file_bytes"] == "default"


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("[engine]\nthread = 2\n", 2, "engine.threads"),
        ("[engin]\nthreads = 2\n", 2, "engine.threads"),
        ("[lake]\nthreads = 2\n", 2, "engine.threads"),
        ("threads = 2\n", 1, "engine.threads"),
        ("[enginee]\n", 1, "engine"),
    ],
)
def test_a_setting_that_does_not_exist_is_an_error_with_the_nearest_name(
    text: str, line: int, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(project(tmp_path, text), {})

    assert caught.value.where == f"{tmp_path / FILE_NAME}:{line}"
    assert hint in caught.value.fix


def test_a_variable_that_sets_nothing_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean METERHOUSE_ENGINE_MEMORY"):
        load_settings(project(tmp_path), {"METERHOUSE_ENGINE_MEMROY": "1GiB"})


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    environ = {"METERHOUSE_PROJECT": "x", "METERHOUSE_SAMPLE": "y"}

    assert load_settings(project(tmp_path), environ).engine_threads == 2


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("[engine]\nthreads = 0\n", "whole number"),
        ("[engine]\nthreads = 1.5\n", "whole number"),
        ("[engine]\nthreads = true\n", "whole number"),
        ("[engine]\nmemory = 400\n", "64MiB"),
        ('[engine]\nmemory = "400MB"\n', "64MiB"),
        ('[lake]\nkeep = "7 days"\n', "7d"),
        ('[ingest]\nfolders = "a::b"\n', "list of folders"),
        ("[ingest]\nfolders = []\n", "list of folders"),
        ("[access]\ngroup_shared = 1\n", "true or false"),
    ],
)
def test_a_value_of_the_wrong_form_is_an_error_that_shows_the_form(
    text: str, form: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(project(tmp_path, text), {})

    assert caught.value.where == f"{tmp_path / FILE_NAME}:2"
    assert form in caught.value.fix


@pytest.mark.parametrize(("text", "size"), [("1B", 1), ("64MiB", 2**26), ("3GiB", 3 * 2**30)])
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "0B", "1.5MiB", "64mib", "64 MiB", "-1B", "999999TiB", "٣B"])
def test_sizes_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a size"):
        read_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90m", 5400), ("35d", 35 * 86400)])
def test_lengths_of_time_are_exact(text: str, seconds: int) -> None:
    assert read_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "7", "1w", "-1d", "1d2h", "999999999d"])
def test_lengths_of_time_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a length"):
        read_duration(text)


def test_the_project_is_the_option_then_the_variable_then_the_nearest_parent(
    tmp_path: Path,
) -> None:
    for name in ("option", "variable", "parent"):
        (tmp_path / name / "deep").mkdir(parents=True)
        project(tmp_path / name)
    environ = {"METERHOUSE_PROJECT": str(tmp_path / "variable")}
    inside = tmp_path / "parent" / "deep"

    assert find_project(str(tmp_path / "option"), environ, inside) == tmp_path / "option"
    assert find_project(None, environ, inside) == tmp_path / "variable"
    assert find_project(None, {}, inside) == tmp_path / "parent"
    assert find_project("..", {}, inside).resolve() == tmp_path / "parent"


def test_a_missing_project_lists_every_place_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_project(None, {}, tmp_path)
    with pytest.raises(ConfigError, match="--project is not a project"):
        find_project(str(tmp_path), {}, tmp_path)

    assert str(tmp_path) in caught.value.where
    assert "METERHOUSE_PROJECT" in caught.value.where


def test_the_program_takes_a_setting_for_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init(tmp_path / "house")
    monkeypatch.setattr(
        "sys.argv",
        ["meterhouse", "--project", str(tmp_path / "house"), "--set", "engine.threads=1", "config"],
    )

    code = run()

    assert code == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if "engine.threads" in line)
    assert shown.split() == ["engine.threads", "1", "--set", "engine.threads"]
