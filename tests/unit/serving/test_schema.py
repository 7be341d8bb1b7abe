"""Keys and DDL from the headers of models."""

from __future__ import annotations

from typing import Any

import pytest

from meterhouse.errors import DamageError
from meterhouse.models.model import Model, Ratio
from meterhouse.serving.schema import (
    NULL_KEY,
    Layout,
    StoredColumn,
    create_table,
    decoder,
    layout_from_text,
    layout_text,
    layouts,
)


def model(name: str, **given: Any) -> Model:
    empty: dict[str, Any] = {
        "sql": "",
        "kind": "view",
        "fact": "",
        "depends_on": (),
        "grain": (),
        "columns": (),
        "audits": (),
        "partition_key": (),
        "clustering": (),
        "partition_by": (),
        "batch_only": "",
        "stored": True,
        "description": "",
        "owner": "",
        "path": "",
        "sha256": "",
        "merge": {},
    }
    return Model(name=name, **(empty | given))


def test_the_key_is_partition_then_clustering_then_the_rest_of_the_grain() -> None:
    daily = model(
        "gold.daily",
        partition_key=("org_id",),
        clustering=("usage_date DESC", "service"),
        grain=("usage_date", "org_id", "service", "region"),
    )

    found = layouts([daily, model("silver.rows")])

    key = ("org_id", "usage_date", "service", "region")
    assert found == {"gold.daily": Layout(key, frozenset({"usage_date"}))}


def test_a_layout_comes_back_from_its_text() -> None:
    layout = Layout(
        ("org_id", "usage_date"),
        frozenset({"usage_date"}),
        {"cost_usd": "sum"},
        {"rate": Ratio("cost_usd", "events_count", 100)},
        "events_count",
        "usage_date",
        True,
    )

    assert layout_from_text(layout_text(layout)) == layout
    assert layout_from_text(layout_text(Layout())) == Layout()


def test_a_layout_says_how_a_model_merges_and_whether_it_is_live() -> None:
    given = model(
        "gold.daily",
        grain=("org_id",),
        merge={"cost_usd": "sum"},
        ratios={"rate": Ratio("cost_usd", "events_count")},
        count_column="events_count",
        batch_only="looks at all days",
        keep="org_id",
    )

    [found] = layouts([given]).values()

    assert (found.merge, found.ratios) == (given.merge, given.ratios)
    assert (found.count_column, found.keep, found.batch_only) == ("events_count", "org_id", True)


def test_a_table_is_laid_out_in_the_order_of_its_key() -> None:
    columns = [StoredColumn("org", "text", "TEXT"), StoredColumn('n"', "integer", "INTEGER")]

    ddl = create_table("t@1", columns, Layout(("org", 'n"'), frozenset({"org"})))

    assert ddl == (
        'CREATE TABLE "t@1" ("org" TEXT, "n""" INTEGER, '
        'PRIMARY KEY ("org" DESC, "n""")) WITHOUT ROWID'
    )


def test_a_table_without_a_key_is_a_plain_one() -> None:
    ddl = create_table("t@1", [StoredColumn("a", "text", "TEXT")], Layout())

    assert ddl == 'CREATE TABLE "t@1" ("a" TEXT)'


@pytest.mark.parametrize("kind", ["decimal", "date", "timestamp", "json", "integer", "bytes"])
def test_a_value_that_was_not_written_so_is_damage(kind: Any) -> None:
    decode = decoder(StoredColumn("c", kind, "TEXT"), "serving.db")

    assert decode(None) is None
    assert decode(NULL_KEY) is None
    with pytest.raises(DamageError, match=r"can't be read as"):
        decode("1x")
