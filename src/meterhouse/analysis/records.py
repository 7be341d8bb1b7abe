"""The records behind the rows of a model: its own SQL, asked before its GROUP BY.

Rows of a model carry the key of their fact, and with it lead back to the record. Records
that did not count (held, doubled, superseded) go through the same SQL as if they had; since
several of them may have one key, each gets a key of its own by its place in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from meterhouse.analysis.definition import KEY, ungrouped
from meterhouse.errors import SqlError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.money import exact_sum, scaled
from meterhouse.layers.at_position import AtPosition
from meterhouse.layers.bronze import accepted_sql, current_name, current_sql
from meterhouse.layers.compute import compute
from meterhouse.layers.judged import over_forms
from meterhouse.models.graph import Models
from meterhouse.models.model import Model
from meterhouse.names import SCALE
from meterhouse.ports import Engine, Relation, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Lake", "Origin", "Rows", "matches", "origins", "rows_behind", "rows_beside"]

_EXACT: Final = Context(prec=120)
_PLACE: Final = ("log_position", "row_number", "source_file", "source_line")
_MARK: Final = "chr(31) || '@'"
"""Between a key and the place that makes it unlike others."""
_HISTORY: Final = ("version", "valid_from_position", "is_current")
"""Columns of a model that keeps every version of a master."""
_TOO_LARGE: Final = 10**18


@dataclass(frozen=True, slots=True)
class Lake:
    """What ``explain`` reads: the tables at one position and the judged rows up to there."""

    engine: Engine
    models: Models
    contracts: Mapping[str, Contract]
    at: AtPosition
    judged: Mapping[str, Mapping[str, Relation]]
    """Judged files up to that position, by source, in their forms."""

    def bronze(
        self, *, without: str = "", also: Mapping[str, Relation] | None = None
    ) -> AbstractContextManager[Session]:
        """Open a session over the bronze tables but one, and over ``also``."""
        names = [name for name in self.at.tables if name.startswith("bronze.") and name != without]
        return self.at.session(self.engine, names, also)


@dataclass(frozen=True, slots=True)
class Origin:
    """A model whose rows are made of records one by one, and what is asked of it."""

    model: Model
    contract: Contract
    key: Mapping[str, str]
    history: Model | None = None
    """The model that keeps the versions, when the records are those of a master."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some records, and what all of them come to."""

    records: pa.Table
    """Place (entry, row, file, line), reason where held, and what each adds to each measure;
    the first few, in the order of the log."""
    count: int
    sums: Mapping[str, Decimal]


def origins(lake: Lake, model: Model, key: Mapping[str, str]) -> list[Origin]:
    """Walk down to the models that are made of records, with the key that applies there."""
    contract = _contract(lake, model)
    if contract is not None and model.kind in ("mergeable", "rows"):
        return [Origin(model, contract, key)]
    if (kept := _history(lake, model)) is not None:
        return [Origin(model, kept, key, model)]
    if len(model.depends_on) == 1 and model.depends_on[0] in lake.models:
        below = lake.models[model.depends_on[0]]
        kept = _history(lake, below)
        if kept is not None and ungrouped(model, kept.key) is not None:
            return [Origin(model, kept, key, below)]
    found: list[Origin] = []
    for name in model.depends_on:
        if name not in lake.models:
            continue
        columns = {column.name for column in lake.models[name].columns}
        shared = {column: value for column, value in key.items() if column in columns}
        if shared:
            found += [one for one in origins(lake, lake.models[name], shared) if one not in found]
    return found


def _contract(lake: Lake, model: Model) -> Contract | None:
    fact = lake.models.base_fact(model.name)
    for contract in lake.contracts.values():
        if fact in (contract.table, current_name(contract)):
            return contract
    return None


def _history(lake: Lake, model: Model) -> Contract | None:
    """Return the contract of the master whose versions ``model`` keeps; None for any other."""
    names = {column.name for column in model.columns}
    for contract in lake.contracts.values():
        if contract.mode != "append" and contract.table in model.depends_on:
            return contract if names.issuperset((*contract.key, *_HISTORY)) else None
    return None


def rows_behind(lake: Lake, origin: Origin, limit: int) -> Rows:
    """Return the records that count in the row."""
    with lake.bronze() as session:
        _current_views(session, lake)
        fact = lake.models.base_fact(origin.model.name) or origin.contract.table
        sql, measures = _leading_back(session, lake, origin, fact)
        return _read(session, sql, measures, limit)


def rows_beside(lake: Lake, origin: Origin, verdict: str, limit: int) -> Rows | None:
    """Return records that would count in the row and don't; None where there can be none.

    Args:
        lake: What is published.
        origin: What is asked.
        verdict: quarantined, duplicate or superseded.
        limit: How many to show.
    """
    contract = origin.contract
    forms = lake.judged.get(contract.source, {})
    if not forms or (verdict == "superseded" and contract.mode == "append"):
        return None
    if verdict == "superseded" and origin.history is not None:
        return _other_versions(lake, origin, limit)
    try:
        return _beside(lake, origin, verdict, limit, exact=True)
    except SqlError:
        # A held amount may be too large for what a model does with it: then without it.
        return _beside(lake, origin, verdict, limit, exact=False)


