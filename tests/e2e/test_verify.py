"""Verify as its user has it: quick, since, expect, JSON; what a log that lost entries means."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from e2e.damage import made
from e2e.house import House, assert_same, once
from meterhouse.log.chain import Log
from meterhouse.log.entry import Entry
from meterhouse.log.state import State
from unit.log.house import INVOICES, event, invoice


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Published in twelve batches; tests only read it."""
    return House(once(tmp_path_factory, "damage", made))


@pytest.fixture
def house(whole: House, tmp_path: Path) -> House:
    """A copy to change."""
    root = tmp_path / "project"
    shutil.copytree(whole.root, root)
    return House(root)


def anchor(house: House) -> str:
    stamp = Log(house.project.blobs).stamp()
    return f"{stamp.position}:{stamp.head}"


def test_json_is_pure_and_complete(whole: House) -> None:
    ran = whole.cli("verify", "--format", "json")

    body = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert body["verdict"] == "holds"
    assert f"{body['position']}:{body['head']}" == anchor(whole)
    sources = {term["source"] for term in body["terms"]}
    assert sources == {"customers_orgs", "usage_events"}
    for term in body["terms"]:
        assert term["holds"]
    names = {check["name"] for check in body["checks"]}
    assert {"log", "landing", "judged", "index", "lake", "serving", "ledger"} <= names
    assert all(check["covered"] for check in body["checks"] if check["name"] != "live")


def test_json_is_pure_when_something_is_damaged(house: House) -> None:
    (house.root / "serving.db").unlink()
    (house.root / "log" / "000000000002.json").write_bytes(b"{")

    ran = house.cli("verify", "--format", "json")

    body = json.loads(ran.out)
    assert (ran.code, ran.err, body["verdict"]) == (1, "", "broken")
    files = {found["file"] for check in body["checks"] for found in check["findings"]}
    assert {"serving.db", "log/000000000002.json"} <= files


def test_the_table_shows_the_ledger_each_check_and_the_anchor(whole: House) -> None:
    ran = whole.cli("verify")

    assert ran.code == 0
    assert "landed =" in ran.out
    assert "cost_usd_increment USD" in ran.out
    assert "current + " in ran.out
    assert f"anchor {anchor(whole)[:19]}" in ran.out


def test_verify_changes_nothing(house: House) -> None:
    before = digests(house.root)

    for arguments in ((), ("--quick",), ("--since", "3")):
        assert house.cli("verify", *arguments).code == 0

    assert digests(house.root) == before


def digests(root: Path) -> dict[str, str]:
    parts = ("landing", "log", "judged", "index", "lake", "serving.db")
    files = [path for part in parts for path in (root / part, *(root / part).rglob("*"))]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }


def test_quick_judges_nothing_again_and_says_so(whole: House) -> None:
    ran = whole.cli("verify", "--quick", "--format", "json")

    body = json.loads(ran.out)
    assert (ran.code, body["scope"]) == (0, "quick")
    assert "derived again" not in {check["name"] for check in body["checks"]}
    assert any("nothing was judged again" in note for note in body["notes"])


def test_since_looks_at_the_bytes_of_newer_entries_only(house: House) -> None:
    first, *_, last = sorted((house.root / "landing" / "usage_events").rglob("*/*"))
    entries = {entry.object: entry.position for entry in Log(house.project.blobs).entries()}
    older, newer = sorted((first, last), key=lambda path: entries[path.name])
    since = str(entries[newer.name] - 1)

    older.write_bytes(b"other")
    assert house.cli("verify", "--since", since).code == 0

    newer.write_bytes(b"other")
    ran = house.cli("verify", "--since", since)
    assert ran.code == 1
    assert newer.name in ran.out
    assert older.name not in ran.out


@pytest.mark.parametrize("digits", [64, 12, 6])
def test_an_anchor_that_the_log_holds_is_found(whole: House, digits: int) -> None:
    position, _, sha256 = anchor(whole).partition(":")

    assert whole.cli("verify", "--quick", "--expect", f"{position}:{sha256[:digits]}").code == 0


