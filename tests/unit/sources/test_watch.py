"""Notices: what is told of files and folders, and who has a file open."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterhouse.sources.walk import walk
from meterhouse.sources.watch import Changes, FolderWatch, Sign, open_for_writing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no notices")


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[FolderWatch]:
    made = FolderWatch()
    show(made, tmp_path)
    yield made
    made.close()


def show(watch: FolderWatch, path: Path) -> None:
    for found in walk([path], "/nonexistent"):
        watch.see(found)


def told(watch: FolderWatch, path: Path) -> Sign | None:
    return watch.changes().names.get(str(path))


def test_writing_and_closing_are_told_apart(watch: FolderWatch, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("w") as file:
        file.write("x")
        file.flush()
        assert told(watch, path) == Sign(writing=True, closed=False)
    assert told(watch, path) == Sign(writing=False, closed=True)
    with path.open("a") as file:
        file.write("y")
        file.flush()
        assert told(watch, path) == Sign(writing=True, closed=False)


def test_many_notices_of_one_file_are_one_with_what_came_last(
    watch: FolderWatch, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    for _ in range(50):
        path.write_text("x")
    other = tmp_path / "b"
    other.write_text("x")
    held = path.open("a")
    held.write("y")
    held.flush()

    changes = watch.changes()
    held.close()

    assert changes.names[str(path)] == Sign(writing=True, closed=False)
    assert changes.names[str(other)] == Sign(writing=False, closed=True)


def test_a_file_that_is_moved_in_is_whole(watch: FolderWatch, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    (tmp_path / ".a.new").write_text("new")
    (tmp_path / ".a.new").rename(path)

    assert told(watch, path) == Sign(writing=False, closed=True)


def test_new_folders_are_told_and_lost_ones_make_everything_looked_at(
    watch: FolderWatch, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    assert watch.changes() == Changes(folders={str(tmp_path / "new")})

    (tmp_path / "new").rmdir()
    assert watch.changes().lost


def test_files_behind_links_are_watched_where_they_are(watch: FolderWatch, tmp_path: Path) -> None:
    real = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    real.write_text("x")
    (tmp_path / "link").symlink_to(real)
    show(watch, tmp_path)
    watch.changes()

    real.write_text("y")

    assert told(watch, tmp_path / "link") == Sign(writing=False, closed=True)


def test_too_many_notices_are_told_as_lost(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip("the queue of this machine is too long to fill")
    watch = FolderWatch()
    show(watch, tmp_path)
    descriptors = [
        os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND) for name in "ab"
    ]
    for _ in range(most // 2 + 10):
        for descriptor in descriptors:
            os.write(descriptor, b"x")

    assert watch.changes().lost
    for descriptor in descriptors:
        os.close(descriptor)
    watch.close()


def test_where_nothing_is_told_the_watch_says_so(tmp_path: Path) -> None:
    watch = FolderWatch(poll=True)
    show(watch, tmp_path)
    (tmp_path / "a").write_text("x")

    assert watch.partial
    assert watch.fileno() is None
    assert watch.changes() == Changes()


def test_what_may_not_be_watched_is_looked_at_often(watch: FolderWatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    [found] = walk([gone], "/nonexistent")
    gone.rmdir()
    watch.see(found)

    assert watch.partial
    assert "gone" in watch.reason


def test_who_has_a_file_open_for_writing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    assert open_for_writing(path) is False
    with path.open("r"):
        assert open_for_writing(path) is False
    with path.open("a"):
        assert open_for_writing(path) is True
    assert open_for_writing(tmp_path / "gone") is None
