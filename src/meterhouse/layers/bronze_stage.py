"""The bronze tables of a publication: judged files in, files of the lake out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meterhouse.intake.contract import Contract
from meterhouse.lake.draft import Draft, Shape, Written
from meterhouse.lake.files import check_files
from meterhouse.layers.bronze import (
    REMOVED_KEYS,
    accepted_sql,
    bronze_schemas,
    bronze_sha256,
    current_name,
    quarantine_sql,
    removed_sql,
)
from meterhouse.layers.judged import forms_of, over_forms
from meterhouse.layers.plan import Action, Change
from meterhouse.log.state import State
from meterhouse.names import ACCEPTED, QUARANTINED
from meterhouse.ports import Blobs, Engine, Relation, Session

__all__ = ["BronzeStage", "NewRows"]

_REBUILD = "judged files are a view of the log; make them anew: meterhouse rebuild"


@dataclass(frozen=True, slots=True)
class NewRows:
    """The rows that a batch adds to a bronze table, as they lie in judged files.

    The same rows as in the lake's new files, but in few large row groups, which partitioned
    files are not: reading them is several times cheaper.
    """

    relations: Mapping[str, Relation]
    sql: str
    """Over ``relations``; the columns of the bronze table, in its order."""


@dataclass
class BronzeStage:
    """Writes accepted, held and removed rows of (before, upto] into a draft.

    A table whose contract would give other rows now is written anew from (0, upto].
    """

    blobs: Blobs
    state: State
    contracts: Mapping[str, Contract]
    engine: Engine
    draft: Draft
    upto: int
    full: bool = False

    def __post_init__(self) -> None:
        self.changes: dict[str, Change] = {}
        """Every bronze relation and what happened to it."""
        self.new_rows: dict[str, NewRows] = {}
        """By bronze table; one without new rows is not in it."""
        self.restated: list[str] = []
        """Sources written anew because their contract changed."""
        self._said: dict[str, tuple[Action, str]] = {}
        self._schemas = bronze_schemas(self.contracts)
        self._after = self.draft.before.stamp.position if self.draft.before is not None else 0

    def write(self) -> None:
        """Draft every bronze table, those of sources that never delivered included."""
        for contract in self.contracts.values():
            self._source(contract)
        self._removed_keys()

    def _source(self, contract: Contract) -> None:
        accepted, quarantine = self._shapes(contract)
        same = all(self.draft.same_shape(shape) for shape in (accepted, quarantine))
        anew = self.full or not same
        if not same and self._is_published(accepted.name):
            self.restated.append(contract.source)
        files = self._judged(contract.source, 0 if anew else self._after)
        if not files:
            for shape in (accepted, quarantine):
                self._put(shape, Written(), anew=anew)
            return
        with self.engine.session(files) as session:
            verdicts = _verdicts(session, files)
            held, written = Written(), Written()
            if QUARANTINED in verdicts:
                held = self.draft.write(
                    session, quarantine, over_forms(files, quarantine_sql, contract)
                )
            if ACCEPTED in verdicts:
                sql = over_forms(files, accepted_sql, contract)
                written = self.draft.write(session, accepted, sql)
                self.new_rows[accepted.name] = NewRows(files, sql)
        self._put(quarantine, held, anew=anew)
        self._put(accepted, written, anew=anew)

    def said(self, name: str) -> tuple[Action, str]:
        """Return what was done to table ``name``, and why."""
        return self._said[name]

    def _put(self, shape: Shape, written: Written, *, anew: bool) -> None:
        if anew:
            self.draft.replace(shape, written)
            self.changes[shape.name] = "replaced"
            other = "its contract changed" if self._is_published(shape.name) else "it is new"
            self._said[shape.name] = ("recompute", "--full" if self.full else other)
        else:
            self.draft.append(shape, written)
            self.changes[shape.name] = "grown" if written.rows else "same"
            self._said[shape.name] = ("append", "new rows") if written.rows else ("keep", "")

    def _is_published(self, name: str) -> bool:
        return self.draft.before is not None and name in self.draft.before.tables

    def _removed_keys(self) -> None:
        versioned = [one for one in self.contracts.values() if one.mode != "append"]
        keys = "\n".join(f"{one.source}:{','.join(one.key)}" for one in versioned)
        digest = hashlib.sha256(f"removed keys 1\n{keys}".encode()).hexdigest()
        shape = Shape(REMOVED_KEYS, self._schemas[REMOVED_KEYS], (), digest)
        anew = self.full or not self.draft.same_shape(shape)
        found, touched = Written(), set()
        for number, contract in enumerate(versioned):
            if contract.mode != "snapshot":
                continue
            files = self._judged(contract.source, 0 if anew else self._after)
            if not files:
                continue
            sql = " UNION ALL ".join(removed_sql(contract, name) for name in files)
            with self.engine.session(files) as session:
                written = self.draft.write(session, shape, sql, part=f"-{number}")
            found += written
            if written.rows:
                touched.add(contract.source)
        self._put(shape, found, anew=anew)
        for contract in versioned:
            grown = self.changes[contract.table] != "same" or contract.source in touched
            # Versions replace each other: more rows of bronze are other rows of "current".
            self.changes[current_name(contract)] = "replaced" if grown or anew else "same"

    def _shapes(self, contract: Contract) -> tuple[Shape, Shape]:
        digest = bronze_sha256(contract)
        held_by = ("invalid_reason",) if contract.partition_by else ()
        return (
            Shape(contract.table, self._schemas[contract.table], contract.partition_by, digest),
            Shape(contract.quarantine, self._schemas[contract.quarantine], held_by, digest),
        )

    def _judged(self, source: str, after: int) -> dict[str, Relation]:
        """Return the judged rows of (after, upto] as relations, one for each form they have."""
        files = self.state.judged_files(source, after, self.upto)
        check_files(
            [(Path(self.blobs.uri(file.path)), file.sha256) for file in files], fix=_REBUILD
        )
        # The largest first: see Draft._relation.
        largest = sorted(files, key=lambda file: -file.rows)
        return forms_of(f"judged_{source}", self.blobs, largest, after, self.upto)


def _verdicts(session: Session, files: Mapping[str, Relation]) -> set[str]:
    """Return the verdicts that occur: most deliveries hold nothing, and to print none is slow."""
    parts = " UNION ".join(f"SELECT DISTINCT verdict FROM {name}" for name in files)
    return set(session.query(parts)["verdict"].to_pylist())
