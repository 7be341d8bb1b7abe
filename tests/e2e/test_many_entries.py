"""A project of many small entries: sealed, packed and joined, it is the project it was."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.house import DAILY, House, once
from meterhouse.errors import DamageError
from meterhouse.log.segments import Span
from meterhouse.project import Project
from unit.log.house import INVOICES, ORGS, event, invoice, org

ROUNDS = 26
MODELS = (*DAILY, "silver.orgs", "gold.org_daily_usage_by_service", "silver.billing_enriched")
LAYERS = ("bronze", "silver", "gold")


@dataclass
class Sealing(House):
    """A house whose log is sealed by fours."""

    seals: bool = True

    @property
    def project(self) -> Project:
        found = super().project
        found.span = Span(entries=4)
        found.seal_margin = 2 if self.seals else 1 << 40
        return found

    def own_files(self) -> list[int]:
        """Entries in files of their own."""
        return sorted(int(path.stem) for path in (self.root / "log").glob("*.json"))

    def judged(self) -> list[str]:
        """Judged files of the events, joined or not."""
        folder = self.root / "judged" / "usage_events"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))


def lived(root: Path, *, seals: bool) -> Sealing:
    """A project after a life of small deliveries, with a batch now and then."""
    house = Sealing.new(root, models=MODELS, seals=seals)
    for number in range(1, ROUNDS + 1):
        with (house.inbox / "events.jsonl").open("a") as file:
            # Late, doubled and conflicting events among the others.
            file.write(event(number, cost_usd_increment=number % 3 + 1))
            file.write(event(max(number - 9, 1), cost_usd_increment=number % 2 + 1))
            if number % 5 == 2:
                file.write(event(100 + number, unit=None) + "neither\u2028event \x1b[0m\n")
        # One organisation is not always there, another is called otherwise each time.
        steady = "".join(map(org, range(3, 20)))
        house.put("orgs.csv", ORGS + steady + org(1, f"Name {number}") + org(2) * (number % 4 > 0))
        house.ingest(house.inbox / "events.jsonl", source="usage_events")
        if number % 3 == 0:
            house.ingest(house.inbox / "orgs.csv", source="customers_orgs")
        if number % 4 == 1:
            house.put("billing_monthly.csv", INVOICES + invoice(number // 8, str(number)))
            house.ingest(house.inbox / "billing_monthly.csv")
        if number % 6 == 0:
            house.batch()
    house.batch()
    return house


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sealing, Sealing]:
    """The same life, once sealed and once not; tests only read them."""

    def made(name: str, *, seals: bool) -> Sealing:
        return once(
            tmp_path_factory, f"many-{name}", lambda folder: lived(folder / name, seals=seals)
        )

    return made("sealed", seals=True), made("plain", seals=False)


def copy(house: Sealing, folder: Path) -> Sealing:
    shutil.copytree(house.root, folder / "copy")
    return Sealing(folder / "copy", house.clock)


def test_sealed_or_not_the_log_is_byte_for_byte_the_same(
    houses: tuple[Sealing, Sealing],
) -> None:
    sealed, plain = houses

    entries = [list(house.project._log().stored()) for house in houses]

    # The projects' ids differ, and with them every hash.
    assert [entry.counts for entry, _ in entries[0]] == [entry.counts for entry, _ in entries[1]]
    assert plain.own_files() == list(range(1, len(entries[1]) + 1))
    assert sealed.own_files()[0] > len(entries[0]) - 6
    assert not (plain.root / "log" / "segments").exists()


def test_sealed_or_not_the_tables_are_the_same(houses: tuple[Sealing, Sealing]) -> None:
    sealed, plain = houses

    assert sealed.tables(layers=LAYERS) == plain.tables(layers=LAYERS)
    assert sealed.ledger() == plain.ledger()


def test_judged_files_are_joined_behind_the_publication_before(
    houses: tuple[Sealing, Sealing],
) -> None:
    sealed, _ = houses

    joined = [name for name in sealed.judged() if name.startswith("0-joined/")]

    assert len(joined) >= 3
    assert len(sealed.judged()) < ROUNDS


def test_verify_takes_the_word_of_segments_unless_it_is_told_not_to(
    houses: tuple[Sealing, Sealing],
) -> None:
    sealed, _ = houses
    judged: list[int] = []

    report = sealed.project.verify(progress=lambda entry: judged.append(entry.position))

    assert report.verdict == "holds", report.findings
    assert judged == sealed.own_files()
    assert any("segments attest to them" in note for note in report.notes)
    judged.clear()
    full = sealed.project.verify(full=True, progress=lambda entry: judged.append(entry.position))
    assert full.verdict == "holds", full.findings
    assert judged == list(range(1, full.position + 1))
    assert full.terms == report.terms


def test_status_counts_what_is_sealed(houses: tuple[Sealing, Sealing]) -> None:
    sealed, plain = houses

    found, expected = sealed.project.status(), plain.project.status()

    assert [(one.source, one.files, one.entries, one.counts) for one in found.sources] == [
        (one.source, one.files, one.entries, one.counts) for one in expected.sources
    ]


def test_everything_can_be_made_anew_from_segments_and_packs(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    house = copy(houses[0], tmp_path)
    tables = house.tables(layers=LAYERS)

    house.project.rebuild()

    assert house.tables(layers=LAYERS) == tables
    house.ingest(house.inbox / "events.jsonl", source="usage_events")
    assert house.verified().position == houses[0].project.head
    report = house.project.verify(full=True)
    assert report.verdict == "holds", report.findings


def test_a_lost_view_is_told_from_a_damaged_truth(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    house = copy(houses[0], tmp_path)
    (house.root / "index" / "state.db").unlink()

    report = house.project.verify()

    assert report.verdict == "rebuildable"
    assert {found.file for found in report.findings} == {"index/state.db"}
    house.project.rebuild()
    house.verified()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [flipped, Path.unlink])
@pytest.mark.parametrize(
    ("pattern", "verdict", "always"),
    [
        ("log/segments/*", "broken", False),
        ("landing/packs/*", "broken", False),
        ("judged/*/0-joined/*", "rebuildable", True),
    ],
)
def test_damage_of_what_is_sealed_is_found_and_named(
    houses: tuple[Sealing, Sealing],
    tmp_path: Path,
    damage: Callable[[Path], None],
    pattern: str,
    verdict: str,
    always: bool,
) -> None:
    house = copy(houses[0], tmp_path)
    path = sorted(house.root.glob(pattern))[1]
    damage(path)

    full = house.project.verify(full=True)
    quick = house.project.verify(quick=True, full=True)

    for report in (full, quick):
        assert report.verdict == verdict, report.findings
        assert str(path.relative_to(house.root)) in {found.file for found in report.findings}
    if always or damage is Path.unlink:
        assert house.project.verify().verdict == verdict


def test_a_damaged_segment_stops_what_is_built_on_it(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    house = copy(houses[0], tmp_path)
    path = sorted((house.root / "log" / "segments").iterdir())[1]
    flipped(path)

    with pytest.raises(DamageError) as raised:
        house.project.rebuild()

    assert raised.value.where == str(path.relative_to(house.root))
    assert (house.root / "index" / "state.db").exists()


def test_all_that_is_due_can_be_sealed_at_once(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    house = copy(houses[1], tmp_path)
    head = house.project.head

    done = house.project.seal()

    assert done.segments == done.packs == done.upto // 4 > 5
    assert house.own_files() == list(range(done.upto + 1, head + 1))
    house.verified()
    assert house.project.verify(full=True).verdict == "holds"


def test_the_program_seals_what_is_due(houses: tuple[Sealing, Sealing]) -> None:
    ran = houses[1].cli("log", "seal")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("nothing to seal")


def restored(backup: Path, house: Sealing, folder: Path) -> Sealing:
    """A project of what is in ``backup``, and nothing else."""
    found = Sealing(folder / "restored", house.clock)
    shutil.copytree(backup, found.root)
    for name in ("contracts", "models", "inbox"):
        shutil.copytree(house.root / name, found.root / name)
    shutil.copy(house.root / "meterhouse.toml", found.root)
    return found


def test_a_backup_of_sealed_log_and_landing_is_enough(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    sealed, _ = houses
    for part in ("log", "landing"):
        shutil.copytree(sealed.root / part, tmp_path / "backup" / part)
    house = restored(tmp_path / "backup", sealed, tmp_path)

    house.project.rebuild()

    assert house.tables(layers=LAYERS) == sealed.tables(layers=LAYERS)
    assert house.project.verify(full=True).verdict == "holds"
    report = house.ingest(house.inbox / "events.jsonl", source="usage_events")
    assert house.project.head == sealed.project.head, report


def test_a_backup_that_grew_before_and_after_sealing_holds_both_and_is_good(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    house = copy(houses[1], tmp_path)
    for _ in range(2):
        for part in ("log", "landing"):
            shutil.copytree(house.root / part, tmp_path / "backup" / part, dirs_exist_ok=True)
        house.project.seal()
    found = restored(tmp_path / "backup", house, tmp_path)
    assert found.own_files() == list(range(1, house.project.head + 1))
    assert len(list((found.root / "log" / "segments").iterdir())) > 5

    found.project.rebuild()

    assert found.tables(layers=LAYERS) == house.tables(layers=LAYERS)
    assert found.project.verify(full=True).verdict == "holds"
    found.project.seal()
    assert found.own_files() == house.own_files()
    assert found.project.verify(full=True).verdict == "holds"


def test_whoever_makes_a_backup_keeps_sealing_away(
    houses: tuple[Sealing, Sealing], tmp_path: Path
) -> None:
    house = copy(houses[1], tmp_path)
    house.seals = True
    before = house.own_files()
    command = ["flock", str(house.root / ".locks" / "sealing"), "sh", "-c", "echo held; read line"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as backup:
        assert backup.stdin is not None
        assert backup.stdout is not None
        assert backup.stdout.readline() == "held\n"
        with (house.inbox / "events.jsonl").open("a") as file:
            file.write(event(200))
        house.ingest(house.inbox / "events.jsonl", source="usage_events")
        assert house.own_files() == [*before, before[-1] + 1]
        backup.communicate("\n")
    with (house.inbox / "events.jsonl").open("a") as file:
        file.write(event(201))

    house.ingest(house.inbox / "events.jsonl", source="usage_events")

    assert house.own_files()[0] > before[-1] - 6


def test_what_is_held_is_given_back_as_it_landed(houses: tuple[Sealing, Sealing]) -> None:
    shown = []
    for house in houses:
        assert {one.source for one in house.project.quarantine()} == {"usage_events"}
        rows = [
            (row["log_position"], row["row_number"], row["invalid_reason"], row["raw"])
            for _, batch in house.project.quarantined()
            for row in batch.to_pylist()
        ]
        shown.append(rows)

    assert shown[0] == shown[1]
    assert len(shown[0]) >= 10
    sealed_upto = houses[0].own_files()[0] - 1
    assert sum(position <= sealed_upto for position, *_ in shown[0]) >= 8
    delivered = (houses[0].inbox / "events.jsonl").read_bytes().splitlines()
    assert all(raw in delivered for *_, raw in shown[0])


def test_records_of_sealed_entries_explain_a_row(houses: tuple[Sealing, Sealing]) -> None:
    sealed, _ = houses
    name = "gold.org_daily_usage_by_service"
    rows = sealed.project.read(name).select(sealed.project.models()[name].grain).to_pylist()
    row = {column: str(value) for column, value in rows[0].items()}

    found, expected = (house.project.explain(name, row, limit=1000) for house in houses)

    assert found.mismatches == expected.mismatches == ()
    assert found.row == expected.row
    assert found.parts[0].records == expected.parts[0].records
    positions = found.parts[0].records["log_position"].to_pylist()
    assert min(positions) < sealed.own_files()[0]
    assert found.parts[0].sums == expected.parts[0].sums


def test_sealed_invoices_are_reconciled(houses: tuple[Sealing, Sealing]) -> None:
    found, expected = (house.project.reconcile() for house in houses)

    assert found.rows == expected.rows
    assert found.rows.num_rows > 0
