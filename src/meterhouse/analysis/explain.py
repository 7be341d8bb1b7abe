"""Where a number comes from: the records that add up to each cell of one row.

The model's own SQL is asked, before its GROUP BY: what each fact adds to each measure.
The same SQL over the held, the doubled and the superseded records shows what stands
beside the row, and with how much money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

import sqlglot
from sqlglot import exp

from meterhouse.errors import UsageError
from meterhouse.intake.contract import Contract
from meterhouse.layers.bronze import accepted_sql, current_name, current_sql
from meterhouse.layers.compute import compute
from meterhouse.models.graph import Models
from meterhouse.models.model import Model
from meterhouse.ports import Engine, ParquetFiles, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BESIDE", "Beside", "Explained", "Lake", "Part", "explain"]

BESIDE: Final = ("quarantined", "duplicate", "superseded")
_EXACT: Final = Context(prec=80)
_PLACE: Final = ("log_position", "row_number", "source_file", "source_line")


@dataclass(frozen=True, slots=True)
class Beside:
    """Records that would belong to the row and do not count in it."""

    verdict: str
    """quarantined, duplicate or superseded."""
    records: pa.Table
    """Place, reason, and what each would have added; the first ``limit``."""
    count: int
    sums: Mapping[str, Decimal]
    """What they would have added, by measure."""


@dataclass(frozen=True, slots=True)
class Part:
    """The records of one source behind the row."""

    model: str
    """The model whose measures they add up to."""
    source: str
    measures: tuple[str, ...]
    records: pa.Table
    """Place (entry, row, file, line) and what each record adds to each measure; the first
    ``limit``, in the order of the log."""
    count: int
    sums: Mapping[str, Decimal]
    """Over all records, not only those shown."""
    beside: tuple[Beside, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """One row of one table, and everything behind it."""

    model: Model
    row: Mapping[str, Any] | None
    """The published row; None when there is none (what is held may say why)."""
    parts: tuple[Part, ...]
    mismatches: tuple[str, ...] = field(default=())
    """Measures whose records do not add up to the published cell: never, or it is a bug."""


@dataclass(frozen=True, slots=True)
class Lake:
    """What ``explain`` reads: the published tables and the judged rows up to there."""

    engine: Engine
    models: Models
    contracts: Mapping[str, Contract]
    published: Mapping[str, ParquetFiles]
    """Every published table by name."""
    judged: Mapping[str, Mapping[str, ParquetFiles]]
    """Judged files up to the published position, by source, in their forms."""


def explain(lake: Lake, table: str, key: Mapping[str, str], limit: int = 20) -> Explained:
    """Return where the row of ``table`` with ``key`` comes from.

    Args:
        lake: What is published.
        table: A silver or gold table.
        key: Column → value as text, for every column of the table's grain.
        limit: How many records of each kind to show; sums are over all.

    Raises:
        UsageError: Unknown table or column, or a grain column without a value.
    """
    if table not in lake.models:
        raise UsageError.unknown("model", table, lake.models.by_name)
    model = lake.models[table]
    _check_key(model, key)
    row = _published_row(lake, model, key)
    parts = tuple(
        _part(lake, lake.models[base], filters, limit)
        for base, filters in _bases(lake.models, model, key)
    )
    return Explained(model, row, parts, _mismatches(model, row, parts))


def _check_key(model: Model, key: Mapping[str, str]) -> None:
    for name in key:
        if name not in model.grain:
            raise UsageError.unknown("key column", name, model.grain, where=model.name)
    missing = [name for name in model.grain if name not in key]
    if missing:
        raise UsageError(
            f'a row of "{model.name}" needs {", ".join(missing)} too',
            model.name,
            f"give {' '.join(f'{name}=…' for name in model.grain)}",
        )


def _published_row(lake: Lake, model: Model, key: Mapping[str, str]) -> Mapping[str, Any] | None:
    if model.name not in lake.published:
        return None
    with lake.engine.session({model.name: lake.published[model.name]}) as session:
        rows = session.query(f"SELECT * FROM {model.name} WHERE {_matches(model, key)}").to_pylist()
    return rows[0] if rows else None


def _bases(
    models: Models, model: Model, key: Mapping[str, str]
) -> list[tuple[str, dict[str, str]]]:
    """Walk down to the models that add up or pass through facts, with the key that applies."""
    if model.kind in ("mergeable", "rows"):
        return [(model.name, dict(key))]
    found: list[tuple[str, dict[str, str]]] = []
    for read in model.depends_on:
        if read not in models:
            continue
        upstream = models[read]
        known = {column.name for column in upstream.columns}
        shared = {name: value for name, value in key.items() if name in known}
        if shared:
            found += [base for base in _bases(models, upstream, shared) if base not in found]
    return found


def _part(lake: Lake, model: Model, key: Mapping[str, str], limit: int) -> Part:
    contract = _contract(lake, model)
    measures = tuple(model.merge) if model.kind == "mergeable" else _numeric(model)
    with ExitStack() as stack:
        session = stack.enter_context(lake.engine.session(_relations(lake)))
        _bronze_views(session, lake)
        found = _records(session, lake.models, model, key, measures)
        records = session.query(f"{found} LIMIT {limit}")
        count, sums = _totals(session, found, measures)
    beside = tuple(
        _beside(lake, model, contract, verdict, key, measures, limit)
        for verdict in BESIDE
        if lake.judged.get(contract.source)
        and (verdict != "superseded" or contract.mode != "append")
    )
    return Part(model.name, contract.source, measures, records, count, sums, beside)


def _contract(lake: Lake, model: Model) -> Contract:
    fact = lake.models.base_fact(model.name)
    for contract in lake.contracts.values():
        if fact in (contract.table, current_name(contract)):
            return contract
    raise UsageError(
        f'"{model.name}" is not made of the records of one source',
        model.path,
        "explain a table that adds up records, such as gold.org_daily_usage_by_service",
    )


def _numeric(model: Model) -> tuple[str, ...]:
    return tuple(
        column.name
        for column in model.columns
        if column.type.startswith("DECIMAL") and column.name in model.own_columns
    )


def _relations(lake: Lake) -> dict[str, ParquetFiles]:
    return {name: files for name, files in lake.published.items() if name.startswith("bronze.")}


def _bronze_views(session: Session, lake: Lake) -> None:
    for contract in lake.contracts.values():
        if contract.mode != "append":
            session.view(current_name(contract), current_sql(contract))


def _beside(
    lake: Lake,
    model: Model,
    contract: Contract,
    verdict: str,
    key: Mapping[str, str],
    measures: Sequence[str],
    limit: int,
) -> Beside:
    """Run the model over the records of another verdict as if they had been accepted."""
    fact = contract.table if contract.mode == "append" else current_name(contract)
    others = {name: files for name, files in _relations(lake).items() if name != fact}
    forms = lake.judged.get(contract.source, {})
    with lake.engine.session(others | dict(forms)) as session:
        for other in lake.contracts.values():
            if other.mode != "append" and current_name(other) != fact:
                session.view(current_name(other), current_sql(other))
        session.view(fact, _other_rows(contract, verdict, forms))
        found = _records(session, lake.models, model, key, measures)
        records = session.query(f"{found} LIMIT {limit}")
        count, sums = _totals(session, found, measures)
    return Beside(verdict, records, count, sums)


def _other_rows(contract: Contract, verdict: str, forms: Mapping[str, ParquetFiles]) -> str:
    """Bronze rows of what did not count; a single text key is made unique by its place.

    The same id may be held several times; with its place it is one record each, so that
    joining a fact back to its record never multiplies.
    """
    if verdict == "superseded":
        current = current_sql(contract)
        rows = (
            f"SELECT version.* FROM {contract.table} AS version ANTI JOIN ({current}) AS kept "
            "USING (log_position, row_number)"
        )
    else:
        # Judged so, and shown as if they had been accepted.
        rows = " UNION ALL ".join(
            accepted_sql(
                contract,
                f"(SELECT * REPLACE ('accepted' AS verdict) FROM {name} "
                f"WHERE verdict = '{verdict}')",
                files.schema.names,
            )
            for name, files in forms.items()
        )
    if len(contract.key) != 1:
        return rows
    name = contract.key[0]
    return (
        f'SELECT * REPLACE (concat("{name}", chr(0), log_position, \':\', row_number) AS "{name}") '
        f"FROM ({rows}) AS record"
    )


def _records(
    session: Session,
    models: Models,
    model: Model,
    key: Mapping[str, str],
    measures: Sequence[str],
) -> str:
    """Make the views; return the SELECT of the records behind ``key``, in log order."""
    if model.kind == "mergeable":
        facts = model.fact
        if facts in models:
            compute(session, models, [facts])
        grain = models[facts].grain if facts in models else ()
        added = _ungrouped(model, grain)
    else:
        compute(session, models, [model.name])
        facts, grain = model.name, model.grain
        added = f"SELECT * FROM {model.name}"
    bronze = models.base_fact(model.name)
    session.view("explained", added)
    shown = ", ".join(f"fact.{name}" for name in measures)
    on = " AND ".join(f'record."{name}" = fact."{_carried(name)}"' for name in grain)
    if model.kind != "mergeable":
        on = " AND ".join(f'record."{name}" = fact."{name}"' for name in grain)
    places = ", ".join(f"record.{name}" for name in _PLACE)
    return (
        f"SELECT {places}{', ' if shown else ''}{shown} FROM explained AS fact "
        f"JOIN {bronze} AS record ON {on} "
        f"WHERE {_matches(model, key, 'fact.')} ORDER BY record.log_position, record.row_number"
    )


def _carried(name: str) -> str:
    return f"fact key {name}"


def _ungrouped(model: Model, grain: Sequence[str]) -> str:
    """Return the model's SELECT before its GROUP BY: what one fact adds to each measure."""
    select = sqlglot.parse_one(model.sql, dialect="duckdb")
    if not isinstance(select, exp.Select):
        raise UsageError(f'"{model.name}" is not one SELECT', model.path)
    select.set("group", None)
    source = select.args["from_"].this.alias_or_name
    projections: list[exp.Expr] = []
    for projection in select.selects:
        name = projection.alias_or_name
        if name in model.merge:
            projections.append(exp.alias_(_added(projection), name))
        else:
            projections.append(projection)
    for name in grain:
        column = exp.column(name, table=source, quoted=True)
        projections.append(exp.alias_(column, _carried(name), quoted=True))
    select.set("expressions", projections)
    return select.sql(dialect="duckdb")


