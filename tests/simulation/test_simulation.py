"""Served = batch over the log so far, after every step, whatever happens (G1 to G7).

One test runs some seeds one after the other. ``SEEDS`` says how many there are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from meterhouse.engines.duckdb import DuckDBEngine
from simulation.bugs import BUGS
from simulation.expected import EXPECTED
from simulation.machine import Machine
from simulation.simulation import Outcome, run, run_alone

SEEDS = int(os.environ.get("SEEDS", "200"))
A_TEST = 10
ENOUGH = 200
"""Seeds in which everything happens."""
QUICK = (1, 2, 3)
BITES_WITHIN = 12


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    # One thread: the order of rows that nobody sorts is part of what a seed replays.
    opened = DuckDBEngine(384 << 20, 1, tmp_path_factory.mktemp("spill"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers see: what happened in each test's seeds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "simulated"
    folder.mkdir(exist_ok=True)
    return folder


def assert_holds(outcomes: list[Outcome]) -> None:
    failed = [str(outcome) for outcome in outcomes if outcome.problem]
    if failed:
        pytest.fail("\n\n".join(failed), pytrace=False)


def tell(folder: Path, first: int, outcomes: list[Outcome]) -> None:
    happened: Counter[str] = sum((one.happened for one in outcomes), Counter())
    happened += Counter({"seeds": len(outcomes), "steps": sum(one.steps for one in outcomes)})
    happened += sum((Counter(one.checks) for one in outcomes), Counter())
    draft = folder / f".{first}"
    draft.write_text(json.dumps(happened))
    draft.rename(folder / f"{first}.json")


def elsewhere(seeds: range) -> list[Outcome]:
    """Run seeds in a process of their own: what libraries keep of a machine goes with it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as one:
        return one.submit(run_alone, list(seeds)).result()


@pytest.mark.parametrize("seed", QUICK)
def test_a_seed_holds(engine: DuckDBEngine, seed: int) -> None:
    assert_holds([run(seed, engine)])


def test_a_blob_that_the_power_took_does_not_come_back_at_the_next_loss(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    name, lost = "log/000000000001.json", 0
    for seed in range(60):
        root = tmp_path / str(seed)
        root.mkdir()
        machine = Machine(root, engine, seed)
        if not machine.in_memory:
            continue
        machine.blobs.put(name, b"an entry", durable=False)

        machine.power_loss()
        left = [machine.blobs.read(name) for name in machine.blobs.list("log")]
        machine.power_loss()

        lost += not left
        assert [path.read_bytes() for path in root.glob("log/*")] == left, seed
    assert lost


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS + 1, A_TEST), ids=lambda first: f"from {first}")
def test_seeds_hold(told: Path, first: int) -> None:
    seeds = range(first, min(first + A_TEST, SEEDS + 1))

    outcomes = elsewhere(seeds)

    tell(told, first, outcomes)
    assert_holds(outcomes)
    # Whoever comes last looks at all of them.
    happened: Counter[str] = Counter()
    for path in told.glob("*.json"):
        happened += Counter(json.loads(path.read_text()))
    if happened["seeds"] == SEEDS >= ENOUGH:
        print(f"{SEEDS} seeds: {dict(sorted(happened.items()))}")
        missing = sorted(EXPECTED - happened.keys())
        assert not missing, f"never happened in {SEEDS} seeds: {missing}"


@pytest.mark.slow
def test_a_seed_replays_exactly(engine: DuckDBEngine) -> None:
    seeds = (5, 6, 7, 8)
    first = {seed: run(seed, engine) for seed in seeds}

    again = {seed: run(seed, engine) for seed in reversed(seeds)}

    for seed in seeds:
        assert again[seed].trace == first[seed].trace
        assert again[seed].happened == first[seed].happened


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_known_bug_is_found(engine: DuckDBEngine, bug: str) -> None:
    with BUGS[bug]():
        for seed in range(1, BITES_WITHIN + 1):
            found = run(seed, engine)
            if found.problem:
                break
        again = run(seed, engine)

    assert found.problem, f"{bug} was not found in {BITES_WITHIN} seeds"
    assert f"seed {seed}: " in str(found), "a failing seed prints itself"
    assert f"-m simulation {seed}" in str(found)
    assert again.trace == found.trace, "it replays exactly"
    assert again.problem == found.problem
    print(f"{bug}: found by seed {seed}: {found.problem[:200]}")
