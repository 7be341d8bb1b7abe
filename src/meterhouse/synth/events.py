"""Usage events in blocks: columns of integers, then columns of text, then lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from meterhouse.synth.text import Bytes, Ints, eight, fraction, identifiers, table, whole
from meterhouse.synth.world import METRIC_OF, METRICS, SERVICES, TIERS, UNITS, World, generator

__all__ = ["BLOCK", "Block", "Flags", "Lines", "blocks"]

Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

BLOCK = 65_536
"""Events made at a time, each block from random numbers of its own."""
DRIFT_FROM = 70
"""Per cent of the stream before the schema drifts."""
MILLION = 1_000_000
QUOTE = table(["", '"'])
MINUS = table(["", "-"])
POINT = table(["", "."])
NULL_OR_POINT = table(["null", "."])
TOKENS = table(["", ', "genai_tokens": '])


@dataclass(frozen=True, slots=True)
class Block:
    """Sound events [first, first + n) of the stream, before anything is planted."""

    first: int
    day: Ints
    late: int
    resource: Ints
    """Place in the world's resources; of the same length as ``day``, as all below."""
    cost: Ints
    """1e-4 USD; 0 where not reported."""
    cost_known: Flags
    lines: list[bytes]
    """Without line ends."""
    incident: Flags
    """Events of a planted incident, which nothing else may touch."""


@dataclass(slots=True)
class _Columns:
    """Sound events as integers, one array a column."""

    place: Ints
    day: Ints
    minute: Ints
    second: Ints
    resource: Ints
    metric: Ints
    value: Ints
    """In ten-thousandths of the unit."""
    cost: Ints
    known: Flags
    chance: Ints
    """Four numbers below a million for each event: what is rare about it."""


def blocks(world: World) -> Iterator[Block]:
    """Yield the whole stream, the same whatever files it goes to."""
    lines = Lines(world)
    for number, first in enumerate(range(0, world.options.events, BLOCK)):
        count = min(BLOCK, world.options.events - first)
        yield _block(world, lines, number, first, count)


def _block(world: World, lines: Lines, number: int, first: int, count: int) -> Block:
    random = generator(world.options, 2, number)
    place = np.arange(first, first + count, dtype=np.int64)
    due = np.searchsorted(world.day_ends, place, side="right")
    day, late = _days(world, due, random)
    weights = world.minute_weights
    minute = np.searchsorted(weights, random.integers(0, weights[-1], count), side="right")
    second = random.integers(0, 60, count)
    resource = lines.users_at(day, random)
    metric = np.array(METRIC_OF)[random.integers(0, len(METRIC_OF), count)]
    value = world.levels[metric, random.integers(0, world.levels.shape[1], count)]
    value = value * lines.sizes[resource] // 1000
    value[metric == 0] -= value[metric == 0] % 10_000
    cost = value * world.prices[lines.services[resource], metric] // MILLION
    chance = random.integers(0, MILLION, (4, count))
    # A correction of up to a cent is usual, and accepted.
    cost = np.where(chance[0] < 3_000, -(chance[0] % 101), cost)
    known = chance[1] >= 1_000
    incident = np.zeros(count, dtype=np.bool_)
    for item in world.incidents:
        mine = slice(max(item.first - first, 0), max(item.first + 3 - first, 0))
        resource[mine], day[mine], cost[mine] = item.resource, item.day, item.cost
        known[mine] = incident[mine] = True
    cost = np.where(known, cost, 0)
    text = lines.text(
        _Columns(place, day, minute, second, resource, metric, value, cost, known, chance)
    )
    return Block(first, day, late, resource, cost, known, text, incident)


def _days(world: World, due: Ints, random: np.random.Generator) -> tuple[Ints, int]:
    """Return (day of each event, how many are late): most of the day due, or just before."""
    count = len(due)
    day = due - np.array((0, 0, 0, 0, 0, 0, 0, 1, 1, 2))[random.integers(0, 10, count)]
    share = round(world.options.late * MILLION)
    late = (random.integers(0, MILLION, count) < share) & (due >= 7)
    long_ago = random.integers(0, np.maximum(due - 6, 1))
    return np.maximum(np.where(late, long_ago, day), 0), int(late.sum())


