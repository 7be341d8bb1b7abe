"""What is known of each delivery that is followed: how far it is, what it waits for.

Nothing here decides what is true. A look that is missed, or made once too often, costs
time only: what is taken is decided by the bytes and the log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from meterhouse.errors import MeterhouseError
from meterhouse.intake.contract import Contract
from meterhouse.log.growth import Growth, TakenOf
from meterhouse.log.ranges import Range, Waiting
from meterhouse.sources.files import Delivery
from meterhouse.sources.watch import Sign, open_for_writing

__all__ = ["File", "Signature", "signature_of"]

Signature: TypeAlias = tuple[int, int, int, int]
"""Device, inode, size, time of the last write: what tells that a file is another one."""

_PATIENCE: Final = 10
"""A CSV file that never rests is looked at after so many times ``settle``."""
_AT_ONCE: Final = 64 << 20
"""So many bytes taken are compared before the first new ones are; more in quiet moments."""
_RETRY_S: Final = 5.0
_CLOSING_S: Final = 0.05
"""Linux tells that a file was closed a moment before it may be read as nobody's."""
_LITTLE: Final = 256 << 10


@dataclass(slots=True, eq=False)
class File:
    """One file. Times are seconds of a clock that never goes back."""

    delivery: Delivery
    settle: float
    """Seconds without a write after which an end is taken for the end."""
    seen: Signature
    """As it was when it was last looked at from outside."""
    changed: float
    """When it was last seen to change."""
    since: float
    """Begin of the look at which the oldest of what is not taken yet was noticed."""
    writing: bool = False
    """Somebody was seen writing, and not closing it."""
    closed: bool = False
    """Closed after the last write that was seen."""
    closing: bool = False
    """Said to be closed, and found open a moment ago."""
    looked: Signature | None = None
    """As it was when there was nothing more to take."""
    offset: int = 0
    """Growing files: bytes that the log has."""
    growth: Growth | None = None
    compared: bool = False
    """Growing files: everything taken was compared by this process."""
    cutting: Iterator[Range | Waiting] | None = None
    """Other files: ranges of it that are yet to come."""
    waiting: Waiting | None = None
    """Its end is not a whole record."""
    ended: bool = False
    """The last look took a whole record without a line end, too."""
    refused: MeterhouseError | None = None
    """Why nothing is taken of it, until it or its contract is another one."""
    problem: MeterhouseError | None = None
    """Why it could not be read when it was tried last."""
    held_open: bool = False
    """Somebody could still write to it when it was to be taken."""
    retry: float = 0.0
    """Not before."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.delivery.identity

    @property
    def contract(self) -> Contract:
        """The contract that recognises it."""
        return self.delivery.contract

    @property
    def grows(self) -> bool:
        """Whether what is there may be taken before all is there."""
        return self.contract.mode == "append" and not self.delivery.compression

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return self.seen[2]

    @property
    def pending(self) -> int:
        """Bytes that are there and not in the log, as far as can be told from outside."""
        if self.grows:
            return max(self.size - self.offset, 0)
        return self.size if self.looked != self.seen else 0

    @property
    def dirty(self) -> bool:
        """Whether there may be something to take, now or when it is complete."""
        unlooked = self.looked != self.seen or (self.waiting is not None and not self.ended)
        return self.refused is None and unlooked

    @property
    def ready(self) -> bool:
        """Whether what is pending could be taken but for us."""
        return self.dirty and not (self.writing or self.held_open or self.problem is not None)

    @property
    def live(self) -> bool:
        """Whether all but a little of it is in the log, and somebody goes on writing it."""
        return self.grows and self.offset > 0 and self.pending <= _LITTLE

    def noticed(self, signature: Signature, sign: Sign | None, now: float, since: float) -> bool:
        """Note how it looks now, and what was told of it (None: it was only looked at).

        ``since`` is the time of the look, which may be long for many files. Returns
        whether that is anything new.
        """
        other = signature != self.seen
        if sign is None and not other:
            return False
        if self.looked == self.seen:
            self.since = since
        if signature[:2] != self.seen[:2]:
            self.compared = False
        # One that was refused may be written to a hundred times a second.
        self.retry = now + self.settle if self.refused is not None else 0.0
        self.refused = None
        if other or not self.grows:
            # Written over within one tick of the file system's clock looks the same.
            self.looked = self.cutting = None
        self.seen, self.changed, self.ended, self.held_open = signature, now, False, False
        self.writing = sign.writing if sign is not None else self.writing
        self.closed = sign.closed if sign is not None else False
        self.closing = False
        return True

    def due(self) -> float | None:
        """Return when to look next without a notice; None when only a notice matters.

        A time that is past means now.
        """
        if not self.dirty:
            return None
        settled = self.changed + self.settle
        if self.grows and self.contract.format == "jsonl":
            when = settled if self.looked == self.seen else 0.0
        elif self.closed or self.closing:
            when = 0.0
        elif self.grows and self.looked != self.seen:
            when = min(settled, self.since + _PATIENCE * self.settle)
        else:
            when = settled
        return max(when, self.retry)

    def keeps_others(self, now: float) -> bool:
        """Return whether only a moment is missing, which later versions have to wait for, too.

        Not for ever, though: one that never rests is passed over.
        """
        when = self.due()
        rests = not (self.writing or self.held_open) and self.problem is None
        return when is not None and rests and now < min(when, self.since + _PATIENCE * self.settle)

    def at_its_end(self, now: float) -> bool:
        """Return whether a last record without a line end may be taken."""
        settled = now >= self.changed + self.settle
        if self.contract.format == "jsonl":
            return settled
        return (settled or self.closed) and open_for_writing(self.delivery.path) is not True

    def complete(self, now: float) -> bool:
        """Return whether nobody is about to write more of it, as far as can be told.

        One that is not is looked at again after ``settle``.
        """
        written = open_for_writing(self.delivery.path)
        settled = now >= self.changed + self.settle
        if (self.closed or self.closing) and written is not True:
            return True
        if self.closed:
            self.closed, self.closing, self.retry = False, True, now + _CLOSING_S
            return False
        if settled and (written is False or (written is None and not self.writing)):
            return True
        self.closing, self.held_open = False, True
        self.retry = now + self.settle
        return False

    def was_looked_at(self, seen: Signature, *, ended: bool) -> None:
        """Note that everything was taken of what it was as ``seen``, its end too if ``ended``."""
        self.looked, self.ended = seen, ended
        self.cutting = self.problem = None
        self.held_open, self.retry = False, 0.0

    def start(self, log: TakenOf) -> Growth:
        """Return what is known of its growth; compare all that was taken where that is quick.

        Raises:
            SourceRefusedError: What was taken was changed.
            EnvironmentFailureError: It can't be read.
        """
        if self.growth is None:
            self.growth = Growth(self.delivery, log)
            self.offset = self.growth.taken_bytes()
        if not self.compared and self.offset <= _AT_ONCE:
            for _ in self.growth.compare():
                pass
            self.compared = True
        return self.growth

    def took(self, part: Range) -> None:
        """Note that ``part`` is in the log."""
        if self.growth is not None:
            self.growth.took(part)
            self.offset = part.item.hi

    def refuse(self, reason: MeterhouseError) -> None:
        """Take nothing of it until it changes."""
        self.refused = reason
        self.cutting = self.waiting = None

    def unreadable(self, now: float, problem: MeterhouseError) -> None:
        """Try again later: the system would not let us read it, or it was being written."""
        self.cutting, self.problem = None, problem
        self.retry = now + max(self.settle, _RETRY_S)

    def forget(self) -> None:
        """Look at it as if for the first time."""
        self.growth = None
        self.compared = False
        self.looked = self.cutting = self.waiting = self.refused = None
        self.retry = 0.0

    def judged_by(self, contract: Contract) -> None:
        """Go on under another contract text."""
        self.delivery = replace(self.delivery, contract=contract)
        self.forget()


def signature_of(status: os.stat_result) -> Signature:
    """Return what tells this file from another, and from itself before a write."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
