"""Audits before publication: a failed one publishes nothing and says which rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from meterhouse.errors import BrokenPromiseError, ModelError
from meterhouse.layers.compute import failed_audits
from meterhouse.layers.plan import Action, Change
from meterhouse.models.graph import tables_read
from meterhouse.models.model import Model
from meterhouse.ports import Session

__all__ = ["audit", "audited_tables", "on_new_rows", "on_whole_tables", "refuse"]


def on_new_rows(model: Model, action: Action) -> Model:
    """Return ``model`` with the audits that are run over the new rows and their results.

    What two tables have in common (a total, a count) adds up: it holds for all rows when it
    held before and holds for the new ones. So a batch need not read its whole history.
    """
    if action == "append":
        return model
    chosen = [one for one in model.audits if action == "merge" and not _alone(model, one.sql)]
    return replace(model, audits=tuple(chosen))


def on_whole_tables(model: Model, action: Action, changes: Mapping[str, Change]) -> Model:
    """Return ``model`` with the audits that are run over the tables about to be published.

    Args:
        model: Of a step.
        action: What the step does.
        changes: Every other table with what happens to it. An audit holds no longer because
            it held before when a table that it reads is another one now; nor, for a table
            that is kept, when the other one has new rows.
    """
    if action == "recompute":
        return model
    broken: tuple[Change, ...] = ("replaced", "grown") if action == "keep" else ("replaced",)
    chosen = [
        one
        for one in model.audits
        if (action == "merge" and _alone(model, one.sql))
        or any(changes.get(read) in broken for read in tables_read(one.sql) if read != model.name)
    ]
    return replace(model, audits=tuple(chosen))


def audited_tables(models: Iterable[Model]) -> set[str]:
    """Return every table that the audits of ``models`` read."""
    return {table for model in models for one in model.audits for table in tables_read(one.sql)}


def audit(session: Session, models: Iterable[Model]) -> list[ModelError]:
    """Run the audits of ``models`` in a session that sees what they read."""
    return [failure for model in models for failure in failed_audits(session, model)]


def refuse(failures: list[ModelError]) -> None:
    """Raise when an audit failed: all of them at once, so that one look is enough.

    Raises:
        BrokenPromiseError: At least one audit failed; nothing was published.
    """
    if not failures:
        return
    first = failures[0]
    if len(failures) == 1:
        raise first
    raise BrokenPromiseError(
        "; ".join(failure.what for failure in failures),
        ", ".join(dict.fromkeys(failure.where for failure in failures)),
        first.fix,
    )


def _alone(model: Model, sql: str) -> bool:
    return set(tables_read(sql)) <= {model.name}
