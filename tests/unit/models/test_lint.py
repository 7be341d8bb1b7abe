"""What no model may say: each refusal with its file, its line and its reason."""

from __future__ import annotations

import pytest

from unit.models.samples import DAILY, ENRICHED, load, problem, text


def view(expression: str, *, tail: str = "") -> str:
    return text(
        "SELECT\n"
        "    event.org_id::VARCHAR AS org_id,\n"
        f"    {expression} AS value\n"
        f"FROM bronze.usage AS event{tail}\n"
    )


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("now()::VARCHAR", "depends on when it runs"),
        ("current_date::DATE", "depends on when it runs"),
        ("current_timestamp::TIMESTAMPTZ", "depends on when it runs"),
        ("today()::DATE", "depends on when it runs"),
        ("random()::BIGINT", "another result each time"),
        ("uuid()::VARCHAR", "another result each time"),
        ("avg(event.cost_usd)::DECIMAL(38, 9)", "floating point"),
        ("stddev_pop(event.cost_usd)::DECIMAL(38, 9)", "floating point"),
        ("median(event.cost_usd)::DECIMAL(38, 9)", "floating point"),
        ("quantile_cont(event.cost_usd, 0.99)::DECIMAL(38, 9)", "floating point"),
        ("sqrt(event.cost_usd)::DECIMAL(38, 9)", "floating point"),
        ("list_avg([event.cost_usd])::DECIMAL(38, 9)", "floating point"),
        ("sum(event.cost_usd::DOUBLE)::DECIMAL(38, 9)", "floating point"),
        ("(event.cost_usd * 1e-3)::DECIMAL(38, 9)", "floating point"),
        ("(event.cost_usd / 2)::DECIMAL(38, 9)", "division"),
        ("first(event.org_id)::VARCHAR", "order of rows"),
        ("any_value(event.org_id)::VARCHAR", "order of rows"),
        ("arg_max(event.org_id, event.cost_usd)::VARCHAR", "order of rows"),
        ("list(event.org_id)::VARCHAR[]", "order of rows"),
        ("string_agg(event.org_id, ',')::VARCHAR", "order of rows"),
        ("(row_number() OVER (PARTITION BY event.org_id))::BIGINT", "order of rows"),
        ("(lag(event.org_id) OVER ())::VARCHAR", "order of rows"),
        ("getenv('HOME')::VARCHAR", "outside the lake"),
    ],
)
def test_an_expression_that_would_not_be_exact_or_repeatable_is_refused(
    expression: str, reason: str
) -> None:
    found = problem(gold_example=view(expression))

    assert reason in found
    assert "models/gold/example.sql:13" in found
    assert "fix:" in found


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT * FROM bronze.usage", "SELECT *"),
        ("SELECT event.* FROM bronze.usage AS event", "SELECT *"),
        ("SELECT 1::BIGINT AS a FROM read_csv('/etc/passwd')", "outside the lake"),
        ("SELECT 1::BIGINT AS a FROM glob('*')", "outside the lake"),
        ("SELECT 1::BIGINT AS a FROM bronze.usage LIMIT 3", "LIMIT without ORDER BY"),
        ("SELECT DISTINCT ON (org_id) 1::BIGINT AS a FROM bronze.usage", "DISTINCT ON"),
        ("SELECT 1::BIGINT AS a FROM bronze.usage TABLESAMPLE 3 ROWS", "a sample"),
        ("SELECT 1::BIGINT AS a FROM other.bronze.usage", "another database"),
        ("SELECT 1::BIGINT AS a; SELECT 2::BIGINT AS a", "not one SELECT"),
        ("DELETE FROM bronze.usage", "not one SELECT"),
        ("SELECT FROM WHERE", "not valid SQL"),
        ("SELECT 1::BIGINT AS a FROM 'secret.parquet'", "does not exist"),
    ],
)
def test_a_statement_that_reads_or_keeps_the_wrong_rows_is_refused(sql: str, reason: str) -> None:
    assert reason in problem(gold_example=text(sql, grain="a", columns="a"))


