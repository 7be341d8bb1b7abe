"""Rules and channels of ``alerts.yaml``, as frozen data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final, TypeAlias

from meterhouse.alerts.condition import Condition
from meterhouse.errors import ConfigError
from meterhouse.models.model import Model

__all__ = [
    "METRICS",
    "Channel",
    "CommandChannel",
    "LogChannel",
    "MetricLimit",
    "Rule",
    "Rulebook",
    "TableQuery",
    "WebhookChannel",
]

METRICS: Final[Mapping[str, str]] = {
    "lag_s": "Seconds since the oldest delivery that is seen and not yet in the answers.",
    "quarantine_share": "Held records of the records landed in the last minute, 0 to 1.",
    "parked_sources": "Sources that were stopped and wait to be mended.",
}
"""Metric a rule may name → what it is."""


@dataclass(frozen=True, slots=True)
class TableQuery:
    """A condition over the rows of a gold table."""

    table: str
    where: Condition | None
    """Rows that count; all when None."""
    when: Condition
    """What is too much: of one row, or of all rows of a key and window."""
    key: tuple[str, ...]
    """Columns of the grain, without the window."""
    window: str
    """Column of the grain that says when; empty when the table has none."""
    length: timedelta
    """Of the window, which starts at its value; 0 without one."""
    keeps_windows: bool = False
    """True when the serving store holds the latest windows only, of it or of what it is
    computed from."""
    batch_only: bool = False
    """True when the table, or one that it is computed from, stands still between batches."""
    views: tuple[Model, ...] = ()
    """Of a table that is computed when it is read: itself, after those that it is read through.
    Empty for a served one."""
    reads: tuple[str, ...] = ()
    """Served tables that ``views`` are computed from."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the columns that tell one alert of the rule from another."""
        return (*self.key, *([self.window] if self.window else []))

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the evaluation reads."""
        where = self.where.columns if self.where else ()
        return tuple(dict.fromkeys((*self.groups, *where, *self.when.columns)))


@dataclass(frozen=True, slots=True)
class MetricLimit:
    """A limit on a figure of the running program."""

    metric: str
    above: Decimal | None
    below: Decimal | None
    """One of the two is given."""
    hold: timedelta
    """How long a change must last before it counts."""

    @property
    def text(self) -> str:
        """Return the limit as a condition."""
        sign, limit = (">", self.above) if self.above is not None else ("<", self.below)
        return f"{self.metric} {sign} {limit}"

    def over(self, value: Decimal) -> bool:
        """Return whether ``value`` is beyond the limit."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below


@dataclass(frozen=True, slots=True)
class Rule:
    """What is worth an alert, and who is told."""

    name: str
    because: str
    what: TableQuery | MetricLimit
    max_age: timedelta | None
    """Windows that ended longer ago are silent; None: none are."""
    late_after: timedelta
    """A window that ended longer ago is late when it is raised."""
    list_limit: int
    """Most alerts that one delivery lists."""
    channels: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Return a hash of what decides whether a row is over; another one looks at all again."""
        what = self.what
        if isinstance(what, MetricLimit):
            return ""
        said = [what.table, what.where.text if what.where else "", what.when.text]
        told = json.dumps([*said, list(what.key), what.window])
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LogChannel:
    """A file that gets a line for each delivery."""

    name: str
    file: str
    """Relative to the project."""


@dataclass(frozen=True, slots=True)
class CommandChannel:
    """A program that gets the delivery as JSON on its standard input."""

    name: str
    command: tuple[str, ...]
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """An address that gets the delivery by POST, signed."""

    name: str
    url: str
    """Empty when ``url_env`` names it."""
    url_env: str
    secret_env: str
    secret_file: str
    """One of the two names the secret; relative to the project."""
    timeout: timedelta


Channel: TypeAlias = LogChannel | CommandChannel | WebhookChannel


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All valid rules and channels of the file, and what is wrong with the others."""

    rules: tuple[Rule, ...] = ()
    channels: Mapping[str, Channel] | None = None
    """By name; None when the file can't be read."""
    problems: tuple[ConfigError, ...] = ()