def _beside(lake: Lake, origin: Origin, verdict: str, limit: int, *, exact: bool) -> Rows:
    contract = origin.contract
    forms = lake.judged[contract.source]
    versioned = contract.mode != "append" and origin.history is None
    fact = current_name(contract) if versioned else contract.table
    with lake.bronze(without=fact, also=forms) as session:
        _current_views(session, lake, without=fact)
        session.view(fact, _other_rows(contract, verdict, forms, exact=exact))
        sql, measures = _leading_back(session, lake, origin, fact, beside=True)
        reasons = " UNION ALL ".join(
            f"SELECT log_position, row_number, invalid_reason AS reason FROM {name}"
            for name in forms
        )
        shown = [f"found.{name}" for name in _PLACE] + ["why.reason"]
        shown += [f"found.{name}" for name in measures]
        sql = (
            f"SELECT {', '.join(shown)} FROM ({sql}) AS found JOIN ({reasons}) AS why "
            "USING (log_position, row_number)"
        )
        return _read(session, sql, measures, limit)


def _other_versions(lake: Lake, origin: Origin, limit: int) -> Rows | None:
    """Return the versions of the same masters that don't count in the row."""
    table = origin.contract.table
    names = {column.name for column in origin.contract.columns}
    key = {name: value for name, value in origin.key.items() if name in names}
    if not key:
        return None
    with lake.bronze() as session:
        _current_views(session, lake)
        shown, _ = _leading_back(session, lake, origin, table)
        places = ", ".join(f"record.{name}" for name in _PLACE)
        sql = (
            f"SELECT {places} FROM {table} AS record ANTI JOIN ({shown}) AS shown "
            f"USING (log_position, row_number) WHERE {matches(origin.model, key, 'record.')}"
        )
        return _read(session, sql, (), limit)


def _current_views(session: Session, lake: Lake, without: str = "") -> None:
    for contract in lake.contracts.values():
        if contract.mode != "append" and without not in (contract.table, current_name(contract)):
            session.view(current_name(contract), current_sql(contract))


def _other_rows(
    contract: Contract, verdict: str, forms: Mapping[str, Relation], *, exact: bool
) -> str:
    """Bronze rows of what did not count, each with a key of its own."""
    if verdict == "superseded":
        current = current_sql(contract)
        rows = (
            f"SELECT version.* FROM {contract.table} AS version ANTI JOIN ({current}) AS kept "
            "USING (log_position, row_number)"
        )
    else:
        # Judged so, and taken as if they had been accepted.
        rows = over_forms(
            {
                f"(SELECT * REPLACE ('accepted' AS verdict) FROM {name} "
                f"WHERE verdict = '{verdict}')": files
                for name, files in forms.items()
            },
            accepted_sql,
            contract,
        )
    replaced = []
    if altered := _altered(contract):
        replaced.append(
            f'concat("{altered}", {_MARK}, log_position, \':\', row_number) AS "{altered}"'
        )
    if not exact:
        replaced += [
            f'CASE WHEN abs("{column.name}") < {_TOO_LARGE} THEN "{column.name}" END '
            f'AS "{column.name}"'
            for column in contract.columns
            if column.type == "decimal"
        ]
    return f"SELECT * REPLACE ({', '.join(replaced)}) FROM ({rows}) AS record" if replaced else rows


def _altered(contract: Contract) -> str:
    """Return the key column that carries the place too."""
    types = {column.name: column.type for column in contract.columns}
    return next((name for name in contract.key if types[name] == "text"), "")


def _leading_back(
    session: Session, lake: Lake, origin: Origin, fact: str, *, beside: bool = False
) -> tuple[str, tuple[str, ...]]:
    """Make the views; return the SELECT of the records behind the key, and the measures."""
    key = dict(origin.key)
    if origin.history is not None:
        if beside:
            key.pop("version", None)  # what did not count has versions of its own
        sql, on, measures = _over_history(session, lake, origin, origin.history)
    else:
        sql, on, measures = _over_facts(session, lake, origin)
    session.view("explained", sql)
    altered = _altered(origin.contract) if beside else ""
    places = ", ".join(f"record.{name}" for name in _PLACE)
    shown = "".join(f", fact.{name}" for name in measures)
    records = _ranked(origin.contract) if origin.history is not None else fact
    return (
        f"SELECT {places}{shown} FROM explained AS fact JOIN {records} AS record ON {on} "
        f"WHERE {matches(origin.model, key, 'fact.', altered)}",
        measures,
    )


