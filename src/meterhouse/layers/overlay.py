"""What a session has to see, so that tables can be read at a position after the lake's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterhouse.errors import DamageError, SqlError
from meterhouse.intake.contract import Contract
from meterhouse.lake.published import Published
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    bronze_schemas,
    current_name,
    current_sql,
    quarantine_sql,
    removed_sql,
)
from meterhouse.layers.compute import refused_by_engine
from meterhouse.layers.generation import Generation
from meterhouse.layers.judged import over_forms
from meterhouse.models.finalize import arrow_schema, finalize, needs_finalizing
from meterhouse.models.model import Model
from meterhouse.ports import ParquetFiles, Relation, Session

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LiveTable", "Overlay"]


@dataclass(frozen=True, slots=True)
class LiveTable:
    """The live rows of a gold table, in one read transaction."""

    rows: pa.Table
    """Finished columns, ``changed_at`` and ``gone``."""
    key: tuple[str, ...]
    """The columns that identify a row."""


class Overlay:
    """Finds what is needed for some tables: relations, and views over them in order."""

    def __init__(
        self,
        published: Published | None,
        live: Mapping[str, LiveTable],
        judged: Mapping[str, Mapping[str, ParquetFiles]],
        pinned: Callable[[], Generation],
        *,
        ahead: bool,
        computed: bool,
    ) -> None:
        """Nothing is opened.

        Args:
            published: The lake.
            live: Gold table → live rows, of those that will be read.
            judged: Judged rows since the lake's position, by source.
            pinned: Gives the texts of the answers.
            ahead: Whether the answers stand after the lake.
            computed: Compute gold as well, instead of taking the live rows.
        """
        self._published = published
        self._live = live
        self._judged = judged
        self._pinned = pinned
        self._ahead = ahead
        self._computed = computed
        self.relations: dict[str, Relation] = {}
        self._views: dict[str, _View] = {}
        """In the order in which they are made."""
        self._changes: dict[str, bool] = {}

    def see(self, name: str) -> None:
        """Let table ``name`` be seen, and whatever it is made of."""
        if name in self.relations or name in self._views:
            return
        if name.startswith("gold.") and not self._computed:
            self._gold(name)
        elif self._in_lake(name) and not (self._ahead and self._changed(name)):
            self._lake(name)
        elif name in self._generation.models.by_name:
            self._model(name)
        elif name in self._current:
            self.see(self._current[name].table)
            self.see(REMOVED_KEYS)
            self._views[name] = _View(current_sql(self._current[name]))
        else:
            self._bronze(name)

    def make(self, session: Session) -> None:
        """Make the views, in a session that sees the relations.

        Raises:
            ModelError: The engine refuses a model's SQL; the message names the file.
        """
        for name, view in self._views.items():
            try:
                _make(session, name, view)
            except SqlError as error:
                if view.model is None:
                    raise
                raise refused_by_engine(view.model, error) from error

    # No cached properties: before Python 3.12 all threads wait for one lock while one of them
    # reads what the pinned texts are.
    @property
    def _generation(self) -> Generation:
        return self._pinned()

    @property
    def _current(self) -> dict[str, Contract]:
        contracts = self._generation.contracts.values()
        return {current_name(one): one for one in contracts if one.mode != "append"}

    @property
    def _growing(self) -> dict[str, Contract | None]:
        """Bronze tables, which only ever grow, with their contract."""
        found: dict[str, Contract | None] = {REMOVED_KEYS: None}
        for contract in self._generation.contracts.values():
            found |= {contract.table: contract, contract.quarantine: contract}
        return found

    def _in_lake(self, name: str) -> bool:
        return self._published is not None and name in self._published.tables

    def _lake(self, name: str, seen_as: str = "") -> None:
        assert self._published is not None
        self.relations[seen_as or name] = self._published.relation(name)

    def _changed(self, name: str) -> bool:
        """Tell whether a relation may have other rows than when the lake was published."""
        if name not in self._changes:
            self._changes[name] = self._may_differ(name)
        return self._changes[name]

    def _may_differ(self, name: str) -> bool:
        if self._published is None:
            return True
        if name in self._current:
            return self._changed(self._current[name].table) or self._changed(REMOVED_KEYS)
        if name in self._growing:
            return bool(self._forms(name))
        model = self._generation.models.by_name.get(name)
        # A table without a model in the generation stays what the last batch left.
        return model is not None and any(self._changed(read) for read in model.depends_on)

    def _gold(self, name: str) -> None:
        if name not in self._live:
            if self._in_lake(name):
                self._lake(name)
            elif (model := self._generation.models[name]).on_read:
                self._model(name)
            else:
                self.relations[name] = arrow_schema(model).empty_table()
            return
        live, rows, lake = self._live[name], f"live_{name}", f"lake_{name}"
        self.relations[rows] = live.rows
        columns = _listed([one for one in live.rows.column_names if one not in _OF_LIVE])
        sql = f"SELECT {columns} FROM {rows} WHERE NOT gone"
        if self._in_lake(name):
            self._lake(name, lake)
            same = " AND ".join(
                f"live.{_quoted(key)} IS NOT DISTINCT FROM lake.{_quoted(key)}" for key in live.key
            )
            sql += (
                f" UNION ALL SELECT {columns} FROM {lake} AS lake "
                f"WHERE NOT EXISTS (SELECT 1 FROM {rows} AS live WHERE {same})"
            )
        self._views[name] = _View(sql)

    def _model(self, name: str) -> None:
        model = self._generation.models[name]
        if self._in_lake(name) and self._since(name):
            columns = _listed(model.stored_columns)
            self._lake(name, f"lake_{name}")
            self._views[name] = _both(columns, (f"lake_{name}", f"since_{name}"))
            return
        for read in model.depends_on:
            self.see(read)
        self._views[name] = _View(model.sql, model)

    def _since(self, name: str) -> bool:
        """Make a view of the rows that came since, where the others are what they were.

        True for bronze, and for models that take each new record of their facts to a row of
        its own, while nothing else that they read has changed.
        """
        view = f"since_{name}"
        if view in self._views:
            return True
        if name in self._growing:
            sql = self._rows_since(name)
            if sql:
                self._views[view] = _View(sql)
            return bool(sql)
        model = self._generation.models.by_name.get(name)
        if model is None or model.kind != "rows" or needs_finalizing(model):
            return False
        others = [read for read in model.depends_on if read != model.fact]
        if any(self._changed(read) for read in others) or not self._since(model.fact):
            return False
        for read in others:
            self.see(read)
        self._views[view] = _View(_renamed(model.sql, model.fact), model)
        return True

    def _bronze(self, name: str) -> None:
        schema = bronze_schemas(self._generation.contracts).get(name)
        if schema is None:
            # A step between that is not stored, or a table of a contract that is gone.
            raise DamageError(
                f"{name} is read by a model, but nothing makes it",
                name,
                "publish anew, with the texts of the project folder: meterhouse batch --full",
            )
        parts = []
        if self._in_lake(name):
            self._lake(name, f"lake_{name}")
            parts.append(f"lake_{name}")
        if self._since(name):
            parts.append(f"since_{name}")
        if parts:
            self._views[name] = _both(_listed(schema.names), parts)
        else:
            self.relations[name] = schema.empty_table()

    def _rows_since(self, name: str) -> str:
        """Return the SELECT of a bronze table's rows since the lake's position; "" for none."""
        forms = self._forms(name)
        self.relations.update(forms)
        contract = self._growing[name]
        if not forms:
            return ""
        if contract is None:
            return " UNION ALL ".join(
                removed_sql(one, form)
                for one in self._generation.contracts.values()
                if one.mode == "snapshot"
                for form in self._judged.get(one.source, {})
            )
        return over_forms(
            forms, accepted_sql if name == contract.table else quarantine_sql, contract
        )

    def _forms(self, name: str) -> dict[str, ParquetFiles]:
        """Return the judged rows since of the sources of a bronze table."""
        contract = self._growing[name]
        if contract is not None:
            return dict(self._judged.get(contract.source, {}))
        return {
            form: files
            for one in self._generation.contracts.values()
            if one.mode == "snapshot"
            for form, files in self._judged.get(one.source, {}).items()
        }


_OF_LIVE: Final = ("changed_at", "gone")


@dataclass(frozen=True, slots=True)
class _View:
    sql: str
    model: Model | None = None
    """Whose SQL it is; None for rows put together."""


def _make(session: Session, name: str, view: _View) -> None:
    model = view.model
    if model is None or model.name != name or not needs_finalizing(model):
        session.view(name, view.sql)
        return
    # A ratio is no SQL: it is computed at once, in Decimal.
    session.view(f"stored_{name}", view.sql)
    columns = _listed(model.stored_columns)
    stored = session.query(f"SELECT {columns} FROM stored_{name}")
    session.replace(name, finalize(model, stored))


def _both(columns: str, parts: Sequence[str]) -> _View:
    return _View(" UNION ALL ".join(f"SELECT {columns} FROM {part}" for part in parts))


def _renamed(sql: str, table: str) -> str:
    """Return ``sql`` with ``table`` read from the rows that came since; nothing else changes."""
    import sqlglot

    layer, _, short = table.partition(".")
    tokens = sqlglot.tokenize(sql, read="duckdb")
    found, done = [], 0
    for first, dot, second in zip(tokens, tokens[1:], tokens[2:], strict=False):
        named = (first.text.casefold(), second.text.casefold()) == (layer, short)
        if named and dot.text == ".":
            found.append(f"{sql[done : first.start]}since_{layer}")
            done = first.end + 1
    return "".join(found) + sql[done:]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