@pytest.mark.parametrize(
    "expression",
    [
        "list(event.org_id ORDER BY event.org_id)::VARCHAR[]",
        "list_sort(list(event.org_id))::VARCHAR[]",
        "(row_number() OVER (PARTITION BY event.org_id ORDER BY event.event_id))::BIGINT",
        "(lag(event.org_id) OVER named)::VARCHAR",
        "(count(*) OVER (PARTITION BY event.org_id))::BIGINT",
        "(event.cost_usd * 0.001)::DECIMAL(38, 9)",
        "(7 // 2)::BIGINT",
        "list_transform([1, 2], lambda item: item + 1)::VARCHAR[]",
    ],
)
def test_exact_and_repeatable_expressions_pass(expression: str) -> None:
    tail = " WINDOW named AS (ORDER BY event.event_id)" if "named" in expression else ""

    assert load(gold_example=view(expression, tail=tail)).problems == ()


def test_a_projection_needs_a_type_a_name_and_a_meaning() -> None:
    assert "no type or no name" in problem(gold_example=view("event.cost_usd"))
    assert "type HUGEINT, which no table holds" in problem(gold_example=view("1::HUGEINT"))
    assert 'column "cost_usd" is not in the header' in problem(
        gold_example=text(DAILY, kind="mergeable", columns="org_id event_count")
    )
    assert 'did you mean "cost_usd"?' in problem(
        gold_example=text(DAILY, kind="mergeable", columns="org_id cost_usd event_count cost_us")
    )


def test_an_unknown_column_names_the_nearest() -> None:
    found = problem(gold_example=view("event.cost_us::DECIMAL(38, 9)"))

    assert '"bronze.usage" has no column "cost_us"' in found
    assert 'did you mean "cost_usd"?' in found


MERGEABLE = {
    "an average of sums": (
        "count(*)::BIGINT",
        "(sum(event.cost_usd) - 1)::DECIMAL(38, 9)",
        "not a bare count, sum, min or max",
    ),
    "distinct": ("count(*)", "count(DISTINCT event.event_id)", "DISTINCT"),
    "null instead of zero": ("coalesce(sum(event.cost_usd), 0)", "sum(event.cost_usd)", "NULL"),
    "having": ("GROUP BY event.org_id", "GROUP BY event.org_id HAVING count(*) > 1", "HAVING"),
    "no group": ("GROUP BY event.org_id", "", "GROUP BY"),
    "rollup": ("GROUP BY event.org_id", "GROUP BY ROLLUP (event.org_id)", "name its keys"),
    "no count": ("count(*)", "count(event.event_id)", "without count(*)"),
    "ungrouped column": ("event.org_id::VARCHAR", "event.event_id::VARCHAR", "neither a key"),
    "default for min": ("sum(event.cost_usd)", "min(event.cost_usd)", "not a bare"),
    "join": (
        "AS event\nGROUP",
        "AS event LEFT JOIN bronze.orgs AS org ON event.org_id = org.org_id\nGROUP",
        "one fact table",
    ),
    "aggregate of an aggregate": (
        "FROM bronze.usage AS event",
        "FROM (SELECT DISTINCT event_id, org_id, cost_usd FROM bronze.usage) AS event",
        "aggregate of an aggregate",
    ),
    "other grain": ("GROUP BY event.org_id", "GROUP BY event.org_id, event.event_id", "groups by"),
}


@pytest.mark.parametrize(("old", "new", "reason"), MERGEABLE.values(), ids=MERGEABLE)
def test_a_mergeable_model_that_would_not_add_up_is_refused(
    old: str, new: str, reason: str
) -> None:
    assert old in DAILY
    found = load(gold_example=text(DAILY.replace(old, new), kind="mergeable")).problems

    assert any(reason in str(one) for one in found), [str(one) for one in found]


