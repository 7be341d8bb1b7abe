"""Which gold models follow the log, and by which keys: proved from the SQL, or batch-only."""

from __future__ import annotations

import pytest

from meterhouse.errors import ModelError
from meterhouse.models.graph import Models
from unit.models.samples import load, text

DAY = """SELECT
    event.org_id::VARCHAR AS org_id,
    event.event_id::VARCHAR AS event_id,
    coalesce(sum(event.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM bronze.usage AS event
GROUP BY event.org_id, event.event_id
"""
PLANS = (
    DAY.replace("event_id", "plan_tier")
    .replace("bronze.usage", "bronze.orgs")
    .replace("coalesce(sum(event.cost_usd), 0)::DECIMAL(38, 9)", "count(event.org_id)::BIGINT")
)


def views(sql: str, grain: str = "org_id", **more: str) -> Models:
    """Return models with a live view; every column's end is AS name at a line's end."""
    return load(
        gold_day=text(DAY, kind="mergeable", grain="org_id, event_id"),
        gold_plans=text(PLANS, kind="mergeable", grain="org_id, plan_tier"),
        gold_view=text(sql, grain=grain, live=True),
        **more,
    )


def refused(sql: str, grain: str = "org_id") -> str:
    (found,) = views(sql, grain).problems
    assert isinstance(found, ModelError)
    return str(found)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    sum(day.cost_usd)::DECIMAL(38, 9) AS c\n"
        "FROM gold.day AS day GROUP BY day.org_id",
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    1::BIGINT AS c\n"
        "FROM gold.day AS day GROUP BY 1",
        "SELECT DISTINCT\n    day.org_id::VARCHAR AS org_id,\n    1::BIGINT AS c\n"
        "FROM gold.day AS day",
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    max(plans.cost_usd)::BIGINT AS c\n"
        "FROM gold.day AS day JOIN gold.plans AS plans ON plans.org_id = day.org_id\n"
        "GROUP BY ALL",
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    max(plans.cost_usd)::BIGINT AS c\n"
        "FROM gold.day AS day LEFT JOIN gold.plans AS plans USING (org_id)\n"
        "GROUP BY day.org_id",
        "WITH ranked AS (SELECT day.org_id, row_number() OVER part AS place FROM gold.day AS day\n"
        "WINDOW part AS (PARTITION BY day.org_id ORDER BY day.event_id))\n"
        "SELECT\n    ranked.org_id::VARCHAR AS org_id,\n    ranked.place::BIGINT AS c\n"
        "FROM ranked WHERE ranked.place = 1",
        "SELECT\n    both_of.org_id::VARCHAR AS org_id,\n    count(*)::BIGINT AS c\n"
        "FROM (SELECT org_id FROM gold.day UNION ALL SELECT org_id FROM gold.plans) AS both_of\n"
        "GROUP BY both_of.org_id",
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    day.event_count::BIGINT AS c\n"
        "FROM gold.day AS day ANTI JOIN gold.plans AS plans ON day.org_id = plans.org_id",
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    part.n::BIGINT AS c\n"
        "FROM gold.day AS day CROSS JOIN range(3) AS part(n)",
    ],
    ids=[
        "group by",
        "by number",
        "distinct",
        "join",
        "left join",
        "window",
        "union",
        "anti join",
        "constants",
    ],
)
def test_a_column_that_passes_unchanged_tells_which_rows_change(sql: str) -> None:
    models = views(sql)

    assert [str(one) for one in models.problems] == []
    assert models["gold.view"].live_by == ("org_id",)
    assert {column for columns in models["gold.view"].live_from.values() for column in columns} == {
        "org_id"
    }


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "SELECT\n    day.org_id::VARCHAR AS org_id\nFROM gold.day AS day\n"
            "ORDER BY day.cost_usd LIMIT 3",
            "LIMIT looks at all rows",
        ),
        (
            "SELECT\n    upper(day.org_id)::VARCHAR AS org_id\nFROM gold.day AS day",
            '"org_id" is computed',
        ),
        (
            "SELECT\n    day.org_id::VARCHAR AS org_id,\n"
            "    (rank() OVER (ORDER BY day.cost_usd))::BIGINT AS n\nFROM gold.day AS day",
            "not in PARTITION BY",
        ),
        (
            "SELECT\n    day.org_id::VARCHAR AS org_id,\n    max(o.cost_usd)::DECIMAL(38, 9) AS c\n"
            "FROM gold.day AS day CROSS JOIN gold.day AS o GROUP BY day.org_id",
            '"o" is not joined by "org_id"',
        ),
        (
            "SELECT\n    p.org_id::VARCHAR AS org_id,\n    day.event_count::BIGINT AS c\n"
            "FROM gold.day AS day LEFT JOIN gold.plans AS p ON p.org_id = day.org_id",
            "may be missing",
        ),
        (
            "SELECT\n    day.org_id::VARCHAR AS org_id,\n    p.cost_usd::BIGINT AS c\n"
            "FROM gold.day AS day FULL JOIN gold.plans AS p ON p.org_id = day.org_id",
            "a FULL JOIN keeps rows",
        ),
        (
            "SELECT\n    day.org_id::VARCHAR AS org_id\nFROM gold.day AS day\n"
            "WHERE day.cost_usd = (SELECT max(o.cost_usd) FROM gold.day AS o)",
            "a subquery may look at any row",
        ),
        (
            "SELECT\n    event.org_id::VARCHAR AS org_id,\n    count(*)::BIGINT AS c\n"
            "FROM bronze.usage AS event GROUP BY event.org_id",
            "the live answers don't hold bronze.usage",
        ),
        (
            "SELECT\n    day.cost_usd::VARCHAR AS org_id,\n    count(*)::BIGINT AS c\n"
            "FROM gold.day AS day GROUP BY day.cost_usd",
            "does not tell the rows of gold.day apart",
        ),
        (
            "SELECT\n    x.org_id::VARCHAR AS org_id\nFROM (SELECT org_id FROM gold.day UNION ALL "
            "SELECT event_id FROM gold.day) AS x",
            "gold.day is read by its org_id and by its event_id",
        ),
        (
            "SELECT\n    day.org_id::VARCHAR AS org_id,\n    max(o.cost_usd)::DECIMAL(38, 9) AS c\n"
            "FROM gold.day AS day JOIN gold.day AS o ON day.org_id = o.org_id OR o.org_id = 'x'\n"
            "GROUP BY day.org_id",
            '"o" is not joined',
        ),
    ],
)
def test_a_view_that_looks_at_other_rows_is_refused(sql: str, said: str) -> None:
    found = refused(sql)

    assert said in found
    assert "batch_only: …" in found
    assert "models/gold/view.sql:" in found


