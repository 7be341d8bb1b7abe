"""Tables that became stale follow again once an epoch has rows of theirs to go on from.

A batch computes every table anew, so after a promotion a stale table stands at the epoch's
position, and what came since can be merged into it together with the next entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meterhouse.errors import MeterhouseError, ModelError
from meterhouse.layers.stale import Stale
from meterhouse.layers.workbench import Outcome, Workbench
from meterhouse.ports import Answers

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Healing", "Missed"]


@dataclass
class Missed:
    """What stale tables have not followed, for those that are tried again now."""

    by_table: dict[str, Outcome] = field(default_factory=dict)
    """Stale table → what the entries it missed come to."""

    def with_those_of(
        self, outcome: Outcome, bench: Workbench
    ) -> tuple[dict[str, pa.Table], dict[str, MeterhouseError]]:
        """Return the partial results of ``outcome`` and what was missed, and what fails."""
        partials, failed = dict(outcome.partials), dict(outcome.failed)
        for table, back in self.by_table.items():
            parts = [one.partials[table] for one in (back, outcome) if table in one.partials]
            if table in back.failed:
                failed[table] = back.failed[table]
            elif parts:
                try:
                    partials[table] = bench.added_up(table, parts)
                except ModelError as error:
                    failed[table] = error
        return partials, failed

    def below(self, view: str) -> Mapping[str, pa.Table]:
        """Return what was merged into the tables below a view meanwhile."""
        outcome = self.by_table.get(view)
        return outcome.partials if outcome is not None else {}


class Healing:
    """Decides when a stale table is tried again: once for each epoch and process."""

    def __init__(self, rows: int) -> None:
        """Go back over ``rows`` judged rows at most, since the others wait meanwhile."""
        self._rows = rows
        self._tried: dict[str, int] = {}

    def missed(self, bench: Workbench, answers: Answers, stale: Stale) -> Missed:
        """Return what the tables that are tried again have missed; note these as tried.

        A table for which nothing can be done now stays stale.
        """
        found = Missed()
        outcomes: dict[int, Outcome | None] = {}
        for table in stale:
            if table not in bench.live or self._tried.get(table) == answers.publication:
                continue
            after = stale.stands(table, answers.epoch.position)
            if answers.frozen is not None and after < answers.frozen:
                # Its rows as of the frozen position can't be told apart any more.
                continue
            self._tried[table] = answers.publication
            if after not in outcomes:
                outcomes[after] = self._outcome(bench, after, answers.stamp.position)
            outcome = outcomes[after]
            if outcome is not None:
                found.by_table[table] = outcome
        return found

    def _outcome(self, bench: Workbench, after: int, upto: int) -> Outcome | None:
        if after == upto:
            return Outcome()
        group = bench.entries.group(after, upto, self._rows)
        return bench.compute(group, {}) if group.position == upto else None
