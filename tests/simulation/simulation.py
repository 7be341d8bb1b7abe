"""One seed from beginning to end: deliveries, processes, crashes, power losses, checks."""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import (
    BrokenPromiseError,
    DamageError,
    EnvironmentFailureError,
    SourceRefusedError,
    UsageError,
)
from meterhouse.follow.say import Say
from meterhouse.log.report import IngestReport
from simulation.aims import AIMS, PUBLISHING, REBUILDING, SEALING, aim_of
from simulation.checks import BrokenError, Checks
from simulation.deliveries import Producer
from simulation.edits import Catalog
from simulation.machine import Machine, SimulatedProject
from simulation.scheduler import Process
from simulation.seams import installed

__all__ = ["Outcome", "Simulation", "run", "run_alone"]

_ROUNDS = 36
_STEPS = 60
_PROCESSES = 4
_PASSES = (1, 1, 2, 5)
_SHOTS = 3
_SET_ASIDE = ("could not read or write a file", "the lake does not hold what is served")
_LONGEST = 20_000
"""Steps in which everybody has ended."""
_READ = ("silver.enriched", "gold.daily", "gold.revenue", "gold.monthly")


@dataclass(frozen=True)
class _Got:
    """What a reader was answered."""

    name: str
    rows: list[dict[str, Any]]
    since: int
    """How often lake and answers had moved when it began."""


@dataclass
class Outcome:
    """What a seed came to."""

    seed: int
    steps: int
    trace: list[str]
    happened: Counter[str]
    """Kind of event → how often."""
    checks: dict[str, int]
    entries: int
    problem: str = ""
    """What was found; empty when all of it holds."""
    where: str = ""
    """Where in the code that was."""

    def __str__(self) -> str:
        lines = [self.where, *self.trace[-60:], f"seed {self.seed}: {self.problem}"]
        replay = f"PYTHONPATH=tests .venv/bin/python -m simulation {self.seed}"
        return "\n".join([*lines, f"replay with the whole trace: {replay}"])


def run(seed: int, engine: DuckDBEngine, **changed: Any) -> Outcome:
    """Run one seed; a broken promise is in the outcome, not raised."""
    with _folder() as root:
        simulation = Simulation(seed, root, engine, **changed)
        problem = where = ""
        with installed(simulation.machine):
            try:
                simulation.go()
            except Exception as error:  # noqa: BLE001  # whatever it is, it is what was found
                problem = f"{type(error).__name__}: {error}".replace(str(root), "…")
                where = "".join(traceback.format_exception(error))
            finally:
                simulation.machine.scheduler.kill_all()
        scheduler = simulation.machine.scheduler
        return Outcome(
            seed,
            scheduler.steps,
            scheduler.trace,
            simulation.happened + simulation.checks.moved,
            simulation.checks.counted,
            simulation.checks.truth.head,
            problem,
            where,
        )


def run_alone(seeds: Sequence[int]) -> list[Outcome]:
    """Run ``seeds`` one after the other, with an engine of their own."""
    with tempfile.TemporaryDirectory() as spill:
        # One thread: the order of rows that nobody sorts is part of what a seed replays.
        engine = DuckDBEngine(384 << 20, 1, Path(spill))
        try:
            return [run(seed, engine) for seed in seeds]
        finally:
            engine.close()


@contextmanager
def _folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="meterhouse-simulation-", dir=memory if memory.is_dir() else None
    ) as folder:
        root = Path(folder, "project").resolve()
        root.mkdir()
        yield root
        shutil.rmtree(root, ignore_errors=True)


