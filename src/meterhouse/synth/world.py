"""The cast: organisations, their plans and resources, seasons, incidents, who leaves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from math import exp
from statistics import NormalDist

import numpy as np

from meterhouse.synth.options import Options
from meterhouse.synth.text import Ints, identifiers

__all__ = [
    "METRICS",
    "METRIC_OF",
    "SERVICES",
    "TIERS",
    "UNITS",
    "Incident",
    "Org",
    "Resource",
    "World",
    "generator",
    "make_world",
    "scattered_ids",
]

SERVICES = ("analytics", "compute", "database", "genai", "networking", "storage")
REGIONS = ("ap-northeast", "ap-south", "eu-central", "eu-west", "sa-east", "us-east", "us-west")
METRICS = ("requests", "cpu_hours", "storage_gb_hours")
UNITS = ("count", "hours", "gb_hours")
INDUSTRIES = (
    "E-commerce",
    "Education",
    "Energy",
    "Fintech",
    "Gaming",
    "Government",
    "Healthcare",
    "Manufacturing",
    "Media",
    "Retail",
)
NAMES = ("Apex", "Blue", "Cedar", "Delta", "Gamma", "Nimbus", "Nova", "Orbit", "Quanta", "Vertex")
KINDS = ("Analytics", "Cloud", "Data", "Labs", "Retail", "Soft", "Systems", "Tech")
TIERS = {"free": (1, 300), "standard": (4, 700), "pro": (10, 1000), "enterprise": (30, 1800)}
"""Plan to (weight in the number of events, size of each in thousandths)."""
LEVELS = 1024
METRIC_OF = (0,) * 9 + (1,) * 5 + (2,) * 6
"""Metric by one of twenty equal chances."""
PRICES = {"requests": 50_000, "cpu_hours": 120_000, "storage_gb_hours": 60_000}
"""Price by metric in 1e-6 USD a unit."""
FACTORS = {
    "analytics": 900,
    "compute": 1000,
    "database": 1100,
    "genai": 2500,
    "networking": 600,
    "storage": 400,
}
"""Price by service, in thousandths."""


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation as the first snapshot shows it."""

    id: str
    name: str
    industry: str
    region: str
    tier: str
    signup: date
    churn_day: int | None
    """Day of the period on which it stops using anything."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource; ``listed`` is False for those that no snapshot knows."""

    id: str
    org: int
    service: str
    region: str
    weight: int
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Incident:
    """A planted jump of cost: three events of one resource on one day."""

    resource: int
    day: int
    first: int
    """Place of its first event in the stream."""
    cost: int
    """Of each event, in 1e-4 USD."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything events and masters have in common."""

    options: Options
    orgs: tuple[Org, ...]
    resources: tuple[Resource, ...]
    levels: Ints
    """Quantity by metric and level, in ten-thousandths of the unit."""
    prices: Ints
    """Price by service and metric, 1e-6 USD a unit."""
    day_ends: Ints
    """First place of the stream after each day."""
    minute_weights: Ints
    """Cumulative weight of each minute of the day."""
    incidents: tuple[Incident, ...]

    @property
    def days(self) -> list[date]:
        """The days of the period."""
        return [self.options.start + timedelta(day) for day in range(self.options.days)]


