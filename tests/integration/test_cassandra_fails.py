"""A cluster that is away, hurt, or closed to us: the embedded answers go on, nothing is lost."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from e2e.beside import LiveHouse
from e2e.following import Follow, append, followed, until, until_answered
from e2e.records import event
from e2e.test_one_position import FEW, first, second
from integration.replicas import Replicated, configured, until_replicated
from meterhouse.follow.keeping import read_replica
from servers.cassandra import SCRIPTS, Node, free_port, own_node

SECRET = "s3cret-of-the-cluster"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of this module's own, to be hurt."""
    with own_node(tmp_path_factory.mktemp("node") / "run", address="127.0.0.2") as found:
        yield found


def answered_after(house: LiveHouse, path: Path, number: int) -> float:
    """Append the event of that number; return after how many seconds it is in the answers."""
    append(path, event(number, value=1, metric="requests"))
    begun = time.monotonic()
    until_answered(house, number)
    return time.monotonic() - begun


def test_it_follows_and_outlives_its_cluster(
    node: Node, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    house = configured(tmp_path / "house", node.settings(), FEW)
    path = house.inbox / "events_1.jsonl"
    port = free_port()
    with followed(house, "--metrics", str(port)) as follow:
        append(path, event(1, value=1, metric="requests"))
        until_answered(house, 1)
        until_replicated(house)
        replica = Replicated(house, {})
        assert replica.cli("query", "daily-cost", "--store", "cassandra").code == 0
        assert "replica    cassandra: at entry" in replica.cli("status").out

        def figures() -> str:
            return str(urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())

        known = re.compile(r'replica_position\{store="cassandra"\} [1-9]')
        until(lambda: known.search(figures()) is not None, "told in metrics")
        assert 'meterhouse_replica_failing{store="cassandra"} 0.0' in figures()
        assert 'meterhouse_replica_lag_seconds{store="cassandra"} 0.0' in figures()

        alive = [answered_after(house, path, number) for number in range(2, 12)]
        node.kill()
        dead = [answered_after(house, path, number) for number in range(12, 42)]
        record_property("answered alive, s", max(alive))
        record_property("answered dead, s", max(dead))
        assert statistics.median(dead) < 2 * statistics.median(alive) + 0.2
        follow.until_said("replica_failed")
        follow.until_standing(
            lambda found: bool(found.replicas["cassandra"].get("failure")), "told as failing"
        )
        assert "failing:" in replica.cli("status").out

        node.start()
        back = time.monotonic()
        append(path, event(42, value=1, metric="requests"))
        until_answered(house, 42)
        until_replicated(house)
        record_property("recovered after, s", time.monotonic() - back)
        append(path, event(43, value=1, metric="requests"))
        begun = time.monotonic()
        until_answered(house, 43)
        until_replicated(house)
        record_property("event to replica, s", time.monotonic() - begun)
        assert time.monotonic() - begun < 10
        assert replica.compared().agrees
        one = replica.cli("query", "daily-cost", "--store", "cassandra")
        assert one.out == replica.cli("query", "daily-cost").out
    assert follow.process.returncode == 0


def test_a_killed_follower_takes_its_companion_along(node: Node, tmp_path: Path) -> None:
    house = configured(tmp_path / "house", node.settings(), FEW)
    path = house.inbox / "events_1.jsonl"
    follow = Follow(house)
    append(path, event(1, value=1, metric="requests"))
    until_replicated(house)
    found = read_replica(house.root, "cassandra")
    assert found is not None
    follow.kill()
    until(lambda: not Path(f"/proc/{found.pid}").exists(), "the companion has ended")

    with followed(house):
        append(path, event(2, value=1, metric="requests"))
        until_answered(house, 2)
        until_replicated(house)
    assert Replicated(house, {}).compared().agrees


def test_a_rebuild_beside_a_follower_waits_for_its_turn(node: Node, tmp_path: Path) -> None:
    house = configured(tmp_path / "house", node.settings(), FEW)
    path = house.inbox / "events_1.jsonl"
    replica = Replicated(house, {})
    with followed(house) as follow:
        append(path, event(1, value=1, metric="requests"))
        until_replicated(house)
        rebuilding = house.program("serving", "rebuild")
        for number in range(2, 40):
            append(path, event(number, org_id=f"o-{number}", value=1, metric="requests"))
            time.sleep(0.05)
        out, err = rebuilding.communicate(timeout=60)
        assert (rebuilding.returncode, "made anew" in out) == (0, True), err
        until_answered(house, 39)
        until_replicated(house)
        assert not follow.said("replica_failed")
        assert not follow.said("replica_stopped")
    assert replica.compared().agrees


def test_batch_and_once_bring_it_up_or_only_warn(node: Node, tmp_path: Path) -> None:
    house = configured(tmp_path / "house", node.settings(), FEW)
    replica = Replicated(house, {})
    first(house)
    house.ingest()

    done = replica.cli("batch")
    assert (done.code, "cassandra: every row written" in done.out) == (0, True), done.err
    assert replica.compared().agrees
    second(house)
    once = replica.cli("follow", "--once")
    assert (once.code, "cassandra: what changed written" in once.out) == (0, True), once.err
    assert replica.compared().agrees

    away = {"cassandra.port": str(free_port("127.0.0.2")), "cassandra.timeout": "2s"}
    lonely = Replicated(house, away)
    house.put("events_5.jsonl", event(98))
    house.ingest()
    done = lonely.cli("batch")
    assert done.code == 0
    assert "published log position" in done.out
    assert "warning: the replica in cassandra was not brought up" in done.err
    for words in (("serving", "sync"), ("serving", "status"), ("query", "daily-cost")):
        more = ("--store", "cassandra") if words[0] == "query" else ()
        ran = lonely.cli(*words, *more)
        assert ran.code == 3, (words, ran.err)
        assert "127.0.0.2" in ran.err
        assert "Traceback" not in ran.err
    assert lonely.cli("query", "daily-cost").code == 0
    assert replica.cli("serving", "sync").code == 0
    assert replica.compared().agrees


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Path]]:
    """A node that asks for a certificate, a user and a password."""
    folder = tmp_path_factory.mktemp("closed")
    keys = folder / "keys"
    subprocess.run([str(SCRIPTS / "make_tls.sh"), str(keys)], check=True, capture_output=True)
    tls = ("--tls", str(keys / "node.p12"), "--tls-clients", str(keys / "trust.p12"))
    with own_node(folder / "run", "--auth", *tls, address="127.0.0.3") as node:
        yield node, keys