@pytest.mark.parametrize("text", ["7", "x:abcdef", "7:xyz", "0:abcdef", "7:ab"])
def test_what_is_no_anchor_is_the_users_mistake(whole: House, text: str) -> None:
    ran = whole.cli("verify", "--expect", text)

    assert ran.code == 2
    assert "N:SHA" in ran.err


def lose_tail(house: House, entries: int) -> None:
    for path in sorted((house.root / "log").glob("*.json"))[-entries:]:
        path.unlink()


def test_a_lost_tail_is_found_by_the_views(house: House) -> None:
    lose_tail(house, 2)

    ran = house.cli("verify")

    assert ran.code == 1
    assert "log ends before what index/state.db was made from" in ran.out
    assert "log ends before what lake/published.json was made from" in ran.out


def test_a_lost_tail_without_any_view_is_found_by_the_anchor_alone(house: House) -> None:
    kept = anchor(house)
    lose_tail(house, 2)
    for part in ("judged", "index", "lake"):
        shutil.rmtree(house.root / part)
    (house.root / "serving.db").unlink()
    assert house.cli("rebuild").code == 0
    assert house.cli("verify").code == 0

    ran = house.cli("verify", "--expect", kept)

    assert ran.code == 1
    assert "log does not hold the anchor" in ran.out


def test_an_older_log_under_newer_views_is_refused_and_the_last_answer_stays(
    house: House,
) -> None:
    answers = [("query", "daily-cost"), ("read", "gold.finops_by_org_day"), ("sql", "SELECT 1")]
    before = [house.cli(*words).out for words in answers]
    lose_tail(house, 3)
    new = house.put("events_new.jsonl", event(1))

    for words in (("ingest", str(new)), ("batch",), ("rebuild",)):
        ran = house.cli(*words)
        assert ran.code == 1, words
        assert "log" in ran.err
        assert "rebuild --accept-loss" in ran.err
        assert "Traceback" not in ran.err

    assert [house.cli(*words).out for words in answers] == before
    assert house.cli("verify").code == 1


def test_an_accepted_loss_is_made_good_by_ingesting_again(house: House) -> None:
    tables = house.tables(layers=("silver", "gold"))
    lost = sorted((house.root / "log").glob("*.json"))[-3:]
    files = {
        item.file
        for entry in Log(house.project.blobs).entries(int(lost[0].stem) - 1)
        for item in entry.inputs
    }
    lose_tail(house, 3)

    assert house.cli("rebuild", "--accept-loss").code == 0
    shorter = house.verified()
    assert any("that no entry names" in note for note in shorter.notes)
    house.ingest(*sorted(files))
    house.batch()

    house.verified()
    assert_same(house.tables(layers=("silver", "gold")), tables)


def test_a_landed_object_that_no_entry_names_is_told_and_no_damage(house: House) -> None:
    (house.root / "landing" / "usage_events" / "ff").mkdir(exist_ok=True)
    (house.root / "landing" / "usage_events" / "ff" / ("f" * 64)).write_bytes(b"left by a crash")

    ran = house.cli("verify")

    assert ran.code == 0
    assert "1 landed object that no entry names" in ran.out


def test_entries_that_a_crash_left_unapplied_are_told_and_no_damage(house: House) -> None:
    """The state as it was before the last entry, as a crash right after the put leaves it."""
    old = house.root / "index.before"
    shutil.copytree(house.root / "index", old)
    published = (house.root / "lake" / "published.json").read_bytes()
    house.ingest(house.put("events_new.jsonl", event(1)))
    shutil.rmtree(house.root / "index")
    old.rename(house.root / "index")

    report = house.verified()

    assert (house.root / "lake" / "published.json").read_bytes() == published
    assert any("not applied yet" in note for note in report.notes)
    house.batch()
    assert not any("not applied yet" in note for note in house.verified().notes)


def test_an_emptied_state_view_is_damage_and_not_a_view_that_lags(house: House) -> None:
    (house.root / "index" / "state.db").write_bytes(b"")

    ran = house.cli("verify")

    assert ran.code == 1
    assert "the state view is empty" in ran.out
    assert "meterhouse rebuild" in ran.out


