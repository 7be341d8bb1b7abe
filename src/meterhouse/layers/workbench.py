"""What the speed layer keeps open while a generation lasts: planned models, held versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from meterhouse.errors import MeterhouseError, ModelError
from meterhouse.intake.contract import Contract
from meterhouse.lake.published import Published
from meterhouse.layers.anchors import anchored_tables
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    bronze_sha256,
    current_name,
    quarantine_sql,
    removed_sql,
)
from meterhouse.layers.entries import Entries, Group
from meterhouse.layers.generation import Generation
from meterhouse.layers.live_views import LiveView
from meterhouse.layers.partials import Differences, Partials
from meterhouse.layers.versions import Held, Versions
from meterhouse.log.state import State
from meterhouse.names import ACCEPTED, QUARANTINED, REMOVED
from meterhouse.ports import Blobs, Engine

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Outcome", "Workbench"]


@dataclass
class Outcome:
    """What a group of entries comes to."""

    partials: dict[str, pa.Table] = field(default_factory=dict)
    """Mergeable table → what is to be merged into it."""
    failed: dict[str, MeterhouseError] = field(default_factory=dict)
    """Mergeable table → why its model does not run."""
    latest: dict[str, str] = field(default_factory=dict)
    """Gold table → its latest day, see ``anchors``."""
    held: dict[str, Held] = field(default_factory=dict)
    """Source → its versions after the group: to be kept once the answers stand there."""


class Workbench:
    """Runs the live models of one generation. For one thread."""

    def __init__(
        self,
        engine: Engine,
        generation: Generation,
        storage: tuple[Blobs, State],
        lake: Callable[[], Published | None],
        rows: int,
    ) -> None:
        """Nothing is opened before it is needed.

        Args:
            engine: Where the models run.
            generation: Models and contracts.
            storage: Where the judged files are.
            lake: What is published now.
            rows: Judged rows that are read at once when history is gone through.
        """
        self.generation = generation
        self._engine = engine
        self._lake = lake
        self._rows = rows
        self._sources = generation.sources
        models = generation.models
        self.live = tuple(name for name in models.order if models[name].live)
        self._wanted: dict[str, list[str]] = {}
        for name in self.live:
            if models[name].kind == "mergeable":
                self._wanted.setdefault(models.base_fact(name), []).append(name)
        self._anchored: dict[str, list[str]] = {}
        for table, fact in anchored_tables(self._sources).items():
            if table in self.live:
                self._anchored.setdefault(fact, []).append(table)
        held_back = {contract.quarantine for contract in generation.contracts.values()}
        unread = () if held_back & set(self._wanted) else ("raw", "invalid_reason", "broken_rules")
        self.entries = Entries(*storage, unread=unread)
        self.views = {
            name: LiveView(engine, models, name)
            for name in self.live
            if models[name].kind == "view"
        }
        self._partials: dict[tuple[str, str, pa.Schema], Partials] = {}
        self._differences = Differences(engine)
        self._held: dict[str, Held] = {}

    def compute(self, group: Group, latest: dict[str, str]) -> Outcome:
        """Return what the entries of ``group`` do to the mergeable tables.

        Args:
            group: Entries after the position of the answers.
            latest: Latest days before them.

        Raises:
            DamageError: A judged file is not what was written.
            EnvironmentFailureError: The machine refuses.
        """
        outcome = Outcome(latest=dict(latest))
        added: dict[str, list[pa.Table]] = {}
        removed: dict[str, list[pa.Table]] = {}
        for source, tables in group.tables.items():
            contract = self.generation.contracts.get(source)
            if contract is None:
                # It came after the generation: no model of it reads it.
                continue
            for judged in tables:
                for fact, sql in self._facts(contract, judged):
                    partials = self._of_form(fact, source, judged, sql)
                    self._run(partials, judged, added, outcome)
                    self._look_at_days(partials, judged, outcome)
            if self._versioned(contract):
                self._replace(contract, tables, group, (added, removed), outcome)
        self._add_up(added, removed, outcome)
        return outcome

    def keep(self, outcome: Outcome) -> None:
        """Keep the versions after a group by which the answers have advanced."""
        self._held |= outcome.held

    def history(self, name: str, upto: int) -> Iterator[pa.Table]:
        """Yield partial results of mergeable ``name`` over everything up to ``upto``.

        Raises:
            ModelError: It fails on some of the rows.
        """
        fact = self.generation.models.base_fact(name)
        for source, contract in self.generation.contracts.items():
            if fact == current_name(contract) and contract.mode != "append":
                versions = self._versions(contract)
                rows = versions.current(self._load(contract, upto))
                yield from _computed(self._of_rows(fact, source), rows, name)
                continue
            if fact not in (contract.table, contract.quarantine, REMOVED_KEYS):
                continue
            for judged in self.entries.of(source, 0, upto, self._rows):
                for read, sql in self._facts(contract, judged):
                    if read == fact:
                        partials = self._of_form(fact, source, judged, sql)
                        yield from _computed(partials, judged, name)

    def added_up(self, name: str, parts: Sequence[pa.Table]) -> pa.Table:
        """Return partial results of ``name`` as one.

        Raises:
            ModelError: A sum has more digits than its column.
        """
        return self._differences.of(self.generation.models[name], parts)

    def close(self) -> None:
        """Close every session; what is held is forgotten."""
        for partials in self._partials.values():
            partials.close()
        for view in self.views.values():
            view.close()
        self._differences.close()
        self._partials.clear()
        self._held.clear()

    def _facts(self, contract: Contract, judged: pa.Table) -> Iterator[tuple[str, str]]:
        """Yield the bronze relations that judged rows add to and models read, with their SQL."""
        present = judged.column_names
        for fact, verdict, sql in (
            (contract.table, ACCEPTED, accepted_sql),
            (contract.quarantine, QUARANTINED, quarantine_sql),
        ):
            if (fact in self._wanted or fact in self._anchored) and _has(judged, verdict):
                yield fact, sql(contract, "input", present)
        if REMOVED_KEYS in self._wanted and _has(judged, REMOVED):
            yield REMOVED_KEYS, removed_sql(contract, "input")

    def _of_form(self, fact: str, source: str, judged: pa.Table, sql: str) -> Partials:
        return self._opened((fact, source, judged.schema), sql)

    def _of_rows(self, fact: str, source: str) -> Partials:
        return self._opened((fact, source, self._sources[fact]), "SELECT * FROM input")

    def _opened(self, key: tuple[str, str, pa.Schema], sql: str) -> Partials:
        if key not in self._partials:
            fact, _, schema = key
            self._partials[key] = Partials(
                self._engine,
                self.generation.models,
                fact,
                self._wanted.get(fact, ()),
                self._sources,
                (schema, sql),
            )
        return self._partials[key]

    def _run(
        self,
        partials: Partials,
        rows: pa.Table,
        into: dict[str, list[pa.Table]],
        outcome: Outcome,
    ) -> None:
        computed = partials.of(rows)
        for name, table in computed.tables.items():
            into.setdefault(name, []).append(table)
        outcome.failed |= computed.failed

    def _look_at_days(self, partials: Partials, rows: pa.Table, outcome: Outcome) -> None:
        """Move the latest days on by the rows seen last."""
        tables = self._anchored.get(partials.fact, ())
        # A day after that of its entry doesn't count, so most entries can't move anything.
        day = pc.max(rows["ingest_ts"]).as_py().date().isoformat()
        if any(outcome.latest.get(table, "") < day for table in tables):
            outcome.latest = partials.latest(tables, outcome.latest)

    def _replace(
        self,
        contract: Contract,
        judged: Sequence[pa.Table],
        group: Group,
        into: tuple[dict[str, list[pa.Table]], dict[str, list[pa.Table]]],
        outcome: Outcome,
    ) -> None:
        """Take the old versions of the touched keys off, and put the new ones on."""
        touching = [one for one in judged if _has(one, ACCEPTED) or _has(one, REMOVED)]
        if not touching:
            return
        fact, versions = current_name(contract), self._versions(contract)
        held = self._load(contract, group.after)
        replaced = versions.replaced(held, touching, group.position)
        outcome.held[contract.source] = replaced.held
        partials = self._of_rows(fact, contract.source)
        self._run(partials, replaced.old, into[1], outcome)
        self._run(partials, replaced.new, into[0], outcome)
        if fact in self._anchored:
            # A corrected day may be earlier than it was: only all rows together tell.
            partials.see(versions.current(replaced.held))
            names = self._anchored[fact]
            others = {name: day for name, day in outcome.latest.items() if name not in names}
            outcome.latest = partials.latest(names, others)

    def _add_up(
        self,
        added: dict[str, list[pa.Table]],
        removed: dict[str, list[pa.Table]],
        outcome: Outcome,
    ) -> None:
        for name in self.live:
            if name in outcome.failed or not (name in added or name in removed):
                continue
            model = self.generation.models[name]
            try:
                rows = self._differences.of(model, added.get(name, ()), removed.get(name, ()))
            except ModelError as error:
                outcome.failed[name] = error
                continue
            if rows.num_rows:
                outcome.partials[name] = rows

    def _versioned(self, contract: Contract) -> bool:
        name = current_name(contract)
        return contract.mode != "append" and (name in self._wanted or name in self._anchored)

    def _versions(self, contract: Contract) -> Versions:
        accepted, removals = self._sources[contract.table], self._sources[REMOVED_KEYS]
        return Versions(self._engine, contract, accepted, removals)

    def _load(self, contract: Contract, position: int) -> Held:
        """Return the versions of a source as of ``position``, from what is held or the lake."""
        versions = self._versions(contract)
        held = self._held.get(contract.source)
        if held is None or held.position > position:
            held = self._published(contract, versions, position) or versions.nothing()
        for judged in self.entries.of(contract.source, held.position, position, self._rows):
            held = versions.replaced(held, [judged], position).held
        return Held(position, held.versions, held.removed)

    def _published(self, contract: Contract, versions: Versions, position: int) -> Held | None:
        """Return what the lake says, None when it was made with another contract."""
        published = self._lake()
        if published is None or REMOVED_KEYS not in published.tables:
            return None
        table = published.tables.get(contract.table)
        if table is None or table.model != bronze_sha256(contract):
            return None
        return versions.published(
            published.relation(contract.table),
            published.relation(REMOVED_KEYS),
            published.stamp.position,
            position,
        )


def _has(judged: pa.Table, verdict: str) -> bool:
    return bool(pc.any(pc.equal(judged["verdict"], verdict)).as_py())


def _computed(partials: Partials, rows: pa.Table, name: str) -> Iterator[pa.Table]:
    computed = partials.of(rows)
    if name in computed.failed:
        raise computed.failed[name]
    if name in computed.tables:
        yield computed.tables[name]
