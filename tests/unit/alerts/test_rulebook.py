"""alerts.yaml is read strictly: each mistake is named by place, and stops only itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from meterhouse.alerts.rule import (
    CommandChannel,
    LogChannel,
    MetricLimit,
    TableQuery,
    WebhookChannel,
)
from unit.alerts.house import rulebook

HEAD = "deliver:\n  log: {file: alerts.jsonl}\nrules:\n"


def table_rule(*lines: str) -> str:
    return HEAD + "  costly:\n" + "".join(f"    {line}\n" for line in lines)


def problem(text: str) -> tuple[str, str, str]:
    found = rulebook(text).problems
    assert len(found) == 1, found
    return found[0].what, found[0].where, found[0].fix


def query(text: str) -> TableQuery:
    book = rulebook(text)
    assert book.problems == ()
    what = book.rules[0].what
    assert isinstance(what, TableQuery)
    return what


def test_a_rule_over_windows_has_the_rest_of_the_grain_as_its_key() -> None:
    found = query(table_rule("table: gold.windows", "when: cost_usd > 50", "length: 5m"))

    assert found.key == ("org_id", "service")
    assert found.window == "window_start"
    assert found.length == timedelta(minutes=5)
    assert found.when.sql == '"cost_usd" > 50'
    assert found.columns == ("org_id", "service", "window_start", "cost_usd")


def test_a_day_is_a_day_long_and_everything_has_a_default() -> None:
    book = rulebook(table_rule("table: gold.days", "when: cost_usd > 50"))
    rule = book.rules[0]

    assert isinstance(rule.what, TableQuery)
    assert rule.what.length == timedelta(days=1)
    assert (rule.max_age, rule.late_after) == (timedelta(days=2), timedelta(minutes=10))
    assert rule.channels == ("log",)
    assert rule.list_limit == 100


def test_a_coarser_key_needs_an_aggregate() -> None:
    found = query(
        table_rule("table: gold.days", "key: []", "when: sum(cost_usd) > 50 AND count(*) > 1")
    )

    assert (found.key, found.window) == ((), "usage_date")
    assert [name for name, _ in found.when.measures] == ["sum(cost_usd)", "count(*)"]
    assert problem(table_rule("table: gold.days", "key: []", "when: cost_usd > 50")) == (
        "rows differ in org_id, which key: leaves out",
        "alerts.yaml:7:11",
        "aggregate: sum(…), min(…), max(…) or count(*); or name all columns under key:",
    )


def test_a_rule_without_window_has_no_age() -> None:
    book = rulebook(
        table_rule("table: gold.days", "window: none", "key: [org_id]", "when: sum(cost_usd) > 5")
    )

    assert book.problems == ()
    assert book.rules[0].max_age is None


def test_a_limit_on_a_metric() -> None:
    book = rulebook(HEAD + "  slow: {metric: lag_s, above: 60.5, for: 1m, because: Late.}\n")

    assert book.rules[0].what == MetricLimit("lag_s", Decimal("60.5"), None, timedelta(minutes=1))
    assert book.rules[0].because == "Late."


def test_channels() -> None:
    book = rulebook(
        "deliver:\n"
        "  log: {file: log/alerts.jsonl}\n"
        "  script: {command: [sh, -c, 'exit 0'], timeout: 5s}\n"
        "  pager: {webhook: 'https://example.com/hook?a=1', secret_env: PAGER_SECRET}\n"
        "  chat: {webhook_env: CHAT_URL, secret_file: secret.txt}\n"
    )

    ten = timedelta(seconds=10)
    assert book.problems == ()
    assert book.channels == {
        "log": LogChannel("log", "log/alerts.jsonl"),
        "script": CommandChannel("script", ("sh", "-c", "exit 0"), timedelta(seconds=5)),
        "pager": WebhookChannel(
            "pager", "https://example.com/hook?a=1", "", "PAGER_SECRET", "", ten
        ),
        "chat": WebhookChannel("chat", "", "CHAT_URL", "", "secret.txt", ten),
    }


MISTAKES = [
    (["tabel: gold.days"], 'key "tabel" does not exist here', ":5:5", 'did you mean "table"?'),
    (
        ["table: gold.day", "when: cost_usd > 5"],
        'gold table "gold.day" does not exist, or its model is not valid',
        ":5:12",
        'did you mean "gold.days"?',
    ),
    (
        ["table: gold.days", "when: cost_usdd > 5"],
        'condition names column "cost_usdd", which the table does not have',
        ":6:11",
        'did you mean "cost_usd"?',
    ),
    (
        ["table: gold.days", "when: cost_usd > 5", "where: sum(cost_usd) > 1"],
        'condition holds "SUM(cost_usd)", which looks at more than one row',
        ":7:12",
        "put it under when:, which looks at all rows of a key and window",
    ),
    (
        ["table: gold.days", "when: sum(cost_usd) > 5 AND org_id = 'a'"],
        'condition mixes groups of rows with single ones ("org_id")',
        ":6:11",
        "put what single rows must meet under where:",
    ),
    (
        ["table: gold.days", "when: cost_usd / 2 > 5"],
        'condition holds "cost_usd / 2", which is not on the list',
        ":6:11",
        "a condition may hold",
    ),
    (
        ["table: gold.days", "when: cost_usd > 0.1234567891"],
        'number "0.1234567891" is not exact here',
        ":6:11",
        "write it plainly",
    ),
    (
        ["table: gold.days", "when: usage_date > '2025-02-30'"],
        "condition compares '2025-02-30' with a day",
        ":6:11",
        "write the day as '2025-07-03'",
    ),
    (
        ["table: gold.days", "when: cost_usd > 5", "key: [org]"],
        '"org" is not in the grain of "gold.days"',
        ":7:11",
        'did you mean "org_id"?',
    ),
    (
        ["table: gold.days", "when: cost_usd > 5", "window: org_id"],
        '"org_id" is no day or time in the grain of "gold.days"',
        ":7:13",
        "use one of usage_date, none",
    ),
    (
        ["table: gold.windows", "when: cost_usd > 5"],
        'how long a window of "window_start" is, is not said',
        ":5:12",
        "add length: 5m to this rule",
    ),
    (
        ["table: gold.days", "when: cost_usd > 5", "max_age: 2 days"],
        '"2 days" is no length of time',
        ":7:14",
        'write a length of time as "7d" (s, m, h, d)',
    ),
    (
        ["table: gold.days", "when: cost_usd > 5", "deliver: [logs]"],
        '"logs" is not under deliver:',
        ":7:15",
        'did you mean "log"?',
    ),
    (
        ["metric: lags", "above: 60"],
        '"lags" is not a choice here',
        ":5:13",
        'did you mean "lag_s"?',
    ),
    (
        ["metric: lag_s", "above: 60", "below: 5"],
        "a rule over a metric needs one limit",
        ":5:5",
        "add either",
    ),
    (["metric: lag_s", "above: 1e3"], '"1e3" is no plain number', ":6:12", "write it as 60"),
    (
        ["metric: lag_s", "above: 60", "max_age: 2d"],
        'key "max_age" does not exist here',
        ":7:5",
        "use one of metric",
    ),
]


@pytest.mark.parametrize(("lines", "what", "where", "fix"), MISTAKES)
def test_a_mistake_is_named_by_its_place(lines: list[str], what: str, where: str, fix: str) -> None:
    found = problem(table_rule(*lines))

    assert found[0] == what
    assert found[1] == f"alerts.yaml{where}"
    assert found[2].startswith(fix)


CHANNEL_MISTAKES = [
    ("log: {file: a, command: [b]}", "a place to deliver to is a file, a command or a webhook"),
    ("log: {}", "a place to deliver to is a file, a command or a webhook"),
    ("log: {file: a, timeout: 5s}", "a file has no timeout"),
    ("run: {command: []}", "the command is empty"),
    ("run: {command: [a], secret_env: B}", "a command has no secret_env"),
    ("hook: {webhook: 'https://example.com/'}", "a webhook needs one secret to sign with"),
    ("hook: {webhook: 'ftp://example.com', secret_env: A}", "is no address of a webhook"),
    ("hook: {webhook: 'https://me:pw@example.com/', secret_env: A}", "is no address of a webhook"),
    ("hook: {webhook: 'https://e.com', secret_env: METERHOUSE_SECRET}", "can't be the name"),
    ("hook: {webhook: 'https://e.com', secret_env: A, timeout: 0s}", "no time is too short"),
    ("Hook: {file: a}", '"Hook" is no name here'),
]


@pytest.mark.parametrize(("line", "what"), CHANNEL_MISTAKES)
def test_a_mistake_in_a_channel_is_named(line: str, what: str) -> None:
    assert what in problem(f"deliver:\n  {line}\n")[0]


def test_a_mistake_stops_nothing_but_its_rule() -> None:
    book = rulebook(
        HEAD
        + "  good: {table: gold.days, when: cost_usd > 5}\n"
        + "  bad: {table: gold.days, when: cost > 5}\n"
        + "  also_good: {metric: lag_s, above: 5}\n"
    )

    assert [rule.name for rule in book.rules] == ["good", "also_good"]
    assert [one.where for one in book.problems] == ["alerts.yaml:5:33"]


def test_a_file_that_is_not_yaml_is_one_problem() -> None:
    book = rulebook("rules: [")

    assert book.rules == ()
    assert book.channels is None
    assert "not YAML" in book.problems[0].what


@pytest.mark.parametrize("text", ["", "# nothing\n\n  # yet\n", "rules: {}\n", "deliver: {}\n"])
def test_a_file_without_rules_is_none(text: str) -> None:
    book = rulebook(text)

    assert (book.rules, book.problems) == ((), ())


def test_another_limit_is_another_fingerprint_another_reason_is_not() -> None:
    lines = ["table: gold.days", "when: cost_usd > 5"]
    one = rulebook(table_rule(*lines)).rules[0].fingerprint

    assert rulebook(table_rule(*lines, "because: Dear.")).rules[0].fingerprint == one
    assert rulebook(table_rule(lines[0], "when: cost_usd > 6")).rules[0].fingerprint != one
    assert rulebook(table_rule(*lines, "where: org_id = 'a'")).rules[0].fingerprint != one
