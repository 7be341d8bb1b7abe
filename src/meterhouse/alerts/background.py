"""Looks at whole tables on a thread of their own: what is live does not wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from meterhouse.alerts.evaluation import Group, Look, look_at_all
from meterhouse.alerts.rule import Rule, TableQuery
from meterhouse.ports import Answers, Engine, LiveStore

__all__ = ["Background", "WholeLook"]

_SELDOMER: Final = 10


@dataclass(slots=True, eq=False)
class WholeLook:
    """One rule's look at everything."""

    rule: Rule
    answers: Answers | None = None
    """What the answers stood for when it began: what came later is looked at again."""
    look: Look | None = None
    failure: Exception | None = None


class Background:
    """One whole look at a time."""

    def __init__(
        self, engine: Engine, opened: Callable[[], AbstractContextManager[LiveStore]]
    ) -> None:
        """Look with ``engine`` at a store that ``opened`` gives to the thread."""
        self._engine = engine
        self._opened = opened
        self._thread: threading.Thread | None = None
        self.work: WholeLook | None = None
        """The look that is under way, or over and not taken yet."""
        self._rest: dict[str, float] = {}
        """Rule over a table that is computed when it is read, which is looked at whole each
        time → when it may be again: a tenth of the time at most."""

    def begin(self, rule: Rule, query: TableQuery, opened: frozenset[Group]) -> None:
        """Begin to look, unless another rule's look is under way, or this one has to rest."""
        if self.work is None and time.monotonic() >= self._rest.get(rule.name, 0.0):
            self.work = WholeLook(rule)
            self._thread = threading.Thread(
                target=self._look, args=(self.work, query, opened), name="alerts", daemon=True
            )
            self._thread.start()

    def taken(self, rule: Rule) -> WholeLook | None:
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

    def _look(self, work: WholeLook, query: TableQuery, opened: frozenset[Group]) -> None:
        begun = time.monotonic()
        try:
            with self._opened() as store:
                work.answers = store.answers()
                work.look = look_at_all(store, self._engine, query, opened)
        except Exception as error:  # noqa: BLE001 - raised again where the look is taken
            work.failure = error
        if query.views:
            ended = time.monotonic()
            self._rest[work.rule.name] = ended + _SELDOMER * (ended - begun)
