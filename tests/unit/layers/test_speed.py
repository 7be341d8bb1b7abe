"""Live answers are the batch's answers: over everything that has arrived, whole entries only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from meterhouse.errors import DamageError, EnvironmentFailureError
from meterhouse.layers.generation import pin
from meterhouse.log.lock import one_writer
from meterhouse.log.state import JudgedFile
from meterhouse.ports import LiveChange
from meterhouse.serving.schema import layouts
from meterhouse.testing_serving import MemoryServing
from unit.layers.house import (
    House,
    event,
    few_contracts,
    filled,
    model_text,
    org,
    shipped_contracts,
    small_models,
)
from unit.layers.live import TAKEN, Live, live


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    contracts = few_contracts()
    opened = House(tmp_path / "house", small_models(contracts), contracts)
    yield opened
    opened.close()


def costs(answers: Live) -> dict[str, Decimal]:
    return {row["org_id"]: row["cost_usd"] for row in answers.served()["gold.org_costs"]}


def test_the_first_epoch_is_empty_and_the_answers_catch_up(house: House) -> None:
    filled(house)
    answers = live(house)

    report = answers.follow()

    assert report.stamp == house.log.stamp() == answers.store.stamp()
    assert (report.entries, report.rows) == (6, 5)
    assert report.changed == {"gold.costs": 1, "gold.org_costs": 1}
    assert answers.store.epoch() == answers.stamp(0)
    assert costs(answers) == {"org-1": Decimal("0.1")}
    assert answers.served() == answers.expected()


def test_nothing_is_published_while_the_log_is_empty(house: House) -> None:
    answers = live(house)

    report = answers.follow()

    assert (report.stamp.position, report.entries) == (0, 0)
    assert answers.store.answers() is None


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_answers_do_not_depend_on_how_entries_are_grouped(house: House, rows: int) -> None:
    for number in range(0, 12, 2):
        house.take("usage_events", event(number), event(number + 1, org_id=f"org-{number % 3}"))
    answers = live(house, group_rows=rows)

    answers.follow(4)
    assert answers.served() == answers.expected(4)
    answers.follow()

    assert answers.served() == answers.expected()


def test_a_new_process_goes_on_where_the_store_stands(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow(4)

    report = answers.fresh().catch_up(house.log.stamp())

    assert report.entries == 2
    assert answers.served() == answers.expected()


def test_answers_never_go_back(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow()

    report = answers.follow(2)

    assert report.stamp == house.log.stamp()
    assert (report.entries, report.changed) == (0, {})


def test_entries_without_rows_for_a_model_advance_the_stamp(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow()
    house.take("customers_orgs", org(3))
    house.take("usage_events", event(7, verdict="duplicate"))
    house.take("usage_events")

    report = answers.follow()

    assert report.changed == {}
    assert answers.store.stamp() == house.log.stamp()


def test_a_source_that_came_after_the_generation_waits_for_the_next_batch(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow()
    house.contracts |= {"nps_surveys": shipped_contracts()["nps_surveys"]}
    house.take("nps_surveys", {"org_id": "org-1", "survey_date": date(2025, 7, 3)})

    answers.follow()

    assert answers.store.stamp() == house.log.stamp()


def test_live_rows_go_on_from_an_epoch_in_the_middle(house: House) -> None:
    filled(house)
    house.take("usage_events", event(3), event(4, org_id="org-2"))
    answers = live(house)
    answers.publish(4)

    answers.follow()

    assert answers.store.epoch() == answers.stamp(4)
    assert answers.served() == answers.expected()


def test_no_group_reaches_across_a_frozen_position(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow(2)
    house.take("usage_events", event(3))
    frozen = answers.store.freeze(4)

    report = answers.follow()

    assert frozen == 4
    assert report.stamp == house.log.stamp()
    (row,) = answers.store.frozen("gold.costs").to_pylist()
    assert (row["cost_usd"], row["gone"]) == (Decimal("0.1"), False)
    assert answers.served() == answers.expected()


class Interrupted(MemoryServing):
    """A store that somebody else changes right before an ``advance``."""

    before: Callable[[], object] | None = None

    def advance(self, change: LiveChange) -> bool:
        before, self.before = self.before, None
        if before is not None:
            before()
        return super().advance(change)


def test_a_promotion_in_between_is_looked_at_again(house: House) -> None:
    filled(house)
    answers = live(house, Interrupted(layouts(house.models.by_name.values())))
    answers.follow(4)
    answers.store.before = lambda: answers.publish(4)  # type: ignore[attr-defined]

    report = answers.follow()

    assert answers.store.epoch() == answers.stamp(4)
    assert report.entries == 2
    assert answers.served() == answers.expected()


def test_another_process_that_follows_too_counts_nothing_twice(house: House) -> None:
    filled(house)
    answers = live(house, Interrupted(layouts(house.models.by_name.values())))
    answers.follow(2)
    answers.store.before = lambda: answers.fresh().catch_up(answers.stamp(4))  # type: ignore[attr-defined]

    answers.follow()

    assert answers.served() == answers.expected()


def test_an_edited_model_waits_for_the_batch_that_publishes_it(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow(4)
    edited = model_text("costs").replace("sum(usage.cost_usd)", "sum(2 * usage.cost_usd)")
    house.models = small_models(house.contracts, gold_costs=edited)
    other = pin(house.blobs, house.models, house.contracts)
    house.take("usage_events", event(8))

    answers.follow()

    assert costs(answers) == {"org-1": Decimal("0.2")}
    answers.publish(4, other)
    answers.follow()
    assert costs(answers) == {"org-1": Decimal("0.4")}
    assert answers.served() == answers.expected()


BY_NUMBER = """/* ---
description: Cost by the number of the organisation.
owner: a@example.com
kind: mergeable
grain: [org_number]
columns: {org_number: Number., cost_usd: {unit: USD, doc: Cost.}, event_count: Events.}
serving: {partition_key: [org_number], clustering: []}
--- */
SELECT
    substr(usage.org_id, 5)::BIGINT AS org_number,
    coalesce(sum(usage.cost_usd::DECIMAL(10, 2)), 0)::DECIMAL(10, 2) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM silver.usage AS usage
