"""Live rows: every answer since the last batch, against what a batch would publish there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.layers.at_position import AtPosition, Generations, look
from meterhouse.layers.overlay import LiveTable
from meterhouse.ports import Relation, Session
from meterhouse.serving.reader import Reader
from meterhouse.verify.report import Check
from meterhouse.verify.served import SERVING_FILE, row_text
from meterhouse.verify.subject import Subject

__all__ = ["check_live"]

_SHOWN: Final = 3
_LIVE, _LAKE, _DUE, _HERE = "live_rows", "lake_rows", "due_rows", "seen_rows"


def check_live(subject: Subject) -> Check:
    """Compute the tables that have live rows from all rows up to the answers; compare.

    By the pinned models, from silver and bronze: nothing of the live rows flows into it. For
    views without findings: what is computed from others would say nothing of live rows. Only
    live rows count as covered; what they leave untouched has to be what the lake has.
    """
    check = Check("live", unit="rows")
    # What is computed when it is read has no rows to check, and would cost reading all models.
    views = subject.published.details.get("views", ()) if subject.published is not None else ()
    try:
        at = look(
            subject.blobs,
            Reader(subject.root / SERVING_FILE),
            Generations(subject.blobs),
            lambda names: [name for name in names if name not in views],
            span=subject.span,
        )
    except UsageError:
        return check  # nothing is served; check_serving says where that is damage
    except MeterhouseError as error:
        check.fail("rebuildable", error.what, file=error.where or SERVING_FILE)
        return check
    stale = {*at.behind, *at.details.get("stale", {})}
    for name in sorted(at.live.keys() - stale):
        try:
            _check_table(subject, check, at, name)
        except MeterhouseError as error:
            check.fail("rebuildable", error.what, file=error.where, table=name)
    return check


def _check_table(subject: Subject, check: Check, at: AtPosition, name: str) -> None:
    live = at.live[name]
    check.covered += live.rows.num_rows
    published = at.published
    in_lake = published is not None and name in published.tables
    also: dict[str, Relation] = {_LIVE: live.rows}
    if published is not None and in_lake:
        also[_LAKE] = published.relation(name)
    with at.computed(subject.engine, [name], also) as session:
        columns = [one for one in live.rows.column_names if one not in ("changed_at", "gone")]
        session.view(_HERE, _seen(live, columns, in_lake=in_lake))
        session.view(_DUE, f"SELECT {_listed(columns)} FROM {name}")
        _compare(check, session, name)


def _seen(live: LiveTable, columns: Sequence[str], *, in_lake: bool) -> str:
    """Return the SELECT of what readers see: live rows over those of the lake."""
    sql = f"SELECT {_listed(columns)} FROM {_LIVE} WHERE NOT gone"
    if not in_lake:
        return sql
    same = " AND ".join(f'live."{key}" IS NOT DISTINCT FROM lake."{key}"' for key in live.key)
    return (
        f"{sql} UNION ALL SELECT {_listed(columns)} FROM {_LAKE} AS lake "
        f"WHERE NOT EXISTS (SELECT 1 FROM {_LIVE} AS live WHERE {same})"
    )


def _compare(check: Check, session: Session, name: str) -> None:
    for what, side, one, other in (
        ("live answers lack a row that the log gives", "expected", _DUE, _HERE),
        ("live answers have a row that the log doesn't give", "found", _HERE, _DUE),
    ):
        odd = session.query(f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}")
        for row in odd.slice(0, _SHOWN).to_pylist():
            check.fail("rebuildable", what, file=SERVING_FILE, table=name, **{side: row_text(row)})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
