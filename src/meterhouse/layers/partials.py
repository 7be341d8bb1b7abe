"""The mergeable models over one bronze relation, planned once, run over new rows again and again.

The same SQL as a batch runs, in the same engine; a session stays open so that planning, more
than half of the cost of a small entry, is paid once. Nothing is joined: dimensions are empty,
since what is added up depends on the facts alone (the linter sees to that).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meterhouse.errors import MeterhouseError, ModelError, SqlError
from meterhouse.layers.anchors import latest_days
from meterhouse.layers.compute import difference_sql, refused_by_engine
from meterhouse.models.finalize import stored_schema
from meterhouse.models.graph import Models
from meterhouse.models.model import Model
from meterhouse.ports import Engine, Relation, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Computed", "Differences", "Partials"]

_INPUT = "input"


@dataclass(frozen=True, slots=True)
class Computed:
    """What models made of some rows."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    """Mergeable model → its stored columns over these rows alone; none for no rows."""
    failed: dict[str, MeterhouseError] = field(default_factory=dict)
    """Model → why it does not run, also where one that it reads does not."""


class Partials:
    """Runs models over rows of one form. For one thread."""

    def __init__(
        self,
        engine: Engine,
        models: Models,
        fact: str,
        wanted: Collection[str],
        sources: Mapping[str, pa.Schema],
        rows: tuple[pa.Schema, str],
    ) -> None:
        """Open a session and make what can be made before there are rows.

        Args:
            engine: Where the models run.
            models: They and what they read.
            fact: Bronze relation whose rows are added up.
            wanted: Mergeable models over it.
            sources: Every bronze relation with its schema.
            rows: Schema of what ``of`` is given, and the SELECT over the relation "input"
                that makes the rows of ``fact`` of it.
        """
        self.fact = fact
        self._models = models
        self._schema, sql = rows
        self._steps = [name for name in models.closure(wanted) if models.base_fact(name) == fact]
        others = [name for name in models.closure(wanted) if name not in self._steps]
        relations: dict[str, Relation] = {
            name: sources[name].empty_table() for name in models.sources(wanted) if name != fact
        }
        self._kept = _read_often(models, self._steps)
        self._broken: dict[str, MeterhouseError] = {}
        self._closing = ExitStack()
        self._session = self._closing.enter_context(engine.session(relations))
        try:
            self._session.replace(_INPUT, self._schema.empty_table())
            self._session.view(fact, sql)
            for name in [*others, *self._steps]:
                self._prepare(models[name])
        except BaseException:
            self.close()
            raise

    def _prepare(self, model: Model) -> None:
        blamed = self._blamed(model, self._broken)
        if blamed is not None:
            self._broken[model.name] = blamed
        elif model.name in self._kept or model.kind == "mergeable":
            self._session.replace(model.name, stored_schema(model).empty_table())
        else:
            try:
                self._session.view(model.name, model.sql)
            except SqlError as error:
                self._broken[model.name] = refused_by_engine(model, error)

    def _blamed(
        self, model: Model, failed: Mapping[str, MeterhouseError]
    ) -> MeterhouseError | None:
        return next((failed[read] for read in model.depends_on if read in failed), None)

    def of(self, rows: pa.Table) -> Computed:
        """Return what every model makes of ``rows``; a failing one stops only itself.

        Raises:
            EnvironmentFailureError: The machine refuses.
        """
        found = Computed(failed=dict(self._broken))
        self.see(rows)
        for name in self._steps:
            model = self._models[name]
            if name not in self._kept and model.kind != "mergeable":
                continue
            blamed = found.failed.get(name) or self._blamed(model, found.failed)
            if blamed is not None:
                found.failed[name] = blamed
                continue
            try:
                made = self._session.query(model.sql, again=True)
            except SqlError as error:
                found.failed[name] = refused_by_engine(model, error)
                continue
            if name in self._kept:
                self._session.replace(name, made)
            if model.kind == "mergeable" and made.num_rows:
                found.tables[name] = made
        return found

    def see(self, rows: pa.Table) -> None:
        """Let ``latest`` look at ``rows``."""
        self._session.replace(_INPUT, rows)

    def latest(self, tables: Collection[str], before: Mapping[str, str]) -> dict[str, str]:
        """Return the latest days of ``tables`` by the rows seen last and ``before``."""
        return latest_days(self._session, tables, before)

    def close(self) -> None:
        """Close the session."""
        self._closing.close()


def _read_often(models: Models, steps: Sequence[str]) -> frozenset[str]:
    """Return the steps whose rows are kept for others: mergeable ones, and shared ones."""
    readers: dict[str, int] = {}
    for name in steps:
        for read in models[name].depends_on:
            readers[read] = readers.get(read, 0) + 1
    return frozenset(
        name
        for name in steps
        if readers.get(name, 0) > (0 if models[name].kind == "mergeable" else 1)
    )


class Differences:
    """Adds partial results up, and takes those of replaced rows off. For one thread."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is opened before it is needed."""
        self._engine = engine
        self._closing = ExitStack()
        self._session: Session | None = None

    def of(
        self, model: Model, added: Sequence[pa.Table], removed: Sequence[pa.Table] = ()
    ) -> pa.Table:
        """Return what ``added`` and ``removed`` partial results of ``model`` come to.

        One row a key; a key for which nothing changes is not there.

        Raises:
            ModelError: A sum has more digits than its column.
        """
        if not removed and len(added) == 1:
            return added[0]
        import pyarrow as pa

        if self._session is None:
            self._session = self._closing.enter_context(self._engine.session({}))
        schema = stored_schema(model)
        names = (f"added.{model.name.replace('.', '_')}", f"removed.{model.name.replace('.', '_')}")
        for name, tables in zip(names, (added, removed), strict=True):
            rows = pa.concat_tables(tables) if tables else schema.empty_table()
            self._session.replace(name, rows)
        sql = difference_sql(model, names[:1], names[1:] if removed else ())
        try:
            return self._session.query(sql, again=True)
        except SqlError as error:
            raise ModelError(
                f'partial results of model "{model.name}" don\'t add up: {error.what}',
                model.path,
                "let the model leave such rows out; nothing was changed",
            ) from error

    def close(self) -> None:
        """Close the session; the next call opens one again."""
        self._closing.close()
        self._session = None
