"""Arguments of the questions: text from a command line or values from Python, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from meterhouse.errors import UsageError, nearest

__all__ = ["OPTIONS", "Arguments", "arguments"]

OPTIONS: Final[Mapping[str, str]] = {
    "org": "org",
    "service": "service",
    "severity": "severity",
    "from": "day_from",
    "to": "day_to",
    "days": "days",
    "as_of": "as_of",
    "limit": "limit",
    "by": "by",
}
"""Argument, as Python spells it, to the field of ``Arguments``."""

_LARGEST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a question was asked with; None where nothing was said."""

    org: str | None = None
    service: str | None = None
    """Normalised as gold is: trimmed, ASCII lower case."""
    severity: str | None = None
    day_from: date | None = None
    day_to: date | None = None
    days: int | None = None
    as_of: date | None = None
    limit: int | None = None
    by: str | None = None


def arguments(question: str, accepted: Sequence[str], given: Mapping[str, object]) -> Arguments:
    """Check ``given`` (None counts as not given) against what ``question`` accepts.

    Raises:
        UsageError: An argument is unknown, unreadable, or the days run backwards.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        option = name.rstrip("_").replace("-", "_")
        if value is None:
            continue
        if option not in accepted:
            raise _not_accepted(question, option, accepted)
        values[OPTIONS[option]] = _READERS.get(option, _text)(option, value)
    found = Arguments(**values)
    if found.day_from and found.day_to and found.day_from > found.day_to:
        raise UsageError(
            f"--from {found.day_from} is after --to {found.day_to}",
            "",
            "give the earlier day first",
        )
    return found


def _not_accepted(question: str, option: str, accepted: Sequence[str]) -> UsageError:
    flags = [_flag(name) for name in accepted]
    hint = nearest(_flag(option), flags)
    return UsageError(
        f'question "{question}" has no {_flag(option)}',
        "",
        f"did you mean {hint}?" if hint else f"it takes {', '.join(flags)}",
    )


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _text(option: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _unreadable(option, value, "write a name")
    # Bytes of the command line that are not UTF-8 come as lone surrogates: nothing has them.
    return value.encode("utf-8", "backslashreplace").decode()


def _service(option: str, value: object) -> str:
    return _text(option, value).strip().encode().lower().decode()


def _day(option: str, value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise _unreadable(option, value, "write a day as 2025-08-31")


def _count(option: str, value: object) -> int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,7}", text) and 1 <= int(text) <= _LARGEST:
        return int(text)
    raise _unreadable(option, value, f"write a whole number from 1 to {_LARGEST:,}")


def _period(option: str, value: object) -> str:
    if value in ("day", "month"):
        return str(value)
    raise _unreadable(option, value, "write day or month")


_READERS: Final = {
    "service": _service,
    "from": _day,
    "to": _day,
    "as_of": _day,
    "days": _count,
    "limit": _count,
    "by": _period,
}


def _unreadable(option: str, value: object, form: str) -> UsageError:
    return UsageError(f'{_flag(option)} can\'t be "{value}"', "", form)
