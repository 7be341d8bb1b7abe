"""astrapy itself, driven against a stand-in for the Data API that keeps rows in Cassandra.

The stand-in is not DataStax's server: docs/astra.md says what this shows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from e2e.generated import generated
from e2e.house import House, Ran, once
from integration.data_api_replicas import InApi, own, replica_of
from integration.replicas import Replicated
from meterhouse.config import FORMS
from meterhouse.errors import EnvironmentFailureError
from meterhouse.serving.queries import QUESTIONS
from meterhouse.synth import Options, generate
from servers.cassandra import Node
from servers.data_api import RefusedError, StandIn, stand_in


@pytest.fixture(scope="module")
def api(cassandra_node: Node) -> Iterator[StandIn]:
    with stand_in(cassandra_node) as found:
        yield found


@pytest.fixture(scope="module", params=FORMS)
def filled(
    api: StandIn, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> InApi:
    """A replica that was brought up once; tests only read it."""
    found = replica_of(own(generated(tmp_path_factory), tmp_path_factory), api, request.param)
    ran = found.serving("sync")
    assert ran.code == 0, ran.err
    return found


@pytest.fixture(params=FORMS)
def mine(api: StandIn, tmp_path_factory: pytest.TempPathFactory, request: Any) -> InApi:
    """A project and a replica of one's own, brought up once."""
    found = replica_of(own(small(tmp_path_factory), tmp_path_factory), api, request.param)
    assert found.serving("sync").code == 0
    return found


def small(factory: pytest.TempPathFactory) -> House:
    """A few organisations, published once."""

    def make(folder: Path) -> Path:
        generate(folder / "delivery", Options(events=200, orgs=3, files=3, days=20))
        house = House.new(folder / "project")
        house.ingest(folder / "delivery")
        house.batch()
        return house.root

    return House(once(factory, "small", make))


def later(mine: InApi, factory: pytest.TempPathFactory) -> InApi:
    """The same project and replica after a delivery that changes days that are there."""

    def make(folder: Path) -> Path:
        generate(folder / "more", Options(events=100, orgs=3, files=2, days=20, seed=7))
        house = House(folder / "project")
        shutil.copytree(small(factory).root, house.root)
        house.ingest(folder / "more")
        house.batch()
        return house.root

    house = own(House(once(factory, "small, later", make)), factory)
    return InApi(house, mine.settings, mine.environ)


def test_every_cell_of_every_table_is_the_embedded_stores(filled: InApi) -> None:
    found = filled.compared()

    assert found.agrees, found.shown
    assert found.rows > 1_000


def test_the_program_prints_the_same_bytes_from_either_store(filled: InApi) -> None:
    for name in QUESTIONS:
        one = filled.cli("query", name, "--store", "astra", "--format", "csv")
        two = filled.cli("query", name, "--format", "csv")

        assert (one.code, one.out) == (0, two.out), one.err


def test_what_was_synchronised_needs_no_second_time(filled: InApi) -> None:
    before = filled.contents()

    again, status = filled.serving("sync"), filled.serving("status")

    assert "nothing new" in again.out
    assert status.code == 0
    assert "Data API" in status.out
    assert filled.contents() == before


EXACT = [
    "12345678901234567890.123456789012345678",
    "-99999999999999999999999999999.999999999",
    "0.000000001",
    "0.1",
    "9007199254740993",
]


def test_a_decimal_keeps_all_its_digits(mine: InApi) -> None:
    with mine.both() as (replica, snapshot):
        stored = snapshot.stored["gold.revenue_by_org_month"]
        [table] = replica.tables["gold.revenue_by_org_month"]
        place = next(n for n, one in enumerate(table.columns) if one.name == "total_cost_usd")
        [row, *_] = next(iter(snapshot.raw(stored, 1)))
        replica.begin()
        found = []
        for number in EXACT:
            changed = [*row[:place], number, *row[place + 1 :]]
            replica.writer(table).write([(changed, 10_000, False)], generation=2**10)
            key = replica.writer(table).key_of(row)
            found += [
                one[place]
                for one in replica.rows(table)
                if one[0] == row[0] and str(one[1]) == row[1]
            ]
            assert key in set(replica.writer(table).keys())

    assert found == [Decimal(number) for number in EXACT]


