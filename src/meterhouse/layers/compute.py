"""One compute for batch and speed: models as views over rows, partials added up.

The two layers differ in how rows arrive and when results are published, never in what
happens to a row. Batch opens a session over all rows or over those since its last
position; the speed layer opens one over a single entry. Both call what is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from meterhouse.errors import BrokenPromiseError, ModelError, SqlError
from meterhouse.models.finalize import finalize
from meterhouse.models.graph import Models
from meterhouse.models.model import Model
from meterhouse.ports import Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "compute",
    "difference_sql",
    "failed_audits",
    "merge_sql",
    "refused_by_engine",
    "result",
    "stored_sql",
]

VIOLATIONS_SHOWN = 3


def compute(
    session: Session,
    models: Models,
    wanted: Sequence[str],
    *,
    present: Sequence[str] = (),
) -> dict[str, str]:
    """Make a view of each model that ``wanted`` needs, in order; return name → its SELECT.

    The session must see the bronze tables that ``models.sources(wanted)`` names, with
    accepted rows only. A view holds a model's stored columns; see ``result``.

    Args:
        session: Where the views are made.
        models: The project's models.
        wanted: Names of models; what they read is made too.
        present: Models the session sees as tables already (the published lake, a test's
            given rows): they are taken as they are.

    Raises:
        ModelError: The engine refuses a model's SQL; the message names the file.
    """
    made = {}
    for name in models.closure(wanted, without=present):
        model = models[name]
        try:
            session.view(name, model.sql)
        except SqlError as error:
            raise refused_by_engine(model, error) from error
        made[name] = stored_sql(model)
    return made


def refused_by_engine(model: Model, error: SqlError) -> ModelError:
    """Return what the engine said of a model's SQL, with the line of the file."""
    line = re.search(r"LINE (\d+):", error.where)
    return ModelError(
        f'model "{model.name}" does not run: {error.what}',
        f"{model.path}:{line[1]}" if line else model.path,
        "mend its SQL; meterhouse models lint checks it without a batch",
    )


def stored_sql(model: Model) -> str:
    """Return the SELECT of a model's stored columns from the table of its name."""
    return f"SELECT {', '.join(model.stored_columns)} FROM {model.name}"


def result(session: Session, model: Model) -> pa.Table:
    """Return the finished rows of ``model`` from a session that ``compute`` prepared.

    Row order is not defined. All rows are in memory: for facts, stream ``stored_sql``.
    """
    return finalize(model, session.query(stored_sql(model)))


def merge_sql(model: Model, parts: Sequence[str], removed: Sequence[str] = ()) -> str:
    """Return the SELECT that adds up partial results of a mergeable ``model``.

    The law: ``f(a ++ b) = merge(f(a), f(b))``, and for facts that are versions
    ``f(a - r + b) = merge(f(a), f(b), removed: f(r))``. A key without rows left vanishes.

    Args:
        model: A mergeable model.
        parts: Names of relations that hold its stored columns (finished ones are ignored).
        removed: Relations over rows that were replaced; only sums can be taken back.
    """
    return f"{_sums_sql(model, parts, removed)} HAVING sum(part.{model.count_column}) <> 0"


def difference_sql(model: Model, added: Sequence[str], removed: Sequence[str] = ()) -> str:
    """Return the SELECT of what rows that came and rows that went do to a mergeable ``model``.

    Stored columns, one row a key; counts may be 0 or negative. A key for which nothing
    changes is not there. The arguments are those of ``merge_sql``.
    """
    # A minimum is never nothing: only sums can cancel out, and there is no removing beside it.
    some = " OR ".join(
        f"sum(part.{column}) <> 0" for column, how in model.merge.items() if how == "sum"
    )
    return f"{_sums_sql(model, added, removed)} HAVING {some}"


def _sums_sql(model: Model, parts: Sequence[str], removed: Sequence[str]) -> str:
    if removed and any(how != "sum" for how in model.merge.values()):
        raise ModelError(
            f'model "{model.name}" has min or max, which can\'t be taken back', model.path
        )
    types = {column.name: column.type for column in model.columns}
    signed = [(name, "") for name in parts] + [(name, "-") for name in removed]
    rows = " UNION ALL ".join(
        "SELECT "
        + ", ".join(
            f"{sign}{column} AS {column}" if sign and column in model.merge else column
            for column in model.stored_columns
        )
        + f" FROM {name}"
        for name, sign in signed
    )
    selected = ", ".join(
        f"{model.merge[column]}(part.{column})::{types[column]} AS {column}"
        if column in model.merge
        else f"part.{column}"
        for column in model.stored_columns
    )
    keys = ", ".join(f"part.{column}" for column in model.grain)
    return f"SELECT {selected} FROM ({rows}) AS part GROUP BY {keys}"


def failed_audits(session: Session, model: Model) -> list[ModelError]:
    """Run a model's audits over the tables of the session; return what failed.

    The session must see the finished model, and the tables its audits name, by their
    names. Every row an audit returns is a violation; the first few are shown.
    """
    failures: list[ModelError] = []
    for audit in model.audits:
        found = session.query(f"SELECT * FROM ({audit.sql}) AS violation LIMIT 100")
        if found.num_rows:
            shown = "; ".join(_row(row) for row in found.slice(0, VIOLATIONS_SHOWN).to_pylist())
            more = "" if found.num_rows <= VIOLATIONS_SHOWN else ", …"
            failures.append(
                BrokenPromiseError(
                    f'audit "{audit.name}" of model "{model.name}" failed: {shown}{more}',
                    model.path,
                    "nothing was published; the last answer stays. Mend the model or the data",
                )
            )
    return failures


def _row(row: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items())