@dataclass
class Simulation:
    """One seed. What is drawn comes from it alone."""

    seed: int
    root: Path
    engine: DuckDBEngine
    rounds: int = _ROUNDS
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        (self.root / "inbox").mkdir()
        self.catalog = Catalog(self.root)
        self.machine = Machine(self.root, self.engine, self.seed)
        self.producer = Producer(
            self.root / "inbox", random.Random(self.seed + 4), lambda: self.machine.clock.now
        )
        self.checks = Checks(self.root, self.catalog.variants)
        self.machine.blobs.on_put = self._put
        self._acknowledged = 0
        self._pinned: set[str] = set()
        self._aim = sorted(AIMS)[self.seed % len(AIMS)]
        """What it is that something happens in between of."""
        self._late = self._aim in PUBLISHING
        self._shots = _SHOTS
        self._by_power = self.seed // len(AIMS) % 2 == 0
        self._passes = (1,) if self._late or self._aim in SEALING else _PASSES
        self._aimed = self.chance.choice(self._passes)
        """The how manieth time."""
        self.machine.seals |= self._aim in SEALING
        self._calm = False
        self._rebuilt = -1
        """Steps that were made when a rebuild was last at work."""
        self._rebuild_lost = False
        """The power went in the middle of a rebuild: views may need another one."""

    def go(self) -> None:
        """Play all rounds, then let everything come to rest and look at the whole."""
        for _ in range(self.rounds):
            self._act()
            for _ in range(self.chance.randint(0, _STEPS * (3 if self._late else 1))):
                if not self._step():
                    break
        self._come_to_rest()

    def _act(self) -> None:
        actions: list[tuple[float, Callable[[], None]]] = [
            (8, self._deliver),
            (9, self._start),
            (1.2, self._crash),
            (0.5, self._power_loss),
            (0.6, self._edit),
            (0.5, self._jump),
        ]
        weights, chosen = zip(*actions, strict=True)
        self.chance.choices(chosen, weights)[0]()

    def _deliver(self) -> None:
        what = self.producer.act()
        self._note(f"file: {what.partition(' ')[0]}", what)
        self.happened["half a line"] += "not to the end of a line" in what

    def _edit(self) -> None:
        name, what = self.catalog.edit(self.chance)
        self._note(f"edit: {name}", what)

    def _jump(self) -> None:
        by = self.machine.clock.jump()
        self._note("clock back" if by < timedelta(0) else "clock on", f"the clock jumps by {by}")

    def _start(self) -> None:
        if len(self.machine.scheduler.processes) >= _PROCESSES - 2 * self._late:
            return
        rebuilding = self._aim in REBUILDING
        kinds = {
            "follow": 1 if rebuilding else 5,
            "follow once": 3,
            "ingest": 5,
            "batch": 6,
            "full batch": 1,
            "rebuild": 6 if rebuilding else 1,
            "read": 4,
            "verify": 1,
        }
        kind = self.chance.choices(list(kinds), list(kinds.values()))[0]
        self.start(kind)

    def start(self, kind: str) -> Process:
        """Start a process of that kind."""
        project = self.machine.open()
        works: dict[str, Callable[[], object]] = {
            "follow": lambda: self._follow(project),
            "follow once": lambda: self._follow(project, once=True),
            "ingest": lambda: project.ingest(self.root / "inbox"),
            "batch": project.batch,
            "full batch": lambda: project.batch(full=True),
            "rebuild": project.rebuild,
            "read": self._reader(project),
            "verify": lambda: project.verify(quick=True),
        }
        self.happened[kind] += 1
        return self.machine.scheduler.start(kind.replace(" ", "-"), works[kind], self._ended)

    def _follow(self, project: SimulatedProject, *, once: bool = False) -> object:
        return project.follow(
            self.root / "inbox",
            say=Say(lambda line: None, self.machine.clock),
            once=once,
            poll=True,
            interval=0,
        )

    def _reader(self, project: SimulatedProject) -> Callable[[], object]:
        name, since = self.chance.choice(_READ), len(self.checks.stood) - 1
        return lambda: _Got(name, project.read(name).to_pylist(), since)

    def _crash(self) -> None:
        running = self.machine.scheduler.processes
        if running:
            self._kill(self.chance.choice(running))

    def _kill(self, process: Process) -> None:
        self.happened["crash"] += 1
        self.happened[f"crash at: {aim_of(process.at) or 'other'}"] += 1
        self.machine.scheduler.kill(process)
        self._look(everything=True)

    def _power_loss(self) -> None:
        self.happened["power loss"] += 1
        running = self.machine.scheduler.processes
        for aim in sorted({aim_of(process.at) or "other" for process in running}):
            self.happened[f"power loss at: {aim}"] += 1
        self._rebuild_lost |= any(process.name.startswith("rebuild") for process in running)
        lost = self.machine.power_loss()
        for what in lost:
            self.happened[f"power loss left: {what.rpartition(': ')[2]}"] += 1
        self.machine.scheduler.note(f"POWER LOSS, changed by it: {lost}")
        self.checks.restart()
        self._look(everything=True)

    def _step(self) -> bool:
        if any(one.name.startswith("rebuild") for one in self.machine.scheduler.processes):
            self._rebuilt = self.machine.scheduler.steps
        moved = self.machine.scheduler.step()
        self._look()
        if moved and not self._calm:
            self._shoot()
        return moved

    def _shoot(self) -> None:
        """Let something happen to who is about to do what the seed aims at."""
        process = self.machine.scheduler.last
        if process is None or process.over or aim_of(process.at) != self._aim:
            return
        self._aimed -= 1
        if not self._aimed and self._shots:
            self._shots -= 1
            self._aimed = self.chance.choice(self._passes)
            if self._by_power:
                self._power_loss()
            else:
                self._kill(process)

    def _look(self, *, everything: bool = False) -> None:
        """Check what may have changed in the last step."""
        commits = set(self.machine.commits)
        self.machine.commits.clear()
        if everything or self._acknowledged != len(self.checks.acknowledged):
            self._acknowledged = len(self.checks.acknowledged)
            self.checks.log()
        elif commits or (self.root / "lake/published.json").exists():
            self.checks.truth.follow()
        if everything or "state.db" in commits:
            self.checks.state()
        self.checks.lake(whole=not self._rebuild_lost)
        if everything or "serving.db" in commits:
            self.checks.serving()

    def _put(self, name: str, data: bytes) -> None:
        folder, _, last = name.rpartition("/")
        if folder == "log/segments":
            self.happened["sealed"] += 1
        elif folder == "landing/packs":
            self.happened["packed"] += 1
        # It is taken: whoever slept so long sees it, and goes on with another one.
        elif folder == "log" and self.checks.stored.sealed(int(last.partition(".")[0])):
            self.happened["number that is sealed"] += 1
        elif folder == "log":
            entry = json.loads(data)
            if entry["kind"] == "contract":
                self.happened["contract changed"] += entry["source"] in self._pinned
                self._pinned.add(entry["source"])
            self.checks.acknowledged[name] = data

    def _ended(self, process: Process) -> None:
        self.machine.scheduler.note(f"{process.name}: ended {process.error or ''}")
        if process.died:
            return
        error = process.error
        if error is not None and not self._expected(process, error):
            raise error
        if process.name.startswith("rebuild") and error is None:
            self._rebuild_lost = False
        if isinstance(process.result, _Got):
            self.checks.reader(process.result.name, process.result.rows, process.result.since)
        if isinstance(process.result, IngestReport):
            for refused in process.result.errors:
                if not isinstance(refused, SourceRefusedError | EnvironmentFailureError):
                    raise refused

    def _expected(self, process: Process, error: BaseException) -> bool:
        """Return whether a process may end like that."""
        if isinstance(error, BrokenPromiseError):
            self.happened["promotion refused"] += 1
            return "on purpose" in error.what
        if isinstance(error, UsageError):
            return "nothing was published" in error.what or "does not exist" in error.what
        if isinstance(error, DamageError):
            return self._rebuild_lost
        if not isinstance(error, EnvironmentFailureError):
            return False
        if process.name.startswith("read") and any(what in error.what for what in _SET_ASIDE):
            # A rebuild is at work, or died at it; who reads is told so.
            whole = (self.root / "lake/published.json").exists()
            return self._rebuilt >= process.since or not whole
        return "meanwhile" in error.what or "another follow runs" in error.what

    def _note(self, kind: str, what: str) -> None:
        self.happened[kind] += 1
        self.machine.scheduler.note(what)

    def _come_to_rest(self) -> None:
        """No more crashes: what was delivered is taken, published, and holds."""
        self._calm = True
        for process in list(self.machine.scheduler.processes):
            if process.name.startswith("follow"):
                self.machine.scheduler.send(process, signal.SIGTERM)
        self._until_all_ended()
        self.producer.settle()
        self.catalog.mend()
        if self._rebuild_lost:
            self._alone("rebuild")
        ingested = self._alone("ingest").result
        self._alone("batch")
        self._look(everything=True)
        assert isinstance(ingested, IngestReport)
        # A source that stops at a file says why, and which ones come after it.
        refused = [str(error) for error in ingested.errors]
        refused += [name for one in ingested.sources.values() for name in one.not_tried]
        self.checks.all_taken(" ".join(refused))
        report = self.machine.open().verify()
        if report.verdict != "holds":
            raise BrokenError(f"verify: {[str(found) for found in report.findings]}")
        if self.checks.stood[-1] != {self.checks.truth.head}:
            raise BrokenError("what is served at the end is not the whole log")

    def _alone(self, kind: str) -> Process:
        process = self.start(kind)
        self._until_all_ended()
        if process.error is not None:
            raise process.error
        return process

    def _until_all_ended(self) -> None:
        for _ in range(_LONGEST):
            if not self._step():
                return
        raise BrokenError(
            f"still running: {[one.name for one in self.machine.scheduler.processes]}"
        )
