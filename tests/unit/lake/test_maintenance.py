"""Which small files are joined: bounded in number, and no row is rewritten for ever."""

from __future__ import annotations

from meterhouse.lake.maintenance import FAN_IN, compaction
from meterhouse.lake.published import StoredFile

FILE_BYTES = 64 << 20


def small(number: int, size: int = 1000, **partition: str) -> StoredFile:
    return StoredFile(f"t/{partition}/{number:03d}.parquet", 1, size, "", partition)


def test_few_files_stay() -> None:
    assert compaction([small(n, day="1") for n in range(FAN_IN - 1)], FILE_BYTES) == []


def test_a_full_tier_is_joined() -> None:
    files = [small(n, day="1") for n in range(FAN_IN)]

    assert compaction(files, FILE_BYTES) == files


def test_partitions_are_counted_each_for_itself() -> None:
    full = [small(n, day="1") for n in range(FAN_IN)]
    few = [small(n, day="2") for n in range(FAN_IN - 1)]

    assert compaction([*full, *few], FILE_BYTES) == full


def test_large_files_are_left_alone() -> None:
    files = [small(n, size=FILE_BYTES) for n in range(FAN_IN * 2)]

    assert compaction(files, FILE_BYTES) == []


def test_small_files_are_not_joined_with_a_much_larger_one() -> None:
    large = small(999, size=30 << 20)
    files = [small(n) for n in range(FAN_IN)]

    assert compaction([*files, large], FILE_BYTES) == files


def test_after_many_appends_files_are_few_and_rewriting_is_bounded() -> None:
    files: list[StoredFile] = []
    rewritten = 0
    for number in range(2000):
        chosen = compaction(files, FILE_BYTES)
        size = sum(file.size for file in chosen)
        rewritten += size
        files = [file for file in files if file not in chosen]
        if chosen:
            files.append(small(10_000 + number, size=size))
        files.append(small(number, size=20_000))

    assert len(files) <= 5 * FAN_IN
    assert rewritten <= 8 * 2000 * 20_000
