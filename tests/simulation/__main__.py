"""Replay seeds: ``PYTHONPATH=tests python -m simulation 17 [18 …]``; the trace comes with it."""

from __future__ import annotations

import sys

from simulation.simulation import run_alone


def main() -> int:
    failed = False
    for seed in map(int, sys.argv[1:]):
        [outcome] = run_alone([seed])
        print(*outcome.trace, outcome.where, sep="\n")
        print(f"seed {seed}: {outcome.problem or 'holds'}")
        failed |= bool(outcome.problem)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
