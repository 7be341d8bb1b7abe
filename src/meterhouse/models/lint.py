"""What a model may not say, whatever its kind: each refusal with its reason and line.

A model's result is a function of its rows alone (G2) and is added up exactly (G1), so
clocks, chance, doubles and the order of rows are refused here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

__all__ = ["Refusal", "function_name", "line_of", "refusals"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing in a model file that can't stay."""

    line: int
    what: str
    fix: str


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLOCK: Final = _names(
    "now today currentdate currenttime currenttimestamp currentdatetime currentlocaltime "
    "currentlocaltimestamp localtime localtimestamp getcurrenttime getcurrenttimestamp "
    "transactiontimestamp age"
)
CHANCE: Final = _names(
    "rand random randn uuid genrandomuuid uuidv4 uuidv7 nextval currval setseed "
    "reservoirquantile txidcurrent"
)
FLOATS: Final = _names(
    "avg mean favg fsum sumkahan kahansum stddev stddevpop stddevsamp variance variancepop "
    "varpop varsamp corr covarpop covarsamp skewness skewnesspop kurtosis kurtosispop entropy "
    "regravgx regravgy regrcount regrintercept regrr2 regrslope regrsxx regrsxy regrsyy sem "
    "median mad quantile quantilecont percentilecont approxquantile approxcountdistinct "
    "approxdistinct approxtopk product sqrt cbrt ln log log2 log10 exp pow power gamma lgamma "
    "sin cos tan asin acos atan atan2 cot degrees radians pi geomean geometricmean todouble "
    "epoch timetounix julian percentrank cumedist weightedavg wavg listavg listmedian listproduct "
    "liststddevpop liststddevsamp listvarpop listvarsamp"
)
ORDERS: Final = _names(
    "first last anyvalue arbitrary argmax argmin maxby minby argmaxnull argminnull mode "
    "argmaxnullslast argminnullslast"
)
LISTS: Final = _names("arrayagg list groupconcat stringagg listagg")
SORTS: Final = _names("listsort arraysort sortarray listreversesort arrayreversesort")
WINDOWS: Final = frozenset(
    [
        "rownumber",
        "rank",
        "denserank",
        "lag",
        "lead",
        "firstvalue",
        "lastvalue",
        "nthvalue",
        "ntile",
    ]
)
OUTSIDE: Final = _names(
    "getenv currentsetting query querytable glob readcsv readcsvauto readparquet parquetscan "
    "readjson readjsonauto readjsonobjects readndjson readndjsonauto readtext readblob sniffcsv "
    "version currentuser currentdatabase currentschema duckdbtables duckdbsettings "
    "getvariable currentcatalog"
)
_FUNCTIONS: Final = (
    (
        CLOCK,
        "depends on when it runs; running it again must give the same",
        "use ingest_ts or a date of the data; questions take --as-of",
    ),
    (CHANCE, "gives another result each time", "remove it"),
    (
        FLOATS,
        "computes in floating point, which is not exact",
        "store sums and counts; declare the ratio in the header: "
        "ratios: {csat_avg: csat_sum / csat_count}",
    ),
    (
        ORDERS,
        "depends on the order of rows where values tie",
        "use min or max, or row_number() OVER (… ORDER BY every column that decides)",
    ),
    (OUTSIDE, "reads from outside the lake", "read bronze, silver or gold tables"),
)
"""Functions that no model may call, what is wrong with them, and what to do."""
TABLE_FUNCTIONS: Final = _names("unnest range generateseries")
DOUBLES: Final = frozenset(
    {exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT, exp.DataType.Type.UDOUBLE}
)


def line_of(node: exp.Expr) -> int:
    """Return the line ``node`` stands on, or nearly; 1 when the parser kept none."""
    above: exp.Expr | None = node
    while above is not None:
        lines = [int(found.meta["line"]) for found in above.walk() if "line" in found.meta]
        if lines:
            return min(lines)
        above = above.parent
    return 1


def function_name(node: exp.Expr) -> str:
    """Return a function's name in lower case without underscores, "" for anything else."""
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)):
        return str(node.name).lower().replace("_", "")
    return node.key.replace("_", "") if isinstance(node, exp.Func) else ""


def _as_written(node: exp.Expr) -> str:
    """Return a function's name as DuckDB spells it: the parser has names of its own."""
    if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)):
        return str(node.name).lower()
    return node.sql(dialect="duckdb").partition("(")[0].lower()