GROUP BY substr(usage.org_id, 5)
"""
OVER_IT = """/* ---
description: Cost of all days, by the number of the organisation.
owner: a@example.com
kind: view
grain: [org_number]
columns: {org_number: Number., cost_usd: {unit: USD, doc: Cost.}}
serving: {partition_key: [org_number], clustering: []}
--- */
SELECT part.org_number::BIGINT AS org_number, part.cost_usd::DECIMAL(10, 2) AS cost_usd
FROM gold.by_number AS part
"""


@pytest.fixture
def numbered(house: House) -> House:
    house.models = small_models(house.contracts, gold_by_number=BY_NUMBER, gold_over_it=OVER_IT)
    assert house.models.problems == ()
    return house


def test_a_model_that_fails_becomes_stale_and_stops_nothing(numbered: House) -> None:
    numbered.take("usage_events", event(1))
    numbered.take("usage_events", event(2, org_id="org-x"))
    numbered.take("usage_events", event(3))
    answers = live(numbered)
    answers.follow(2)

    report = answers.follow()

    assert set(report.stale) == {"gold.by_number", "gold.over_it"}
    assert "does not run" in report.stale["gold.by_number"]
    found, expected = answers.served(), answers.expected(2)
    assert {name: found.pop(name) == expected[name] for name in report.stale} == {
        "gold.by_number": True,
        "gold.over_it": True,
    }
    stored = answers.store.answers()
    assert stored is not None
    assert stored.details["stale"] == {"gold.by_number": 2, "gold.over_it": 2}
    taken_at = numbered.log.read(2).ingest_ts
    assert stored.details["stale_ingest_ts"]["gold.by_number"] == taken_at
    assert costs(answers) == {"org-1": Decimal("0.2"), "org-x": Decimal("0.1")}


def test_a_sum_that_does_not_fit_stops_its_table_only(numbered: House) -> None:
    numbered.take("usage_events", event(1, cost_usd_increment=Decimal(90_000_000)))
    numbered.take("usage_events", event(2, cost_usd_increment=Decimal(90_000_000)))
    answers = live(numbered)
    answers.follow(2)

    report = answers.follow()

    assert set(report.stale) == {"gold.by_number", "gold.over_it"}
    assert "digits" in report.stale["gold.by_number"]
    assert costs(answers) == {"org-1": Decimal(180_000_000)}
    assert [row["event_count"] for row in answers.served()["gold.by_number"]] == [1]


def test_a_judged_file_that_is_not_what_was_written_is_refused(house: House) -> None:
    filled(house)
    answers = live(house)
    path = house.root / "judged/usage_events/000000000004.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(DamageError, match="not what was written"):
        answers.follow()

    assert answers.store.stamp() == answers.stamp(0)


def test_entries_that_the_view_forgot_are_not_entries_without_rows(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow()
    before = answers.served()
    position = house.log.stamp().position + 1
    entry = house._append("usage_events", "data")
    house.state.stage(position, [JudgedFile(position, "usage_events", 1, 1, "")])
    house.state.reload()

    with pytest.raises(EnvironmentFailureError, match="not applied any more"):
        answers.speed.catch_up(house.log.stamp(entry))

    assert answers.served() == before
    assert answers.store.stamp() == answers.stamp(position - 1)


def test_answers_of_another_log_are_refused(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.follow(4)
    other = replace(answers.stamp(4), head="0" * 64)
    change = LiveChange(answers.stamp(4), other, datetime(2025, 9, 1, tzinfo=UTC), (), "{}")
    assert answers.store.advance(change)

    with pytest.raises(DamageError, match="not the one"):
        answers.fresh().catch_up(house.log.stamp())


@pytest.mark.parametrize("other", [False, True], ids=["this process", "another process"])
def test_a_stale_table_follows_again_from_the_next_epoch(numbered: House, other: bool) -> None:
    numbered.take("usage_events", event(1))
    numbered.take("usage_events", event(2, cost_usd_increment=Decimal(99_999_999)))
    answers = live(numbered)
    answers.follow()
    assert set(answers.follow().stale) == set()
    for number in (3, 4):
        numbered.take("usage_events", event(number, cost_usd_increment=Decimal("0.5")))
    assert set(answers.follow().stale) == {"gold.by_number", "gold.over_it"}
    numbered.take("usage_events", event(5, cost_usd_increment=Decimal(-99_999_999)))
    numbered.take("usage_events", event(6, org_id="org-2"))
    answers.follow()

    answers.publish(6)
    if other:
        answers.speed = answers.fresh()
    numbered.take("usage_events", event(7, org_id="org-2"))
    report = answers.follow()

    assert report.stale == {}
    assert answers.served() == answers.expected()


def test_a_stale_table_that_fails_again_stands_where_the_epoch_stands(numbered: House) -> None:
    numbered.take("usage_events", event(1))
    answers = live(numbered)
    answers.follow()
    numbered.take("usage_events", event(2))
    numbered.take("usage_events", event(3, org_id="org-x"))
    answers.group_rows = 1
    answers.speed = answers.fresh()
    assert set(answers.follow().stale) == {"gold.by_number", "gold.over_it"}
    assert stale(answers) == {"gold.by_number": 3, "gold.over_it": 3}

    numbered.take("usage_events", event(4))
    answers.publish(3)
    answers.follow()

    assert stale(answers) == {"gold.by_number": 3, "gold.over_it": 3}
    assert answers.served()["gold.by_number"] == answers.expected(3)["gold.by_number"]


def stale(answers: Live) -> dict[str, int]:
    stored = answers.store.answers()
    assert stored is not None
    found: dict[str, int] = stored.details["stale"]
    return found


def test_the_first_epoch_waits_while_a_batch_publishes_one(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.speed.batch_lock = house.root / ".locks/batch"

    with one_writer(answers.speed.batch_lock):
        report = answers.follow()

    assert (report.stamp.position, answers.store.answers()) == (0, None)
    assert answers.follow().stamp == house.log.stamp()


def test_answers_that_do_not_say_their_models_are_refused(house: House) -> None:
    filled(house)
    answers = live(house)
    answers.store.publish("old", answers.stamp(2), ingest_ts=TAKEN, details="{}")

    with pytest.raises(DamageError, match="which models"):
        answers.follow()
