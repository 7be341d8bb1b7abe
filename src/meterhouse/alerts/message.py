"""What is told of alerts: one message of a rule, and the keys that tell copies of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from meterhouse.alerts.evaluation import Group
from meterhouse.alerts.register import Alert
from meterhouse.alerts.rule import MetricLimit, Rule

__all__ = ["Event", "idempotency_key", "message", "message_key"]

Event = Literal["raised", "cleared"]


def idempotency_key(project: str, rule: str, group: Group, occurrence: int) -> str:
    """Return the same key for the same alert, whoever computes it: SHA-256, hex."""
    return _digest([project, rule, group.key, group.window, occurrence])


def message_key(event: Event, alerts: Sequence[Alert]) -> str:
    """Return the key of a message: that of its alert, or a hash over those of its alerts."""
    keys = [alert.idempotency_key for alert in alerts]
    if event == "raised":
        return keys[0] if len(keys) == 1 else _digest(keys)
    return _digest([*keys, event])


def _digest(parts: Sequence[object]) -> str:
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def message(project: str, rule: Rule, event: Event, alerts: Sequence[Alert]) -> str:
    """Return the body of a message: a JSON object, the same for every attempt.

    Args:
        project: Id of the project.
        rule: Whose alerts they are.
        event: What happened to all of them.
        alerts: At least one; those beyond ``rule.list_limit`` are only counted.
    """
    what = rule.what
    said: dict[str, object] = {"event": event, "project": project, "rule": rule.name}
    if rule.because:
        said["because"] = rule.because
    if isinstance(what, MetricLimit):
        said |= {"metric": what.metric, "when": what.text}
    else:
        said |= {"table": what.table, "when": what.when.text}
        if what.where is not None:
            said["where"] = what.where.text
    said |= {
        "total": len(alerts),
        "alerts": [_told(alert) for alert in alerts[: rule.list_limit]],
        "idempotency_key": message_key(event, alerts),
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def _told(alert: Alert) -> dict[str, object]:
    told: dict[str, object] = {
        "key": json.loads(alert.group.key),
        "window": alert.group.window or None,
        "occurrence": alert.occurrence,
        "values": dict(alert.numbers),
        "raised_at": alert.raised_at,
        "position": alert.raised_position,
        "late": alert.late_by_s is not None,
        "late_by_s": alert.late_by_s,
        "idempotency_key": alert.idempotency_key,
    }
    if alert.cleared_at:
        told |= {"cleared_at": alert.cleared_at, "cleared_position": alert.cleared_position}
    return told
