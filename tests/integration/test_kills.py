"""SIGKILL at random moments, again and again: the same tables in the end, the ledger holds."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from e2e.house import assert_same
from e2e.mortality import assert_answers, assert_whole, killed, new_house, put_second

KILLS = 16


@pytest.mark.parametrize("seed", range(2))
def test_a_project_killed_all_the_time_ends_where_an_undisturbed_one_does(
    tmp_path: Path, seed: int
) -> None:
    calm, house, random = new_house(tmp_path / "calm"), new_house(tmp_path / "house"), Random(seed)
    states = []
    for put in (None, put_second):
        for one in (calm, house):
            if put is not None:
                put(one)
        calm.ingest()
        calm.batch()
        states.append(calm.tables())
        for command in (["ingest", str(house.inbox)], ["batch"]):
            for _ in range(KILLS // 2):
                ticks, delay = random.randint(1, 40), random.random() / 20
                killed(house, *command, ticks=ticks, delay=delay)
                if len(states) > 1:
                    assert_whole(house, states)
            ran = house.cli(*command)
            assert ran.code == 0, ran.err

        assert_same(house.tables(), states[-1])
        assert_answers(house, states[-1])
        house.verified()
