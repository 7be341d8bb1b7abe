"""The reader of ``alerts.yaml``: strict, and every mistake is named by file and line.

A rule or channel that is not valid is reported and stops nothing but itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

from meterhouse.alerts.condition import column_kind, read_condition
from meterhouse.alerts.rule import (
    METRICS,
    Channel,
    CommandChannel,
    LogChannel,
    MetricLimit,
    Rule,
    Rulebook,
    TableQuery,
    WebhookChannel,
)
from meterhouse.config import ENVIRONMENT_PREFIX, read_duration
from meterhouse.errors import ConfigError, ContractError, nearest
from meterhouse.intake.document import Value, read_document
from meterhouse.models.graph import Models
from meterhouse.models.model import Model

__all__ = ["FILE_NAME", "load_rulebook", "read_rulebook"]

FILE_NAME: Final = "alerts.yaml"
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LIMIT: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?")

COMMON: Final = ("because", "deliver", "list_limit")
TABLE_KEYS: Final = (
    "table",
    "where",
    "when",
    "key",
    "window",
    "length",
    "max_age",
    "late_after",
    *COMMON,
)
METRIC_KEYS: Final = ("metric", "above", "below", "for", *COMMON)
CHANNEL_KEYS: Final = (
    "file",
    "command",
    "webhook",
    "webhook_env",
    "secret_env",
    "secret_file",
    "timeout",
)
DAY: Final = timedelta(days=1)
MAX_AGE: Final = timedelta(days=2)
LATE_AFTER: Final = timedelta(minutes=10)
TIMEOUT: Final = timedelta(seconds=10)
LIST_LIMIT: Final = 100

_Item = TypeVar("_Item")


def load_rulebook(project: Path, models: Models) -> Rulebook:
    """Return the rules of ``project``; none when it has no ``alerts.yaml``."""
    path = project / FILE_NAME
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Rulebook(channels={})
    except (OSError, UnicodeDecodeError) as error:
        problem = ConfigError(
            f"{FILE_NAME} can't be read: {error}", str(path), "save it as UTF-8 text"
        )
        return Rulebook(problems=(problem,))
    return read_rulebook(text, FILE_NAME, models)


def read_rulebook(text: str, where: str, models: Models) -> Rulebook:
    """Return the rules of the file ``where`` with ``text``; the tables are those of ``models``."""
    problems: list[ConfigError] = []
    try:
        if not text.strip() or all(_blank(line) for line in text.splitlines()):
            return Rulebook(channels={})
        fields = read_document(text, where).fields(("deliver", "rules"))
        channels = _each(fields.get("deliver"), _channel, problems)
        known = list(fields["deliver"].entries()) if "deliver" in fields else []

        def rule(name: str, value: Value) -> Rule:
            return _rule(name, value, models, known)

        rules = _each(fields.get("rules"), rule, problems)
    except ContractError as error:
        return Rulebook(problems=(_config(error),))
    return Rulebook(tuple(rules.values()), channels, tuple(problems))


def _blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _config(error: ContractError) -> ConfigError:
    return ConfigError(error.what, error.where, error.fix)


def _each(
    block: Value | None, read: Callable[[str, Value], _Item], problems: list[ConfigError]
) -> dict[str, _Item]:
    """Return every named item of ``block`` that is valid; note the others in ``problems``."""
    found: dict[str, _Item] = {}
    for key, value in block.pairs() if block is not None else ():
        try:
            name = key.text()
            if not NAME.fullmatch(name):
                raise key.error(f'"{name}" is no name here', "use small letters, digits and _")
            found[name] = read(name, value)
        except ContractError as error:
            problems.append(_config(error))
    return found


def _rule(name: str, value: Value, models: Models, channels: list[str]) -> Rule:
    kinds = [key.text() for key, _ in value.pairs()]
    fields = value.fields(METRIC_KEYS if "metric" in kinds else TABLE_KEYS)
    what = _metric(value, fields) if "metric" in fields else _query(value, fields, models)
    return Rule(
        name=name,
        because=fields["because"].text() if "because" in fields else "",
        what=what,
        max_age=_duration(fields, "max_age", MAX_AGE) if _has_window(what) else None,
        late_after=_duration(fields, "late_after", LATE_AFTER),
        list_limit=_list_limit(fields),
        channels=_channels(fields, channels),
    )


def _has_window(what: TableQuery | MetricLimit) -> bool:
    return isinstance(what, TableQuery) and bool(what.window)


def _channels(fields: Mapping[str, Value], known: list[str]) -> tuple[str, ...]:
    if "deliver" not in fields:
        return tuple(known)
    found = []
    for item in fields["deliver"].items():
        if item.text() not in known:
            hint = nearest(item.text(), known)
            raise item.error(
                f'"{item.text()}" is not under deliver:',
                f'did you mean "{hint}"?' if hint else f"use one of {', '.join(known)}",
            )
        found.append(item.text())
    return tuple(dict.fromkeys(found))


def _query(value: Value, fields: Mapping[str, Value], models: Models) -> TableQuery:
    for name in ("table", "when"):
        if name not in fields:
            raise value.error(f'key "{name}" is missing', f"add {name}: to this rule")
    model = _model(fields["table"], models)
    columns = {column.name: column.type for column in model.columns}
    window = _window(fields, model)
    key = _key(fields, model, window)
    where = fields.get("where")
    when = read_condition(fields["when"], columns, grouping=True)
    missing = [name for name in model.grain if name not in (*key, window)]
    if missing and not when.grouped:
        raise fields["when"].error(
            f"rows differ in {', '.join(missing)}, which key: leaves out",
            "aggregate: sum(…), min(…), max(…) or count(*); or name all columns under key:",
        )
    views, below = _views(fields["table"], model, models)
    return TableQuery(
        table=model.name,
        where=read_condition(where, columns, grouping=False) if where is not None else None,
        when=when,
        key=key,
        window=window,
        length=_length(fields, model, window),
        keeps_windows=any(one.keep for one in below),
        batch_only=any(one.batch_only for one in below),
        views=views,
        reads=tuple(one.name for one in below) if views else (),
    )


def _views(
    value: Value, model: Model, models: Models
) -> tuple[tuple[Model, ...], tuple[Model, ...]]:
    """Return the views to compute for ``model``, in order, and the served tables below them."""
    read = models.read_for([model.name])
    unserved = sorted(name for name in read if not _served_or_view(name, models))
    if unserved:
        raise value.error(
            f'"{model.name}" is computed when it is read, from {", ".join(unserved)}, which the '
            "serving store does not hold",
            "write the rule over a served table, or let the model be stored",
        )
    listed = [models[name] for name in models.order if name in read]
    return (
        tuple(one for one in listed if one.on_read),
        tuple(one for one in listed if one.served),
    )


def _served_or_view(name: str, models: Models) -> bool:
    return name in models and (models[name].served or models[name].on_read)


def _model(value: Value, models: Models) -> Model:
    gold = {name: model for name, model in models.by_name.items() if name.startswith("gold.")}
    name = value.text()
    if name not in gold:
        hint = nearest(name, gold)
        raise value.error(
            f'gold table "{name}" does not exist, or its model is not valid',
            f'did you mean "{hint}"?' if hint else f"use one of {', '.join(sorted(gold))}",
        )
    if not gold[name].grain:
        raise value.error(f'table "{name}" has no grain', "name the grain in the model's header")
    return gold[name]


def _window(fields: Mapping[str, Value], model: Model) -> str:
    """Return the column that says when; the one of the grain that is a day or a time."""
    types = {column.name: column.type for column in model.columns}
    whens = [name for name in model.grain if column_kind(types[name]) in ("day", "time")]
    if "window" not in fields:
        return whens[0] if len(whens) == 1 else ""
    name = fields["window"].text()
    if name == "none":
        return ""
    if name not in whens:
        hint = nearest(name, whens)
        raise fields["window"].error(
            f'"{name}" is no day or time in the grain of "{model.name}"',
            f'did you mean "{hint}"?' if hint else f"use one of {', '.join([*whens, 'none'])}",
        )
    return name


def _key(fields: Mapping[str, Value], model: Model, window: str) -> tuple[str, ...]:
    if "key" not in fields:
        return tuple(name for name in model.grain if name != window)
    found = []
    for item in fields["key"].items():
        name = item.text()
        if name not in model.grain:
            hint = nearest(name, model.grain)
            raise item.error(
                f'"{name}" is not in the grain of "{model.name}"',
                f'did you mean "{hint}"?' if hint else f"use some of {', '.join(model.grain)}",
            )
        if name != window:
            found.append(name)
    return tuple(dict.fromkeys(found))


def _length(fields: Mapping[str, Value], model: Model, window: str) -> timedelta:
    """Return how long a window is: a day for days; times must say it."""
    if "length" in fields:
        if not window:
            raise fields["length"].error("there is no window to have a length", "remove the line")
        found = _duration(fields, "length", DAY)
        if not found:
            raise fields["length"].error("a window of no length has no end", "write it as 5m")
        return found
    types = {column.name: column.type for column in model.columns}
    if window and column_kind(types[window]) == "time":
        raise fields["table"].error(
            f'how long a window of "{window}" is, is not said', "add length: 5m to this rule"
        )
    return DAY if window else timedelta(0)


def _metric(value: Value, fields: Mapping[str, Value]) -> MetricLimit:
    limits = [name for name in ("above", "below") if name in fields]
    if len(limits) != 1:
        raise value.error(
            "a rule over a metric needs one limit", "add either above: 60 or below: 60"
        )
    text = fields[limits[0]].text()
    if not LIMIT.fullmatch(text):
        raise fields[limits[0]].error(
            f'"{text}" is no plain number', "write it as 60 or 0.05, with at most 9 decimals"
        )
    limit = Decimal(text)
    return MetricLimit(
        metric=fields["metric"].choice(METRICS),
        above=limit if limits == ["above"] else None,
        below=limit if limits == ["below"] else None,
        hold=_duration(fields, "for", timedelta(0)),
    )


def _channel(name: str, value: Value) -> Channel:
    fields = value.fields(CHANNEL_KEYS)
    kinds = [kind for kind in ("file", "command", "webhook", "webhook_env") if kind in fields]
    if len(kinds) != 1:
        raise value.error(
            "a place to deliver to is a file, a command or a webhook",
            "give it one of file:, command:, webhook: and webhook_env:",
        )
    timeout = _duration(fields, "timeout", TIMEOUT)
    if not timeout:
        raise fields["timeout"].error("no time is too short to deliver", "write it as 10s")
    secret = [kind for kind in ("secret_env", "secret_file") if kind in fields]
    if kinds[0] in ("file", "command"):
        unused = [*secret, *(["timeout"] if kinds == ["file"] and "timeout" in fields else [])]
        if unused:
            raise fields[unused[0]].error(f"a {kinds[0]} has no {unused[0]}", "remove the line")
    if kinds == ["file"]:
        return LogChannel(name, fields["file"].text())
    if kinds == ["command"]:
        words = tuple(item.text() for item in fields["command"].items())
        if not words:
            raise fields["command"].error("the command is empty", "write it as [program, --option]")
        return CommandChannel(name, words, timeout)
    if len(secret) != 1:
        raise value.error(
            "a webhook needs one secret to sign with",
            "add secret_env: NAME (an environment variable) or secret_file: PATH",
        )
    return WebhookChannel(
        name=name,
        url=_url(fields["webhook"]) if "webhook" in fields else "",
        url_env=_variable(fields, "webhook_env"),
        secret_env=_variable(fields, "secret_env"),
        secret_file=fields["secret_file"].text() if "secret_file" in fields else "",
        timeout=timeout,
    )


def _url(value: Value) -> str:
    text = value.text()
    if not re.fullmatch(r"https?://[^\s/?#@]+([/?#]\S*)?", text):
        raise value.error(
            f'"{text}" is no address of a webhook',
            "write it as https://host/path; keep secrets out of it, or use webhook_env:",
        )
    return text


def _variable(fields: Mapping[str, Value], key: str) -> str:
    if key not in fields:
        return ""
    name = fields[key].text()
    if not VARIABLE.fullmatch(name) or name.startswith(ENVIRONMENT_PREFIX):
        raise fields[key].error(
            f'"{name}" can\'t be the name of that environment variable',
            f"use letters, digits and _; names in {ENVIRONMENT_PREFIX}… are settings",
        )
    return name


def _duration(fields: Mapping[str, Value], key: str, default: timedelta) -> timedelta:
    if key not in fields:
        return default
    try:
        return read_duration(fields[key].text())
    except ValueError as error:
        raise fields[key].error(
            f'"{fields[key].text()}" is no length of time', str(error)
        ) from error


def _list_limit(fields: Mapping[str, Value]) -> int:
    if "list_limit" not in fields:
        return LIST_LIMIT
    text = fields["list_limit"].text()
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 1000:
        raise fields["list_limit"].error(f'"{text}" is no limit', "write a number from 1 to 1000")
    return int(text)
