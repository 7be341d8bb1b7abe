"""Plants copies, conflicts and broken lines in a block, and counts what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from meterhouse.synth.events import Block, Flags
from meterhouse.synth.poison import FLAWS
from meterhouse.synth.text import Ints
from meterhouse.synth.truth import LOST, Planted, Tally
from meterhouse.synth.world import SERVICES, World, generator

__all__ = ["Planter"]

COST = "cost_usd_increment"
FIELD = b'"cost_usd_increment": '
MILLION = 1_000_000
SOUND, DUPLICATE, CONFLICT, POISON = range(4)
KEPT = 4096
"""Lines remembered from earlier blocks, so that copies come from far back too."""
ATTEMPTS = 8
NANO = 10**5
"""1e-4 USD in 1e-9 USD."""


@dataclass(slots=True)
class _Copied:
    """A line that may be copied later."""

    place: int
    line: bytes
    amount: int | None
    """1e-9 USD; LOST when unreadable."""
    sound: bool
    conflicted: bool = False


@dataclass
class Planter:
    """Goes through the blocks of one delivery in order."""

    world: World
    tally: Tally = field(default_factory=Tally)
    planted: Planted = field(default_factory=Planted)
    late: int = 0
    _kept: list[_Copied] = field(default_factory=list)
    _sources: dict[int, _Copied] = field(default_factory=dict)

    def __post_init__(self) -> None:
        world = self.world
        self._service: Ints = np.array([SERVICES.index(item.service) for item in world.resources])
        self._org: Ints = np.array([item.org for item in world.resources])
        months = sorted({day.replace(day=1) for day in world.days})
        self._month: Ints = np.array([months.index(day.replace(day=1)) for day in world.days])
        self.months = months
        self.by_service: Ints = np.zeros(len(SERVICES), dtype=np.int64)
        self.by_day: Ints = np.zeros(len(world.days), dtype=np.int64)
        self.by_org_month: Ints = np.zeros((len(world.orgs), len(months)), dtype=np.int64)
        """Accepted cost in 1e-4 USD."""

    def plant(self, block: Block, number: int) -> list[bytes]:
        """Return the block's lines with everything planted, and count all of them."""
        options = self.world.options
        random = generator(options, 3, number)
        chance = random.integers(0, MILLION, len(block.day))
        shares = (options.duplicates, options.conflicts, options.poison)
        limits = np.cumsum([round(share * MILLION) for share in shares])
        kind = np.searchsorted(limits, chance, side="right")
        kind = np.where(kind == len(limits), SOUND, kind + 1)
        kind[block.incident] = SOUND
        special = np.flatnonzero(kind)
        draws = random.integers(0, 2**31, (len(special), 3))
        self._sources = {}
        for at, draw in zip(special.tolist(), draws.tolist(), strict=True):
            self._replace(block, kind, at, draw)
        self._count_sound(block, kind == SOUND)
        self._remember(block, np.flatnonzero(kind == SOUND), random)
        self.late += block.late
        return block.lines

    def _replace(self, block: Block, kind: Ints, at: int, draw: list[int]) -> None:
        """Change line ``at`` to what it is to be; for want of a source it stays sound."""
        if kind[at] == POISON:
            self._sources[at] = self._poison(block, at, draw[0])
            return
        first = self._source(block, kind, at, draw)
        if first is None or (kind[at] == CONFLICT and not self._contradict(block, first, at)):
            kind[at] = SOUND
        elif kind[at] == DUPLICATE:
            self._duplicate(block, first, at, spelt_anew=draw[2] % 4 == 0)
            self._sources[at] = first

    def _source(self, block: Block, kind: Ints, at: int, draw: list[int]) -> _Copied | None:
        """Return an earlier line: one time in two from an earlier block, where there is one."""
        if self._kept and draw[0] % 2:
            return self._kept[draw[1] % len(self._kept)]
        for attempt in range(ATTEMPTS if at else 0):
            place = (draw[1] + attempt * 7_919) % at
            if kind[place] == SOUND:
                return self._sound(block, place)
            found = self._sources.get(place)
            if found is not None and found.line.strip():
                return found
        return None

    def _sound(self, block: Block, at: int) -> _Copied:
        """Return sound line ``at``; the same object each time, so that it can remember."""
        if at not in self._sources:
            amount = int(block.cost[at]) * NANO
            self._sources[at] = _Copied(block.first + at, block.lines[at], amount, sound=True)
        return self._sources[at]

    def _duplicate(self, block: Block, first: _Copied, at: int, *, spelt_anew: bool) -> None:
        line = first.line
        if first.sound and spelt_anew:
            line = line.replace(b'": ', b'":').replace(b', "', b',"')
        block.lines[at] = line
        self.planted.duplicates.extend((block.first + at, first.place))
        self.tally.count("duplicate")
        self.tally.add("duplicate", COST, "USD", first.amount)

    def _contradict(self, block: Block, first: _Copied, at: int) -> bool:
        """Put another amount under the id of ``first``, once; False when that can't be."""
        head, _, tail = first.line.partition(FIELD)
        # A digit in front of it makes another amount, whatever it was.
        if not first.sound or first.conflicted or not tail[:1].isdigit():
            return False
        first.conflicted = True
        block.lines[at] = head + FIELD + b"7" + tail
        digits = tail.split(b",", 1)[0].decode()
        amount = (first.amount or 0) + 7 * 10 ** (digits.index(".") + 9)
        self.planted.conflicts.extend((block.first + at, first.place))
        self.tally.count("quarantined", "conflicting_duplicate")
        self.tally.add("quarantined", COST, "USD", amount, "conflicting_duplicate")
        return True

    def _poison(self, block: Block, at: int, draw: int) -> _Copied:
        number = draw % len(FLAWS)
        flaw = FLAWS[number]
        place = block.first + at
        line = flaw.apply(block.lines[at], place)
        block.lines[at] = line
        self.planted.poison.extend((place, number))
        if not flaw.reason:
            self.tally.count("blank")
            return _Copied(place, line, 0, sound=False)
        amount = LOST if flaw.cost == "lost" else int(block.cost[at]) * NANO
        if isinstance(flaw.cost, int):
            amount = flaw.cost
        self.tally.count("quarantined", flaw.reason)
        self.tally.add("quarantined", COST, "USD", amount, flaw.reason)
        return _Copied(place, line, amount, sound=False)

    def _count_sound(self, block: Block, sound: Flags) -> None:
        cost, resource, day = block.cost[sound], block.resource[sound], block.day[sound]
        self.tally.count("accepted", records=int(sound.sum()))
        self.tally.add("accepted", COST, "USD", int(cost.sum()) * NANO)
        np.add.at(self.by_service, self._service[resource], cost)
        np.add.at(self.by_day, day, cost)
        np.add.at(self.by_org_month, (self._org[resource], self._month[day]), cost)

    def _remember(self, block: Block, sound: Ints, random: np.random.Generator) -> None:
        if not len(sound):
            return
        for at in np.unique(sound[random.integers(0, len(sound), 256)]).tolist():
            item = self._sound(block, at)
            if len(self._kept) < KEPT:
                self._kept.append(item)
            else:
                self._kept[int(random.integers(0, KEPT))] = item
