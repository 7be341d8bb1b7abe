"""Following real files: what is taken when, what is refused, what goes on by itself."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.follow.following import SETTLE, Following
from unit.log.house import INVOICES, ORGS, House, event, invoice, org

Make = Callable[..., Following]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Following] = []

    def new(**given: object) -> Following:
        house = given.pop("house", None) or House(tmp_path / "project")
        assert isinstance(house, House)
        made.append(Following(tmp_path / "project", house=house, **given))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for each in made:
        each.close()


@pytest.fixture(params=[False, True], ids=["notices", "looking"])
def following(request: pytest.FixtureRequest, make: Make) -> Following:
    return make(poll=request.param)


def test_files_that_appear_and_grow_are_taken_as_they_grow(following: Following) -> None:
    following.put("events.jsonl", event(1))
    following.later(1.1)
    following.add("events.jsonl", event(2) + event(3))
    following.later(1.1)
    following.put("deep/er/events_2.jsonl", event(4))
    following.later(1.1)

    assert following.accepted() == ["e-1", "e-2", "e-3", "e-4"]
    assert following.waiting() == []
    assert following.answers.at == following.position


def test_a_last_line_without_its_end_waits_until_nothing_was_written_for_a_while(
    following: Following,
) -> None:
    following.put("events.jsonl", event(1) + event(2).rstrip("\n"))
    following.later(1.1)
    assert following.accepted() == ["e-1"]
    assert following.waiting() == ["inbox/events.jsonl"]

    following.later(SETTLE)
    assert following.accepted() == ["e-1", "e-2"]
    assert following.waiting() == []

    following.add("events.jsonl", "\n" + event(3))
    following.later(1.1)
    assert following.accepted() == ["e-1", "e-2", "e-3"]


def test_half_a_line_waits_for_its_other_half(following: Following) -> None:
    line = event(2)
    following.put("events.jsonl", event(1) + line[:40])
    following.later(1.1)
    following.later(5 * SETTLE)
    assert following.accepted() == ["e-1"]

    following.add("events.jsonl", line[40:])
    following.later(1.1)
    assert following.accepted() == ["e-1", "e-2"]
    assert [verdict for _, verdict in following.verdicts()] == ["accepted"] * 2


def test_a_delivery_is_taken_when_whoever_writes_it_has_closed_it(make: Make) -> None:
    following = make()
    with (following.given.inbox / "billing_monthly.csv").open("w") as file:
        file.write(INVOICES + invoice(1, "10"))
        file.flush()
        following.later(5 * SETTLE)
        assert following.waiting() == ["inbox/billing_monthly.csv"]
        assert following.position == 0
        file.write(invoice(2, "20"))

    following.rounds()

    assert following.accepted("billing_monthly", "invoice_id") == ["i-1", "i-2"]


def test_without_notices_a_delivery_is_taken_when_it_rests_and_nobody_has_it_open(
    make: Make,
) -> None:
    following = make(poll=True)
    with (following.given.inbox / "billing_monthly.csv").open("w") as file:
        file.write(INVOICES + invoice(1, "10"))
        file.flush()
        following.later(1.1)
        following.later(5 * SETTLE)
        assert following.position == 0

    following.later(1.1)
    following.later(SETTLE)
    assert following.accepted("billing_monthly", "invoice_id") == ["i-1"]


def test_a_delivery_that_was_there_before_is_not_half_taken_either(make: Make) -> None:
    house = House(make().root)
    with (house.inbox / "billing_monthly.csv").open("w") as file:
        file.write(INVOICES + invoice(1, "10"))
        file.flush()
        following = make(house=house)
        following.rounds()
        following.later(SETTLE)
        assert following.position == 0

    following.rounds()
    assert following.accepted("billing_monthly", "invoice_id") == ["i-1"]


def test_a_delivery_written_anew_is_a_new_delivery(following: Following) -> None:
    following.put("billing_monthly.csv", INVOICES + invoice(1, "10"))
    following.later(1.1)
    following.later(SETTLE)
    following.put("billing_monthly.csv", INVOICES + invoice(1, "11"))
    following.later(1.1)
    following.later(SETTLE)
    following.replace("billing_monthly.csv", INVOICES + invoice(1, "12"))
    following.later(1.1)
    following.later(SETTLE)

    subtotals = [str(value) for value in following.accepted("billing_monthly", "subtotal")]
    assert subtotals == ["10.000000000", "11.000000000", "12.000000000"]


@pytest.mark.parametrize("how", ["rotated", "cut short", "replaced", "written over"])
def test_a_growing_file_that_is_not_what_was_taken_is_refused(
    following: Following, how: str
) -> None:
    following.put("events.jsonl", event(1) + event(2))
    following.later(1.1)
    if how == "rotated":
        (following.given.inbox / "events.jsonl").rename(following.given.inbox / "old.1")
        following.put("events.jsonl", event(7) + event(8) + event(9))
    elif how == "cut short":
        following.put("events.jsonl", event(1))
    elif how == "replaced":
        following.replace("events.jsonl", event(1) + event(3))
    else:
        following.put("events.jsonl", event(1) + event(3) + event(4))
    following.later(1.1)
    following.later(SETTLE)

    assert following.accepted() == ["e-1", "e-2"]
    [refused] = following.said("events.jsonl")
    assert "changed in what was already taken" in refused

    following.put("events.jsonl", event(1) + event(2) + event(5))
    following.later(1.1)
    following.later(SETTLE)
    assert following.accepted() == ["e-1", "e-2", "e-5"]


def test_a_file_that_is_replaced_by_itself_and_more_goes_on(following: Following) -> None:
    following.put("events.jsonl", event(1))
    following.later(1.1)
    following.replace("events.jsonl", event(1) + event(2))
    following.later(1.1)

    assert following.accepted() == ["e-1", "e-2"]


def test_a_changed_middle_is_found_in_a_quiet_moment(make: Make) -> None:
    first = make()
    for number in range(5):
        first.add("events.jsonl", event(number))
        first.rounds()
    first.follower.end()
    path = first.given.inbox / "events.jsonl"
    status = path.stat()
    path.write_text(path.read_text().replace('"e-2"', '"e-9"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    second = make(house=first.given.again())
    second.rounds()

    assert "changed in what was already taken" in second.said("events.jsonl")[0]
    assert second.accepted() == [f"e-{number}" for number in range(5)]


@pytest.mark.parametrize("closed", [True, False])
def test_compressed_files_are_taken_whole(following: Following, closed: bool) -> None:
    data = gzip.compress((event(1) + event(2)).encode())
    path = following.given.inbox / "events.jsonl.gz"
    with path.open("wb") as file:
        file.write(data[:30])
        file.flush()
        following.later(1.1)
        following.later(SETTLE)
        assert following.position == 0
        file.write(data[30:])
    following.later(1.1)
    following.later(SETTLE)

    assert following.accepted() == ["e-1", "e-2"]


def test_a_broken_compressed_file_is_refused_and_taken_once_it_is_whole(
    following: Following,
) -> None:
    data = gzip.compress((event(1) + event(2)).encode())
    following.put("events.jsonl.gz", data[:-20])
    following.later(1.1)
    following.later(SETTLE)
    assert "is not a whole .gz file" in following.said("events.jsonl.gz")[0]

    following.put("events.jsonl.gz", data)
    following.later(1.1)
    following.later(SETTLE)
    assert following.accepted() == ["e-1", "e-2"]


def test_a_source_that_stops_is_parked_while_others_go_on_until_it_is_mended(
    following: Following,
) -> None:
    following.put("customers_orgs.csv", ORGS + "".join(org(number) for number in range(10)))
    following.later(1.1)
    following.later(SETTLE)
    following.put("customers_orgs.csv", ORGS + org(1))
    following.put("events.jsonl", event(1))
    following.later(1.1)
    following.later(SETTLE)
    [parked] = [source for source in following.follower.sources() if source.parked]
    assert parked.contract.source == "customers_orgs"
    assert following.accepted() == ["e-1"]

    following.put("customers_orgs.csv", ORGS + "".join(org(number) for number in range(9)))
    following.later(1.1)
    following.later(SETTLE)

    assert not any(source.parked for source in following.follower.sources())
    removed = [v for v in following.verdicts("customers_orgs", "org_id") if v[1] == "removed"]
    assert removed == [("o-9", "removed")]


def test_an_edited_contract_rules_from_the_next_entry_on(following: Following) -> None:
    following.put("events.jsonl", event(1, service="gpu"))
    following.later(1.1)
    path = following.root / "contracts" / "usage_events.yaml"
    text = path.read_text()
    path.write_text(
        text.rstrip() + "\n  - name: no_gpu\n    severity: quarantine\n"
        "    because: it is sold apart\n    holds: service <> 'gpu'\n"
    )
    following.later(1.1)
    following.later(SETTLE)
    following.add("events.jsonl", event(2, service="gpu") + event(3))
    following.later(1.1)

    assert following.verdicts() == [
        ("e-1", "accepted"),
        ("e-2", "quarantined"),
        ("e-3", "accepted"),
    ]
    assert following.follower.tally.held() == {("usage_events", "no_gpu"): 1}


def test_a_contract_that_is_not_valid_stops_its_own_source_only(following: Following) -> None:
    following.put("events.jsonl", event(1))
    following.later(1.1)
    path = following.root / "contracts" / "usage_events.yaml"
    text = path.read_text()
    path.write_text(text.replace("mode: append", "mode: sideways"))
    following.later(1.1)
    following.later(SETTLE)
    following.add("events.jsonl", event(2))
    following.put("billing_monthly.csv", INVOICES + invoice(1, "10"))
    following.later(1.1)
    following.later(SETTLE)
    assert following.accepted() == ["e-1"]
    assert following.accepted("billing_monthly", "invoice_id") == ["i-1"]
    assert "usage_events.yaml" in following.said("sideways")[0]

    path.write_text(text)
    following.later(1.1)
    following.later(SETTLE)
    assert following.accepted() == ["e-1", "e-2"]


def test_a_contract_that_is_broken_from_the_start_is_waited_for(make: Make) -> None:
    following = make()
    path = following.root / "contracts" / "usage_events.yaml"
    text = path.read_text()
    path.write_text(text.replace("mode: append", "mode: sideways"))
    again = make(house=following.given.again())
    again.put("events.jsonl", event(1))
    again.put("notes.txt", "x")
    again.rounds()
    assert again.follower.tree.blocked == {"inbox/events.jsonl"}
    assert again.follower.tree.unrecognised == {"inbox/notes.txt"}

    path.write_text(text)
    again.rounds()
    again.later(SETTLE)
    assert again.accepted() == ["e-1"]


def test_thousands_of_files_share_entries(make: Make) -> None:
    following = make()
    for number in range(2000):
        following.put(f"{number % 7}/events_{number}.jsonl", event(number))

    following.rounds()

    assert len(following.accepted()) == 2000
    assert following.position < 20


def test_links_are_followed_and_their_files_grow(make: Make, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "events_a.jsonl").write_text(event(1))
    following = make()
    (following.given.inbox / "linked").symlink_to(outside)
    (outside / "far").mkdir()
    (outside / "far" / "real.log").write_text(event(2))
    (following.given.inbox / "events_b.jsonl").symlink_to(outside / "far" / "real.log")
    following.rounds()
    assert sorted(following.accepted()) == ["e-1", "e-2"]

    for name, number in (("events_a.jsonl", 3), ("far/real.log", 4)):
        with (outside / name).open("a") as file:
            file.write(event(number))
    following.rounds()

    assert sorted(following.accepted()) == ["e-1", "e-2", "e-3", "e-4"]


def test_a_folder_that_moves_is_followed_where_it_is(make: Make, tmp_path: Path) -> None:
    following = make()
    following.put("a/events_1.jsonl", event(1))
    following.rounds()
    (following.given.inbox / "a").rename(following.given.inbox / "b")
    following.rounds()
    following.add("b/events_1.jsonl", event(2))
    following.rounds()

    assert sorted(value for value, _ in following.verdicts()) == ["e-1", "e-1", "e-2"]
    assert sorted(following.accepted()) == ["e-1", "e-2"]
    assert following.waiting() == []


def test_a_growing_file_costs_what_is_new_of_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meterhouse.sources.files import Reading

    following = make()
    following.put("events.jsonl", "".join(event(number) for number in range(5000)))
    following.rounds()
    read: list[int] = []
    real = Reading.read

    def counted(self: Reading, size: int = -1) -> bytes:
        data = real(self, size)
        read.append(len(data))
        return data

    monkeypatch.setattr(Reading, "read", counted)
    for number in range(10):
        following.add("events.jsonl", event(9000 + number))
        following.rounds()

    assert len(following.accepted()) == 5010
    assert sum(read) < 10 * 25_000


def test_a_file_that_goes_is_forgotten(following: Following) -> None:
    path = following.put("events.jsonl", event(1) + "half")
    following.later(1.1)
    assert following.waiting() == ["inbox/events.jsonl"]

    path.unlink()
    following.later(1.1)
    assert following.waiting() == []


def test_one_file_alone_can_be_followed(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "events.jsonl"
    path.parent.mkdir()
    path.write_text(event(1))
    (path.parent / "events_2.jsonl").write_text(event(2))
    following = make(paths=[path])
    following.rounds()
    with path.open("a") as file:
        file.write(event(3))
    following.rounds()
    assert following.accepted() == ["e-1", "e-3"]

    other = tmp_path / "other"
    other.write_text(event(1) + event(3) + event(4))
    other.rename(path)
    following.rounds()
    with path.open("a") as file:
        file.write(event(5))
    following.rounds()
    assert following.accepted() == ["e-1", "e-3", "e-4", "e-5"]


def test_large_deliveries_come_in_pieces_and_whole(make: Make) -> None:
    following = make(options={"piece_bytes": 500})
    following.rounds()
    following.put("billing_monthly.csv", INVOICES + "".join(invoice(n, "1") for n in range(100)))
    following.put("events.jsonl.gz", gzip.compress("".join(map(event, range(50))).encode()))
    following.rounds()

    assert len(following.accepted("billing_monthly", "invoice_id")) == 100
    assert len(following.accepted()) == 50
    assert following.position > 10
    taken = following.given.state.taken("billing_monthly", "inbox/billing_monthly.csv")
    assert [one.whole for one in taken] == [False] * (len(taken) - 1) + [True]


def test_a_restart_goes_on_with_what_was_taken_in_many_entries(make: Make) -> None:
    first = make()
    for number in range(20):
        first.add("events.jsonl", event(number))
        first.rounds()
    first.add("events.jsonl", event(20))

    second = make(house=first.given.again())
    second.rounds()
    second.later(SETTLE)

    assert second.accepted() == [f"e-{number}" for number in range(21)]
    assert second.said("error") == []
    assert all(file.compared for file in second.follower.tree.files())
