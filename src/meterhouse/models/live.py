"""Whether a gold model can follow the log between batches, and by which keys.

Mergeable ones can: partial results add up. A view can where it is known which of its rows
change when rows below it do (``followed``). Anything else has to say ``batch_only: why``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from meterhouse.models.followed import Followed, NotFollowedError, follow
from meterhouse.models.header import Header
from meterhouse.models.lint import Refusal, line_of
from meterhouse.models.model import Model

__all__ = ["Live", "live_shape"]

_FIX = (
    "let one column of the grain pass unchanged through every GROUP BY, PARTITION BY and join; "
    "or say why a batch computes it: batch_only: …"
)


@dataclass(frozen=True, slots=True)
class Live:
    """How a gold model follows the log."""

    by: tuple[str, ...] = ()
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """See ``Model.live_by`` and ``Model.live_from``."""
    refusals: tuple[Refusal, ...] = ()


def live_shape(
    scope: Scope, header: Header, fact: str, types: Mapping[str, str], built: Mapping[str, Model]
) -> Live:
    """Return how a gold model follows the log, or why it can't.

    Args:
        scope: Of the model's SELECT.
        header: Of the model.
        fact: Its fact table, for a mergeable one.
        types: Column → type of the result.
        built: The models it may read.
    """
    if header.batch_only:
        return Live()
    if header.kind == "view" and not header.finalizer:
        found = _view(scope, header, types, built)
    else:
        why = _unmergeable(header, fact, built)
        line = header.lines.get("finalizer" if header.finalizer else "kind", 1)
        refusal = Refusal(line, why, "say why a batch computes it: batch_only: …")
        found = Live(refusals=(refusal,) if why else ())
    # A step is no table: it matters only to what reads it.
    return found if header.stored else Live(found.by, found.reads)


def _unmergeable(header: Header, fact: str, built: Mapping[str, Model]) -> str:
    if header.finalizer:
        return (
            f'finalizer "{header.finalizer}" looks at the whole table, so it can\'t follow the '
            "log row by row"
        )
    if header.kind == "rows":
        return "live answers hold merged rows, not one for each fact"
    source = built.get(fact)
    if source is not None and source.batch_only:
        return f"its fact {fact} is computed by a batch only, so it can't be live"
    return ""


def _view(
    scope: Scope, header: Header, types: Mapping[str, str], built: Mapping[str, Model]
) -> Live:
    by: list[str] = []
    reads: dict[str, tuple[str, ...]] = {}
    why: list[tuple[str, exp.Expr, str]] = []
    keys = _keys(built)
    for name in header.grain:
        try:
            found = follow(scope, name, keys)
            if not found.columns:
                raise NotFollowedError(scope.expression, "it reads no gold table")
            below = _below(found, built)
            _check_types(scope.expression, name, types[name], found, below, built)
        except NotFollowedError as error:
            why.append((name, error.node, error.why))
            continue
        if by and set(below) != set(reads):
            continue
        by.append(name)
        reads = {table: (*reads.get(table, ()), column) for table, column in below.items()}
    if by:
        return Live(tuple(by), reads)
    reasons = "; ".join(f'not by "{name}": {said}' for name, _, said in why)
    line = line_of(why[0][1]) if why else 1
    return Live(
        refusals=(
            Refusal(
                line, f"it is not known which of its rows change with the log: {reasons}", _FIX
            ),
        )
    )


def _keys(built: Mapping[str, Model]) -> dict[str, Collection[str]]:
    """Return the tables that a live view may read, with the columns that tell rows apart."""
    found: dict[str, Collection[str]] = {}
    for name, model in built.items():
        if not name.startswith("gold.") or model.batch_only:
            continue
        if model.kind == "view" and model.live_by:
            found[name] = model.live_by
        elif model.kind == "mergeable" and model.stored and not model.keep:
            found[name] = model.grain
    return found


def _below(found: Followed, built: Mapping[str, Model]) -> dict[str, str]:
    """Return the mergeable tables behind what is read, with the column of each."""
    below: dict[str, str] = {}
    for table, column in found.columns.items():
        model = built[table]
        parts = {table: column}
        if model.kind == "view":
            place = model.live_by.index(column)
            parts = {name: columns[place] for name, columns in model.live_from.items()}
        for name, of in parts.items():
            if below.setdefault(name, of) != of:
                raise _two(name, below[name], of)
    return below


def _two(table: str, one: str, other: str) -> NotFollowedError:
    return NotFollowedError(exp.Null(), f"{table} is read by its {one} and by its {other}")


def _check_types(
    node: exp.Expr,
    name: str,
    kind: str,
    found: Followed,
    below: Mapping[str, str],
    built: Mapping[str, Model],
) -> None:
    """A cast to another type may make two values one."""
    kinds = {kind, *found.casts}
    for tables in (found.columns, below):
        for table, column in tables.items():
            kinds |= {one.type for one in built[table].columns if one.name == column}
    if len(kinds) != 1:
        raise NotFollowedError(node, f'"{name}" is cast to another type on the way')
