"""What the linter of models refuses: small models that it is asked about, and its answers."""

from __future__ import annotations

from typing import Final

from docs_pages.dictionary import shipped_contracts
from docs_pages.markdown import cell, code, table
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.models.graph import models_of

__all__ = ["SAMPLES", "refusal_table"]

_HEADER: Final = """/* ---
description: A sample.
owner: finops@example.com
kind: {kind}
grain: [org_id]
columns:
  org_id: Organisation.
  {column}: A value.
--- */
"""

_FROM: Final = "FROM bronze.usage_events AS usage"

SAMPLES: Final = (
    ("view", "sum(usage.cost_usd_increment)::DOUBLE", "GROUP BY usage.org_id"),
    ("view", "avg(usage.value_num)::DECIMAL(38, 9)", "GROUP BY usage.org_id"),
    ("view", "(sum(usage.value_num) / 2)::DECIMAL(38, 9)", "GROUP BY usage.org_id"),
    ("view", "(usage.value_num * 1e3)::DECIMAL(38, 9)", ""),
    ("view", "now()::TIMESTAMPTZ", ""),
    ("view", "random()::BIGINT", ""),
    ("view", "first(usage.region)::VARCHAR", "GROUP BY usage.org_id"),
    ("view", "string_agg(usage.region, ',')::VARCHAR", "GROUP BY usage.org_id"),
    ("view", "row_number() OVER (PARTITION BY usage.org_id)::BIGINT", ""),
    ("view", "usage.region::VARCHAR", "LIMIT 10"),
    ("view", "getenv('HOME')::VARCHAR", ""),
    ("view", "usage.region", ""),
    ("view", "usage.regoin::VARCHAR", ""),
    ("view", "count(*)::BIGINT", "GROUP BY usage.org_id"),
    ("rows", "count(*)::BIGINT", "GROUP BY usage.org_id"),
    ("rows", "orgs.industry::VARCHAR", "JOIN bronze.customers_orgs AS orgs USING (org_id)"),
    ("mergeable", "count(DISTINCT usage.region)::BIGINT", "GROUP BY usage.org_id"),
    ("mergeable", "sum(usage.value_num)::DECIMAL(38, 9)", "GROUP BY usage.org_id"),
    ("mergeable", "max(usage.event_date)::DATE", "GROUP BY usage.org_id"),
    (
        "mergeable",
        "count(*)::BIGINT",
        "JOIN bronze.customers_orgs AS orgs ON usage.org_id = orgs.org_id GROUP BY usage.org_id",
    ),
    ("mergeable", "count(*)::BIGINT", "GROUP BY usage.org_id HAVING count(*) > 1"),
)
"""Kind, second column, and what follows FROM; the first column is the organisation."""


def refusal_table() -> str:
    """Return each sample with what the linter says of it and advises."""
    return table(
        ["kind", "a model with", "is refused, because", "instead"],
        (
            (code(kind), code(cell(_shown(kind, column, rest))), cell(what), cell(fix))
            for kind, column, rest in SAMPLES
            for what, fix in [_refusal(kind, column, rest)]
        ),
    )


def _shown(kind: str, column: str, rest: str) -> str:
    words = [word for word in ("JOIN", "LIMIT", "HAVING") if word in rest]
    return " ".join([column, "…", rest[rest.index(words[0]) :]]) if words else column


def _refusal(kind: str, column: str, rest: str) -> tuple[str, str]:
    header = _HEADER.format(kind=kind, column="a_value")
    sql = f"SELECT usage.org_id::VARCHAR AS org_id, {column} AS a_value {_FROM} {rest}"
    found = models_of(
        {"gold.sample": (header + sql, "models/gold/sample.sql")},
        bronze_schemas(shipped_contracts()),
    )
    assert found.problems, f"the linter allows {kind}: {column} {rest}"
    problem = found.problems[0]
    return problem.what.removeprefix('model "gold.sample": '), problem.fix
