"""CQL as Astra is reached: a bundle, mutual TLS, a token, Astra's limits; before a real Cassandra.

It is not Astra DB: docs/astra.md says what this shows.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from e2e.following import append, followed, until, until_answered
from e2e.generated import generated
from e2e.house import House, Ran
from e2e.records import event
from e2e.test_one_position import FEW
from integration.replicas import Replicated, configured, contents_of, until_replicated
from servers.astra import Bundled, as_superuser, bundled_node, make_keyspace
from servers.cassandra import free_port, run_cqlsh

# The driver asks for TLS in a way that Python 3.10 and newer call old.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning")

QUESTIONS = (
    "daily-cost",
    "top-services",
    "ticket-sla",
    "monthly-revenue",
    "genai-usage",
    "anomalies",
)


@pytest.fixture(scope="module")
def astra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundled]:
    with bundled_node(tmp_path_factory.mktemp("astra")) as found:
        yield found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A copy: only one process at a time keeps a project's replica up."""
    root = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(generated(tmp_path_factory).root, root)
    return House(root)


@pytest.fixture
def replica(astra: Bundled, house: House, monkeypatch: pytest.MonkeyPatch) -> Replicated:
    """A project whose replica is in the keyspace behind the bundle."""
    for name, value in astra.environ().items():
        monkeypatch.setenv(name, value)
    return Replicated(house, {})


def assert_secret(ran: Ran, *secrets: str) -> None:
    """Nothing printed holds a secret, nor a part of one, nor a traceback."""
    for secret in secrets:
        parts = [part for part in secret.split(":") if len(part) > 8]
        assert [part for part in parts if part in ran.out + ran.err] == []
    assert "Traceback" not in ran.err


def test_the_tables_are_made_in_a_keyspace_that_is_there(
    astra: Bundled, replica: Replicated, tmp_path: Path
) -> None:
    made = replica.cli("serving", "ddl", "--replication", "none", "--keyspace", astra.keyspace)
    (tmp_path / "ddl.cql").write_text(made.out)
    rc = tmp_path / "cqlshrc"
    rc.write_text(f"[authentication]\nusername = token\npassword = {astra.token}\n")
    rc.chmod(0o600)
    with replica.both() as (cassandra, _):
        cassandra.session.run('DROP TABLE IF EXISTS "finops_usage_by_org_day"')

    run_cqlsh(astra.node, "--cqlshrc", str(rc), "-f", str(tmp_path / "ddl.cql"), home=tmp_path)

    assert "CREATE KEYSPACE" not in made.out
    with replica.both() as (cassandra, _):
        assert contents_of(cassandra.session, "finops_usage_by_org_day") == []


@pytest.mark.parametrize("command", ["sync", "rebuild"])
def test_a_replica_is_filled_and_agrees(astra: Bundled, replica: Replicated, command: str) -> None:
    ran = replica.cli("serving", command)
    compared = replica.cli("serving", "compare")

    assert (ran.code, ran.err) == (0, "")
    assert (compared.code, compared.err) == (0, "")
    assert "0 cells differ, 0 rows are missing, 0 too many" in compared.out
    assert_secret(ran, astra.token)


def test_the_six_questions_have_the_embedded_stores_answers(replica: Replicated) -> None:
    assert replica.cli("serving", "sync").code == 0

    printed = []
    for name in QUESTIONS:
        one = replica.cli("query", name, "--store", "cassandra", "--format", "csv")
        two = replica.cli("query", name, "--format", "csv")

        assert (one.code, one.out) == (0, two.out), one.err
        printed.append(len(one.out.splitlines()))

    # The generated delivery has no critical ticket; the headings are all of that answer.
    assert [name for name, lines in zip(QUESTIONS, printed, strict=True) if lines < 2] == [
        "ticket-sla"
    ]


def test_a_value_changed_by_hand_is_found_and_rebuild_wins_over_it(
    astra: Bundled, replica: Replicated
) -> None:
    assert replica.cli("serving", "sync").code == 0
    with as_superuser(astra.node) as session:
        table = f"{astra.keyspace}.revenue_by_org_month"
        row = session.execute(f"SELECT org_id, month FROM {table} LIMIT 1").one()
        session.execute(
            f"UPDATE {table} USING TIMESTAMP {2**63 - 2} SET total_cost_usd = 1 "
            "WHERE org_id = %s AND month = %s",
            row,
        )

    found = replica.cli("serving", "compare")
    mended = replica.cli("serving", "rebuild")

    assert found.code == 1
    assert "total_cost_usd: 1, should be" in found.out
    assert mended.code == 0
    assert replica.compared().agrees


def test_every_write_says_its_consistency(replica: Replicated) -> None:
    """ONE is refused there: what goes through is LOCAL_QUORUM, which is not the driver's own."""
    weak = Replicated(replica.house, {"cassandra.consistency": "LOCAL_ONE"})

    refused = weak.cli("serving", "rebuild")
    ran = replica.cli("serving", "rebuild")

    assert refused.code == 2
    assert "consistency" in refused.err
    assert ran.code == 0


