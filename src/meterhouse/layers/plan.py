"""What a batch has to do for each model, decided before anything is computed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

from meterhouse.models.graph import Models
from meterhouse.models.model import Model

__all__ = ["Action", "Change", "Step", "plan"]

Change = Literal["same", "grown", "replaced"]
"""What happened to a table since the last publication: nothing; rows were added and none
changed; anything else."""

Action = Literal["keep", "append", "merge", "recompute"]


@dataclass(frozen=True, slots=True)
class Step:
    """What to do for one model; one that is not stored is computed while others are."""

    name: str
    action: Action
    why: str
    """For the report; empty when the table is kept."""
    restated: bool = False
    """True when the same log gives other rows than before: the model is another one."""


def plan(
    models: Models, published: Mapping[str, str], bronze: Mapping[str, Change], *, full: bool
) -> tuple[Step, ...]:
    """Return one step for each model, in the order of computation.

    Only new rows are computed where that provably gives the same: a ``rows`` model is
    appended to, a ``mergeable`` one merged, when its facts have grown and nothing else that
    it reads changed. One over another mergeable model is merged when that one is: what is
    merged into the table below gives what is merged into it.

    Args:
        models: The project's valid models.
        published: Name → ``Model.sha256`` of what is published.
        bronze: Every bronze relation with what happened to it.
        full: Recompute everything.
    """
    changes: dict[str, Change] = dict(bronze)
    steps: list[Step] = []
    for name in models.order:
        model = models[name]
        merged = {step.name for step in steps if step.action == "merge"}
        action, why = _action(model, published, changes, merged, full=full)
        changes[name] = _CHANGE_BY[action]
        restated = name in published and published[name] != model.sha256
        steps.append(Step(name, action, why, restated))
    return tuple(steps)


_CHANGE_BY: Mapping[Action, Change] = {
    "keep": "same",
    "append": "grown",
    "merge": "replaced",
    "recompute": "replaced",
}


def _action(
    model: Model,
    published: Mapping[str, str],
    changes: Mapping[str, Change],
    merged: Set[str],
    *,
    full: bool,
) -> tuple[Action, str]:
    if full:
        return "recompute", "--full"
    # A step in between is no table; when its text changed, so did the hash of what reads it.
    if model.stored and model.name not in published:
        return "recompute", "it is new"
    if model.stored and published[model.name] != model.sha256:
        return "recompute", "its model, or one that it reads, changed"
    changed = [table for table in model.depends_on if changes[table] != "same"]
    if not changed:
        return "keep", ""
    if changed == [model.fact] and changes[model.fact] == "grown":
        return ("append" if model.kind == "rows" else "merge"), f"new rows in {model.fact}"
    if changed == [model.fact] and model.fact in merged:
        return "merge", f"new rows were merged into {model.fact}"
    listed = ", ".join(changed)
    return "recompute", f"{listed} changed"
