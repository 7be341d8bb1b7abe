"""``follow`` keeps a replica up through the Data API, also when that is away for a while.

Against the stand-in of ``servers.data_api``: docs/astra.md says what this shows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from e2e.beside import LiveHouse
from e2e.following import Follow, append, followed, until, until_answered
from e2e.records import INVOICES, TICKETS, event, invoice, orgs, ticket
from e2e.test_one_position import FEW, first, second
from integration.data_api_replicas import InApi, replica_of
from integration.replicas import configured, until_replicated
from meterhouse.config import FORMS
from meterhouse.follow.keeping import read_replica
from meterhouse.serving.queries import QUESTIONS
from servers.cassandra import Node, free_port
from servers.data_api import StandIn, stand_in


@pytest.fixture(scope="module")
def api(cassandra_node: Node) -> Iterator[StandIn]:
    with stand_in(cassandra_node) as found:
        yield found


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def few(api: StandIn, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InApi:
    return made(api, form, tmp_path, monkeypatch, FEW)


def made(
    api: StandIn,
    form: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    models: tuple[str, ...] = (),
) -> InApi:
    """A project whose own file says that its replica in Astra is kept up; nothing in it yet."""
    settings = {"serving.replicas": "astra", "astra.form": form}
    found = replica_of(configured(folder / "house", settings, models), api, form)
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    return InApi(found.house, {}, found.environ)


def live(replica: InApi) -> LiveHouse:
    assert isinstance(replica.house, LiveHouse)
    return replica.house


def usage(number: int) -> str:
    """One request of an organisation of its own."""
    return event(number, org_id=f"o-{number}", value=1, metric="requests")


def a_spike() -> str:
    """Twenty days of much the same cost, then one that is an anomaly."""
    costs = [*(1 + day % 3 / 10 for day in range(20)), 500]
    return "".join(
        event(1000 + day, timestamp=f"2025-06-{day + 1:02d}T10:00:00Z", cost_usd_increment=cost)
        for day, cost in enumerate(costs)
    )


def assert_same_bytes(replica: InApi) -> None:
    """Every question has the same answer, and one at all, from both stores."""
    for name in QUESTIONS:
        one = replica.cli("query", name, "--store", "astra", "--format", "csv")
        two = replica.cli("query", name, "--format", "csv")

        assert (one.code, one.out) == (0, two.out), (name, one.err)
        assert len(two.out.splitlines()) > 1, name


def assert_compared(replica: InApi) -> None:
    found = replica.serving("compare")
    assert (found.code, found.err) == (0, "")
    assert "0 cells differ, 0 rows are missing, 0 too many" in found.out


def assert_kept_secret(replica: InApi, follow: Follow, api: StandIn) -> None:
    """The token is in nothing that was said or written, no part of it either."""
    parts = [part.encode() for part in api.token.split(":") if len(part) > 8]
    written = [follow.log, *replica.house.root.rglob("*")]
    found = [path for path in written if path.is_file()]
    assert [path for path in found for part in parts if part in path.read_bytes()] == []


def test_it_follows_and_outlives_its_database(
    api: StandIn,
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The whole catalog; a batch, too, falls into the time in which nobody answers."""
    replica = made(api, form, tmp_path, monkeypatch)
    house, port = live(replica), free_port()
    path = house.inbox / "events_1.jsonl"
    house.put("customers_orgs_1.csv", orgs(1, 2, 3))
    house.put("billing_monthly_1.csv", INVOICES + invoice("10"))
    house.put("support_tickets_1.csv", TICKETS + ticket("") + ticket("2025-07-09", 2))
    house.put(
        "events_0.jsonl", event(0, service="genai", metric="tokens", genai_tokens=7) + a_spike()
    )

    def figures() -> str:
        return str(urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())

    def figure(name: str) -> float:
        found = re.search(rf'meterhouse_replica_{name}{{store="astra"}} (\S+)', figures())
        return float(found[1]) if found else -1

    with followed(house, "--metrics", str(port)) as follow:
        append(path, usage(1) + usage(2))
        until_answered(house, 2)
        until_replicated(house, "astra")
        until(lambda: figure("position") >= 1, "told in metrics")
        until(lambda: figure("lag_seconds") == 0, "level")
        assert figure("failing") == 0
        assert "replica    astra: at entry" in replica.cli("status").out
        assert replica.serving("status").code == 0
        house.batch()
        until(lambda: replica.serving("status").code == 0, "on the batch, too")
        assert_same_bytes(replica)
        begun = time.monotonic()
        append(path, usage(3))
        until_answered(house, 3)
        until_replicated(house, "astra")
        record_property("event to replica, s", time.monotonic() - begun)

        with api.away():
            for number in range(4, 24):
                append(path, usage(number))
                begun = time.monotonic()
                until_answered(house, number)
                record_property("answered while away, s", time.monotonic() - begun)
            follow.until_said("replica_failed")
            house.put("billing_monthly_2.csv", INVOICES + invoice("12.5"))
            until(lambda: "13.75" in replica.cli("query", "monthly-revenue").out, "corrected")
            house.batch()
            follow.until_standing(
                lambda found: bool(found.replicas["astra"].get("failure")), "told as failing"
            )
            until(lambda: figure("failing") == 1, "failing in metrics")
            until(lambda: figure("lag_seconds") > 1, "its lag in metrics")
            shown = replica.cli("status").out
            assert re.search(r"replica +astra: .*behind", shown), shown
            assert "failing:" in shown
            assert replica.cli("query", "daily-cost", "--store", "astra").code == 3

        back = time.monotonic()
        append(path, usage(24))
        until_answered(house, 24)
        until_replicated(house, "astra")
        record_property("recovered after, s", time.monotonic() - back)
        assert "astra goes on" in (house.root / ".meterhouse" / "replica-astra.log").read_text()
        until(lambda: (figure("failing"), figure("lag_seconds")) == (0, 0), "mended in metrics")
        assert_compared(replica)
        assert_same_bytes(replica)
    assert not follow.said("replica_stopped")
    assert_kept_secret(replica, follow, api)
    fresh = replica_of(house, api, form)
    assert fresh.serving("sync").code == 0
    assert fresh.contents() == replica.contents()


