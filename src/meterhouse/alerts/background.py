"""Looks at very many rows on a thread of their own: what is live does not wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from meterhouse.alerts.evaluation import Group, Look, look_at_all, look_at_changes
from meterhouse.alerts.rule import Rule, TableQuery
from meterhouse.ports import Answers, Engine, LiveStore

__all__ = ["Background", "LongLook"]

_SELDOMER: Final = 1
_SELDOMER_WHOLE: Final = 10
"""How long a rule rests after a look, by how long that took. What changed comes to a bounded
share of the time; a view is looked at whole each time, and may take a tenth."""


@dataclass(slots=True, eq=False)
class LongLook:
    """One rule's look at everything, or at all that changed."""

    rule: Rule
    query: TableQuery
    opened: frozenset[Group]
    """The groups that are over so far."""
    after: int | None
    """What changed after this log position is looked at; everything where None."""
    answers: Answers | None = None
    """What the answers stood for when it began: what came later is looked at again."""
    look: Look | None = None
    failure: Exception | None = None


class Background:
    """One look at a time."""

    def __init__(
        self, engine: Engine, opened: Callable[[], AbstractContextManager[LiveStore]]
    ) -> None:
        """Look with ``engine`` at a store that ``opened`` gives to the thread."""
        self._engine = engine
        self._opened = opened
        self._thread: threading.Thread | None = None
        self.work: LongLook | None = None
        """The look that is under way, or over and not taken yet."""
        self._rest: dict[str, float] = {}
        """Rule → when it may be looked at again."""

    def begin(
        self, rule: Rule, query: TableQuery, opened: frozenset[Group], after: int | None = None
    ) -> None:
        """Begin to look, unless another rule's look is under way, or this one has to rest."""
        if self.work is None and time.monotonic() >= self._rest.get(rule.name, 0.0):
            self.work = LongLook(rule, query, opened, after)
            self._thread = threading.Thread(
                target=self._look, args=(self.work,), name="alerts", daemon=True
            )
            self._thread.start()

    def taken(self, rule: Rule) -> LongLook | None:
        """Return the look of ``rule`` once it is over, and forget it; None before.

        A look that was begun for another text of the rule is forgotten.
        """
        work = self.work
        if work is None or work.rule.name != rule.name or self.busy:
            return None
        self.work = self._thread = None
        return work if work.rule.fingerprint == rule.fingerprint else None

    @property
    def busy(self) -> bool:
        """Whether a look is under way."""
        return self._thread is not None and self._thread.is_alive()

    def keep(self, rules: set[str]) -> None:
        """Forget a look that is over and not wanted: its rule is not among ``rules`` any more."""
        if self.work is not None and self.work.rule.name not in rules and not self.busy:
            self.work = self._thread = None

    def wait(self, seconds: float) -> None:
        """Wait so long for the look that is under way."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _look(self, work: LongLook) -> None:
        begun = time.monotonic()
        try:
            with self._opened() as store:
                work.answers = store.answers()
                work.look = self._seen(store, work)
        except Exception as error:  # noqa: BLE001 - raised again where the look is taken
            work.failure = error
        ended = time.monotonic()
        seldomer = _SELDOMER_WHOLE if work.query.views else _SELDOMER
        self._rest[work.rule.name] = ended + seldomer * (ended - begun)

    def _seen(self, store: LiveStore, work: LongLook) -> Look | None:
        """Look; None where a batch has taken in meanwhile what changed."""
        rule, answers = work.rule.name, work.answers
        if work.after is None:
            return look_at_all(store, self._engine, work.query, work.opened)
        of_rule = {rule: work.query}, work.after, {rule: work.opened}
        found = look_at_changes(store, self._engine, *of_rule)[rule]
        now = store.answers()
        if answers is None or now is None or now.epoch != answers.epoch:
            return None
        return found if answers.epoch.position <= work.after else None
