"""Audits compare with any table of the project, in whatever order the models are computed."""

from __future__ import annotations

from unit.models.samples import DAILY, load, problem, text

SAME = "audits:\n  - same_total: {cost_usd: gold.b.cost_usd}\n"


def test_an_audit_may_read_a_model_that_comes_later_in_the_order() -> None:
    models = load(
        gold_a=text(DAILY, kind="mergeable", more=SAME), gold_b=text(DAILY, kind="mergeable")
    )

    assert models.problems == ()
    assert set(models.by_name) == {"gold.a", "gold.b"}


def test_an_audit_of_a_table_that_does_not_exist_names_the_nearest() -> None:
    found = problem(
        gold_a=text(DAILY, kind="mergeable", more=SAME.replace("gold.b.", "gold.daly.")),
        gold_daily=text(DAILY, kind="mergeable"),
    )

    assert 'reads "gold.daly", which does not exist' in found
    assert 'did you mean "gold.daily"?' in found


def test_what_is_audited_against_a_broken_model_waits_for_it_with_its_readers() -> None:
    reader = DAILY.replace("bronze.usage", "gold.a")
    models = load(
        gold_a=text(DAILY, kind="mergeable", more=SAME),
        gold_b="SELECT 1",
        gold_c=text(reader.replace("count(*)", "sum(event.event_count)")),
        gold_d=text(DAILY, kind="mergeable"),
    )

    assert list(models.by_name) == ["gold.d"]
    said = [problem.what for problem in models.problems]
    assert 'model "gold.a" reads "gold.b", which is not valid' in said
    assert 'model "gold.c" reads "gold.a", which is not valid' in said