def admitted(closed: tuple[Node, Path], folder: Path, **more: str) -> dict[str, str]:
    node, keys = closed
    password = folder / "password"
    password.write_text("cassandra\n")
    return {
        **node.settings(),
        "cassandra.user": "cassandra",
        "cassandra.password_file": str(password),
        "cassandra.ca": str(keys / "ca.crt"),
        "cassandra.certificate": str(keys / "client.crt"),
        "cassandra.key": str(keys / "client.key"),
        "cassandra.timeout": "5s",
        **more,
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> LiveHouse:
    house = LiveHouse.new(tmp_path_factory.mktemp("served") / "house", models=FEW)
    first(house)
    house.batch_of_inbox()
    return house


def test_with_certificate_user_and_password_it_is_a_replica_like_any(
    closed: tuple[Node, Path], served: LiveHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replicated(served, admitted(closed, tmp_path))
    ran = replica.cli("serving", "sync")
    assert ran.code == 0, ran.err
    assert replica.compared().agrees

    monkeypatch.setenv("METERHOUSE_CASSANDRA_PASSWORD", SECRET)
    wrong = replica.cli("serving", "status")
    assert (wrong.code, "refuses these credentials" in wrong.err) == (2, True), wrong.err
    assert SECRET not in wrong.err + wrong.out
    once = replica.cli("--set", "serving.replicas=cassandra", "follow", "--once")
    assert (once.code, "warning: the replica in cassandra" in once.err) == (0, True), once.err
    monkeypatch.setenv("METERHOUSE_CASSANDRA_PASSWORD", "cassandra")
    given = {**replica.settings, "cassandra.password_file": ""}
    assert Replicated(served, given).cli("serving", "status").code == 0
    written = [path for path in served.root.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_an_authority_that_did_not_sign_the_nodes_certificate_is_told(
    closed: tuple[Node, Path], served: LiveHouse, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run([str(SCRIPTS / "make_tls.sh"), str(other)], check=True, capture_output=True)
    settings = admitted(closed, tmp_path, **{"cassandra.ca": str(other / "ca.crt")})

    ran = Replicated(served, settings).cli("serving", "sync")

    assert (ran.code, "cassandra.ca does not vouch for" in ran.err) == (2, True), ran.err


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"cassandra.password_file": "/nowhere"}, 2, "password file can't be read"),
        ({"cassandra.user": "nobody"}, 2, "refuses"),
        ({"cassandra.ca": "/nowhere.crt"}, 2, "certificates"),
        ({"cassandra.certificate": "", "cassandra.key": ""}, 3, "set cassandra.ca"),
        (
            {"cassandra.ca": "", "cassandra.certificate": "", "cassandra.key": ""},
            3,
            "set cassandra.ca",
        ),
        ({"cassandra.local_dc": "elsewhere"}, 2, "set cassandra.local_dc to one of datacenter1"),
        ({"cassandra.consistency": "TWO"}, 3, "TWO takes 2 nodes that hold a row, 1 there"),
    ],
    ids=["password file", "user", "authority", "no certificate", "no TLS", "data centre", "level"],
)
def test_who_is_not_let_in_is_told_why_and_no_secret_is(
    closed: tuple[Node, Path],
    served: LiveHouse,
    tmp_path: Path,
    change: dict[str, str],
    code: int,
    told: str,
) -> None:
    settings = admitted(closed, tmp_path, **change)
    begun = time.monotonic()

    ran = Replicated(served, settings).cli("serving", "sync")

    assert (ran.code, "Traceback" in ran.err) == (code, False), ran.err
    assert told in ran.err
    assert "fix:" in ran.err
    assert time.monotonic() - begun < 60
    assert "cassandra\n" not in ran.err
