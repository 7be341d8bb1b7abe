"""Alerts beside ``follow``: looked for once a second, and little in the way of what is live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from meterhouse.alerts.alerts import Alerts
from meterhouse.alerts.figures import Figures
from meterhouse.alerts.raising import Outcome
from meterhouse.errors import MeterhouseError
from meterhouse.follow.follower import Follower
from meterhouse.follow.say import Say
from meterhouse.follow.standing import Standing
from meterhouse.follow.telling import Exporter
from meterhouse.ports import LiveStore

__all__ = ["Alerting"]

_ABOUT: Final = "alerts"
_SELDOMER: Final = 10


class Alerting:
    """Is shown the figures each second, looks at the answers, and shows the figures on."""

    def __init__(
        self, alerts: Alerts, store: LiveStore, say: Say, exporter: Exporter | None = None
    ) -> None:
        """Look at ``store``; ``exporter`` is shown the figures afterwards."""
        self._alerts = alerts
        self._store = store
        self._say = say
        self._exporter = exporter
        self._figures = Figures()
        self._next = 0.0

    def show(self, follower: Follower, standing: Standing) -> None:
        """Raise, clear, start delivering; what goes wrong with that is said, and stops nothing."""
        now = follower.parts.clock()
        metrics = self._figures.metrics(
            now,
            lag_s=standing.lag_s,
            landed=standing.landed,
            held=standing.held,
            parked=len(standing.parked),
        )
        begun = follower.parts.ticks()
        if begun >= self._next:
            with self._saying():
                self._tell(self._alerts.evaluate(self._store, now, metrics))
                self._alerts.deliver(now)
            # Where much changes, looking takes longer: then seldomer, a tenth of the time at most.
            ended = follower.parts.ticks()
            self._next = ended + _SELDOMER * (ended - begun)
        if self._exporter is not None:
            self._exporter.show(follower, standing)

    def close(self, now: datetime, wait_s: float) -> None:
        """Look a last time and end; wait so long, twice, for what is under way."""
        with self._saying():
            self._tell(self._alerts.finish(self._store, now, {}, wait_s))
            self._alerts.deliver(now)
        with self._saying():
            self._alerts.close(wait_s)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except MeterhouseError as error:
            self._say.error("alerts_failed", _ABOUT, error)
        else:
            self._say.over(_ABOUT)

    def _tell(self, outcome: Outcome) -> None:
        for problem in outcome.problems:
            self._say.error("alert_rule", problem.where or problem.what, problem)
        if outcome.changed:
            say = self._say.warning if outcome.raised else self._say.info
            say(
                "alerts",
                f"alerts: {outcome.raised:,} raised, {outcome.silent:,} silent, "
                f"{outcome.cleared:,} cleared",
                raised=outcome.raised,
                silent=outcome.silent,
                cleared=outcome.cleared,
            )
