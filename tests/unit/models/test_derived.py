"""Mergeable models over mergeable ones: what adds up is proved from the SQL, or refused."""

from __future__ import annotations

import pytest

from unit.models.samples import DAILY, load, problem, text

BELOW = text(
    DAILY.replace(
        "    count(*)",
        "    min(event.cost_usd)::DECIMAL(38, 9) AS least,\n    count(*)",
    )
    .replace(
        "event.org_id::VARCHAR AS org_id",
        "event.event_id::VARCHAR AS event_id,\n    event.org_id::VARCHAR AS org_id",
    )
    .replace("GROUP BY event.org_id", "GROUP BY event.event_id, event.org_id"),
    kind="mergeable",
    grain="event_id, org_id",
)
TOTAL = """SELECT
    part.org_id::VARCHAR AS org_id,
    coalesce(sum(part.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    min(part.least)::DECIMAL(38, 9) AS least,
    coalesce(sum(part.event_count), 0)::BIGINT AS events
FROM gold.below AS part
GROUP BY part.org_id
"""


def test_sums_of_sums_and_minima_of_minima_add_up() -> None:
    models = load(gold_below=BELOW, gold_total=text(TOTAL, kind="mergeable"))

    assert models.problems == ()
    total = models["gold.total"]
    assert dict(total.merge) == {"cost_usd": "sum", "least": "min", "events": "sum"}
    assert (total.fact, total.count_column) == ("gold.below", "events")
    assert models.base_fact("gold.total") == "bronze.usage"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FROM gold.below AS part", "FROM gold.below AS part\nWHERE part.org_id <> 'x'"),
        ("sum(part.cost_usd)", "sum(part.cost_usd) FILTER (part.event_id > 'e')"),
        ("FROM gold.below AS part", "FROM gold.below AS part CROSS JOIN range(3) AS shift(n)"),
        (
            "FROM gold.below AS part",
            "FROM (SELECT org_id, cost_usd, least, event_count FROM gold.below UNION ALL "
            "SELECT org_id, cost_usd, least, event_count FROM gold.below) AS part",
        ),
        (
            "FROM gold.below AS part",
            "FROM gold.below AS part CROSS JOIN (VALUES (1), (2)) AS twice(n)",
        ),
    ],
    ids=["a filter by keys", "a filtered sum", "constants", "twice", "values"],
)
def test_keys_decide_what_is_added_up_where(old: str, new: str) -> None:
    models = load(gold_below=BELOW, gold_total=text(TOTAL.replace(old, new), kind="mergeable"))

    assert [str(one) for one in models.problems] == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sum(part.cost_usd)", "sum(2 * part.cost_usd)", '"cost_usd" of gold.below is merged by'),
        ("sum(part.cost_usd)", "sum(part.least)", "merged by min"),
        ("min(part.least)", "min(part.cost_usd)", "merged by sum"),
        ("min(part.least)", "max(part.least)", "merged by min"),
        (
            "FROM gold.below AS part",
            "FROM gold.below AS part\nWHERE part.cost_usd > 1",
            "it decides no rows",
        ),
        ("sum(part.cost_usd)", "sum(part.cost_usd) FILTER (part.least > 0)", "it decides no rows"),
        ("sum(part.event_count)", "count(part.event_count)", "rows of gold.below are merged"),
        ("coalesce(sum(part.event_count), 0)", "count(*)", "rows of gold.below are merged"),
        ("sum(part.event_count)", "sum(part.event_count) FILTER (part.org_id > 'a')", "to go"),
        ("sum(part.cost_usd)", "sum(part.cost_usd::DECIMAL(38, 2))", "part of an expression"),
        (
            "FROM gold.below AS part",
            "FROM (SELECT org_id, event_id, least AS cost_usd, least, event_count "
            "FROM gold.below UNION ALL "
            "SELECT org_id, event_id, cost_usd, least, event_count FROM gold.below) AS part",
            "merged by",
        ),
        (
            "FROM gold.below AS part",
            "FROM gold.below AS part JOIN bronze.orgs AS org ON org.org_id = part.org_id",
            "this one reads 2",
        ),
        (
            "FROM gold.below AS part",
            "FROM gold.below AS part CROSS JOIN gold.below AS other",
            "across a join",
        ),
    ],
)
def test_what_would_not_add_up_is_refused_with_its_line(old: str, new: str, said: str) -> None:
    assert old in TOTAL
    found = load(gold_below=BELOW, gold_total=text(TOTAL.replace(old, new), kind="mergeable"))

    assert any(said in str(one) for one in found.problems), [str(one) for one in found.problems]
    assert all("models/gold/total.sql:" in one.where for one in found.problems)


def test_a_total_of_a_batch_only_table_can_not_be_live() -> None:
    below = BELOW.replace("kind: mergeable", "kind: mergeable\nbatch_only: An example.")

    found = problem(gold_below=below, gold_total=text(TOTAL, kind="mergeable"))

    assert "its fact gold.below is computed by a batch only" in found


def test_a_subquery_may_look_at_any_fact() -> None:
    sql = DAILY.replace(
        "FROM bronze.usage AS event",
        "FROM bronze.usage AS event\n"
        "WHERE event.event_id IN (SELECT other.event_id FROM bronze.usage AS other)",
    )

    found = problem(gold_daily=text(sql, kind="mergeable"))

    assert "a subquery may look at any fact" in found
