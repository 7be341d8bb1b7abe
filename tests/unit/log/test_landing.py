"""The landing zone: objects by hash, ranges read back, damage found."""

from __future__ import annotations

import gzip
import hashlib
import itertools

import pytest
import zstandard

from meterhouse.errors import DamageError
from meterhouse.intake.lines import split, tree_root
from meterhouse.log.entry import Entry, Input
from meterhouse.log.landing import Landing, landing_path, parse_landed, read_landed
from meterhouse.testing import MemoryBlobs
from unit.log.deliveries import contract


def piece(data: bytes, lo: int = 0, *, offset: int = 0, size: int | None = None) -> Input:
    return Input(
        file="a",
        lo=lo,
        hi=lo + len(data),
        first_line=1,
        lines=1,
        records=1,
        blank=0,
        root=tree_root(data, split(data)),
        offset=offset,
        size=len(data) if size is None else size,
    )


def entry(name: str, *inputs: Input) -> Entry:
    return Entry(
        1, "data", "", "2025-09-01T00:00:00.000000Z", source="s", object=name, inputs=inputs
    )


def test_an_object_is_named_by_its_hash_and_landed_once() -> None:
    blobs = MemoryBlobs()

    name = Landing(blobs).land("s", b"bytes")

    assert name == hashlib.sha256(b"bytes").hexdigest()
    assert Landing(blobs).land("s", b"bytes") == name
    assert list(blobs.list("landing")) == [landing_path("s", name)]


def test_a_damaged_object_of_that_name_is_not_built_upon() -> None:
    blobs = MemoryBlobs()
    name = Landing(blobs).land("s", b"bytes")
    blobs.put(landing_path("s", name), b"other")

    with pytest.raises(DamageError, match="does not hold what its name says"):
        Landing(blobs).land("s", b"bytes")


def test_inputs_tile_their_object() -> None:
    blobs = MemoryBlobs()
    name = Landing(blobs).land("s", b"a\nbb\n")
    first, second = piece(b"a\n"), piece(b"bb\n", lo=7, offset=2)

    assert list(read_landed(blobs, entry(name, first, second))) == [
        (first, b"a\n"),
        (second, b"bb\n"),
    ]


@pytest.mark.parametrize(
    ("compression", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)]
)
def test_ranges_of_a_compressed_object_are_of_decoded_bytes(compression: str, pack: object) -> None:
    lines = [b'{"n": %d}\n' % number for number in range(5000)]
    data = b"".join(lines)
    packed = pack(data)  # type: ignore[operator]
    blobs = MemoryBlobs()
    landing = Landing(blobs)
    name = landing.land("s", packed)
    cuts = [0, 1000, 30_000, len(data)]
    inputs = [
        Input(
            **{
                **{name: getattr(base, name) for name in Input.__slots__},
                "compression": compression,
            }
        )
        for base in (
            piece(data[lo:hi], lo, size=len(packed)) for lo, hi in itertools.pairwise(cuts)
        )
    ]

    for item in [*inputs, inputs[0]]:
        assert list(landing.ranges(entry(name, item))) == [(item, data[item.lo : item.hi])]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_to_an_object_is_named(damage: str) -> None:
    blobs = MemoryBlobs()
    name = Landing(blobs).land("s", b"bytes\n")
    path = landing_path("s", name)
    if damage == "flip":
        blobs.put(path, b"bytez\n")
    elif damage == "truncate":
        blobs.put(path, b"byt")
    else:
        blobs.delete(path)

    with pytest.raises(DamageError, match="log entry 1") as raised:
        list(read_landed(blobs, entry(name, piece(b"bytes\n"))))

    assert raised.value.where == path


def test_a_joined_range_is_parsed_from_behind_the_line_end() -> None:
    data = b"\r\n\n" + b'{"org_id": "o-1", "survey_date": "2025-07-01"}\n'
    item = Input("a", 10, 10 + len(data), 3, 2, 1, 1, "", 0, len(data), joined=True)

    [parsed] = parse_landed([(item, data)], contract())

    assert parsed.rows["source_line"].to_pylist() == [4]
    assert parsed.blank == 1
