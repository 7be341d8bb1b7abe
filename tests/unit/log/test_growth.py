"""Growing files, looked at again and again: what is compared, what is cut."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from meterhouse.errors import SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.log.growth import Growth
from meterhouse.log.ranges import Range, Waiting
from meterhouse.log.state import Taken
from unit.log.deliveries import MemoryDelivery, contract

HEADER = b"org_id,survey_date,nps_score,comment\n"


@dataclass
class Log:
    """What was taken of the one file there is."""

    ranges: list[Taken] = field(default_factory=list)

    def taken(self, source: str, file: str) -> list[Taken]:
        return self.ranges

    def first_taken(self, source: str, file: str) -> Taken | None:
        return self.ranges[0] if self.ranges else None

    def last_taken(self, source: str, file: str) -> Taken | None:
        return self.ranges[-1] if self.ranges else None

    def take(self, part: Range) -> None:
        item = part.item
        end = item.first_line + item.lines - 1
        self.ranges.append(
            Taken("s", item.file, item.lo, item.hi, end, item.root, False, 7, part.ends_newline)
        )


@dataclass
class Growing:
    """A file that grows, and what follows it."""

    kind: Contract = field(default_factory=contract)
    data: bytes = b""
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        self.delivery = MemoryDelivery(self.data, self.kind)
        self.growth = Growth(self.delivery, self.log)

    def again(self) -> None:
        """As another process sees it."""
        self.growth = Growth(self.delivery, self.log)

    def look(self, data: bytes, *, tail: bool = False, piece: int = 1 << 20) -> list[bytes]:
        """Take what is new; return the bytes of each range."""
        self.delivery.data = data
        found = []
        for part in self.growth.ranges(piece, tail=tail):
            if isinstance(part, Waiting):
                self.waiting = part.size
                continue
            self.log.take(part)
            self.growth.took(part)
            found.append(part.data)
        return found


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_new_is_taken_and_only_that(restarted: bool) -> None:
    growing, data = Growing(), b""
    for number in range(5):
        line = b'{"n": %d}\n' % number
        data += line
        if restarted:
            growing.again()
        assert growing.look(data) == [line]
    assert growing.look(data) == []
    assert growing.growth.taken_bytes() == len(data)
    assert [taken.lines_end for taken in growing.log.ranges] == [1, 2, 3, 4, 5]


def test_rows_of_csv_keep_their_header_whoever_reads_on() -> None:
    growing = Growing(contract(form="csv"))
    growing.look(HEADER + b"o-1,2025-07-01,9,x\n")
    growing.again()
    growing.delivery.data += b"o-2,2025-07-01,9,x\n"

    [part] = growing.growth.ranges(1 << 20, tail=False)

    assert isinstance(part, Range)
    assert part.item.header == HEADER.decode().strip()
    assert part.item.first_line == 3


def test_a_record_without_its_line_end_is_left_until_it_is_asked_for() -> None:
    growing = Growing()
    assert growing.look(b'{"n": 1}\n{"n": 2}') == [b'{"n": 1}\n']
    assert growing.waiting == 8
    assert growing.look(b'{"n": 1}\n{"n": 2}', tail=True) == [b'{"n": 2}']
    assert growing.look(b'{"n": 1}\n{"n": 2}\n{"n": 3}\n') == [b'\n{"n": 3}\n']


def test_a_row_in_open_quotes_is_left() -> None:
    growing = Growing(contract(form="csv"))
    assert growing.look(HEADER + b'o-1,2025-07-01,9,"a\nb') == [HEADER]
    assert growing.look(HEADER + b'o-1,2025-07-01,9,"a\nb"\n') == [b'o-1,2025-07-01,9,"a\nb"\n']


LINES = b"".join(b'{"n": %d}\n' % number for number in range(10))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(LINES.replace(b'"n": 0', b'"n": 9'), id="its beginning"),
        pytest.param(LINES.replace(b'"n": 9', b'"n": 0'), id="its end"),
        pytest.param(LINES[:-10], id="cut short"),
        pytest.param(b"", id="emptied"),
        pytest.param(b'{"m": 1}\n' * 40, id="another"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_taken_must_still_be_there(changed: bytes, restarted: bool) -> None:
    growing = Growing()
    growing.look(LINES)
    if restarted:
        growing.again()

    with pytest.raises(SourceRefusedError, match="changed in what was already taken"):
        growing.look(changed)
    assert growing.look(LINES + b'{"n": 11}\n') == [b'{"n": 11}\n']


def test_everything_is_compared_when_there_is_time() -> None:
    growing = Growing()
    for end in (20, 60, len(LINES)):
        growing.look(LINES[:end])
    assert sum(growing.growth.compare()) == len(LINES)

    growing.delivery.data = LINES.replace(b'"n": 4', b'"n": 5')
    with pytest.raises(SourceRefusedError):
        list(growing.growth.compare())


def test_large_growth_comes_in_pieces() -> None:
    growing = Growing()
    growing.look(LINES)
    parts = growing.look(LINES * 3, piece=40)

    assert b"".join(parts) == LINES * 2
    assert len(parts) > 3
