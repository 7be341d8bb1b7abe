"""Every adapter of the Blobs port keeps the same guarantees."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meterhouse.errors import EnvironmentFailureError
from meterhouse.ports import Blobs
from meterhouse.storage.folder import FolderBlobs
from meterhouse.testing import MemoryBlobs, SimulatedBlobs

ADAPTERS: dict[str, Callable[[Path], Blobs]] = {
    "folder": lambda path: FolderBlobs(path / "root"),
    "folder, shared with the group": lambda path: FolderBlobs(path / "root", group_shared=True),
    "memory": lambda path: MemoryBlobs(),
    "simulated": lambda path: SimulatedBlobs(),
}


@pytest.fixture(params=ADAPTERS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return ADAPTERS[request.param](tmp_path)


def test_what_was_put_is_read_back(blobs: Blobs) -> None:
    blobs.put_if_absent("log/1.json", b"one")
    blobs.put("lake/published.json", b"two", durable=False)

    assert blobs.read("log/1.json") == b"one"
    assert blobs.read("lake/published.json") == b"two"


def test_put_if_absent_never_replaces(blobs: Blobs) -> None:
    assert blobs.put_if_absent("a/b", b"first")
    assert not blobs.put_if_absent("a/b", b"second")
    assert blobs.read("a/b") == b"first"


def test_of_racing_puts_exactly_one_wins(blobs: Blobs) -> None:
    payloads = [bytes([number]) * 1000 for number in range(32)]

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda data: blobs.put_if_absent("log/1.json", data), payloads))

    assert won.count(True) == 1
    assert blobs.read("log/1.json") == payloads[won.index(True)]


def test_put_replaces(blobs: Blobs) -> None:
    blobs.put("a", b"first, and longer")
    blobs.put("a", b"second")

    assert blobs.read("a") == b"second"


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [(0, None, b"abcdef"), (2, None, b"cdef"), (1, 3, b"bc"), (4, 99, b"ef"), (3, 3, b"")],
)
def test_a_range_is_read(blobs: Blobs, lo: int, hi: int | None, expected: bytes) -> None:
    blobs.put("a", b"abcdef")

    assert blobs.read("a", lo, hi) == expected


def test_reading_what_is_not_there_says_so(blobs: Blobs) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.read("log/1.json")


def test_names_are_listed_sorted_below_their_folder_only(blobs: Blobs) -> None:
    for name in ("a/b/2", "a/b-c", "a/b/10", "a/é", "ab", "a/b.x", "b/1"):
        blobs.put(name, b"")

    assert list(blobs.list("a")) == ["a/b-c", "a/b.x", "a/b/10", "a/b/2", "a/é"]
    assert list(blobs.list("a", after="a/b.x")) == ["a/b/10", "a/b/2", "a/é"]
    assert list(blobs.list("a/b")) == ["a/b/10", "a/b/2"]
    assert list(blobs.list("")) == ["a/b-c", "a/b.x", "a/b/10", "a/b/2", "a/é", "ab", "b/1"]
    assert list(blobs.list("c")) == []


def test_deleting_twice_is_deleting_once(blobs: Blobs) -> None:
    blobs.put("a", b"")

    blobs.delete("a")
    blobs.delete("a")

    assert list(blobs.list("")) == []
    assert blobs.put_if_absent("a", b"again")


def test_a_file_left_half_written_is_never_listed(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    blobs.put("log/1.json", b"")
    (tmp_path / "log" / ".tmp-1-2-3").write_bytes(b"half")

    assert list(blobs.list("log")) == ["log/1.json"]


def test_no_temporary_file_stays_behind(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)

    blobs.put_if_absent("log/1.json", b"")
    blobs.put_if_absent("log/1.json", b"")
    blobs.put("log/2.json", b"")

    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["1.json", "2.json"]


def test_files_shared_with_the_group_are_readable_by_it(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "root", group_shared=True)

    blobs.put("lake/a/b", b"")

    assert stat.S_IMODE((tmp_path / "root/lake/a/b").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "root/lake/a").stat().st_mode) & 0o070 == 0o050


def test_what_the_machine_refuses_is_an_environment_failure(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)

    with pytest.raises(EnvironmentFailureError) as refused:
        blobs.put("n" * 300, b"")

    assert refused.value.fix


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../outside", "a/../../b"])
def test_a_name_never_leaves_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a blob name"):
        FolderBlobs(tmp_path).put(name, b"")
