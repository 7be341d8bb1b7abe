"""Rows that are too old for the serving store: looked up in the lake before they are merged into.

The epoch in serving holds the latest windows only (``Model.keep``); details["keep_from"] says
from when on. A late event of an older window is merged into the lake's row of that window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.lake.published import Published
from meterhouse.models.finalize import arrow_schema, finalize
from meterhouse.models.model import Model
from meterhouse.ports import Engine, Stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Lake", "base_rows", "older"]


class Lake:
    """What is published, as long as it is what the epoch was loaded from."""

    def __init__(self, look: Callable[[], Published | None]) -> None:
        """Remember how to look; nothing is read before it is needed."""
        self._look = look
        self._found: Published | None = None

    def at(self, epoch: Stamp) -> Published | None:
        """Return the publication of ``epoch``, None when it is no longer there.

        Once seen it stays known: a batch publishes the lake somewhat earlier than the epoch,
        and deletes nothing of the publication before.
        """
        if self._found is None or self._found.stamp != epoch:
            found = self._look()
            if found is None or found.stamp != epoch:
                return None
            self._found = found
        return self._found


def older(model: Model, rows: pa.Table, keep_from: Mapping[str, str]) -> pa.Table:
    """Return the keys of ``rows`` of a mergeable ``model`` that the epoch doesn't hold.

    Args:
        model: Its ``keep`` names the column of event time.
        rows: Partial results.
        keep_from: Table → ISO text of the first time that the epoch holds; a table that is
            not in it is held whole.
    """
    keys = rows.select(list(model.grain))
    if not model.keep or model.name not in keep_from:
        return keys.slice(0, 0)
    text = keep_from[model.name]
    kind = keys.schema.field(model.keep).type
    first = pa.scalar(_day(text) if pa.types.is_date(kind) else _moment(text), kind)
    # The epoch holds what is not older, so no row without a time.
    return keys.filter(pc.fill_null(pc.less(keys[model.keep], first), True))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _day(text: str) -> date:
    return date.fromisoformat(text[:10])


def base_rows(
    engine: Engine,
    model: Model,
    keys: pa.Table,
    published: Published | None,
    history: Callable[[], Iterable[pa.Table]],
    add_up: Callable[[Sequence[pa.Table]], pa.Table],
) -> pa.Table:
    """Return the finished rows of ``model`` with ``keys`` at the epoch's position.

    Args:
        engine: Where they are looked up.
        model: A mergeable one.
        keys: Of its grain.
        published: The epoch's publication; None, or one of another text of the model, means
            that all of the log has to be gone through.
        history: Partial results over the log up to the epoch.
        add_up: Makes one of partial results.

    Raises:
        EnvironmentFailureError: The machine refuses.
    """
    table = published.tables.get(model.name) if published is not None else None
    if published is not None and table is not None and table.model == model.sha256:
        relation = published.relation(model.name)
        with engine.session({model.name: relation, "wanted": keys}) as session:
            return session.query(_matching(model, keys, model.name)).cast(arrow_schema(model))
    parts = list(_restricted(engine, model, keys, history()))
    if not parts:
        return arrow_schema(model).empty_table()
    return finalize(model, add_up(parts))


def _restricted(
    engine: Engine, model: Model, keys: pa.Table, parts: Iterable[pa.Table]
) -> Iterator[pa.Table]:
    for part in parts:
        with engine.session({"part": part, "wanted": keys}) as session:
            found = session.query(_matching(model, keys, "part"))
        if found.num_rows:
            yield found


def _matching(model: Model, keys: pa.Table, relation: str) -> str:
    """Return the SELECT of the rows with ``keys``; the bounds let files be passed over."""
    same = " AND ".join(
        f'have."{name}" IS NOT DISTINCT FROM wanted."{name}"' for name in model.grain
    )
    bounds = pc.min_max(keys[model.keep]).as_py()
    kind = {column.name: column.type for column in model.columns}[model.keep]
    at = f'have."{model.keep}"'
    within = []
    if bounds["min"] is not None:
        first, last = _text(bounds["min"]), _text(bounds["max"])
        within.append(f"{at} BETWEEN {kind} '{first}' AND {kind} '{last}'")
    if keys[model.keep].null_count:
        within.append(f"{at} IS NULL")
    return (
        f"SELECT have.* FROM {relation} AS have SEMI JOIN wanted ON {same} "
        f"WHERE {' OR '.join(within)}"
    )


def _text(value: date) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat()