@pytest.mark.parametrize("name", ["index/state.db", "lake/published.json", "serving.db"])
def test_a_view_that_is_a_folder_is_unreadable_and_made_anew(house: House, name: str) -> None:
    (house.root / name).unlink()
    (house.root / name).mkdir()

    ran = house.cli("verify")

    assert (ran.code, "Traceback" in ran.err) == (1, False)
    assert name in ran.out
    assert "views are damaged" in ran.out


def test_a_project_without_a_log_holds(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project")

    assert house.cli("verify").code == 0
    assert house.cli("rebuild").code == 0


def test_what_is_not_published_yet_holds(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    house.ingest(house.put("events_1.jsonl", event(1) + "garbage\n"))

    report = house.verified()

    assert report.published == 0
    assert [term.quarantined for term in report.terms if term.measure == "records"] == ["1"]


def test_a_contract_that_came_after_the_batch_breaks_nothing(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    house.ingest(house.put("events_1.jsonl", event(1)))
    house.batch()
    text = (house.root / "contracts" / "usage_events.yaml").read_text()
    other = text.replace("usage_events", "other_events").replace("quarantine_usage", "held_other")
    (house.root / "contracts" / "other_events.yaml").write_text(
        other.replace("events*.jsonl", "other*.jsonl").replace("usage*.jsonl", "others*.jsonl")
    )

    house.verified()


def test_a_contract_that_changes_its_money_is_counted_by_each_entrys_own_text(
    tmp_path: Path,
) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    house.ingest(house.put("events_1.jsonl", event(1)))
    house.batch()
    house.edit("contracts/usage_events.yaml", "money: [cost_usd_increment]", "money: [carbon_kg]")
    house.ingest(house.put("events_2.jsonl", event(2, carbon_kg=0.5)))

    terms = {term.measure: term.accepted for term in house.verified().terms}

    assert terms["cost_usd_increment USD"] == "0.25"
    assert terms["carbon_kg USD"] == "0.5"


def test_invoices_corrected_twice_show_their_superseded_money(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.revenue_by_org_month",))
    for amount in ("10", "12.5", "10"):
        house.put("billing_monthly.csv", INVOICES + invoice(1, amount))
        house.ingest()
    house.batch()

    terms = {term.measure: term for term in house.verified().terms if term.current}

    assert (terms["records"].current, terms["records"].superseded) == ("1", "2")
    assert (terms["subtotal USD"].current, terms["subtotal USD"].superseded) == ("10", "22.5")


def test_the_state_view_is_not_made_by_looking(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    house.ingest(house.put("events_1.jsonl", event(1)))
    shutil.rmtree(house.root / "index")

    ran = house.cli("verify")

    assert ran.code == 1
    assert "the state view is missing" in ran.out
    assert not (house.root / "index").exists()
    assert house.cli("ingest").code == 0
    assert State.open(house.root / "index" / "state.db", create=False).stamp().position == 2


def test_what_rounding_took_off_is_a_term_of_the_ledger(tmp_path: Path) -> None:
    house = House.new(tmp_path / "project", models=("gold.finops_by_org_day",))
    house.edit("contracts/usage_events.yaml", "money: [", "round_decimals: true\nmoney: [")
    texts = ("0.30000000000000004", "-0.00000000050001", "1e-999999999999", "2.5")
    lines = [event(number).replace("0.25", text, 1) for number, text in enumerate(texts)]
    house.ingest(house.put("events_1.jsonl", "".join(lines)))
    house.batch()

    (term,) = [one for one in house.verified().terms if one.measure != "records"]

    assert term.accepted == "2.799999999"
    assert term.rounded == "0.00000000049999004"
    assert term.landed == "2.79999999949999004"
    assert "+ 0.00000000049999004 rounded off" in house.cli("verify").out


def test_what_is_published_while_verify_looks_is_no_damage(house: House) -> None:
    done: list[str] = []

    def meanwhile(entry: Entry) -> None:
        if not done:
            done.append(entry.source)
            house.ingest(house.put("events_new.jsonl", event(1)))
            house.batch()

    report = house.project.verify(progress=meanwhile)

    assert done
    assert report.verdict == "holds", report.findings
    assert report.position == report.published
