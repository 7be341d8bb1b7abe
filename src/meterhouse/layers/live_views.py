"""Views kept live: their rows for the touched values, computed from merged rows, and no others.

``Model.live_by`` names the columns whose values tell which rows of a view change; the linter
has proved that these come from the rows of the tables below with the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from meterhouse.errors import SqlError
from meterhouse.layers.compute import merge_sql, refused_by_engine
from meterhouse.models.finalize import finalize, stored_schema
from meterhouse.models.graph import Models
from meterhouse.ports import Engine, LiveRows, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LiveView", "distinct"]

Stored = Callable[[str, "pa.Table"], "pa.Table"]
"""Table and values of some key columns → its finished rows with these, as served now."""


class LiveView:
    """One view, planned once. For one thread."""

    def __init__(self, engine: Engine, models: Models, name: str) -> None:
        """Nothing is opened before it is needed."""
        self._engine = engine
        self._models = models
        self._model = models[name]
        self._closing = ExitStack()
        self._session: Session | None = None

    def change(
        self,
        partials: Mapping[str, pa.Table],
        stored: Stored,
        missed: Mapping[str, pa.Table] | None = None,
    ) -> LiveRows | None:
        """Return what ``partials`` of the tables below do to the view; None for nothing.

        Args:
            partials: Mergeable table → what is about to be merged into it.
            stored: Looks up rows as they are before.
            missed: Mergeable table → what was merged into it and the view has not followed.

        Raises:
            ModelError: The view's SQL fails.
            EnvironmentFailureError: The machine refuses.
        """
        model = self._model
        touched = self._touched([partials, missed or {}])
        if touched is None:
            return None
        session = self._opened()
        for table, columns in model.live_from.items():
            base = self._models[table]
            schema = stored_schema(base)
            rows = stored(table, touched.rename_columns(list(columns)))
            session.replace(_stored_name(table), rows.select(schema.names).cast(schema))
            session.replace(_part_name(table), partials.get(table, schema.empty_table()))
        try:
            made = session.query(model.sql, again=True)
        except SqlError as error:
            raise refused_by_engine(model, error) from error
        return LiveRows(model.name, rows=finalize(model, made), replaces=touched)

    def _touched(self, changes: Sequence[Mapping[str, pa.Table]]) -> pa.Table | None:
        """Return the values of ``live_by`` that any of the partial results has, each once."""
        import pyarrow as pa

        model = self._model
        found = [
            partials[table].select(list(columns)).rename_columns(list(model.live_by))
            for partials in changes
            for table, columns in model.live_from.items()
            if table in partials
        ]
        return distinct(pa.concat_tables(found)) if found else None

    def _opened(self) -> Session:
        if self._session is not None:
            return self._session
        session = self._closing.enter_context(self._engine.session({}))
        try:
            for table in self._model.live_from:
                base = self._models[table]
                parts = [_stored_name(table), _part_name(table)]
                for name in parts:
                    session.replace(name, stored_schema(base).empty_table())
                session.view(table, merge_sql(base, parts))
            for name in self._models.closure([self._model.name]):
                step = self._models[name]
                between = step.kind == "view" and step.name.startswith("gold.")
                if between and name != self._model.name:
                    session.view(name, step.sql)
        except SqlError as error:
            self.close()
            raise refused_by_engine(self._model, error) from error
        self._session = session
        return session

    def close(self) -> None:
        """Close the session; the next call opens one again."""
        self._closing.close()
        self._session = None


def distinct(rows: pa.Table) -> pa.Table:
    """Return each row of ``rows`` once; NULL is a value like others."""
    return rows.group_by(rows.column_names, use_threads=False).aggregate([])


def _stored_name(table: str) -> str:
    return f"stored.{table.replace('.', '_')}"


def _part_name(table: str) -> str:
    return f"part.{table.replace('.', '_')}"