def test_a_value_changed_by_hand_is_found_and_rebuild_mends_it(mine: InApi) -> None:
    with mine.both() as (replica, snapshot):
        [table] = replica.tables["gold.revenue_by_org_month"]
        stored = snapshot.stored["gold.revenue_by_org_month"]
        [row, *_] = next(iter(snapshot.raw(stored, 1)))
        place = next(n for n, one in enumerate(table.columns) if one.name == "total_cost_usd")
        replica.begin()
        replica.writer(table).write(
            [([*row[:place], "1", *row[place + 1 :]], 2**39, False)], generation=2**20
        )

    found = mine.serving("compare")
    mended = mine.serving("rebuild")

    assert found.code == 1
    assert "total_cost_usd: 1, should be" in found.out
    assert (mended.code, mended.err) == (0, "")
    assert mine.compared().agrees


def test_what_changed_is_written_and_what_is_gone_is_deleted(
    mine: InApi, api: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = later(mine, tmp_path_factory)

    behind, ran, after = mine.serving("status"), mine.serving("sync"), mine.compared()

    assert behind.code == 1
    assert (ran.code, ran.err) == (0, "")
    assert after.agrees, after.shown
    fresh = replica_of(mine.house, api, mine.settings["astra.form"])
    assert fresh.serving("sync").code == 0
    assert fresh.contents() == mine.contents()


def test_an_older_project_is_refused_and_writes_nothing(
    mine: InApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    older, mine = mine, later(mine, tmp_path_factory)
    assert mine.serving("sync").code == 0
    before = mine.contents()

    ran = older.serving("sync")

    assert ran.code != 0
    assert "an older state of the project was restored" in ran.err
    assert mine.contents() == before
    assert mine.compared().agrees


def test_a_writer_that_was_overtaken_stops_and_the_next_one_writes_every_row(
    mine: InApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The older one passed its check, stood still, and goes on after the newer one is done."""
    older, mine = mine, later(mine, tmp_path_factory)

    with older.both() as (replica, snapshot):
        replica.begin()
        assert mine.serving("sync").code == 0
        [table] = replica.tables["gold.revenue_by_org_month"]
        stored = snapshot.stored["gold.revenue_by_org_month"]
        [rows] = snapshot.raw(stored, 10_000)
        with pytest.raises(EnvironmentFailureError, match="took the replica over"):
            replica.writer(table).write([(row, 1, False) for row in rows], 0)
    healed = mine.serving("sync")

    assert "every row written" in healed.out
    assert "another writer did not finish" in healed.out
    assert mine.compared().agrees
    assert "nothing new" in mine.serving("sync").out


def test_two_writers_at_once_end_in_the_newer_ones_rows(
    mine: InApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each begins before the other ends; what they mixed, the next one writes over."""
    older, mine = mine, later(mine, tmp_path_factory)
    [table_name] = ["gold.revenue_by_org_month"]

    with older.both() as (old, old_rows), mine.both() as (new, new_rows):
        old.begin()
        new.begin()
        for replica, snapshot in ((new, new_rows), (old, old_rows)):
            [table] = replica.tables[table_name]
            [rows] = snapshot.raw(snapshot.stored[table_name], 10_000)
            position = snapshot.served.stamp.position
            replica.writer(table).write([(row, position, False) for row in rows], 0)
        old.end()
        new.end()
    healed = mine.serving("sync")

    assert "every row written" in healed.out
    assert mine.compared().agrees


def test_an_older_row_never_replaces_a_later_document(
    api: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In collections the database compares; nobody has to notice anybody."""
    mine = replica_of(own(small(tmp_path_factory), tmp_path_factory), api, "collections")
    assert mine.serving("sync").code == 0
    before = mine.contents()

    with mine.both() as (replica, snapshot):
        [table] = replica.tables["gold.revenue_by_org_month"]
        [rows] = snapshot.raw(snapshot.stored["gold.revenue_by_org_month"], 10_000)
        replica.begin()
        writer = replica.writer(table)
        broken = [[*row[:-1], None] for row in rows]
        writer.write([(row, 1, False) for row in broken], 0)
        writer.write([(row, 1, True) for row in broken], 0)
        writer.delete([writer.key_of(row) for row in rows], 0, 1)

    assert mine.contents() == before


def test_a_request_that_fails_on_the_way_is_repeated(mine: InApi, api: StandIn) -> None:
    """Refused for being busy before it did anything: tried again, and nothing is lost."""
    left = [5]

    def busy(command: str, _: str) -> None:
        if command in ("insertMany", "find", "deleteMany") and left[0]:
            left[0] -= len(api.rows.seen) % 3 == 0
            if len(api.rows.seen) % 3 == 0:
                raise RefusedError("SERVER_BUSY", "Try again", family="SERVER")

    api.rows.trouble.append(busy)
    try:
        ran = mine.serving("rebuild")
    finally:
        api.rows.trouble.remove(busy)

    assert (ran.code, left[0] <= 0) == (0, True)
    assert mine.compared().agrees


def test_a_writer_that_died_leaves_a_replica_that_the_next_one_makes_whole(
    mine: InApi, api: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = later(mine, tmp_path_factory)
    seen = [0]

    def die(command: str, _: str) -> None:
        seen[0] += command in ("insertMany", "findOneAndReplace")
        if seen[0] > 4:
            raise RefusedError("THE_TEST_ENDS_IT", "No more")

    api.rows.trouble.append(die)
    try:
        died = mine.serving("sync")
    finally:
        api.rows.trouble.remove(die)
    ran = mine.serving("sync")

    assert died.code == 2
    assert "THE_TEST_ENDS_IT" in died.err
    assert "every row written" in ran.out
    assert mine.compared().agrees


def test_an_empty_replica_gives_no_answer(
    api: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for form in FORMS:
        empty = replica_of(generated(tmp_path_factory), api, form)

        ran = empty.cli("query", "daily-cost", "--store", "astra")

        assert ran.code == 2
        assert "the replica holds no answers yet" in ran.err


def test_one_keyspace_holds_one_form(mine: InApi) -> None:
    [other] = set(FORMS) - {mine.settings["astra.form"]}

    ran = InApi(mine.house, {"astra.form": other}, mine.environ).serving("sync")

    assert ran.code == 2
    assert "already" in ran.err


def test_a_keyspace_that_cql_writes_is_refused_and_stays_as_it_was(
    api: StandIn, cassandra_node: Node, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its timestamps would win over every later row: one keyspace in the environment for both."""
    mine = replica_of(own(small(tmp_path_factory), tmp_path_factory), api, "tables")
    keyspace = mine.environ["ASTRA_DB_KEYSPACE"]
    by_cql = Replicated(mine.house, cassandra_node.settings(**{"cassandra.keyspace": keyspace}))
    assert by_cql.cli("serving", "sync").code == 0
    mine = later(mine, tmp_path_factory)
    before = mine.contents()

    for command in ("sync", "rebuild"):
        ran = mine.serving(command)

        assert (ran.code, "written by CQL" in ran.err) == (2, True), ran.err
    assert mine.contents() == before


def assert_secret(ran: Ran, *secrets: str) -> None:
    for secret in secrets:
        parts = [part for part in secret.split(":") if len(part) > 8]
        assert [part for part in parts if part in ran.out + ran.err] == []
    assert "Traceback" not in ran.err


WRONG = "AstraCS:not-a-client-id-at-all:0123456789abcdef0123456789abcdef"
ANSWERS = {
    "a wrong token": ({"ASTRA_DB_APPLICATION_TOKEN": WRONG}, 2, "refuses this token"),
    "no token": ({"ASTRA_DB_APPLICATION_TOKEN": ""}, 2, "token of the Astra database is missing"),
    "no endpoint": ({"ASTRA_DB_API_ENDPOINT": ""}, 2, "no Astra database is configured"),
    "no https": ({"ASTRA_DB_API_ENDPOINT": "http://db.example.com"}, 2, "not a https address"),
    "no address": ({"ASTRA_DB_API_ENDPOINT": "my database"}, 2, "not a https address"),
    "nobody there": ({"ASTRA_DB_API_ENDPOINT": "http://127.0.0.1:9"}, 3, "can't be reached"),
    "no keyspace": ({"ASTRA_DB_KEYSPACE": "nobody_made_it"}, 2, '"nobody_made_it" does not exist'),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ANSWERS)
def test_what_is_wrong_is_said_without_the_secret(
    api: StandIn, tmp_path_factory: pytest.TempPathFactory, form: str, case: str
) -> None:
    environ, code, said = ANSWERS[case]
    replica = replica_of(generated(tmp_path_factory), api, form, **environ)

    for arguments in (
        ("serving", "sync", *("--store", "astra")),
        ("query", "daily-cost", "--store", "astra"),
    ):
        ran = replica.cli(*arguments)

        assert ran.code == code, ran.err
        assert said in ran.err
        assert_secret(ran, api.token, WRONG)


def test_the_secret_is_not_in_what_python_shows_of_how_to_reach_it(api: StandIn) -> None:
    from meterhouse.serving.astra.connection import ApiAccess

    reached = ApiAccess(api.endpoint, "k", "tables", 1.0, api.token)

    assert api.token not in repr(reached)