def _added(projection: exp.Expr) -> exp.Expr:
    """What one row adds: the aggregate's argument, or 1 for a count."""
    kind = projection.find(exp.Cast)
    inner = projection.unalias()
    while isinstance(inner, (exp.Cast, exp.Paren, exp.Coalesce)):
        inner = inner.this
    condition = None
    if isinstance(inner, exp.Filter):
        condition, inner = inner.expression.this, inner.this
    one = exp.Literal.number(1)
    value: exp.Expr
    if isinstance(inner, exp.CountIf):
        value = exp.case().when(inner.this, one)
    elif isinstance(inner, exp.Count):
        star = isinstance(inner.this, exp.Star)
        value = one if star else exp.case().when(inner.this.copy().is_(exp.null()).not_(), one)
    else:
        value = inner.this.copy()
    if condition is not None:
        value = exp.case().when(condition.copy(), value)
    return exp.cast(value, kind.to.copy()) if kind is not None else value


def _matches(model: Model, key: Mapping[str, str], prefix: str = "") -> str:
    types = {column.name: column.type for column in model.columns}
    return " AND ".join(
        f"{prefix}{name} = CAST({_text(value)} AS {types[name]})" for name, value in key.items()
    )


def _totals(
    session: Session, records: str, measures: Sequence[str]
) -> tuple[int, dict[str, Decimal]]:
    sums = "".join(f", sum({name})::VARCHAR AS {name}" for name in measures)
    row = session.query(f"SELECT count(*) AS records{sums} FROM ({records}) AS found").to_pylist()[
        0
    ]
    return row["records"], {
        name: Decimal(row[name]) if row[name] is not None else Decimal(0) for name in measures
    }


def _mismatches(
    model: Model, row: Mapping[str, Any] | None, parts: Sequence[Part]
) -> tuple[str, ...]:
    """Cells of a mergeable model that its records do not add up to (sums only)."""
    if row is None or model.kind != "mergeable" or not parts:
        return ()
    return tuple(
        name
        for name, how in model.merge.items()
        if how == "sum" and _EXACT.subtract(Decimal(row[name]), parts[0].sums[name]) != 0
    )


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
