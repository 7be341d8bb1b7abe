"""Raised exactly once for a rule, key and window; cleared when it goes below; never in doubt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meterhouse.alerts import alerts as alerts_module
from meterhouse.alerts.background import LongLook
from meterhouse.alerts.evaluation import Group
from meterhouse.errors import DamageError
from meterhouse.ports import Stamp
from meterhouse.serving.schema import layouts
from meterhouse.serving.sqlite import SqliteServing
from meterhouse.testing_serving import MemoryServing
from unit.alerts.house import START, Desk, models_

RULES = """
deliver:
  log: {file: alerts.jsonl}
rules:
  costly:
    because: It costs.
    table: gold.windows
    length: 5m
    when: cost_usd > 50
"""
NOON = "2025-09-01T11:55"


@pytest.fixture(params=["memory", "sqlite"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    kept = layouts(models_().by_name.values())
    store = (
        MemoryServing(kept)
        if request.param == "memory"
        else SqliteServing(tmp_path / "serving.db", kept)
    )
    found = Desk(tmp_path, store, RULES)
    found.publish()
    yield found
    found.alerts.close()
    store.close()
    found.engine.close()


def states(desk: Desk) -> list[tuple[str, int, str]]:
    return [(one.group.window, one.occurrence, one.state) for one in desk.listed()]


def test_a_window_over_the_limit_is_raised_once(desk: Desk) -> None:
    desk.move(("org-1", NOON, "50"))
    assert desk.look().raised == 0
    desk.move(("org-1", NOON, "0.000000001"))
    assert desk.look().raised == 1
    desk.move(("org-1", NOON, "20"))
    assert (desk.look().raised, desk.look().raised) == (0, 0)

    found = desk.listed()
    assert [(one.rule, one.group, one.occurrence, one.state) for one in found] == [
        (
            "costly",
            Group('{"org_id":"org-1","service":"compute"}', "2025-09-01T11:55:00Z"),
            1,
            "raised",
        )
    ]
    assert found[0].numbers == {"cost_usd": "70.000000001"}


SPANS = "rules:\n  dear: {table: gold.spans, length: 10m, when: cost_usd > 50}\n"


def test_a_view_is_looked_at_as_it_would_be_read(desk: Desk) -> None:
    desk.rules(SPANS)
    desk.move(("org-1", NOON, "30"), ("org-2", NOON, "30"))
    assert desk.look().raised == 0
    desk.move(("org-1", "2025-09-01T11:50", "20.01"))
    assert (desk.look().raised, desk.look().raised) == (1, 0)
    (raised,) = desk.listed("raised")
    assert raised.group == Group('{"org_id":"org-1"}', "2025-09-01T11:50:00Z")
    assert raised.numbers == {"cost_usd": "50.01"}
    desk.move(("org-1", NOON, "-0.01"))
    assert desk.look().cleared == 1


def test_the_message_says_what_is_over(desk: Desk) -> None:
    desk.move(("org-1", NOON, "50.01"))
    desk.look()

    key = hashlib.sha256(
        b'["house","costly","{\\"org_id\\":\\"org-1\\",\\"service\\":\\"compute\\"}",'
        b'"2025-09-01T11:55:00Z",1]'
    ).hexdigest()
    told = desk.told()
    assert [one.pop("delivered_at") for one in told] == ["2025-09-01T12:00:00.000000Z"]
    assert told == [
        {
            "event": "raised",
            "project": "house",
            "rule": "costly",
            "because": "It costs.",
            "table": "gold.windows",
            "when": "cost_usd > 50",
            "total": 1,
            "alerts": [
                {
                    "key": {"org_id": "org-1", "service": "compute"},
                    "window": "2025-09-01T11:55:00Z",
                    "occurrence": 1,
                    "values": {"cost_usd": "50.01"},
                    "raised_at": "2025-09-01T12:00:00.000000Z",
                    "position": 1,
                    "late": False,
                    "late_by_s": None,
                    "idempotency_key": key,
                }
            ],
            "idempotency_key": key,
        }
    ]
    assert desk.listed()[0].delivered == "log"


def test_38_digits_are_compared_digit_for_digit(desk: Desk) -> None:
    limit = "123456789012345678.000000001"
    desk.rules(RULES.replace("cost_usd > 50", f"cost_usd > {limit}"))
    desk.move(("org-1", NOON, limit), ("org-2", NOON, "123456789012345678.000000002"))

    assert desk.look().raised == 1
    assert json.loads(desk.listed()[0].group.key)["org_id"] == "org-2"


def test_a_correction_below_the_limit_clears_and_a_later_one_raises_anew(desk: Desk) -> None:
    desk.move(("org-1", NOON, "40"))
    desk.move(("org-1", NOON, "20"))
    desk.look()
    desk.move(("org-1", NOON, "-20"))
    assert desk.look().cleared == 1
    desk.move(("org-1", NOON, "30"))
    assert desk.look().raised == 1

    window = "2025-09-01T11:55:00Z"
    assert states(desk) == [(window, 1, "cleared"), (window, 2, "raised")]
    told = desk.told()
    assert [(one["event"], one["alerts"][0]["occurrence"]) for one in told] == [
        ("raised", 1),
        ("cleared", 1),
        ("raised", 2),
    ]
    assert len({one["idempotency_key"] for one in told}) == 3
    assert told[1]["alerts"][0]["cleared_position"] == 3


def test_a_row_that_is_gone_clears(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.move(("org-1", NOON, "-60"))

    assert desk.look().cleared == 1
    assert states(desk) == [("2025-09-01T11:55:00Z", 1, "cleared")]


def test_many_at_once_are_one_message_with_a_limited_list(desk: Desk) -> None:
    desk.rules(RULES + "    list_limit: 3\n")
    desk.move(*((f"org-{number}", NOON, "51") for number in range(10)))

    assert desk.look().raised == 10
    told = desk.told()
    assert [(one["total"], len(one["alerts"])) for one in told] == [(10, 3)]
    keys = [one.idempotency_key for one in desk.listed()]
    whole = json.dumps(keys, separators=(",", ":")).encode()
    assert told[0]["idempotency_key"] == hashlib.sha256(whole).hexdigest()
    assert {one.delivered for one in desk.listed()} == {"log"}


def test_a_backfilled_year_pages_nobody(desk: Desk) -> None:
    days = [START - timedelta(days=number, hours=12) for number in range(366)]
    desk.move(*(("org-1", f"{day:%Y-%m-%dT%H:%M}", "1000") for day in days))

    found = desk.look()

    assert (found.raised, found.silent) == (2, 364)
    assert [one["total"] for one in desk.told()] == [2]
    assert [one.group.window[:10] for one in desk.listed("raised")] == ["2025-08-31", "2025-09-01"]


def test_a_silent_alert_stays_silent_and_clears_in_silence(desk: Desk) -> None:
    desk.move(("org-1", "2025-08-01T00:00", "60"))
    desk.look()
    desk.move(("org-1", "2025-08-01T00:00", "1"))
    desk.look()
    desk.move(("org-1", "2025-08-01T00:00", "-40"), ("org-1", NOON, "60"))
    desk.look()

    assert states(desk)[0] == ("2025-08-01T00:00:00Z", 1, "cleared")
    assert [one["alerts"][0]["window"] for one in desk.told()] == ["2025-09-01T11:55:00Z"]


def test_a_late_event_raises_its_window_and_says_how_late(desk: Desk) -> None:
    desk.move(("org-1", "2025-08-31T10:00", "49"), ("org-1", "2025-09-01T11:50", "51"))
    desk.look()
    desk.clock.now += timedelta(hours=1)
    desk.move(("org-1", "2025-08-31T10:00", "2"))
    desk.look()

    told = [one["alerts"][0] for one in desk.told()]
    assert [(one["window"], one["late"], one["late_by_s"]) for one in told] == [
        ("2025-09-01T11:50:00Z", False, None),
        ("2025-08-31T10:00:00Z", True, 26 * 3600 + 55 * 60),
    ]


def test_where_narrows_and_a_coarser_key_adds_up(desk: Desk) -> None:
    desk.rules(
        RULES
        + "  budget: {table: gold.days, key: [], when: sum(cost_usd) >= 100, "
        + "where: org_id <> 'org-9', max_age: 3d}\n"
    )
    day = "2025-09-01T00:00"
    desk.move(("org-1", day, "49.5"), ("org-2", day, "49.5"), ("org-9", day, "40"))
    desk.move(("org-3", day, "0.999999999"))
    desk.look()
    assert desk.listed() == []
    desk.move(("org-1", day, "0.000000001"))
    desk.look()

    found = desk.listed()
    assert [(one.rule, one.group, one.numbers) for one in found] == [
        ("budget", Group("{}", "2025-09-01"), {"sum(cost_usd)": "100"})
    ]
    desk.move(("org-2", day, "-1"))
    assert desk.look().cleared == 1


def test_a_restart_raises_nothing_twice(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.restart()
    desk.look()
    desk.move(("org-2", NOON, "60"))
    desk.restart()

    assert desk.look().raised == 1
    assert len(desk.listed()) == 2
    assert len(desk.told()) == 2


def test_a_batch_changes_nothing(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.publish()
    desk.look()
    desk.restart()
    desk.publish()

    assert desk.look().raised == 0
    assert len(desk.listed()) == 1


def test_what_a_batch_published_while_nobody_followed_is_seen(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.move(("org-1", NOON, "-30"), ("org-2", NOON, "70"))
    desk.publish()
    desk.restart()

    found = desk.look()

    assert (found.raised, found.cleared) == (1, 1)


def test_a_new_generation_is_looked_at_whole(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"), ("org-2", NOON, "60"))
    desk.look()
    rows = desk.store.rows("gold.windows").read_all().to_pylist()
    rows[0]["cost_usd"] = Decimal(1)
    desk.publish({"gold.windows": rows}, models="two")

    found = desk.look()

    assert (found.raised, found.cleared) == (0, 1)


def test_answers_that_are_made_anew_are_waited_for(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.move(("org-1", NOON, "1"))
    desk.look()
    served = {"gold.windows": desk.store.rows("gold.windows").read_all().to_pylist()}
    desk.position = 0
    desk.publish({}, models="two")

    assert desk.look().cleared == 0
    desk.restart()
    assert desk.look().cleared == 0
    desk.position = 2
    desk.publish(served, models="two")
    found = desk.look()

    assert (found.raised, found.cleared) == (0, 0)
    assert states(desk) == [("2025-09-01T11:55:00Z", 1, "raised")]


def test_a_changed_limit_is_the_same_rule(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"), ("org-2", NOON, "80"))
    desk.look()
    desk.rules(RULES.replace("> 50", "> 70"))
    assert (desk.look().cleared, len(desk.listed("raised"))) == (1, 1)
    desk.rules(RULES.replace("> 50", "> 40"))

    assert desk.look().raised == 1
    assert [one.occurrence for one in desk.listed()] == [1, 1, 2]


def test_a_rule_that_is_taken_out_and_put_back_raises_nothing_again(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.rules("rules: {}\n")
    desk.look()
    desk.rules(RULES)

    assert desk.look().raised == 0
    assert len(desk.listed("raised")) == 1


def test_an_invalid_rule_is_told_of_and_stops_nothing(desk: Desk) -> None:
    desk.rules(RULES + "  bad: {table: gold.windows, when: nothing > 5}\n")
    desk.move(("org-1", NOON, "60"))

    found = desk.alerts.evaluate(desk.store, desk.clock.now, {})

    assert found.raised == 1
    assert [one.where for one in found.problems] == ["alerts.yaml:10:36"]


def test_a_rule_that_fails_rests_until_the_next_epoch_and_stops_nothing(desk: Desk) -> None:
    desk.rules(RULES + "  odd: {table: gold.days, when: cost_usd * 99999999999 > 5}\n")
    desk.move(("org-1", NOON, "9" * 29), ("org-2", NOON, "60"))

    found = desk.alerts.evaluate(desk.store, desk.clock.now, {})
    again = desk.alerts.evaluate(desk.store, desk.clock.now, {})

    assert found.raised == 2
    assert ['rule "odd" can\'t be evaluated' in one.what for one in found.problems] == [True]
    assert again.problems == []


def test_a_metric_over_its_limit(desk: Desk) -> None:
    desk.rules(RULES + "  slow: {metric: lag_s, above: 60}\n")
    desk.move(("org-1", NOON, "1"))

    counts = [desk.look(lag_s=value) for value in ("60", "60.001", "75", "3", "61")]

    assert [(one.raised, one.cleared) for one in counts] == [(0, 0), (1, 0), (0, 0), (0, 1), (1, 0)]
    assert desk.look().raised == 0
    assert [(one.occurrence, one.state) for one in desk.listed()] == [(1, "cleared"), (2, "raised")]
    assert desk.told()[0]["when"] == "lag_s > 60"


def test_a_metric_that_goes_to_and_fro_waits_for_it_to_hold(desk: Desk) -> None:
    desk.rules(RULES + "  slow: {metric: lag_s, above: 60, for: 30s}\n")
    desk.move(("org-1", NOON, "1"))
    raised = []
    for value, seconds in (("70", 29), ("50", 1), ("70", 29), ("70", 1), ("50", 29), ("50", 1)):
        found = desk.look(lag_s=value)
        raised.append(found.raised - found.cleared)
        desk.clock.now += timedelta(seconds=seconds)

    assert raised == [0, 0, 0, 0, 0, 0]
    desk.rules(RULES + "  slow: {metric: lag_s, above: 60, for: 30s}\n")
    desk.look(lag_s="70")
    desk.clock.now += timedelta(seconds=30)
    assert desk.look(lag_s="70").raised == 1
    desk.look(lag_s="1")
    desk.clock.now += timedelta(seconds=30)
    assert desk.look(lag_s="1").cleared == 1


def test_a_rule_over_an_unknown_figure_rests(desk: Desk) -> None:
    desk.rules(RULES + "  held: {metric: quarantine_share, above: 0.2}\n")
    desk.move(("org-1", NOON, "1"))
    desk.look(quarantine_share="0.3")

    assert desk.look().cleared == 0
    assert desk.look(quarantine_share="0.2").cleared == 1


def test_nothing_is_looked_at_before_anything_is_published(tmp_path: Path) -> None:
    desk = Desk(tmp_path, MemoryServing(), RULES)

    desk.look()
    desk.alerts.deliver(START)
    desk.alerts.close()

    assert not (tmp_path / "alerts.db").exists()


def test_the_register_of_another_project_is_refused(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    desk.look()
    desk.restart()
    other = Desk(desk.root, MemoryServing(layouts(models_().by_name.values())), RULES)
    other.publish()
    other.store.publish(
        "else", Stamp("other", 0, 5, "h"), ingest_ts=datetime(2025, 9, 1, tzinfo=UTC), details="{}"
    )

    with pytest.raises(DamageError, match="another project's"):
        other.alerts.evaluate(other.store, START, {})


def test_two_processes_that_look_at_once_raise_once(desk: Desk) -> None:
    desk.move(("org-1", NOON, "60"))
    other = desk.opened()
    seen = other.evaluate(desk.store, desk.clock.now, {})
    found = desk.look()
    other.close()

    assert (seen.raised, found.raised) == (1, 0)


def test_an_older_look_of_another_process_does_not_count(desk: Desk) -> None:
    slow = desk.opened()
    behind = Desk(desk.root, MemoryServing(layouts(models_().by_name.values())), RULES)
    behind.publish()
    for one in (desk, behind):
        one.move(("org-1", NOON, "60"))
    desk.look()
    slow.evaluate(behind.store, desk.clock.now, {})
    for one in (desk, behind):
        one.move(("org-1", NOON, "1"))
    desk.move(("org-1", NOON, "-31"))
    assert desk.look().cleared == 1

    assert slow.evaluate(behind.store, desk.clock.now, {}).raised == 0
    assert states(desk) == [("2025-09-01T11:55:00Z", 1, "cleared")]
    slow.close()
    behind.engine.close()


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose whole looks are taken on a thread of their own."""
    kept = layouts(models_().by_name.values())
    path = tmp_path / "serving.db"
    store = SqliteServing(path, kept)
    found = Desk(tmp_path, store, RULES, aside=lambda: closing(SqliteServing(path)))
    found.publish()
    yield found
    found.alerts.close()
    store.close()
    found.engine.close()