def test_facts_are_not_aggregated_by_an_attribute_of_a_dimension() -> None:
    enriched = text(ENRICHED, kind="rows", grain="event_id")
    by_plan = DAILY.replace("bronze.usage", "silver.enriched").replace("org_id", "plan_tier")
    by_org = DAILY.replace("bronze.usage", "silver.enriched")

    refused = load(
        silver_enriched=enriched, gold_plan=text(by_plan, kind="mergeable", grain="plan_tier")
    )
    models = load(silver_enriched=enriched, gold_org=text(by_org, kind="mergeable"))

    assert '"plan_tier" of silver.enriched is an attribute of a dimension' in str(
        refused.problems[0]
    )
    assert models.problems == ()
    assert models["silver.enriched"].own_columns == ("event_id", "org_id", "cost_usd")
    assert models.base_fact("gold.org") == "bronze.usage"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("LEFT JOIN", "JOIN", "LEFT JOIN"),
        ("org.org_id\n", "org.org_id\nWHERE org.plan_tier = 'pro'\n", "WHERE looks at a dimension"),
        ("org.org_id\n", "org.org_id\nLIMIT 3\n", "LIMIT"),
        ("event.cost_usd::", "max(event.cost_usd)::", "aggregates"),
    ],
)
def test_a_rows_model_gives_each_fact_one_row_whatever_the_dimensions_hold(
    old: str, new: str, reason: str
) -> None:
    changed = text(ENRICHED.replace(old, new), kind="rows", grain="event_id")

    assert reason in str(load(silver_enriched=changed).problems[0])


def test_min_and_max_over_versions_are_refused() -> None:
    sql = (
        "SELECT\n    i.org_id::VARCHAR AS org_id,\n    max(i.amount_usd)::DECIMAL(38, 9) AS most,\n"
        "    count(*)::BIGINT AS invoice_count\n"
        "FROM bronze.invoices_current AS i GROUP BY i.org_id"
    )

    assert "can't be taken back (most)" in problem(gold_example=text(sql, kind="mergeable"))


def test_serving_keys_must_be_the_grain() -> None:
    more = "serving: {partition_key: [org_id], clustering: [cost_usd DESC]}\n"

    assert "together must be the grain" in problem(
        gold_example=text(DAILY, kind="mergeable", more=more)
    )


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("random()::BIGINT", "random()"),
        ("any_value(event.org_id)::VARCHAR", "any_value()"),
        ("arg_max(event.org_id, event.cost_usd)::VARCHAR", "arg_max()"),
        ("quantile_cont(event.cost_usd, 0.5)::DECIMAL(38, 9)", "quantile_cont()"),
        ("power(event.cost_usd, 2)::DECIMAL(38, 9)", "power()"),
    ],
)
def test_a_refused_function_is_named_as_the_author_wrote_it(expression: str, written: str) -> None:
    assert f": {written} " in problem(gold_example=view(expression))


def test_one_mistake_is_reported_once() -> None:
    twice = view("(sum(event.cost_usd::DOUBLE) + sum(event.cost_usd::DOUBLE))::DECIMAL(38, 9)")

    found = load(gold_example=twice).problems

    assert len({str(error) for error in found}) == len(found) == 1


@pytest.mark.parametrize(
    ("summed", "kept", "places"),
    [
        ("event.cost_usd", "DECIMAL(38, 2)", 9),
        ("event.cost_usd", "BIGINT", 9),
        ("-(event.cost_usd * 0.25)", "DECIMAL(38, 9)", 11),
        ("CASE WHEN event.org_id > 'a' THEN event.cost_usd END", "DECIMAL(38, 6)", 9),
        ("event.cost_usd::DECIMAL(38, 4) + 1.5", "DECIMAL(38, 2)", 4),
    ],
)
def test_a_sum_that_would_be_rounded_in_parts_is_refused(
    summed: str, kept: str, places: int
) -> None:
    old = "sum(event.cost_usd), 0)::DECIMAL(38, 9)"
    sql = DAILY.replace(old, f"sum({summed}), 0)::{kept}")

    found = problem(gold_example=text(sql, kind="mergeable"))

    assert f'"cost_usd" is a sum with {places} decimal places, rounded to' in found


@pytest.mark.parametrize(
    ("summed", "kept"),
    [
        ("event.cost_usd::DECIMAL(38, 2)", "DECIMAL(38, 2)"),
        ("coalesce(event.cost_usd, 0)", "DECIMAL(38, 9)"),
        ("length(event.org_id)", "BIGINT"),
    ],
)
def test_a_sum_with_all_its_places_passes(summed: str, kept: str) -> None:
    old = "sum(event.cost_usd), 0)::DECIMAL(38, 9)"

    models = load(
        gold_example=text(DAILY.replace(old, f"sum({summed}), 0)::{kept}"), kind="mergeable")
    )

    assert models.problems == ()
