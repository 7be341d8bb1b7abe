"""The lineage drawing: every read an arrow, every layer a box."""

from __future__ import annotations

from meterhouse.models.lineage import dot, edges, mermaid
from unit.models.samples import DAILY, load, text

READER = "SELECT\n    daily.org_id::VARCHAR AS org_id\nFROM gold.daily AS daily\n"
MODELS = load(gold_daily=text(DAILY, kind="mergeable"), gold_reader=text(READER))


def test_edges_are_what_the_sql_reads() -> None:
    assert edges(MODELS) == [("bronze.usage", "gold.daily"), ("gold.daily", "gold.reader")]
    assert edges(MODELS, ["gold.daily"]) == [("bronze.usage", "gold.daily")]


def test_mermaid_draws_layers_and_arrows() -> None:
    assert mermaid(MODELS, ["gold.daily"]) == (
        "flowchart LR\n"
        "  subgraph bronze\n"
        '    bronze_usage["bronze.usage"]\n'
        "  end\n"
        "  subgraph silver\n"
        "  end\n"
        "  subgraph gold\n"
        '    gold_daily["gold.daily"]\n'
        "  end\n"
        "  bronze_usage --> gold_daily\n"
    )


def test_dot_is_one_digraph() -> None:
    drawn = dot(MODELS)

    assert drawn.startswith("digraph models {")
    assert '  "gold.daily" -> "gold.reader";' in drawn
    assert drawn.count("{") == drawn.count("}")
