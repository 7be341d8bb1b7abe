"""Same options, same bytes; whatever the files; what can't be made is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from meterhouse.errors import UsageError
from meterhouse.synth import Options, generate

SMALL = Options(events=3000, orgs=6, days=20, seed=5, poison=0.05, duplicates=0.05, files=3)


def stream(folder: Path) -> bytes:
    return b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in sorted((folder / "usage_events_stream").iterdir())
    )


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("options", [SMALL, replace(SMALL, format="jsonl.gz")], ids=["plain", "gz"])
def test_same_options_give_the_same_bytes(tmp_path: Path, options: Options) -> None:
    generate(tmp_path / "first", options)
    generate(tmp_path / "second", options)

    assert digest(tmp_path / "first") == digest(tmp_path / "second")


def test_another_seed_gives_other_events(tmp_path: Path) -> None:
    generate(tmp_path / "first", SMALL)
    generate(tmp_path / "second", replace(SMALL, seed=6))

    first, second = (set(stream(tmp_path / name).split(b"\n")) for name in ("first", "second"))
    assert len(first & second) <= 3  # blank lines


def test_files_and_compression_cut_the_same_stream(tmp_path: Path) -> None:
    generate(tmp_path / "first", SMALL)
    generate(tmp_path / "second", replace(SMALL, files=11, format="jsonl.gz"))

    assert stream(tmp_path / "first") == stream(tmp_path / "second")
    assert len(list((tmp_path / "second" / "usage_events_stream").glob("*.jsonl.gz"))) == 11


def test_no_more_files_than_events(tmp_path: Path) -> None:
    generate(tmp_path / "tiny", Options(events=2, orgs=1, days=1, files=9))

    files = list((tmp_path / "tiny" / "usage_events_stream").iterdir())
    assert [path.read_bytes().count(b"\n") for path in files] == [1, 1]


def test_a_clean_delivery_has_nothing_to_hold(tmp_path: Path) -> None:
    clean = replace(SMALL, poison=0, duplicates=0, conflicts=0, late=0)

    truth = generate(tmp_path / "clean", clean)

    assert truth.records("usage_events") == {
        "landed": 3000,
        "accepted": 3000,
        "quarantined": 0,
        "duplicate": 0,
        "blank": 0,
    }
    assert truth.document["late_events"] == 0
    ids = {json.loads(line)["event_id"] for line in stream(tmp_path / "clean").splitlines()}
    assert len(ids) == 3000


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (replace(SMALL, poison=1, duplicates=0, conflicts=0), 0),
        (replace(SMALL, poison=0, duplicates=1, conflicts=0), 1),
    ],
    ids=["poison", "duplicates"],
)
def test_a_share_of_one_is_the_whole_stream(
    tmp_path: Path, options: Options, accepted: int
) -> None:
    truth = generate(tmp_path / "all", options)

    assert truth.records("usage_events")["accepted"] == accepted


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": 0},
        {"orgs": 0},
        {"days": 0},
        {"files": 0},
        {"seed": -1},
        {"poison": 1.5},
        {"late": -0.1},
        {"poison": 0.6, "duplicates": 0.6},
    ],
    ids=str,
)
def test_what_can_not_be_generated_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError) as refused:
        Options(**wrong)  # type: ignore[arg-type]

    assert refused.value.fix


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UsageError, match="nothing was written"):
        generate(tmp_path, SMALL)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