def test_a_whole_look_aside_is_joined_with_what_came_meanwhile(aside: Desk) -> None:
    aside.move(("org-1", NOON, "60"), ("org-2", NOON, "40"), ("org-3", NOON, "60"))
    assert aside.look().raised == 0, "the look has only begun"
    aside.move(("org-2", NOON, "20"))
    aside.move(("org-3", NOON, "-60"))

    found = aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)
    found.add(aside.look())

    open_now = [json.loads(one.group.key)["org_id"] for one in aside.listed("raised")]
    assert sorted(open_now) == ["org-1", "org-2"]
    assert found.raised - found.cleared == 2


def test_a_view_is_looked_at_aside_and_rests_in_between(aside: Desk) -> None:
    aside.rules(SPANS)
    aside.move(("org-1", NOON, "60"))
    found = aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)
    assert found.raised == 2
    aside.move(("org-2", NOON, "60"))

    background = aside.alerts._background
    assert background is not None
    aside.look()
    assert background.work is None, "it has to rest"
    background._rest.clear()
    found = aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)

    assert found.raised == 2


@pytest.fixture
def busy(aside: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk that takes every change for very many; it has looked once."""
    monkeypatch.setattr(alerts_module, "MANY_CHANGES", 0)
    aside.move(("org-0", NOON, "1"))
    aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)
    rested(aside)
    return aside


def rested(desk: Desk) -> None:
    background = desk.alerts._background
    assert background is not None
    background._rest.clear()


def test_very_many_changes_are_looked_at_aside(busy: Desk) -> None:
    busy.move(("org-1", NOON, "60"), ("org-2", NOON, "40"))
    assert busy.look().raised == 0, "the look has only begun"
    busy.move(("org-2", NOON, "20"))

    found = busy.alerts.finish(busy.store, busy.clock.now, {}, wait_s=30)
    rested(busy)
    found.add(busy.alerts.finish(busy.store, busy.clock.now, {}, wait_s=30))
    busy.move(("org-1", NOON, "-60"))
    rested(busy)
    last = busy.alerts.finish(busy.store, busy.clock.now, {}, wait_s=30)

    assert (found.raised, last.cleared) == (2, 1)
    assert len(busy.listed("raised")) == 1


def test_a_look_at_changes_that_a_batch_has_taken_in_does_not_count(busy: Desk) -> None:
    busy.move(("org-1", NOON, "60"))
    busy.look()
    background = busy.alerts._background
    assert background is not None
    background.wait(30)
    assert background.work is not None
    looked = background.work
    assert looked.after == 1
    busy.publish()
    busy.move(("org-2", NOON, "60"))
    rested(busy)
    again = LongLook(looked.rule, looked.query, looked.opened, looked.after)
    background._look(again)
    rested(busy)

    found = busy.look()  # takes the look that ended before the batch
    found.add(busy.alerts.finish(busy.store, busy.clock.now, {}, wait_s=30))

    assert again.look is None
    assert found.raised == 2


def test_looks_aside_of_several_rules_all_end(aside: Desk) -> None:
    rule = "  more_{0}: {{table: gold.days, when: cost_usd > {0}}}\n"
    aside.rules(RULES + "".join(rule.format(number) for number in range(5)))
    aside.move(("org-1", NOON, "60"))

    found = aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)

    assert (found.raised, found.problems) == (6, [])


def test_a_look_aside_for_a_rule_that_was_changed_does_not_count(aside: Desk) -> None:
    aside.move(("org-1", NOON, "60"))
    aside.look()
    aside.rules(RULES.replace("> 50", "> 70"))

    found = aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)

    assert found.raised == 0
    assert aside.listed() == []


def test_a_rule_that_fails_aside_is_told_of(aside: Desk) -> None:
    aside.rules(RULES + "  odd: {table: gold.days, when: cost_usd * 99999999999 > 5}\n")
    aside.move(("org-1", NOON, "9" * 29))

    found = aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=30)

    assert found.raised == 1
    assert ['rule "odd" can\'t be evaluated' in one.what for one in found.problems] == [True]


def test_ending_without_rules_waits_for_nothing(aside: Desk) -> None:
    aside.move(("org-1", NOON, "60"))
    aside.look()
    aside.rules("rules: {}\n")

    assert aside.alerts.finish(aside.store, aside.clock.now, {}, wait_s=3600).raised == 0