def _over_facts(session: Session, lake: Lake, origin: Origin) -> tuple[str, str, tuple[str, ...]]:
    model = origin.model
    if model.kind == "rows":
        compute(session, lake.models, [model.name])
        measures = tuple(
            column.name
            for column in model.columns
            if column.type.startswith("DECIMAL") and column.name in model.own_columns
        )
        on = " AND ".join(f'record."{name}" = fact."{name}"' for name in model.grain)
        return f"SELECT * FROM {model.name}", on, measures
    sql, carried, measures = _ungrouped(session, lake, model, origin.contract)
    on = " AND ".join(f'record."{name}" = fact."{held}"' for name, held in carried.items())
    return sql, on, measures


def _ungrouped(
    session: Session, lake: Lake, model: Model, contract: Contract
) -> tuple[str, Mapping[str, str], tuple[str, ...]]:
    """Return the SELECT of what each record adds to ``model``, and what it adds to.

    And key column of the record → the column that carries it.
    """
    facts = model.fact
    carried: Mapping[str, str] = {name: name for name in contract.key}
    if facts in lake.models and lake.models[facts].kind == "mergeable":
        # Merged from merged rows: each record takes the place of the row it is a part of.
        below, carried, _ = _ungrouped(session, lake, lake.models[facts], contract)
        session.view(facts, below)
    elif facts in lake.models:
        compute(session, lake.models, [facts])
        carried = {name: name for name in lake.models[facts].grain}
    found = ungrouped(model, tuple(carried.values()))
    if found is None:
        raise UsageError(
            f'"{model.name}" is not one SELECT over its facts, so it can\'t be taken apart',
            model.path,
            "explain a table that adds up records, such as gold.org_daily_usage_by_service",
        )
    sql, measures = found
    return sql, {name: KEY.format(held) for name, held in carried.items()}, measures


def _over_history(
    session: Session, lake: Lake, origin: Origin, history: Model
) -> tuple[str, str, tuple[str, ...]]:
    """Versions lead back by key, entry, and which of the entry's records of that key it is."""
    compute(session, lake.models, [history.name])
    key = origin.contract.key
    columns = ", ".join(f'"{name}"' for name in key)
    session.view(
        "placed",
        f"SELECT {columns}, version, valid_from_position, row_number() OVER (PARTITION BY "
        f"{columns}, valid_from_position ORDER BY version DESC) AS place FROM {history.name}",
    )
    measures: tuple[str, ...] = ()
    inner = f"SELECT * FROM {history.name}"
    carried = {name: name for name in (*key, "version")}
    if origin.model is not history:
        found = ungrouped(origin.model, (*key, "version"))
        assert found is not None, "origins() has seen to it"
        inner, measures = found
        carried = {name: KEY.format(name) for name in carried}
    same = " AND ".join(f'row."{as_}" = placed."{name}"' for name, as_ in carried.items())
    sql = (
        'SELECT row.*, placed.valid_from_position AS "fact entry", placed.place AS "fact place"'
        f" FROM ({inner}) AS row JOIN placed ON {same}"
    )
    on = " AND ".join(f'record."{name}" = fact."{carried[name]}"' for name in key)
    on += ' AND record.log_position = fact."fact entry" AND record.place = fact."fact place"'
    return sql, on, measures


def _ranked(contract: Contract) -> str:
    columns = ", ".join(f'"{name}"' for name in contract.key)
    return (
        f"(SELECT *, row_number() OVER (PARTITION BY {columns}, log_position "
        f"ORDER BY row_number DESC) AS place FROM {contract.table})"
    )


def matches(model: Model, key: Mapping[str, str], prefix: str = "", altered: str = "") -> str:
    """Return the condition that a row has ``key``; an empty value stands for NULL too.

    Args:
        model: Whose columns are named.
        key: Column → value as text.
        prefix: Before each column's name.
        altered: Column that carries a place behind its value.
    """
    types = {column.name: column.type for column in model.columns}
    terms = []
    for name, value in key.items():
        column = f'{prefix}"{name}"'
        if name == altered:
            column = f"split_part({column}, {_MARK}, 1)"
        if value == "":
            terms.append(f"coalesce({column}::VARCHAR, '') = ''")
        else:
            terms.append(f"{column} = CAST({_literal(value)} AS {types[name]})")
    return " AND ".join(terms) or "TRUE"


def _read(session: Session, sql: str, measures: Sequence[str], limit: int) -> Rows:
    """Read the first records, and add up all of them without a bound."""
    import pyarrow as pa

    records = session.query(f"{sql} ORDER BY log_position, row_number LIMIT {limit}")
    columns = ", ".join(measures or ("row_number",))
    count, sums = 0, dict.fromkeys(measures, Decimal(0))
    for batch in session.stream(f"SELECT {columns} FROM ({sql}) AS found"):
        count += batch.num_rows
        for name in measures:
            sums[name] = _EXACT.add(sums[name], _sum(batch[name]))
    assert isinstance(records, pa.Table)
    return Rows(records, count, sums)


def _sum(values: pa.Array) -> Decimal:
    import pyarrow as pa

    if pa.types.is_decimal(values.type):
        return scaled(exact_sum(values.cast(pa.decimal128(38, SCALE))))
    return Decimal(sum(value for value in values.to_pylist() if value is not None))


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