def generator(options: Options, *purpose: int) -> np.random.Generator:
    """Return the random numbers of one purpose; others never shift them."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([options.seed, *purpose])))


def scattered_ids(prefix: str, count: int, salt: int) -> list[str]:
    """Return ``count`` different ids of eight characters."""
    parts = identifiers(np.arange(count, dtype=np.int64), salt)
    return [
        f"{prefix}_{(b''.join(part))[4:].decode()}" for part in zip(*parts, strict=True)
    ]  # the last six characters alone are different already


def make_world(options: Options) -> World:
    """Return the cast of ``options``: a pure function of them."""
    random = generator(options, 1)
    orgs = _orgs(options, random)
    resources = _resources(orgs, options, random)
    spread = NormalDist(0, 0.8)
    shape = [exp(spread.inv_cdf((level + 0.5) / LEVELS)) for level in range(LEVELS)]
    typical = {"requests": 80.0, "cpu_hours": 2.5, "storage_gb_hours": 30.0}
    levels = np.array(
        [[round(typical[metric] * factor * 10_000) for factor in shape] for metric in METRICS],
        dtype=np.int64,
    )
    levels[0] = levels[0] // 10_000 * 10_000
    prices = np.array(
        [[PRICES[metric] * FACTORS[name] // 1000 for metric in METRICS] for name in SERVICES],
        dtype=np.int64,
    )
    ends = _day_ends(options)
    minutes = np.cumsum([_hour_weight(minute // 60) for minute in range(1440)]).astype(np.int64)
    incidents = _incidents(options, orgs, resources, levels, prices, ends, random)
    return World(options, orgs, resources, levels, prices, ends, minutes, incidents)


def _orgs(options: Options, random: np.random.Generator) -> tuple[Org, ...]:
    count = options.orgs
    tiers = ("free", *("standard",) * 5, *("pro",) * 3, "enterprise")
    chosen = random.integers(0, [len(tiers), len(INDUSTRIES), len(REGIONS)], (count, 3))
    names = random.integers(0, [len(NAMES), len(KINDS)], (count, 2))
    signups = random.integers(1, 400, count)
    leaving = random.integers(options.days // 2, max(options.days * 4 // 5, 1) + 1, count)
    return tuple(
        Org(
            id=identifier,
            name=f"{NAMES[names[place, 0]]} {KINDS[names[place, 1]]} {place}",
            industry=INDUSTRIES[chosen[place, 1]],
            region=REGIONS[chosen[place, 2]],
            tier=tiers[chosen[place, 0]],
            signup=options.start - timedelta(int(signups[place])),
            churn_day=int(leaving[place]) if place % 16 == 9 and options.days >= 10 else None,
        )
        for place, identifier in enumerate(scattered_ids("org", count, options.seed * 3 + 1))
    )


def _resources(
    orgs: tuple[Org, ...], options: Options, random: np.random.Generator
) -> tuple[Resource, ...]:
    count = len(orgs) * 5
    usual = (0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 5)
    services = random.integers(0, len(usual), count)
    regions = random.integers(0, 10, count)
    sizes = random.integers(5, 21, count)
    ids = scattered_ids("res", count + 2, options.seed * 3 + 2)
    found = []
    for place in range(count):
        owner = orgs[place % len(orgs)]
        region = int(regions[place])
        found.append(
            Resource(
                id=ids[place],
                org=place % len(orgs),
                service=SERVICES[usual[services[place]]],
                region=REGIONS[region] if region < len(REGIONS) else owner.region,
                weight=TIERS[owner.tier][0] * int(sizes[place]),
            )
        )
    weight = max(sum(item.weight for item in found) // 1000, 1)
    unlisted = [
        Resource(identifier, 0, "compute", REGIONS[0], weight, listed=False)
        for identifier in ids[count:]
    ]
    return (*found, *unlisted)


def _hour_weight(hour: int) -> int:
    """Return how busy an hour is: a working day with a quiet night."""
    return (3, 2, 2, 2, 2, 3, 4, 6, 9, 11, 12, 12, 11, 12, 13, 12, 11, 10, 8, 7, 6, 5, 4, 3)[hour]


def _day_ends(options: Options) -> Ints:
    """Return where each day ends in the stream: growth by 0.6 % a day, quiet weekends."""
    weights = [
        (1000 + 6 * day) * (70 if (options.start + timedelta(day)).weekday() >= 5 else 100)
        for day in range(options.days)
    ]
    cumulated, total, ends = 0, sum(weights), []
    for weight in weights:
        cumulated += weight
        ends.append(options.events * cumulated // total)
    return np.array(ends, dtype=np.int64)


def _incidents(
    options: Options,
    orgs: tuple[Org, ...],
    resources: tuple[Resource, ...],
    levels: Ints,
    prices: Ints,
    ends: Ints,
    random: np.random.Generator,
) -> tuple[Incident, ...]:
    """Plant jumps that every test of the anomaly mart must find.

    A small delivery has none: with few org-days a service's deviation and percentile
    are made by the jump itself, and what they should say of it is not known.
    """
    steady = [
        place
        for place, item in enumerate(resources)
        if item.listed and orgs[item.org].churn_day is None
    ]
    wanted = min(6, options.days // 8)
    if options.orgs * options.days < 2000 or options.events < 10_000 or not steady:
        return ()
    cost = _beyond_usual(options, orgs, resources, levels, prices)
    days = random.permutation(np.arange(1, options.days))[:wanted]
    chosen = random.permutation(np.array(steady))[:wanted]
    return tuple(
        Incident(int(resource), int(day), int(ends[day - 1]) + 10, cost)
        for resource, day in zip(chosen, sorted(days.tolist()), strict=True)
        if ends[day] - ends[day - 1] > 20
    )


def _beyond_usual(
    options: Options,
    orgs: tuple[Org, ...],
    resources: tuple[Resource, ...],
    levels: Ints,
    prices: Ints,
) -> int:
    """Return a cost in 1e-4 USD that is far above any usual org-day of any service."""
    mean = [int(row.sum()) // LEVELS for row in levels]
    typical: dict[tuple[int, str], int] = {}
    single = 0
    total = sum(item.weight for item in resources)
    for item in resources:
        size = TIERS[orgs[item.org].tier][1]
        price = prices[SERVICES.index(item.service)]
        each = sum(mean[metric] * int(price[metric]) for metric in METRIC_OF) // len(METRIC_OF)
        each = each * size // 1000 // 10**6
        cell = (item.org, item.service)
        share = 2 * options.events * item.weight * each // (options.days * total)
        typical[cell] = typical.get(cell, 0) + share
        highest = max(int(levels[metric][-1]) * int(price[metric]) for metric in range(3))
        single = max(single, highest * size // 1000 // 10**6)
    return min(2 * max(typical.values()) + 4 * single + 1_000_000, 99_999_999 * 10_000)