class Lines:
    """Turns columns into lines of JSON; built once for a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        resources = world.resources
        known = {name: place for place, name in enumerate(SERVICES)}
        self.services: Ints = np.array([known[item.service] for item in resources])
        self.sizes: Ints = np.array([TIERS[world.orgs[item.org].tier][1] for item in resources])
        self._weights = np.cumsum([item.weight for item in resources]).astype(np.int64)
        leaving = [world.orgs[item.org].churn_day for item in resources]
        never = world.options.days + 1
        self._until: Ints = np.array([never if day is None else day for day in leaving])
        staying = np.flatnonzero(self._until == never)
        self._instead: Ints = staying if len(staying) else np.arange(len(resources))
        spellings = [
            f', "org_id": "{world.orgs[item.org].id}", "resource_id": "{item.id}"'
            f', "service": "{spelt(item.service)}", "region": "{spelt(item.region)}", "metric": "'
            for spelt in (str.lower, str.title)
            for item in resources
        ]
        self._resources = table(spellings)
        self._metrics = table([f'{metric}", "value": ' for metric in METRICS])
        self._units = table(
            [f', "unit": "{unit}", "cost_usd_increment": ' for unit in UNITS]
            + [', "unit": null, "cost_usd_increment": ']
        )
        self._versions = table(
            [
                ', "schema_version": 1',
                ', "schema_version": null',
                ', "schema_version": 2, "carbon_kg": ',
                ', "schema_version": 3, "carbon_kg": ',
            ]
        )
        self._drift = table(["", *(f', "commitment_id": "cmt_{number}"' for number in range(1, 9))])
        self._day = table([day.isoformat() for day in world.days])
        self._minute = table([f"T{m // 60:02d}:{m % 60:02d}:" for m in range(1440)])
        self._second = table([f'{second:02d}Z"' for second in range(60)])
        self._second_version_day = world.options.days // 4

    def users_at(self, day: Ints, random: np.random.Generator) -> Ints:
        """Return a resource for each event; of an organisation that has not left."""
        drawn = random.integers(0, self._weights[-1], len(day))
        resource = np.searchsorted(self._weights, drawn, side="right")
        gone = np.flatnonzero(self._until[resource] <= day)
        resource[gone] = self._instead[drawn[gone] % len(self._instead)]
        return resource

    def text(self, of: _Columns) -> list[bytes]:
        """Return one line of JSON for each event, without line ends."""
        spelling = of.resource + len(self.services) * (of.chance[2] < 4_000)
        version = self._version(of)
        fields: list[Bytes | bytes] = [
            b'{"event_id": "evt_',
            *identifiers(of.place, self._world.options.seed),
            b'", "timestamp": "',
            self._day[of.day],
            self._minute[of.minute],
            self._second[of.second],
            self._resources[spelling],
            self._metrics[of.metric],
            *self._reading(of),
            *_amount(of.cost, of.known),
            self._versions[version],
            *self._second_version(of, version),
            self._drift[np.where(version == 3, 1 + of.chance[1] % 8, 0)],
            b"}\n",
        ]
        return _joined(fields, len(of.place))

    def _version(self, of: _Columns) -> Ints:
        unsaid = (of.chance[2] % 100 == 7).astype(np.int64)
        later = np.where(of.day < self._second_version_day, unsaid, 2)
        if not self._world.options.drift:
            return later
        drifted = of.place * 100 >= self._world.options.events * DRIFT_FROM
        return np.where(drifted, 3, later)

    def _reading(self, of: _Columns) -> list[Bytes | bytes]:
        """Return value and unit: 2 % null (some without unit too), 3 % numbers in quotes."""
        chance, known = of.chance[3], of.chance[3] >= 20_000
        quote = QUOTE[(known & (chance < 50_000)).astype(np.int64)]
        high, low = whole(of.value // 10_000)
        decimals = fraction(of.value % 10_000)
        unit = np.where(chance < 500, len(UNITS), of.metric)
        return [
            quote,
            _where(known, high),
            _where(known, low),
            NULL_OR_POINT[known.astype(np.int64)],
            _where(known, decimals),
            quote,
            self._units[unit],
        ]

    def _second_version(self, of: _Columns, version: Ints) -> list[Bytes | bytes]:
        """Return carbon, and tokens of GenAI; neither before schema version 2."""
        newer = version >= 2
        # 0.0002 kg a unit; emitters say 0 of what they could not meter.
        carbon = np.where(of.chance[3] < 20_000, 0, of.value * 2)
        parts = (*whole(carbon // 10**8), *eight(carbon % 10**8))
        genai = newer & (self.services[of.resource] == SERVICES.index("genai"))
        using = genai & (of.chance[0] % 4 > 0)
        tokens = whole(of.chance[1] // 500)
        return [
            _where(newer, parts[0]),
            _where(newer, parts[1]),
            POINT[newer.astype(np.int64)],
            _where(newer, parts[2]),
            _where(newer, parts[3]),
            TOKENS[using.astype(np.int64)],
            _where(using, tokens[0]),
            _where(using, tokens[1]),
        ]


def _amount(cost: Ints, known: Flags) -> list[Bytes | bytes]:
    size = np.abs(cost)
    high, low = whole(size // 10_000)
    return [
        MINUS[(cost < 0).astype(np.int64)],
        _where(known, high),
        _where(known, low),
        NULL_OR_POINT[known.astype(np.int64)],
        _where(known, fraction(size % 10_000)),
    ]


def _where(keep: Flags, text: Bytes) -> Bytes:
    """Return ``text`` emptied where ``keep`` is False."""
    kept: Bytes = np.where(keep, text, np.bytes_(b""))
    return kept


def _joined(fields: list[Bytes | bytes], count: int) -> list[bytes]:
    """Lay columns side by side, drop the padding, split into lines."""
    widths = [f"S{len(field)}" if isinstance(field, bytes) else field.dtype for field in fields]
    laid = np.empty(count, dtype=[(f"f{place}", width) for place, width in enumerate(widths)])
    for place, field in enumerate(fields):
        laid[f"f{place}"] = field
    lines = laid.tobytes().translate(None, b"\x00").split(b"\n")
    lines.pop()
    return lines
