"""The alerts of a project: what ``follow`` calls after each step of the answers."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from meterhouse.alerts.background import Background
from meterhouse.alerts.delivery import Deliverer
from meterhouse.alerts.evaluation import Group, Look, look_at_all, look_at_changes
from meterhouse.alerts.raising import Moment, Outcome, apply
from meterhouse.alerts.register import FILE_NAME, Register, Seen
from meterhouse.alerts.rule import MetricLimit, Rule, Rulebook, TableQuery
from meterhouse.alerts.rulebook import FILE_NAME as RULES_NAME
from meterhouse.alerts.rulebook import load_rulebook
from meterhouse.errors import ConfigError, ModelError, SqlError, UsageError
from meterhouse.models.graph import Models
from meterhouse.ports import Answers, Clock, Engine, LiveStore, Stamp

__all__ = ["MOST_AT_ONCE", "Alerts"]

MOST_AT_ONCE: Final = 100_000
"""A rule with more to raise at once is a mistake; it is reported instead."""
MANY_CHANGES: Final = 20_000
"""Changed rows beyond which a look, a tenth of a second by then, goes to its own thread."""
SAVED_EVERY: Final = timedelta(seconds=10)
"""How far, in time, what the register knows of a look may be behind; it costs an fsync."""
METRIC_GROUP: Final = Group("{}", "")
How = Literal["all", "changes", "many", "nothing", "wait"]


@dataclass(frozen=True, slots=True)
class _Found:
    """A look, and what the answers stood for that were looked at."""

    look: Look
    at: Answers


class Alerts:
    """Rules, their register and their deliveries. For one thread.

    What is raised is decided by the register alone: it holds at most one open alert for a rule,
    key and window, whatever is evaluated again after a crash, a rebuild or a new generation.
    """

    def __init__(
        self,
        project: Path,
        models: Callable[[], Models],
        engine: Engine,
        clock: Clock,
        environ: Mapping[str, str],
        chance: random.Random | None = None,
        *,
        aside: Callable[[], AbstractContextManager[LiveStore]] | None = None,
    ) -> None:
        """Nothing is opened before it is needed.

        Args:
            project: The project's folder.
            models: What the tables look like; asked again when the generation changes.
            engine: Compares.
            clock: For deliveries, which happen on a thread of their own.
            environ: Where secrets are, and what commands see.
            chance: Spreads attempts to deliver.
            aside: Opens the same answers for another thread, on which whole tables are looked
                at then; without it that is done at once.
        """
        self._models = models
        self._tables: tuple[str, Models] | None = None
        self._generation = ""
        self._project = project
        self._engine = engine
        self._background = Background(engine, aside) if aside is not None else None
        self._deliverer = Deliverer(project, clock, environ, chance or random.Random())
        self._register: Register | None = None
        self._of = ""
        self._book = Rulebook(channels={})
        self._read: tuple[int, ...] = ()
        self._seen: dict[str, Seen] = {}
        self._saved: dict[str, Seen] = {}
        self._saved_at: datetime | None = None
        self._since: dict[str, tuple[bool, datetime]] = {}
        self._refused: dict[str, Stamp] = {}

    def rulebook(self) -> Rulebook:
        """Return the rules as the file has them now; it is read again when it changed."""
        if self._tables is None or self._tables[0] != self._generation:
            self._tables = (self._generation, self._models())
            self._read = ()
        path = self._project / RULES_NAME
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            state = (0, 0, 0)
        if state != self._read:
            self._book = load_rulebook(self._project, self._tables[1])
            self._read = state
            self._refused.clear()
        return self._book

    def evaluate(self, store: LiveStore, now: datetime, metrics: Mapping[str, Decimal]) -> Outcome:
        """Look at what changed since the last time; raise and clear.

        When the store moves meanwhile (a batch promotes), nothing of this look counts and the
        next one sees it. Safe to repeat.

        Args:
            store: The live answers.
            now: For the age of windows.
            metrics: Name (``rule.METRICS``) to value; a rule over one that is missing rests.

        Raises:
            DamageError: The register is not what was written, or another project's.
            EnvironmentFailureError: The system refused.
        """
        answers = store.answers()
        if answers is not None:
            self._generation = _generation(answers)
        book = self.rulebook()
        outcome = Outcome(problems=list(book.problems))
        if not book.rules or answers is None or not answers.stamp.project:
            return outcome
        register = self._opened(answers.stamp.project)
        looks = self._looks(store, register, answers, book, outcome)
        if store.answers() != answers:
            looks = {rule: found for rule, found in looks.items() if found.at is not answers}
        looks |= self._metric_looks(book, now, metrics, answers)
        with register.transaction():
            seen = self._applied(register, book, looks, now, outcome)
            saved = outcome.changed or self._to_be_saved(now)
            if saved:
                self._save(register, seen)
        self._seen = seen
        if saved:
            self._saved, self._saved_at = seen, now
        return outcome

    def _applied(
        self,
        register: Register,
        book: Rulebook,
        looks: Mapping[str, _Found],
        now: datetime,
        outcome: Outcome,
    ) -> dict[str, Seen]:
        """Raise and clear by ``looks``; return up to where each rule has looked then."""
        seen, noted = dict(self._seen), register.seen()
        for rule in book.rules:
            found, other = looks.get(rule.name), noted.get(rule.name)
            if other is not None and _later(other, self._seen.get(rule.name)):
                # Another process has looked further meanwhile; then this look is old.
                seen[rule.name] = other
            elif found is not None:
                stamp = found.at.stamp
                at = Moment(stamp.project, now, stamp.position)
                apply(register, rule, found.look, at, outcome)
                seen |= _seen_by(rule, found.at)
        return seen

    def deliver(self, now: datetime) -> None:
        """Start delivering what is due, in the background; return at once.

        Raises:
            DamageError: The register is not what was written.
            EnvironmentFailureError: The system refused.
        """
        if self._register is None and not (self._project / FILE_NAME).exists():
            return
        channels = self.rulebook().channels or {}
        if channels and self._opened("").is_due(now, list(channels)):
            self._deliverer.start(channels)

    def finish(
        self, store: LiveStore, now: datetime, metrics: Mapping[str, Decimal], wait_s: float
    ) -> Outcome:
        """Look once more, and wait so long for looks at whole tables; otherwise ``evaluate``."""
        until = time.monotonic() + wait_s
        total = self.evaluate(store, now, metrics)
        looked: object = None
        while self._background is not None and self._background.work not in (None, looked):
            looked = self._background.work
            self._background.wait(max(0.0, until - time.monotonic()))
            total.add(self.evaluate(store, now, metrics))
        return total

    def deliver_now(self) -> int:
        """Deliver what is due and wait for it; return how many messages arrived."""
        return self._deliverer.run(self.rulebook().channels or {})

    def close(self, wait_s: float = 0.0) -> None:
        """Note up to where was looked, and end; wait so long for deliveries under way."""
        self._deliverer.close(wait_s)
        if self._register is not None:
            with self._register.transaction():
                self._save(self._register, self._seen)
            self._register.close()
            self._register = None

    def _opened(self, project: str) -> Register:
        """Return the register; ``project`` is whose it must be, empty where that is not known."""
        if self._register is None:
            self._register = Register(self._project / FILE_NAME)
            self._saved = self._register.seen()
            self._seen = dict(self._saved)
        if project and project != self._of:
            self._register.belongs_to(project)
            self._of = project
        return self._register

    def _looks(
        self,
        store: LiveStore,
        register: Register,
        answers: Answers,
        book: Rulebook,
        outcome: Outcome,
    ) -> dict[str, _Found]:
        """Return what each rule over a table sees; one that fails is noted and rests."""
        found: dict[str, _Found] = {}
        since: dict[tuple[str, int], dict[str, TableQuery]] = defaultdict(dict)
        ready = [it for it in _queries(book) if self._refused.get(it[0].name) != answers.epoch]
        hows = {rule.name: self._how(store, rule, query, answers) for rule, query in ready}
        if self._background is not None:
            self._background.keep({rule for rule, how in hows.items() if how in ("all", "many")})
        for rule, query in ready:
            how = hows[rule.name]
            if how in ("all", "many"):
                after = self._seen[rule.name].position if how == "many" else None
                with self._failing([rule.name], answers, outcome):
                    found |= self._long(store, register, answers, (rule, query, after))
            elif how == "changes":
                since[query.table, self._seen[rule.name].position][rule.name] = query
            elif how == "nothing":
                found[rule.name] = _Found(Look(touched=frozenset()), answers)
        for (_, after), queries in since.items():
            with self._failing(list(queries), answers, outcome):
                opened = {rule: register.opened(rule) for rule in queries}
                looks = look_at_changes(store, self._engine, queries, after, opened)
                found |= {rule: _Found(look, answers) for rule, look in looks.items()}
        return found

    def _long(
        self,
        store: LiveStore,
        register: Register,
        answers: Answers,
        what: tuple[Rule, TableQuery, int | None],
    ) -> dict[str, _Found]:
        """Return a look at very many rows; nothing while it is under way on its own thread."""
        rule, query, after = what
        if self._background is None:
            opened = register.opened(rule.name)
            look = look_at_all(store, self._engine, query, opened)
            return {rule.name: _Found(_bounded(look, rule), answers)}
        done = self._background.taken(rule)
        if done is None:
            self._background.begin(rule, query, register.opened(rule.name), after)
            return {}
        if done.failure is not None:
            raise done.failure
        if done.look is None or done.answers is None or not done.answers.stamp.project:
            return {}
        return {rule.name: _Found(_bounded(done.look, rule), done.answers)}

    def _how(self, store: LiveStore, rule: Rule, query: TableQuery, answers: Answers) -> How:
        """Return what a rule has to look at, by what it saw last."""
        seen = self._seen.get(rule.name)
        if seen is None or seen.fingerprint != rule.fingerprint or seen.fork != answers.stamp.fork:
            return "all"
        if answers.stamp.position < seen.position:
            # Answers that are made anew, not there yet: what is missing is not below its limit.
            self._seen[rule.name] = replace(seen, head="")
            return "wait"
        same = answers.stamp.position == seen.position
        if seen.generation != _generation(answers) or seen.position < answers.epoch.position:
            return "all"
        if not seen.head or (same and seen.head != answers.stamp.head):
            return "all"
        still = _still(query, answers)
        if still or seen.still:
            unchanged = still == seen.still and seen.epoch == answers.epoch.position
            return "nothing" if unchanged else "all"
        if same:
            return "nothing"
        if query.views:
            return "all"
        aside = self._background is not None
        many = aside and store.changes(query.table, seen.position) > MANY_CHANGES
        return "many" if many else "changes"

    @contextmanager
    def _failing(self, rules: list[str], answers: Answers, outcome: Outcome) -> Iterator[None]:
        """Note what is wrong with ``rules``, which rest until the file or the epoch changes."""
        try:
            yield
        except (SqlError, ModelError, UsageError) as error:
            named = ", ".join(rules)
            outcome.problems.append(
                ConfigError(
                    f'rule "{named}" can\'t be evaluated: {error.what}', RULES_NAME, error.fix
                )
            )
            self._refused |= dict.fromkeys(rules, answers.epoch)

    def _metric_looks(
        self, book: Rulebook, now: datetime, metrics: Mapping[str, Decimal], answers: Answers
    ) -> dict[str, _Found]:
        found: dict[str, _Found] = {}
        for rule in book.rules:
            what = rule.what
            if not isinstance(what, MetricLimit) or what.metric not in metrics:
                continue
            value = metrics[what.metric]
            over = what.over(value)
            if self._since.get(rule.name, (not over, now))[0] != over:
                self._since[rule.name] = (over, now)
            if now - self._since[rule.name][1] >= what.hold:
                numbers: dict[str, object] = {what.metric: value}
                found[rule.name] = _Found(Look({METRIC_GROUP: numbers} if over else {}), answers)
        return found

    def _to_be_saved(self, now: datetime) -> bool:
        """Return whether up to where was looked has to be noted again, raised or not.

        After a crash a rule looks again at what it saw, and raises nothing twice.
        """
        return self._saved_at is None or abs(now - self._saved_at) >= SAVED_EVERY

    def _save(self, register: Register, seen: Mapping[str, Seen]) -> None:
        for rule, one in seen.items():
            if self._saved.get(rule) != one:
                register.see(one)


def _seen_by(rule: Rule, answers: Answers) -> dict[str, Seen]:
    if not isinstance(rule.what, TableQuery):
        return {}
    seen = Seen(
        rule=rule.name,
        fingerprint=rule.fingerprint,
        fork=answers.stamp.fork,
        position=answers.stamp.position,
        head=answers.stamp.head,
        epoch=answers.epoch.position,
        generation=_generation(answers),
        still=_still(rule.what, answers),
    )
    return {rule.name: seen}


def _later(one: Seen, other: Seen | None) -> bool:
    return other is None or (one.fork, one.position) > (other.fork, other.position)


def _queries(book: Rulebook) -> Iterator[tuple[Rule, TableQuery]]:
    for rule in book.rules:
        if isinstance(rule.what, TableQuery):
            yield rule, rule.what


def _bounded(look: Look, rule: Rule) -> Look:
    if len(look.over) > MOST_AT_ONCE:
        raise ModelError(
            f"{len(look.over):,} keys and windows are over, more than {MOST_AT_ONCE:,}",
            rule.name,
            "raise the limit, or narrow the rule with where:",
        )
    return look


def _generation(answers: Answers) -> str:
    return str(answers.details.get("models", ""))


def _still(query: TableQuery, answers: Answers) -> bool:
    """Return whether the table stands where the epoch stands while others go on."""
    stale = answers.details.get("stale", ())
    return query.batch_only or any(name in stale for name in query.reads or (query.table,))
