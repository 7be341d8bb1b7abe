"""Models against the engine, on empty tables: what a linter can't see in the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meterhouse.errors import ModelError, SqlError
from meterhouse.layers.compute import refused_by_engine, stored_sql
from meterhouse.models.finalize import finalize, stored_schema
from meterhouse.models.graph import Models
from meterhouse.models.model import Model
from meterhouse.ports import Engine, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_models"]


def check_models(
    models: Models, sources: Mapping[str, pa.Schema], engine: Engine
) -> list[ModelError]:
    """Return what is wrong with the project's models, one error for each file.

    The linter's findings, then what the engine refuses: SQL that does not bind, a result
    of another type than the SQL says, an audit that does not run. Nothing is read.
    """
    found = list(models.problems)
    empty = {name: schema.empty_table() for name, schema in sources.items()}
    with engine.session(empty) as session:
        for name in models.order:
            model = models[name]
            problem = _run(session, model)
            # What reads it sees the finished columns, and binds even when this model did not.
            session.view(name, _typed_nothing(model))
            problem = problem or _audited(session, model)
            if problem:
                found.append(problem)
    return found


def _typed_nothing(model: Model) -> str:
    columns = ", ".join(f"NULL::{one.type} AS {one.name}" for one in model.columns)
    return f"SELECT {columns} WHERE FALSE"


def _run(session: Session, model: Model) -> ModelError | None:
    try:
        session.view(model.name, model.sql)
        rows = session.query(stored_sql(model))
    except SqlError as error:
        return refused_by_engine(model, error)
    schema = stored_schema(model)
    for field in schema:
        if rows.schema.field(field.name).type != field.type:
            return ModelError(
                f'model "{model.name}" gives {rows.schema.field(field.name).type} in column '
                f'"{field.name}", not {field.type}',
                model.path,
                "cast the column to the type that it has",
            )
    finalize(model, rows)
    return None


def _audited(session: Session, model: Model) -> ModelError | None:
    for audit in model.audits:
        try:
            session.query(f"SELECT * FROM ({audit.sql}) AS violation LIMIT 0")
        except SqlError as error:
            return ModelError(
                f'audit "{audit.name}" of model "{model.name}" does not run: {error.what}',
                model.path,
                "name columns that the tables have",
            )
    return None