def test_a_killed_follower_takes_its_companion_along(few: InApi) -> None:
    house = live(few)
    path = house.inbox / "events_1.jsonl"
    follow = Follow(house)
    append(path, usage(1))
    until_replicated(house, "astra")
    found = read_replica(house.root, "astra")
    assert found is not None
    follow.kill()
    until(lambda: not Path(f"/proc/{found.pid}").exists(), "the companion has ended")

    with followed(house):
        append(path, usage(2))
        until_answered(house, 2)
        until_replicated(house, "astra")
    assert few.compared().agrees


def test_a_rebuild_beside_a_follower_waits_for_its_turn(few: InApi) -> None:
    house = live(few)
    path = house.inbox / "events_1.jsonl"
    with followed(house) as follow:
        append(path, usage(1))
        until_replicated(house, "astra")
        rebuilding = house.program("serving", "rebuild", "--store", "astra")
        for number in range(2, 40):
            append(path, usage(number))
            time.sleep(0.05)
        out, err = rebuilding.communicate(timeout=60)
        assert (rebuilding.returncode, "made anew" in out) == (0, True), err
        until_answered(house, 39)
        until_replicated(house, "astra")
        assert not follow.said("replica_failed")
        assert not follow.said("replica_stopped")
    assert few.compared().agrees


def test_batch_and_once_bring_it_up_or_only_warn(api: StandIn, few: InApi) -> None:
    house = live(few)
    first(house)
    house.ingest()

    done = few.cli("batch")
    assert (done.code, "astra: every row written" in done.out) == (0, True), done.err
    assert few.compared().agrees
    second(house)
    once = few.cli("follow", "--once")
    assert (once.code, "astra: what changed written" in once.out) == (0, True), once.err
    assert few.compared().agrees

    house.put("events_5.jsonl", event(98))
    house.ingest()
    with api.away():
        done = few.cli("batch")
        assert (done.code, "published log position" in done.out) == (0, True)
        assert "warning: the replica in astra was not brought up" in done.err
        assert few.cli("query", "daily-cost").code == 0
    assert few.serving("sync").code == 0
    assert few.compared().agrees
