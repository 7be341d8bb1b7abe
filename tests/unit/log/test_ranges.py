"""Cutting files: growth, changes, last lines, compressed and complete deliveries."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace

import pytest
import zstandard

from meterhouse.errors import EnvironmentFailureError, SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.log.ranges import Range, Waiting, new_ranges
from meterhouse.log.state import Taken
from unit.log.deliveries import MemoryDelivery, contract

JSONL = contract()
CSV = contract(form="csv")
HEADER = b"org_id,survey_date,nps_score,comment\n"


def cut(
    data: bytes,
    taken: Sequence[Taken] = (),
    *,
    kind: Contract = JSONL,
    piece: int = 1 << 20,
    compression: str = "",
) -> tuple[list[Range], list[Waiting]]:
    delivery = MemoryDelivery(data, kind, compression=compression)  # type: ignore[arg-type]
    found = list(new_ranges(delivery, taken, piece))
    parts = [part for part in found if isinstance(part, Range)]
    return parts, [part for part in found if isinstance(part, Waiting)]


def after(parts: Sequence[Range], earlier: Sequence[Taken] = ()) -> list[Taken]:
    """What the state says once ``parts`` are in the log."""
    return [
        *earlier,
        *(
            Taken(
                "s",
                part.item.file,
                part.item.lo,
                part.item.hi,
                part.item.first_line + part.item.lines - 1,
                part.item.root,
                part.item.whole,
                7,
                part.ends_newline,
            )
            for part in parts
        ),
    ]


def test_a_file_is_cut_at_record_ends_and_nothing_is_lost() -> None:
    data = b"".join(b'{"n": %d}\n' % number for number in range(100))

    parts, waiting = cut(data, piece=64)

    assert b"".join(part.data for part in parts) == data
    assert len(parts) > 5
    assert all(part.data.endswith(b"\n") for part in parts)
    assert [part.item.lo for part in parts[1:]] == [part.item.hi for part in parts[:-1]]
    assert [part.item.first_line for part in parts] == [
        1 + sum(part.item.lines for part in parts[:index]) for index in range(len(parts))
    ]
    assert waiting == []


def test_a_line_longer_than_a_piece_stays_whole() -> None:
    long = b'{"comment": "%s"}\n' % (b"x" * 5000)

    parts, _ = cut(long + b'{"n": 1}\n', piece=64)

    assert parts[0].data.startswith(long)


def test_the_same_file_again_holds_nothing_new() -> None:
    data = b'{"n": 1}\n{"n": 2}\n'
    taken = after(cut(data)[0])

    assert cut(data, taken) == ([], [])


def test_a_grown_file_goes_on_where_it_ended() -> None:
    first = b'{"n": 1}\n{"n": 2}\n'
    taken = after(cut(first)[0])

    parts, _ = cut(first + b'\n{"n": 3}\n', taken)

    assert [(part.item.lo, part.item.first_line, part.data) for part in parts] == [
        (len(first), 3, b'\n{"n": 3}\n')
    ]
    assert not parts[0].item.joined
    assert parts[0].after == (0, len(first), taken[0].root)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"  \n"])
def test_the_newline_of_a_line_taken_without_it_is_no_blank_line(end: bytes) -> None:
    first = b'{"n": 1}\n{"n": 2}'
    taken = after(cut(first)[0])
    assert taken[0].hi == len(first)

    parts, _ = cut(first + end + b'{"n": 3}\n', taken)

    assert parts[0].item.joined
    assert parts[0].data == end + b'{"n": 3}\n'
    assert (parts[0].item.first_line, parts[0].item.lines) == (3, 1)


@pytest.mark.parametrize("more", [b"\n", b"  ", b""])
def test_a_line_end_alone_is_nothing_to_take(more: bytes) -> None:
    first = b'{"n": 1}'

    assert cut(first + more, after(cut(first)[0])) == ([], [])


@pytest.mark.parametrize("more", [b" x\n", b'{"n": 2}\n'])
def test_a_taken_line_that_goes_on_was_changed(more: bytes) -> None:
    first = b'{"n": 1}'

    with pytest.raises(SourceRefusedError, match="changed in what was already taken"):
        cut(first + more, after(cut(first)[0]))


def test_an_incomplete_last_line_waits_and_is_reported() -> None:
    parts, waiting = cut(b'{"n": 1}\n{"n": 2')

    assert [part.data for part in parts] == [b'{"n": 1}\n']
    assert waiting == [Waiting("inbox/a", 2, 7)]


def test_two_objects_on_the_last_line_are_not_one_that_is_complete() -> None:
    _, waiting = cut(b'{"n": 1}{"n": 2}')

    assert waiting == [Waiting("inbox/a", 1, 16)]


@pytest.mark.parametrize(
    "changed", [b'{"n": 1}\n{"n": 9}\n', b'{"n": 1}\n', b"", b'{"n": 9}\n{"n": 2}\n{"n": 3}\n']
)
def test_an_append_file_that_changed_or_shrank_is_refused_by_name(changed: bytes) -> None:
    taken = after(cut(b'{"n": 1}\n{"n": 2}\n')[0])

    with pytest.raises(SourceRefusedError, match='file "inbox/a" changed') as raised:
        cut(changed, taken)

    assert "another name" in raised.value.fix


def test_csv_keeps_its_header_for_every_range() -> None:
    rows = b"".join(b'o-%d,2025-07-01,1,"a, ""b""\nc"\n' % number for number in range(20))

    parts, _ = cut(HEADER + rows, kind=CSV, piece=100)

    assert len(parts) > 3
    assert {part.item.header for part in parts} == {HEADER.decode().strip()}
    assert all(part.data.endswith(b'c"\n') for part in parts[1:])
    assert b"".join(part.data for part in parts) == HEADER + rows


def test_a_grown_csv_remembers_its_header() -> None:
    first = HEADER + b"o-1,2025-07-01,1,\n"
    taken = after(cut(first, kind=CSV)[0])

    parts, _ = cut(first + b"o-2,2025-07-01,1,\n", taken, kind=CSV)

    assert parts[0].item.header == HEADER.decode().strip()


def test_the_last_csv_row_is_taken_without_its_newline_unless_a_quote_is_open() -> None:
    taken, waiting = cut(HEADER + b"o-1,2025-07-01,1,fine", kind=CSV)
    assert taken[0].data.endswith(b"fine")
    assert waiting == []

    taken, waiting = cut(HEADER + b'o-1,2025-07-01,1,"fine\n', kind=CSV)
    assert taken[0].data == HEADER
    assert waiting[0].line == 2


@pytest.mark.parametrize(
    ("compression", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)]
)
def test_a_compressed_file_is_complete_and_carries_its_stored_bytes(
    compression: str, pack: object
) -> None:
    data = b'{"n": 1}\n{"n": 2'
    packed = pack(data)  # type: ignore[operator]

    parts, waiting = cut(packed, compression=compression)

    assert [(part.data, part.packed, part.alone) for part in parts] == [(data, packed, False)]
    assert parts[0].item.size == len(packed)
    assert waiting == []


def test_a_large_compressed_file_has_an_object_to_itself() -> None:
    data = b'{"n": 1}\n' * 100

    parts, _ = cut(gzip.compress(data), compression="gz", piece=90)

    assert b"".join(part.data for part in parts) == data
    assert all(part.alone for part in parts)


def test_members_of_a_gzip_file_are_read_one_after_the_other() -> None:
    packed = gzip.compress(b'{"n": 1}\n') + gzip.compress(b'{"n": 2}\n') + b"\0" * 512

    assert cut(packed, compression="gz")[0][0].data == b'{"n": 1}\n{"n": 2}\n'


@pytest.mark.parametrize("piece", [64, 1 << 20])
@pytest.mark.parametrize(
    ("compression", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)]
)
def test_of_a_compressed_file_that_breaks_off_nothing_is_taken(
    compression: str, pack: object, piece: int
) -> None:
    packed = pack(b"".join(b'{"n": %d}\n' % number for number in range(500)))  # type: ignore[operator]
    found = new_ranges(
        MemoryDelivery(packed[:-20], JSONL, compression=compression),  # type: ignore[arg-type]
        (),
        piece,
    )

    with pytest.raises(SourceRefusedError, match=f"not a whole .{compression} file"):
        next(found)


@pytest.mark.parametrize("compression", ["gz", "zst"])
@pytest.mark.parametrize("data", [b"", b'{"n": 1}\n'])
def test_what_is_not_compressed_at_all_is_refused(compression: str, data: bytes) -> None:
    with pytest.raises(SourceRefusedError, match="not a whole"):
        cut(data, compression=compression)


@pytest.mark.parametrize("mode", ["upsert", "snapshot"])
def test_a_complete_delivery_is_taken_to_its_last_byte(mode: str) -> None:
    data = HEADER + b'o-1,2025-07-01,1,"open'

    parts, waiting = cut(data, kind=replace(CSV, mode=mode))  # type: ignore[arg-type]

    assert [(part.data, part.item.whole) for part in parts] == [(data, True)]
    assert waiting == []


@pytest.mark.parametrize("mode", ["upsert", "snapshot"])
def test_a_changed_complete_file_is_taken_whole_also_when_it_goes_back(mode: str) -> None:
    kind = replace(CSV, mode=mode)  # type: ignore[arg-type]
    one, two = HEADER + b"o-1,2025-07-01,1,\n", HEADER + b"o-1,2025-07-01,2,\n"
    taken = after(cut(one, kind=kind)[0])

    changed, _ = cut(two, taken, kind=kind)
    taken = after(changed, taken)
    back, _ = cut(one, taken, kind=kind)

    assert [part.data for part in changed] == [two]
    assert [part.data for part in back] == [one]
    assert back[0].after == (0, len(two), changed[0].item.root)
    assert cut(two, taken, kind=kind) == ([], [])


def test_a_snapshot_is_never_cut() -> None:
    data = HEADER + b"o-1,2025-07-01,1,\n" * 100

    parts, _ = cut(data, kind=replace(CSV, mode="snapshot"), piece=50)

    assert [part.data for part in parts] == [data]


def test_a_large_upsert_says_which_range_completes_it() -> None:
    kind = replace(CSV, mode="upsert")
    data = HEADER + b"o-1,2025-07-01,1,\n" * 100

    parts, _ = cut(data, kind=kind, piece=100)

    assert b"".join(part.data for part in parts) == data
    assert [part.item.whole for part in parts] == [False] * (len(parts) - 1) + [True]
    assert cut(data, after(parts), kind=kind, piece=333) == ([], [])


def test_a_large_upsert_that_a_crash_cut_short_is_completed() -> None:
    kind = replace(CSV, mode="upsert")
    data = HEADER + b"o-1,2025-07-01,1,\n" * 100
    parts, _ = cut(data, kind=kind, piece=100)

    rest, _ = cut(data, after(parts[:3]), kind=kind, piece=100)

    assert [part.item.lo for part in rest] == [part.item.lo for part in parts[3:]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (JSONL, 0),
        (replace(JSONL, mode="snapshot"), 1),
        (CSV, 1),
        (replace(CSV, mode="snapshot"), 1),
    ],
)
def test_an_empty_file_is_judged_only_where_that_says_something(
    kind: Contract, expected: int
) -> None:
    parts, waiting = cut(b"", kind=kind)

    assert len(parts) == expected
    assert waiting == []


@pytest.mark.parametrize("kind", [JSONL, replace(CSV, mode="snapshot")])
def test_a_file_written_to_while_it_is_read_is_left_for_later(kind: Contract) -> None:
    delivery = MemoryDelivery(
        HEADER, kind, meanwhile=lambda reading: setattr(reading, "written", True)
    )

    with pytest.raises(EnvironmentFailureError, match="while it was being read"):
        list(new_ranges(delivery, (), 100))