def test_the_line_is_that_of_the_clause_that_shows_it() -> None:
    sql = (
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    count(*)::BIGINT AS c\n"
        "FROM gold.day AS day\nGROUP BY\n    day.event_id, day.org_id || 'x'"
    )
    (found,) = views(sql).problems
    line = text(sql, live=True).splitlines().index("    day.event_id, day.org_id || 'x'") + 1

    assert found.where == f"models/gold/view.sql:{line}"


def test_a_view_over_a_live_view_is_live_by_the_table_below() -> None:
    one = (
        "SELECT\n    day.org_id::VARCHAR AS org_id,\n    count(*)::BIGINT AS c\n"
        "FROM gold.day AS day GROUP BY day.org_id"
    )
    over = "SELECT\n    v.org_id::VARCHAR AS org_id,\n    v.c::BIGINT AS c\nFROM gold.view AS v"

    models = views(one, gold_over=text(over, live=True))

    assert dict(models["gold.over"].live_from) == {"gold.day": ("org_id",)}


def test_a_view_over_a_batch_only_table_has_to_be_batch_only_too() -> None:
    models = views(
        "SELECT\n    v.org_id::VARCHAR AS org_id\nFROM gold.later AS v",
        gold_later=text("SELECT\n    day.org_id::VARCHAR AS org_id\nFROM gold.day AS day"),
    )

    assert "the live answers don't hold gold.later" in str(models.problems[0])


def test_rows_in_gold_are_batch_only() -> None:
    rows = "SELECT\n    event.event_id::VARCHAR AS event_id\nFROM bronze.usage AS event\n"

    (found,) = load(gold_rows=text(rows, kind="rows", grain="event_id")).problems
    said = "kind: rows\nbatch_only: One row for each event."
    allowed = load(gold_rows=text(rows, kind="rows", grain="event_id").replace("kind: rows", said))

    assert "merged rows, not one for each fact" in str(found)
    assert allowed.problems == ()
    assert not allowed["gold.rows"].live


KEPT = "serving: {partition_key: [org_id], clustering: [event_id], keep: event_id}\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (KEPT, 'keep names "event_id", which is no TIMESTAMPTZ or DATE of the grain'),
        (KEPT.replace("keep: event_id", "keep: [a]"), "give keep one column of event time"),
        (KEPT.replace("keep:", "keeps:"), "perhaps keep: COLUMN"),
    ],
)
def test_the_column_of_event_time_has_to_be_one(more: str, said: str) -> None:
    found = load(gold_day=text(DAY, kind="mergeable", grain="org_id, event_id", more=more)).problems

    assert said in str(found[0])
