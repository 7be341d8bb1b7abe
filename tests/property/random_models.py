"""Models that hypothesis makes up: legal ones and ones that would not add up.

The linter decides which are which; what it lets pass has to obey the laws.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

KEYS = {
    "org_id": "VARCHAR",
    "service": "VARCHAR",
    "region": "VARCHAR",
    "event_date": "DATE",
    "month": "DATE",
    "late": "BOOLEAN",
    "window_start": "TIMESTAMPTZ",
}
EXPRESSIONS = {
    "org_id": "event.org_id",
    "service": "event.service",
    "region": "event.region",
    "event_date": "event.event_date",
    "month": "date_trunc('month', event.event_date)",
    "late": "event.event_date < DATE '2025-07-15'",
    "window_start": "time_bucket(INTERVAL 5 MINUTE, event.event_ts)",
}
MEASURES = {
    "cost_usd": "coalesce(sum(event.cost_usd_increment), 0)::DECIMAL(38, 9)",
    "twice": "coalesce(sum(2 * event.cost_usd_increment), 0)::DECIMAL(38, 9)",
    "tokens": "coalesce(sum(event.genai_tokens) FILTER (event.genai_tokens > 1), 0)"
    "::DECIMAL(38, 9)",
    "reported": "count(event.value_num)::BIGINT",
    "smallest": "min(event.cost_usd_increment)::DECIMAL(38, 9)",
    "newest": "max(event.event_ts)::TIMESTAMPTZ",
    "metrics": "count(DISTINCT event.metric)::BIGINT",
    "unsummed": "sum(event.value_num)::DECIMAL(38, 9)",
    "rest": "coalesce(sum(event.value_num), 1)::DECIMAL(38, 9)",
}
MERGED = {
    "cost_usd": "DECIMAL(38, 9)",
    "twice": "DECIMAL(38, 9)",
    "tokens": "DECIMAL(38, 9)",
    "reported": "BIGINT",
    "smallest": "DECIMAL(38, 9)",
    "newest": "TIMESTAMPTZ",
    "event_count": "BIGINT",
}
HOW = {"smallest": "min", "newest": "max"}


def header(kind: str, grain: list[str], columns: list[str]) -> str:
    """Return the header of a model whose key is its grain."""
    documented = "".join(f"  {name}: Example.\n" for name in columns)
    return (
        "/* ---\ndescription: Made up.\nowner: a@example.com\n"
        f"kind: {kind}\ngrain: [{', '.join(grain)}]\ncolumns:\n{documented}"
        f"serving: {{partition_key: [{grain[0]}], clustering: [{', '.join(grain[1:])}]}}\n--- */\n"
    )


def _select(columns: dict[str, str], rest: str) -> str:
    listed = ",\n    ".join(f"{sql} AS {name}" for name, sql in columns.items())
    return f"SELECT\n    {listed}\n{rest}\n"


@st.composite
def base(draw: st.DrawFn) -> tuple[list[str], list[str], str]:
    """Return keys, measures and text of a mergeable model over usage events."""
    keys = draw(st.lists(st.sampled_from(list(KEYS)), min_size=1, max_size=3, unique=True))
    measures = draw(st.lists(st.sampled_from(list(MEASURES)), max_size=4, unique=True))
    where = draw(
        st.sampled_from(
            [
                "",
                "WHERE event.genai_tokens > 0",
                "WHERE event.region IS NULL",
                "WHERE event.event_id IN (SELECT other.event_id FROM bronze.usage_events AS other)",
            ]
        )
    )
    columns = {key: f"({EXPRESSIONS[key]})::{KEYS[key]}" for key in keys}
    columns |= {name: MEASURES[name] for name in measures}
    columns["event_count"] = "count(*)::BIGINT"
    grouped = ", ".join(EXPRESSIONS[key] for key in keys)
    text = header("mergeable", keys, list(columns)) + _select(
        columns, f"FROM bronze.usage_events AS event\n{where}\nGROUP BY {grouped}"
    )
    return keys, [*measures, "event_count"], text


@st.composite
def derived(draw: st.DrawFn, keys: list[str], measures: list[str]) -> str:
    """Return the text of a mergeable model over ``gold.base``, which may not add up."""
    some = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True))
    columns: dict[str, Any] = {key: f"part.{key}::{KEYS[key]}" for key in some}
    grouped = [f"part.{key}" for key in some]
    if "window_start" in some and draw(st.booleans()):
        columns["window_start"] = "(part.window_start - shift.back)::TIMESTAMPTZ"
        grouped[some.index("window_start")] = "part.window_start - shift.back"
        tail = (
            "FROM gold.base AS part\n"
            "CROSS JOIN unnest([INTERVAL 0 MINUTE, INTERVAL 5 MINUTE]) AS shift(back)"
        )
    else:
        tail = "FROM gold.base AS part"
    for name in draw(st.lists(st.sampled_from(measures), max_size=3, unique=True)):
        how = draw(st.sampled_from([HOW.get(name, "sum")] * 5 + ["sum", "max", "count"]))
        inner = draw(st.sampled_from([f"part.{name}"] * 8 + [f"part.{name} + 1"]))
        sql = f"{how}({inner})"
        kind = "BIGINT" if how == "count" else MERGED.get(name, "BIGINT")
        columns[f"all_{name}"] = f"{f'coalesce({sql}, 0)' if how == 'sum' else sql}::{kind}"
    columns["all_events"] = "coalesce(sum(part.event_count), 0)::BIGINT"
    where = draw(
        st.sampled_from(
            ["", "", f"WHERE part.{keys[0]} IS NOT NULL", f"WHERE part.{measures[0]} > 1"]
        )
    )
    return header("mergeable", some, list(columns)) + _select(
        columns, f"{tail}\n{where}\nGROUP BY {', '.join(grouped)}"
    )


VIEWS = {
    "a column": "SELECT {keys}, part.event_count::BIGINT AS n FROM gold.base AS part",
    "a limit": "SELECT {keys}, part.event_count::BIGINT AS n FROM gold.base AS part "
    "ORDER BY {order} LIMIT 2",
    "a whole": "SELECT {keys}, (SELECT max(other.event_count) FROM gold.base AS other)::BIGINT "
    "AS n FROM gold.base AS part",
    "a rank": "SELECT {keys}, (row_number() OVER (PARTITION BY part.{first} ORDER BY {order}))"
    "::BIGINT AS n FROM gold.base AS part",
    "a rank of all": "SELECT {keys}, (row_number() OVER (ORDER BY {order}))::BIGINT AS n "
    "FROM gold.base AS part",
    "a top": "WITH ranked AS (SELECT {bare}, part.event_count, row_number() OVER "
    "(PARTITION BY part.{first} ORDER BY part.event_count DESC, {order}) AS place "
    "FROM gold.base AS part) SELECT {keys}, part.event_count::BIGINT AS n "
    "FROM ranked AS part WHERE part.place = 1",
    "a having": "SELECT part.{first}::{kind} AS {first}, sum(part.event_count)::BIGINT AS n "
    "FROM gold.base AS part GROUP BY part.{first} HAVING sum(part.event_count) > 1",
    "a join": "SELECT {keys}, total.n::BIGINT AS n FROM gold.base AS part LEFT JOIN "
    "(SELECT other.{first}, sum(other.event_count) AS n FROM gold.base AS other "
    "GROUP BY other.{first}) AS total ON part.{first} = total.{first}",
    "a join by chance": "SELECT {keys}, count(*)::BIGINT AS n FROM gold.base AS part "
    "JOIN gold.base AS other ON part.event_count = other.event_count GROUP BY {grouped}",
    "a union": "WITH doubled AS (SELECT {bare}, part.event_count FROM gold.base AS part UNION ALL "
    "SELECT {bare}, 0 AS event_count FROM gold.base AS part) SELECT {keys}, "
    "sum(part.event_count)::BIGINT AS n FROM doubled AS part GROUP BY {grouped}",
    "a distinct": "SELECT DISTINCT part.{first}::{kind} AS {first}, 1::BIGINT AS n "
    "FROM gold.base AS part",
    "another value": "SELECT upper(part.{first}::VARCHAR)::VARCHAR AS {first}, "
    "sum(part.event_count)::BIGINT AS n FROM gold.base AS part GROUP BY 1",
    "an anti join": "SELECT {keys}, part.event_count::BIGINT AS n FROM gold.base AS part ANTI JOIN "
    "gold.base AS other ON part.{first} = other.{first} AND other.event_count > 2",
    "a full join": "SELECT part.{first}::{kind} AS {first}, count(*)::BIGINT AS n "
    "FROM gold.base AS part FULL JOIN gold.base AS other ON part.{first} = other.{first} "
    "AND part.event_count = 1 GROUP BY part.{first}",
}


@st.composite
def view(draw: st.DrawFn, keys: list[str]) -> str:
    """Return the text of a view over ``gold.base``, which may not be live."""
    sql = draw(st.sampled_from(list(VIEWS.values())))
    whole = "{keys}" in sql
    first = keys[0]
    columns = [*(keys if whole else keys[:1]), "n"]
    filled = sql.format(
        keys=", ".join(f"part.{key}::{KEYS[key]} AS {key}" for key in keys),
        bare=", ".join(f"part.{key}" for key in keys),
        grouped=", ".join(f"part.{key}" for key in keys),
        order=", ".join(f"part.{key}" for key in keys),
        first=first,
        kind=KEYS[first],
    )
    return header("view", columns[:-1], columns) + filled + "\n"
