"""Silver and gold of a publication: computed from new rows where that is enough."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from meterhouse.errors import ModelError
from meterhouse.intake.contract import Contract
from meterhouse.lake.draft import Draft, Shape, Written
from meterhouse.layers.anchors import anchored_tables, latest_days
from meterhouse.layers.audit import audit, audited_tables, on_new_rows, on_whole_tables
from meterhouse.layers.bronze import REMOVED_KEYS, current_name, current_sql
from meterhouse.layers.bronze_stage import NewRows
from meterhouse.layers.compute import compute, merge_sql, stored_sql
from meterhouse.layers.plan import Action, Change, Step
from meterhouse.models.finalize import arrow_schema, finalize, needs_finalizing
from meterhouse.models.graph import Models, reached
from meterhouse.models.model import Model
from meterhouse.ports import Engine, Relation, Session

__all__ = ["ModelStage"]


@dataclass
class ModelStage:
    """Carries out the steps of a plan; the draft must hold bronze already."""

    models: Models
    contracts: Mapping[str, Contract]
    engine: Engine
    draft: Draft
    steps: Sequence[Step]
    bronze: Mapping[str, Change]
    new_rows: Mapping[str, NewRows]
    latest_before: Mapping[str, str]
    failures: list[ModelError] = field(default_factory=list)
    """Audits that failed."""
    latest: dict[str, str] = field(default_factory=dict)
    """Gold table → its latest day, see ``anchors``."""

    def __post_init__(self) -> None:
        self._current = {
            current_name(one): one for one in self.contracts.values() if one.mode != "append"
        }
        self._action = {step.name: step.action for step in self.steps}
        self.latest = dict(self.latest_before)

    def write(self) -> None:
        """Draft every stored model and run the audits."""
        for name in self._stored("keep"):
            self.draft.keep(name)
        self._new_rows()
        self._whole_tables()
        self._audit_whole_tables()
        self._latest_days()

    def _stored(self, *actions: str) -> list[str]:
        return [
            step.name
            for step in self.steps
            if step.action in actions and self.models[step.name].stored
        ]

    def _new_rows(self) -> None:
        """Append to and merge what needs only its new facts, one session for each fact."""
        by_fact: dict[str, list[str]] = {}
        for step in self.steps:
            if step.action in ("append", "merge"):
                by_fact.setdefault(self.models.base_fact(step.name), []).append(step.name)
        for fact, names in by_fact.items():
            audits = [on_new_rows(self.models[name], self._action[name]) for name in names]
            wanted = [*names, *audited_tables(audits)]
            before = {
                _before(name): self.draft.published_relation(name)
                for name in names
                if self._action[name] == "merge" and self.models[name].stored
            }
            with self._session(wanted, grown=fact, also=before) as session:
                for name in names:
                    if self.models[name].stored:
                        self._store_new_rows(session, self.models[name])
                self.failures += audit(session, audits)

    def _store_new_rows(self, session: Session, model: Model) -> None:
        shape = _shape(model)
        if self._action[model.name] == "append":
            self.draft.append(shape, self._store(session, model, stored_sql(model)))
            return
        merged = merge_sql(model, [_before(model.name), model.name])
        self.draft.replace(shape, self._store(session, model, merged))

    def _whole_tables(self) -> None:
        """Recompute models in waves: each reads what the waves before it have written."""
        waiting = self._stored("recompute")
        while waiting:
            ready = [name for name in waiting if not self._reads(name, waiting)]
            with self._session(ready) as session:
                for name in ready:
                    model = self.models[name]
                    written = self._store(session, model, stored_sql(model))
                    self.draft.replace(_shape(model), written)
            waiting = [name for name in waiting if name not in ready]

    def _reads(self, name: str, others: Collection[str]) -> bool:
        return any(read in others for read in self.models.closure([name]) if read != name)

    def _audit_whole_tables(self) -> None:
        # Rows that were merged in add up on both sides: that was looked at with the new rows.
        how: dict[Action, Change] = {"append": "grown", "merge": "grown", "recompute": "replaced"}
        done = {step.name: how.get(step.action, "same") for step in self.steps}
        changes: dict[str, Change] = {**self.bronze, **done}
        chosen = [
            on_whole_tables(self.models[step.name], step.action, changes) for step in self.steps
        ]
        audited = [model for model in chosen if model.audits]
        if audited:
            with self._session(sorted(audited_tables(audited))) as session:
                self.failures += audit(session, audited)

    def _latest_days(self) -> None:
        for table, fact in anchored_tables([*self.bronze]).items():
            change = self.bronze[fact]
            if table not in self.models or change == "same":
                continue
            grown = fact if change == "grown" else ""
            before = self.latest if grown else _without(self.latest, table)
            with self._session([fact], grown=grown) as session:
                self.latest = latest_days(session, [table], before)

    def _store(self, session: Session, model: Model, sql: str) -> Written:
        """Write the finished rows of ``sql``, the stored columns of ``model``.

        Ratios and scores are computed over the whole result in memory: they belong to
        models that add up facts, not to facts.
        """
        shape = _shape(model)
        ordered = ", ".join(model.grain) if model.kind != "rows" else ""
        if not needs_finalizing(model):
            return self.draft.write(session, shape, sql, ordered=ordered)
        finished = finalize(model, session.query(sql))
        with self.engine.session({"finished": finished}) as other:
            return self.draft.write(other, shape, "SELECT * FROM finished", ordered=ordered)

    @contextmanager
    def _session(
        self, wanted: Sequence[str], *, grown: str = "", also: Mapping[str, Relation] | None = None
    ) -> Iterator[Session]:
        """Open a session in which every table of ``wanted`` can be read by its name.

        Tables that the draft holds are read as they are; what ``grown`` (a bronze table)
        adds is computed from its new rows alone.
        """
        needed = self._needed(wanted)
        present = [
            name for name in needed if name in self.draft.tables and name in self.models.by_name
        ]
        relations: dict[str, Relation] = dict(also or {})
        views: dict[str, str] = {}
        for name in needed:
            if name in self._current:
                views[name] = current_sql(self._current[name])
            elif name in self.draft.tables:
                self._see(name, relations, views, only_new=name == grown)
        with self.engine.session(relations) as session:
            for name in sorted(views, key=lambda name: name in self._current):
                session.view(name, views[name])
            compute(session, self.models, wanted, present=present)
            yield session

    def _see(
        self, name: str, relations: dict[str, Relation], views: dict[str, str], *, only_new: bool
    ) -> None:
        """Make table ``name`` of the draft visible, its new rows as they were judged."""
        new = self.new_rows.get(name)
        if new is None:
            relations[name] = self.draft.relation(name)
            return
        relations.update(new.relations)
        views[name] = new.sql
        old = self.draft.old_relation(name)
        if old.paths and not only_new:
            relations[f"old_{name}"] = old
            columns = ", ".join(
                '"' + column.replace('"', '""') + '"' for column in old.schema.names
            )
            views[name] = f"SELECT {columns} FROM old_{name} UNION ALL {new.sql}"

    def _needed(self, wanted: Sequence[str]) -> list[str]:
        """Return the tables to see: those of the draft, and what the others are made of."""

        def made_of(name: str) -> list[str]:
            tables = []
            if name in self._current:
                tables += [self._current[name].table, REMOVED_KEYS]
            if name in self.models and name not in self.draft.tables:
                tables += self.models[name].depends_on
            return tables

        return list(reached(wanted, made_of))


def _shape(model: Model) -> Shape:
    return Shape(model.name, arrow_schema(model), model.partition_by, model.sha256)


def _before(name: str) -> str:
    return f"before_{name}"


def _without(days: Mapping[str, str], table: str) -> dict[str, str]:
    return {name: day for name, day in days.items() if name != table}