def test_a_wrong_token_is_refused_and_not_printed(
    astra: Bundled, replica: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "AstraCS:not-a-client-id-at-all:0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("ASTRA_DB_APPLICATION_TOKEN", wrong)

    for arguments in (("serving", "sync"), ("query", "daily-cost", "--store", "cassandra")):
        ran = replica.cli(*arguments)

        assert ran.code == 2
        assert "refuses these credentials" in ran.err
        assert "ASTRA_DB_APPLICATION_TOKEN" in ran.err
        assert_secret(ran, wrong, astra.token)


def test_a_missing_token_is_named(replica: Replicated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRA_DB_APPLICATION_TOKEN", "")

    ran = replica.cli("serving", "sync")

    assert ran.code == 2
    assert "the token of the Astra database is missing" in ran.err
    assert "ASTRA_DB_APPLICATION_TOKEN" in ran.err


def no_zip(path: Path) -> None:
    path.write_bytes(b"<html>sign in</html>")


def empty_zip(path: Path) -> None:
    zipfile.ZipFile(path, "w").close()


def no_certificates(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", '{"host": "127.0.0.1", "port": 1}')


def half(path: Path) -> None:
    path.write_bytes(path.with_name("whole.zip").read_bytes()[:900])


@pytest.mark.parametrize("damage", [no_zip, empty_zip, no_certificates, half])
def test_a_bundle_that_is_none_is_named(
    astra: Bundled,
    replica: Replicated,
    damage: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "whole.zip").write_bytes(astra.bundle.read_bytes())
    bundle = tmp_path / "bundle.zip"
    damage(bundle)  # type: ignore[operator]
    monkeypatch.setenv("ASTRA_DB_SECURE_BUNDLE", str(bundle))

    ran = replica.cli("serving", "sync")

    assert ran.code == 2, ran.err
    assert "the secure connect bundle is not one" in ran.err
    assert str(bundle) in ran.err
    assert_secret(ran, astra.token)


def test_a_bundle_that_is_missing_is_named(
    astra: Bundled, replica: Replicated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRA_DB_SECURE_BUNDLE", str(tmp_path / "nowhere.zip"))

    ran = replica.cli("serving", "sync")

    assert ran.code == 2
    assert "the secure connect bundle can't be read" in ran.err
    assert_secret(ran, astra.token)


def test_a_database_that_does_not_answer_is_the_environments_fault(
    astra: Bundled, replica: Replicated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.zip"
    with zipfile.ZipFile(astra.bundle) as old, zipfile.ZipFile(bundle, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            gone = b'{"host": "127.0.0.1", "port": 9}' if name == "config.json" else text
            new.writestr(name, gone)
    monkeypatch.setenv("ASTRA_DB_SECURE_BUNDLE", str(bundle))

    ran = replica.cli("serving", "sync")

    assert ran.code == 3, ran.err
    assert "can't be reached" in ran.err
    assert_secret(ran, astra.token)


def test_a_keyspace_that_is_not_there_is_made_on_the_databases_page(
    replica: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRA_DB_KEYSPACE", "nobody_made_it")

    ran = replica.cli("serving", "sync")

    assert ran.code == 2, ran.err
    assert 'keyspace "nobody_made_it" does not exist' in ran.err
    assert "on the database's page" in ran.err


def test_it_follows_and_outlives_its_database(
    astra: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a keyspace of its own, and with nothing of a cluster in the project's settings."""
    make_keyspace(astra.node, "followed")
    for name, value in astra.environ(ASTRA_DB_KEYSPACE="followed").items():
        monkeypatch.setenv(name, value)
    house = configured(tmp_path / "house", {}, FEW)
    replica = Replicated(house, {})
    path = house.inbox / "events_1.jsonl"
    port = free_port()

    def usage(number: int) -> str:
        return event(number, org_id=f"o-{number}", value=1, metric="requests")

    def figure(name: str) -> float:
        figures = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        found = re.search(rf'meterhouse_replica_{name}{{store="cassandra"}} (\S+)', figures)
        return float(found[1]) if found else -1

    def compared() -> None:
        found = replica.cli("serving", "compare")
        assert (found.code, "0 cells differ, 0 rows are missing" in found.out) == (0, True)
        for name in ("daily-cost", "top-services"):
            one = replica.cli("query", name, "--store", "cassandra", "--format", "csv")
            assert (one.code, one.out) == (0, replica.cli("query", name, "--format", "csv").out)

    with followed(house, "--metrics", str(port)) as follow:
        append(path, usage(1) + usage(2))
        until_answered(house, 2)
        until_replicated(house)
        until(lambda: figure("position") >= 1, "told in metrics")
        assert "replica    cassandra: at entry" in replica.cli("status").out
        compared()

        astra.node.kill()
        for number in range(3, 23):
            append(path, usage(number))
            until_answered(house, number)
        follow.until_said("replica_failed")
        until(lambda: figure("failing") == 1, "failing in metrics")
        until(lambda: figure("lag_seconds") > 1, "its lag in metrics")
        assert "failing:" in replica.cli("status").out
        house.batch()

        astra.node.start()
        append(path, usage(23))
        until_answered(house, 23)
        until_replicated(house)
        until(lambda: replica.cli("serving", "status").code == 0, "on the batch, too")
        until(lambda: (figure("failing"), figure("lag_seconds")) == (0, 0), "mended in metrics")
        compared()
    assert not follow.said("replica_stopped")
    output = house.root / ".meterhouse" / "replica-cassandra.log"
    assert_secret(Ran(0, follow.log.read_text(), output.read_text()), astra.token)
