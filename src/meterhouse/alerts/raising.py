"""From what a rule sees to alerts raised and cleared, in the transaction that notes the look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from meterhouse.alerts.evaluation import Group, Look, Numbers, window_end
from meterhouse.alerts.message import Event, idempotency_key, message, message_key
from meterhouse.alerts.register import Alert, Register, State, moment_text, numbers_text
from meterhouse.alerts.rule import MetricLimit, Rule, TableQuery
from meterhouse.errors import MeterhouseError
from meterhouse.formats import native

__all__ = ["Moment", "Outcome", "apply"]


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where in the log a look was taken."""

    project: str
    now: datetime
    position: int


@dataclass(slots=True)
class Outcome:
    """What an evaluation did."""

    raised: int = 0
    """Alerts that are delivered."""
    silent: int = 0
    """Alerts of windows older than their rule's ``max_age``."""
    cleared: int = 0
    problems: list[MeterhouseError] = field(default_factory=list)
    """Mistakes in the file, and rules that could not be evaluated; the others were."""

    @property
    def changed(self) -> bool:
        """True when the register holds something new."""
        return bool(self.raised or self.silent or self.cleared)

    def add(self, other: Outcome) -> None:
        """Add what a later evaluation did."""
        self.raised += other.raised
        self.silent += other.silent
        self.cleared += other.cleared
        self.problems += [one for one in other.problems if one not in self.problems]


def apply(register: Register, rule: Rule, look: Look, at: Moment, outcome: Outcome) -> None:
    """Raise what is over and was not, clear what was over and is not any more.

    Inside a transaction of the caller's. At most one alert of a rule, key and window is open,
    whatever is looked at and however often: the register refuses a second one.
    """
    fresh: list[Alert] = []
    for group in sorted(look.over, key=lambda one: (one.window, one.key)):
        numbers = {name: native(value) for name, value in look.over[group].items()}
        found = register.open_alert(rule.name, group)
        if found is None:
            fresh.append(_alert(register, rule, group, numbers, at))
        elif isinstance(rule.what, TableQuery) and found[2] != numbers_text(numbers):
            register.renumber(found[0], numbers_text(numbers))
    _raise(register, rule, fresh, at, outcome)
    looked_at = look.touched if look.touched is not None else register.opened(rule.name)
    _clear(register, rule, looked_at - look.over.keys(), at, outcome)


def _alert(register: Register, rule: Rule, group: Group, numbers: Numbers, at: Moment) -> Alert:
    occurrence = register.occurrences(rule.name, group) + 1
    what = rule.what
    end = None if isinstance(what, MetricLimit) else window_end(what, group.window)
    age = at.now - end if end is not None else timedelta(0)
    silent = rule.max_age is not None and age > rule.max_age
    state: State = "silent" if silent else "raised"
    return Alert(
        rule=rule.name,
        group=group,
        occurrence=occurrence,
        state=state,
        numbers=numbers,
        raised_at=moment_text(at.now),
        raised_position=at.position,
        late_by_s=int(age.total_seconds()) if end is not None and age > rule.late_after else None,
        cleared_at="",
        cleared_position=0,
        idempotency_key=idempotency_key(at.project, rule.name, group, occurrence),
        delivered="",
    )


def _raise(
    register: Register, rule: Rule, fresh: list[Alert], at: Moment, outcome: Outcome
) -> None:
    told = [alert for alert in fresh if alert.state == "raised"]
    key = _post(register, rule, "raised", told, at)
    for alert in fresh:
        register.add(alert, key if alert.state == "raised" else "")
    outcome.raised += len(told)
    outcome.silent += len(fresh) - len(told)


def _clear(
    register: Register, rule: Rule, groups: Iterable[Group], at: Moment, outcome: Outcome
) -> None:
    cleared = []
    moment = moment_text(at.now)
    for group in sorted(groups, key=lambda one: (one.window, one.key)):
        found = register.open_alert(rule.name, group)
        if found is not None:
            alert = register.clear(found[0], moment, at.position)
            if found[1] == "raised":
                cleared.append(alert)
            outcome.cleared += 1
    _post(register, rule, "cleared", cleared, at)


def _post(register: Register, rule: Rule, event: Event, alerts: list[Alert], at: Moment) -> str:
    """Put one message about ``alerts`` into the outbox of each channel; return its key."""
    if not alerts or not rule.channels:
        return ""
    key = message_key(event, alerts)
    body = message(at.project, rule, event, alerts)
    for channel in rule.channels:
        register.post(channel, key, body, moment_text(at.now))
    return key