def refusals(tree: exp.Expr) -> list[Refusal]:
    """Return everything in ``tree`` that no model may hold, by line."""
    found = dict.fromkeys(refusal for node in tree.walk() for refusal in _of_node(node))
    return sorted(found, key=lambda refusal: refusal.line)


def _of_node(node: exp.Expr) -> Iterator[Refusal]:
    yield from _of_function(node)
    yield from _of_number(node)
    yield from _of_order(node)
    if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
        yield Refusal(
            line_of(node.parent or node),
            "SELECT * takes whatever columns happen to be there",
            "name each column, with its type",
        )
    if isinstance(node, exp.Table):
        yield from _of_table(node)


def _of_function(node: exp.Expr) -> Iterator[Refusal]:
    name = function_name(node)
    for names, what, fix in _FUNCTIONS:
        if name in names:
            yield Refusal(line_of(node), f"{_as_written(node)}() {what}", fix)
            return


def _of_number(node: exp.Expr) -> Iterator[Refusal]:
    if isinstance(node, exp.DataType) and node.this in DOUBLES:
        yield Refusal(
            line_of(node.parent or node),
            "floating point is not exact: sums would depend on the order of rows",
            "use DECIMAL(38, 9) or BIGINT",
        )
    if isinstance(node, exp.Div):
        yield Refusal(
            line_of(node),
            "division gives a floating point number",
            "declare the ratio in the header (ratios: {rate: part / whole}), or divide "
            "integers with //",
        )
    if isinstance(node, exp.Literal) and not node.is_string and "e" in str(node.this).lower():
        yield Refusal(line_of(node), f"{node.this} is a floating point number", "write it out")


def _of_order(node: exp.Expr) -> Iterator[Refusal]:
    if function_name(node) in LISTS and not _ordered_list(node):
        yield Refusal(
            line_of(node),
            "a list or joined text depends on the order of rows",
            "give it an ORDER BY inside, list(x ORDER BY x), or sort it: list_sort(list(x))",
        )
    if isinstance(node, exp.Window) and not _window_ordered(node):
        inner = node.this.this if isinstance(node.this, exp.IgnoreNulls) else node.this
        if function_name(inner) in WINDOWS:
            yield Refusal(
                line_of(node),
                "a window without ORDER BY depends on the order of rows",
                "order it by columns that decide every tie",
            )
    if isinstance(node, exp.Distinct) and node.args.get("on"):
        yield Refusal(
            line_of(node),
            "DISTINCT ON keeps whichever row comes first",
            "use row_number() OVER (… ORDER BY every column that decides)",
        )
    if isinstance(node, (exp.Limit, exp.Fetch, exp.Offset)):
        select = node.parent
        if select is None or not select.args.get("order"):
            yield Refusal(
                line_of(node), "LIMIT without ORDER BY keeps whichever rows are first", "order it"
            )
    if isinstance(node, exp.TableSample):
        yield Refusal(line_of(node), "a sample holds other rows each time", "remove it")


def _window_ordered(node: exp.Window) -> bool:
    """Return whether a window, or the named one that it stands for, has an ORDER BY."""
    if node.args.get("order"):
        return True
    select, named = node.find_ancestor(exp.Select), node.args.get("alias")
    defined = select.args.get("windows") if select else None
    return any(
        window.name == getattr(named, "name", "") and bool(window.args.get("order"))
        for window in defined or ()
    )


def _ordered_list(node: exp.Expr) -> bool:
    argument = node.this
    if isinstance(argument, exp.Distinct):
        argument = argument.expressions[0] if argument.expressions else argument
    if isinstance(argument, exp.Order) or any(
        isinstance(part, exp.Order) for part in node.args.values()
    ):
        return True
    above = node.parent
    while isinstance(above, exp.Filter):
        above = above.parent
    return isinstance(above, exp.WithinGroup) or (
        above is not None and function_name(above) in SORTS
    )


def _of_table(node: exp.Table) -> Iterator[Refusal]:
    if not isinstance(node.this, exp.Identifier):
        name = function_name(node.this)
        if name not in TABLE_FUNCTIONS and name not in OUTSIDE:
            written = _as_written(node.this) if name else node.sql(dialect="duckdb")
            yield Refusal(
                line_of(node),
                f"table function {written}() is not a table of the lake",
                "read bronze, silver or gold tables",
            )
    elif node.args.get("catalog"):
        yield Refusal(
            line_of(node), "a table of another database is not in the lake", "name layer.table"
        )
