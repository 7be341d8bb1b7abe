"""Model texts that the tests of the linter and the graph change in one place."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from meterhouse.models.graph import Models, models_of

SOURCES: Mapping[str, pa.Schema] = {
    "bronze.usage": pa.schema(
        [("event_id", pa.string()), ("org_id", pa.string()), ("cost_usd", pa.decimal128(38, 9))]
    ),
    "bronze.orgs": pa.schema([("org_id", pa.string()), ("plan_tier", pa.string())]),
    "bronze.invoices_current": pa.schema(
        [("org_id", pa.string()), ("amount_usd", pa.decimal128(38, 9))]
    ),
}

DAILY = """SELECT
    event.org_id::VARCHAR AS org_id,
    coalesce(sum(event.cost_usd), 0)::DECIMAL(38, 9) AS cost_usd,
    count(*)::BIGINT AS event_count
FROM bronze.usage AS event
GROUP BY event.org_id
"""

ENRICHED = """SELECT
    event.event_id::VARCHAR AS event_id,
    event.org_id::VARCHAR AS org_id,
    event.cost_usd::DECIMAL(38, 9) AS cost_usd,
    org.plan_tier::VARCHAR AS plan_tier
FROM bronze.usage AS event
LEFT JOIN bronze.orgs AS org ON event.org_id = org.org_id
"""


def text(
    sql: str,
    *,
    kind: str = "view",
    grain: str = "org_id",
    columns: str = "",
    more: str = "",
    live: bool = False,
) -> str:
    """Return a model file; every ``AS name`` at a line's end is documented.

    Only a view that is said to be ``live`` has to prove that it can be.
    """
    names = columns.split() or [
        line.rsplit(" AS ", 1)[1].rstrip(",")
        for line in sql.splitlines()
        if line.startswith("    ") and " AS " in line
    ]
    documented = "".join(f"  {name}: What it is.\n" for name in dict.fromkeys(names))
    return (
        "/* ---\n"
        "description: An example.\n"
        "owner: test@example.com\n"
        f"kind: {kind}\n"
        f"grain: [{grain}]\n"
        + ("" if live or kind != "view" else "batch_only: An example.\n")
        + f"columns:\n{documented}{more}"
        "--- */\n" + sql
    )


def load(**texts: str) -> Models:
    """Build models; ``gold_x`` stands for gold.x in the file gold/x.sql."""
    return models_of(
        {
            name.replace("_", ".", 1): (said, f"models/{name.replace('_', '/', 1)}.sql")
            for name, said in texts.items()
        },
        SOURCES,
    )


def problem(**texts: str) -> str:
    """Return the one problem of these texts, as the user sees it."""
    (found,) = load(**texts).problems
    return str(found)
