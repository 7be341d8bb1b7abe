"""Every landed record gets exactly one verdict, with all its reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import meterhouse
from judging import RULES, Bench, columns_of, contract, lines, reading, reasons, verdicts
from meterhouse.engines.duckdb import DuckDBEngine
from meterhouse.errors import SourceRefusedError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.intake.judge import judged_schema
from meterhouse.ports import Engine

A, Q, D, R = "accepted", "quarantined", "duplicate", "removed"
MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    adapter = DuckDBEngine(256 << 20, 2, tmp_path_factory.mktemp("spill"))
    yield adapter
    adapter.close()


@pytest.fixture
def bench(engine: Engine, tmp_path: Path) -> MakeBench:
    def made(given: Contract | None = None) -> Bench:
        found = Bench(engine, given or contract(), tmp_path)

        def judged_file(position: int) -> str:
            path = tmp_path / f"{position}.parquet"
            pq.write_table(found.entries[position - 1].table, path)
            return str(path)

        found.judged_file = judged_file
        return found

    return made


def test_judged_rows_have_the_schema_and_the_records_as_delivered(bench: MakeBench) -> None:
    judged = bench().take(lines(reading("a", "1.5", new=[1]), b"", b"\xffnot json"))

    assert judged.table.schema == judged_schema(contract())
    assert columns_of(
        judged, ["log_position", "row_number", "source_file", "source_line", "verdict"]
    ) == [
        dict(log_position=1, row_number=0, source_file="f0", source_line=1, verdict=A),
        dict(log_position=1, row_number=1, source_file="f0", source_line=3, verdict=Q),
    ]
    assert judged.table["raw"].to_pylist() == [None, b"\xffnot json"]
    assert judged.table["extra"].to_pylist() == ['{"new":[1]}', None]
    assert judged.table["invalid_reason"].to_pylist() == [None, "malformed"]
    assert reasons(judged) == [None, ["malformed"]]
    assert judged.counts == {
        "landed": 2, A: 1, Q: 1, D: 0, "blank": 1, R: 0,
    }  # fmt: skip


def test_all_broken_rules_are_named_in_the_contracts_order(bench: MakeBench) -> None:
    judged = bench().take(
        lines(
            {"id": "", "org": "o" * 129, "at": "yesterday", "cost": -1},
            {"id": "a", "org": {}, "at": "2025-07-03T00:00:00Z", "cost": "1e-10"},
            {"id": "b", "org": "\x7f", "at": None, "cost": "-1000000000000000000"},
        )
    )

    assert reasons(judged) == [
        ["id_missing", "key_unusable", "at_unreadable", "cost_low"],
        ["wrong_type", "out_of_range"],
        ["key_unusable", "out_of_range", "cost_low"],
    ]


@pytest.mark.parametrize(
    ("org", "usable"),
    [
        ("é" * 64, True),
        ("é" * 65, False),
        ("a" * 128, True),
        ("\u009f", False),
        ("a\nb", False),
        ("Â", True),
        ("", False),
        (None, False),
        (" ", True),
    ],
)
def test_a_usable_key_is_short_text_without_control_characters(
    bench: MakeBench, org: str | None, usable: bool
) -> None:
    judged = bench().take(lines(reading("a", org=org)))

    assert reasons(judged) == [None if usable else ["key_unusable"]]


def test_a_rule_that_comes_out_null_condemns_nobody(bench: MakeBench) -> None:
    assert verdicts(bench().take(lines(reading("a", None)))) == [A]


def test_the_first_payload_of_a_key_wins_and_others_are_held(bench: MakeBench) -> None:
    judging = bench()

    first = judging.take(lines(reading("a", 1), reading("a", "1.0"), reading("a", 2)))
    second = judging.take(lines(reading("a", 2), reading("a", 1), reading("a", 3)))

    assert verdicts(first) == [A, D, Q]
    assert verdicts(second) == [D, D, Q]
    assert reasons(first) == [None, None, ["conflict"]]
    assert first.table["raw"].to_pylist()[:2] == [None, None]


def test_an_invalid_copy_never_shadows_a_valid_one(bench: MakeBench) -> None:
    judging = bench()

    assert verdicts(judging.take(lines(reading("a", -5), reading("a", 1)))) == [Q, A]
    assert verdicts(judging.take(lines(reading("a", -5), reading("a", 1)))) == [D, D]


def test_a_held_record_without_a_readable_key_is_known_by_its_bytes(bench: MakeBench) -> None:
    judging = bench()
    broken = lines(b"{", reading("a") | {"id": None}, b"{", b"{ ")

    assert verdicts(judging.take(broken)) == [Q, Q, D, Q]
    assert verdicts(judging.take(broken)) == [D, D, D, D]


def test_what_was_accepted_before_a_rule_came_is_not_held_when_it_comes_again(
    bench: MakeBench, engine: Engine, tmp_path: Path
) -> None:
    judging = bench()
    judging.take(lines(reading("a", 5)))
    judging.contract = contract(rules=RULES.replace("cost >= -0.01", "cost > 7"))

    assert verdicts(judging.take(lines(reading("a", 5), reading("a", 6)))) == [D, Q]


def test_a_repeated_input_is_duplicate_whole_and_changes_nothing(bench: MakeBench) -> None:
    judging = bench(contract(mode="upsert"))
    judging.take(lines(reading("a", 1)))
    judging.take(lines(reading("a", 2)))

    again = judging.take(lines(reading("a", 1), b"{"), repeated=True)
    after = judging.take(lines(reading("a", 2)))

    assert verdicts(again) == [D, D]
    assert len(again.key_changes) == len(again.held_changes) == 0
    assert verdicts(after) == [D]


def test_an_invoice_corrected_twice_and_back_is_four_versions(bench: MakeBench) -> None:
    judging = bench(contract(mode="upsert"))

    assert verdicts(judging.take(lines(reading("a", 1), reading("a", 2)))) == [A, A]
    assert verdicts(judging.take(lines(reading("a", 3)))) == [A]
    assert verdicts(judging.take(lines(reading("a", 3), reading("a", 1), reading("a", 1)))) == [
        D,
        A,
        D,
    ]
    assert verdicts(judging.take(lines(reading("a", 1), reading("a", -9)))) == [D, Q]


def orgs(*ids: str) -> bytes:
    return lines(*(reading(id_) for id_ in ids))


@pytest.fixture
def snapshots(bench: MakeBench) -> Bench:
    judging = bench(contract(mode="snapshot", more="shrink_limit: 0.5"))
    judging.take(orgs("a", "b", "c", "d"), whole=True)
    return judging


def test_a_key_that_left_the_snapshot_is_removed_and_may_return(snapshots: Bench) -> None:
    removed = snapshots.take(orgs("a", "b", "c"), whole=True)
    again = snapshots.take(orgs("a", "b", "c"), whole=True)
    back = snapshots.take(orgs("a", "b", "c", "d"), whole=True)
    gone = snapshots.take(orgs("a", "b"), whole=True)

    assert verdicts(removed) == [D, D, D, R]
    assert columns_of(removed, ["row_number", "id", "org", "source_line", "source_file"])[3] == {
        "row_number": 3,
        "id": "d",
        "org": None,
        "source_line": None,
        "source_file": "f0",
    }
    assert removed.counts[R] == 1
    assert removed.counts["landed"] == 3
    assert verdicts(again) == [D, D, D]
    assert verdicts(back) == [D, D, D, A]
    assert columns_of(gone, ["id", "verdict"])[2:] == [
        {"id": "c", "verdict": R},
        {"id": "d", "verdict": R},
    ]


def test_a_snapshot_that_shrinks_too_much_stops_its_source(snapshots: Bench) -> None:
    with pytest.raises(SourceRefusedError, match="3 of the 4 keys") as refused:
        snapshots.take(orgs("a"), whole=True)
    with pytest.raises(SourceRefusedError):
        snapshots.take(b"", whole=True)

    assert "shrink_limit" in refused.value.fix
    assert verdicts(snapshots.take(orgs("a", "b"), whole=True)) == [D, D, R, R]


def test_nothing_vanishes_beside_a_record_whose_key_cannot_be_read(snapshots: Bench) -> None:
    assert verdicts(snapshots.take(orgs("a", "b", "c") + b"{\n", whole=True)) == [D, D, D, Q]
    assert verdicts(snapshots.take(orgs("a", "b") + lines(reading("c", -1)), whole=True)) == [
        D,
        D,
        Q,
        R,
    ]


def test_part_of_a_snapshot_file_removes_nothing(snapshots: Bench) -> None:
    assert verdicts(snapshots.take(orgs("a"), whole=False)) == [D]
    assert verdicts(snapshots.take(orgs("a"), whole=True, repeated=True)) == [D]


def test_a_key_twice_in_a_snapshot_is_two_versions(snapshots: Bench) -> None:
    data = orgs("a", "b", "c", "d") + lines(reading("a", 2), reading("b"))

    assert verdicts(snapshots.take(data, whole=True)) == [D, D, D, D, A, D]
    assert verdicts(snapshots.take(lines(reading("a", 2)) + orgs("b", "c"), whole=True)) == [
        D,
        D,
        D,
        R,
    ]


def test_money_adds_up_exactly_by_currency_and_verdict(bench: MakeBench) -> None:
    judged = bench().take(
        lines(
            reading("a", "0.1", currency="USD"),
            reading("b", "0.2", currency="USD"),
            reading("c", "-7", currency="USD"),
            reading("a", "0.1", currency="USD"),
            reading("d", "99999999999999999999999999999.999999999", currency="ARS"),
            reading("e", "-99999999999999999999999999999.999999999", currency="EUR"),
            reading("f", "x", currency="ARS"),
            reading("g", None, currency="EUR"),
            reading("h", 1),
            b"{",
        )
    )

    big = "99999999999999999999999999999.999999999"
    zero = {A: "0", Q: "0", D: "0"}
    assert judged.money == {
        "cost": {
            "?": {"landed": "1", **zero, A: "1", "unreadable": "1"},
            "ARS": {"landed": big, **zero, Q: big, "unreadable": "1"},
            "EUR": {"landed": "-" + big, **zero, Q: "-" + big, "unreadable": "0"},
            "USD": {"landed": "-6.6", A: "0.3", Q: "-7", D: "0.1", "unreadable": "0"},
        }
    }


def test_a_stop_rule_refuses_the_whole_entry_and_says_where(bench: MakeBench) -> None:
    stopping = RULES.replace(
        "\"id IS NOT NULL AND id <> ''\", severity: quarantine",
        "\"id IS NOT NULL AND id <> ''\", severity: stop",
    )
    judging = bench(contract(rules=stopping))

    with pytest.raises(SourceRefusedError, match="id_missing") as refused:
        judging.take(orgs("a"), orgs("b", "", "c", ""))

    assert refused.value.what.startswith("2 records")
    assert refused.value.where == "f1:2"
    assert verdicts(judging.take(orgs("", ""), repeated=True)) == [D, D]


@pytest.mark.parametrize("choice", ["keep", "quarantine", "stop"])
def test_undeclared_fields_are_kept_held_or_stop_as_the_contract_says(
    bench: MakeBench, choice: str
) -> None:
    judging = bench(contract(more=f"on_new_column: {choice}"))
    data = lines(reading("a"), reading("b", tax=1))

    if choice == "stop":
        with pytest.raises(SourceRefusedError, match="undeclared_column"):
            judging.take(data)
        assert verdicts(judging.take(orgs("a"))) == [A]
        return
    judged = judging.take(data)

    assert reasons(judged) == [None, None if choice == "keep" else ["undeclared_column"]]


def test_a_flag_marks_and_holds_nothing(bench: MakeBench) -> None:
    flag = (
        "  - {name: in_future, holds: '\"at\" <= ingest_ts', severity: flag, because: A clock.}\n"
    )
    judging = bench(contract(rules=RULES + flag))

    judged = judging.take(
        lines(
            reading("a"),
            reading("b", at="2025-09-01T12:00:00.000006Z"),
            reading("c", -1, at="9999-01-01T00:00:00Z"),
            reading("b", at="2025-09-01T12:00:00.000006Z"),
        )
    )

    assert verdicts(judged) == [A, A, Q, D]
    assert judged.table["flags"].to_pylist() == [None, ["in_future"], ["in_future"], None]


def test_many_inputs_are_judged_as_one_entry(bench: MakeBench) -> None:
    judged = bench().take(orgs("a", "b"), b"", lines(b"{", reading("a")))

    assert columns_of(judged, ["row_number", "source_file", "source_line", "raw"]) == [
        {"row_number": 0, "source_file": "f0", "source_line": 1, "raw": None},
        {"row_number": 1, "source_file": "f0", "source_line": 2, "raw": None},
        {"row_number": 2, "source_file": "f2", "source_line": 1, "raw": b"{"},
        {"row_number": 3, "source_file": "f2", "source_line": 2, "raw": None},
    ]


def test_an_entry_without_records_is_judged(bench: MakeBench) -> None:
    judged = bench().take(b"\n")

    assert judged.table.schema == judged_schema(contract())
    assert judged.counts["landed"] == 0
    assert judged.counts["blank"] == 1


def test_judging_again_gives_the_same_rows(bench: MakeBench) -> None:
    judging = bench()
    data = lines(reading("a"), reading("a", 2), b"{", reading("b", -1))

    first = judging.take(data, adopt=False)

    assert judging.take(data, adopt=False).table == first.table


def test_keys_of_several_columns_and_types_are_told_apart(
    bench: MakeBench, engine: Engine, tmp_path: Path
) -> None:
    rules = RULES.replace("columns: [id, org]", "columns: [id, org, at]")
    judging = bench(contract(key="org, at", rules=rules))
    other = datetime(2025, 7, 4, tzinfo=UTC).isoformat()

    judged = judging.take(
        lines(
            reading("a"), reading("b"), reading("a"), reading("a", at=other), reading("a", org="p")
        )
    )

    assert verdicts(judged) == [A, Q, D, A, A]


def test_the_shipped_contracts_judge_an_empty_entry(engine: Engine, tmp_path: Path) -> None:
    shipped = Path(meterhouse.__file__).parent / "catalog" / "contracts"
    for source, given in load_contracts(shipped).items():
        if given.format == "jsonl":
            judged = Bench(engine, given, tmp_path / source).take(b"")
            assert judged.table.schema == judged_schema(given)
