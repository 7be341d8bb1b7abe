"""Dependencies parsed from SQL: order, circles, what a bad file stops, what a change touches."""

from __future__ import annotations

import pyarrow as pa

from meterhouse.models.graph import models_of
from unit.models.samples import DAILY, SOURCES, load, problem, text

TOTAL = """SELECT
    daily.org_id::VARCHAR AS org_id,
    daily.cost_usd::DECIMAL(38, 9) AS cost_usd
FROM {table} AS daily
"""


def reading(table: str) -> str:
    return text(TOTAL.format(table=table))


def test_models_come_after_those_they_read() -> None:
    models = load(
        gold_a=reading("gold.b"), gold_b=reading("gold.c"), gold_c=text(DAILY, kind="mergeable")
    )

    assert models.order == ("gold.c", "gold.b", "gold.a")
    assert models.closure(["gold.b"]) == ("gold.c", "gold.b")
    assert models.dependants(["gold.c"]) == ("gold.b", "gold.a")
    assert models.dependants(["bronze.usage"]) == models.order
    assert models.sources(["gold.a"]) == ("bronze.usage",)


def test_a_name_of_a_cte_is_not_a_table() -> None:
    sql = "WITH usage AS (SELECT event.org_id FROM bronze.usage AS event)\n" + (
        "SELECT\n    usage.org_id::VARCHAR AS org_id\nFROM usage\n"
    )

    models = load(gold_a=text(sql))

    assert models["gold.a"].depends_on == ("bronze.usage",)


def test_a_bad_file_stops_itself_and_what_reads_it_and_nothing_else() -> None:
    models = load(
        gold_bad=text("SELECT\n    now()::VARCHAR AS org_id\n"),
        gold_reader=reading("gold.bad"),
        gold_reader_of_reader=reading("gold.reader"),
        gold_good=text(DAILY, kind="mergeable"),
    )

    assert models.order == ("gold.good",)
    assert sorted(str(one).splitlines()[0] for one in models.problems) == [
        'model "gold.bad": now() depends on when it runs; running it again must give the same',
        'model "gold.reader" reads "gold.bad", which is not valid',
        'model "gold.reader_of_reader" reads "gold.reader", which is not valid',
    ]


def test_a_circle_is_named_and_its_readers_too() -> None:
    models = load(gold_a=reading("gold.b"), gold_b=reading("gold.a"), gold_c=reading("gold.b"))

    assert sorted(str(one).splitlines()[0] for one in models.problems) == [
        'model "gold.a" reads itself through gold.b',
        'model "gold.b" reads itself through gold.a',
        'model "gold.c" reads "gold.b", which is not valid',
    ]


def test_an_unknown_table_names_the_nearest_and_the_line() -> None:
    found = problem(gold_a=reading("bronze.usages"))

    assert 'did you mean "bronze.usage"?' in found
    assert "models/gold/a.sql:14" in found


def test_silver_does_not_read_gold() -> None:
    found = load(silver_a=reading("gold.b"), gold_b=text(DAILY, kind="mergeable")).problems

    assert "data moves from silver to gold only" in str(found[0])


def test_a_hash_changes_with_the_text_and_with_what_is_read() -> None:
    before = load(gold_a=reading("gold.b"), gold_b=text(DAILY, kind="mergeable"))
    after = load(gold_a=reading("gold.b"), gold_b=text(DAILY + "-- else\n", kind="mergeable"))

    assert before["gold.a"].sha256 != after["gold.a"].sha256
    assert before["gold.b"].sha256 != after["gold.b"].sha256
    assert (
        before["gold.a"].sha256
        == load(gold_a=reading("gold.b"), gold_b=text(DAILY, kind="mergeable"))["gold.a"].sha256
    )


def test_a_mergeable_model_knows_how_its_columns_merge() -> None:
    sql = DAILY.replace("FROM", "    , min(event.cost_usd)::DECIMAL(38, 9) AS least\nFROM")

    model = load(gold_a=text(sql, kind="mergeable"))["gold.a"]

    assert model.merge == {"cost_usd": "sum", "event_count": "sum", "least": "min"}
    assert model.count_column == "event_count"
    assert model.fact == "bronze.usage"


def test_ratio_columns_are_not_read_by_other_models() -> None:
    rated = text(DAILY, kind="mergeable", columns="org_id cost_usd event_count rate").replace(
        "--- */", "ratios: {rate: cost_usd / event_count}\n--- */"
    )
    reader = text("SELECT\n    rated.rate::DECIMAL(38, 6) AS rate\nFROM gold.rated\n", grain="rate")

    models = load(gold_rated=rated, gold_reader=reader)

    assert "computed once, after the merge" in str(models.problems[0])
    assert models["gold.rated"].stored_columns == ("org_id", "cost_usd", "event_count")
    assert [column.name for column in models["gold.rated"].columns][-1] == "rate"


def test_the_same_texts_are_built_once() -> None:
    given = {"gold.c": (text(DAILY, kind="mergeable"), "c.sql")}
    first = models_of(given, SOURCES)

    assert models_of(dict(given), dict(SOURCES)) is first
    moved = models_of({"gold.c": (given["gold.c"][0], "elsewhere.sql")}, SOURCES)
    assert (moved["gold.c"].path, first["gold.c"].path) == ("elsewhere.sql", "c.sql")
    other = {**SOURCES, "bronze.usage": SOURCES["bronze.usage"].remove(2)}
    assert models_of(given, other).problems, "a column that is gone is missed"
    wider = SOURCES["bronze.usage"].set(2, pa.field("cost_usd", pa.decimal128(38, 12)))
    assert models_of(given, {**SOURCES, "bronze.usage": wider}) is not first
    assert models_of(given, SOURCES) is first


def test_only_the_last_few_are_kept_and_none_with_problems() -> None:
    given = {"gold.c": (text(DAILY, kind="mergeable"), "c.sql")}
    bad = {"gold.c": (text("SELECT\n    now()::VARCHAR AS org_id\n"), "c.sql")}
    first = models_of(given, SOURCES)

    assert models_of(bad, SOURCES) is not models_of(bad, SOURCES)
    assert models_of(given, SOURCES) is first
    for number in range(4):
        models_of({f"gold.c{number}": given["gold.c"]}, SOURCES)
    assert models_of(given, SOURCES) is not first
