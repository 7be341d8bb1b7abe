"""The same records in any split over entries and files get the same verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging import Bench, contract, lines, reading, reasons, verdicts
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.names import ACCEPTED, DUPLICATE, QUARANTINED
from meterhouse.ports import Engine

RECORD = st.one_of(
    st.builds(
        reading,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([1, "1.0", 2, -1, None, "x", {}]),
    ),
    st.sampled_from([b"{", b"", b"null", reading("") | {"id": None}, reading("a", org="")]),
)
CUTS = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    adapter = DuckDBEngine(256 << 20, 2, tmp_path_factory.mktemp("spill"))
    yield adapter
    adapter.close()


def judged_in_one(bench: Bench, records: list[Any]) -> list[tuple[str, Any]]:
    judged = bench.take(lines(*records))
    return list(zip(verdicts(judged), reasons(judged), strict=True))


def judged_in_parts(
    bench: Bench, records: list[Any], cuts: list[tuple[int, bool]]
) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    files: list[bytes] = []
    index = 0
    while records:
        size, ends_entry = cuts[index % len(cuts)]
        index += 1
        files.append(lines(*records[:size]))
        records = records[size:]
        if ends_entry or not records:
            judged = bench.take(*files)
            found += zip(verdicts(judged), reasons(judged), strict=True)
            files = []
    return found


@pytest.mark.parametrize("mode", ["append", "upsert"])
@given(records=st.lists(RECORD, min_size=1, max_size=30), cuts=CUTS)
@settings(deadline=None, max_examples=60)
def test_any_split_gives_the_same_verdicts(
    engine: Engine, mode: str, records: list[Any], cuts: list[tuple[int, bool]]
) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        whole = judged_in_one(Bench(engine, contract(mode=mode), Path(one)), records)
        bench = Bench(engine, contract(mode=mode), Path(other))
        parts = judged_in_parts(bench, records, cuts)

    assert parts == whole
    for judged in bench.entries:
        counts = judged.counts
        assert counts["landed"] == sum(counts[v] for v in (ACCEPTED, QUARANTINED, DUPLICATE))
        for sums in (s for by_currency in judged.money.values() for s in by_currency.values()):
            assert Decimal(sums["landed"]) == sum(
                Decimal(sums[v]) for v in (ACCEPTED, QUARANTINED, DUPLICATE)
            )


@given(records=st.lists(RECORD, min_size=1, max_size=20))
@settings(deadline=None, max_examples=40)
def test_delivered_twice_is_delivered_once(engine: Engine, records: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        bench = Bench(engine, contract(), Path(folder))
        bench.take(lines(*records))

        again = bench.take(lines(*records))

    assert set(verdicts(again)) <= {DUPLICATE}
    assert len(again.key_changes) == len(again.held_changes) == 0


@given(records=st.lists(RECORD, min_size=1, max_size=12), data=st.data())
@settings(deadline=None, max_examples=40)
def test_without_conflicts_the_order_of_records_changes_no_count(
    engine: Engine, records: list[Any], data: st.DataObject
) -> None:
    plain = [r for r in records if not isinstance(r, dict) or r["cost"] in (1, -1, "x")]
    shuffled = data.draw(st.permutations(plain))

    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        first = Bench(engine, contract(), Path(one)).take(lines(*plain))
        second = Bench(engine, contract(), Path(other)).take(lines(*shuffled))

    assert first.counts == second.counts
    assert first.money == second.money
