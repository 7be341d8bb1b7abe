"""Speed layer, batches and promotions in any order on one project: one answer, cell by cell."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterhouse.lake.published import read_published
from meterhouse.serving.schema import layouts
from meterhouse.serving.sqlite import SqliteServing
from unit.layers.house import House, event, shipped_contracts, shipped_models, ticket
from unit.layers.live import Live, live

CONTRACTS = shipped_contracts()
MODELS = shipped_models(CONTRACTS)
NOON = datetime(2025, 7, 3, 10, tzinfo=UTC)


def usage(chance: random.Random) -> list[dict[str, Any]]:
    """Return events, some of windows that are long out of the serving store."""
    return [
        event(
            chance.randrange(10**9),
            event_ts=NOON
            + timedelta(days=chance.choice([0, 0, -60, -90, 20]), minutes=chance.randint(0, 20)),
            org_id=f"org-{chance.randint(1, 3)}",
            genai_tokens=chance.choice([None, Decimal(5)]),
        )
        for _ in range(chance.randint(1, 6))
    ]


def tickets(chance: random.Random) -> list[dict[str, Any]]:
    score = chance.choice([None, Decimal(chance.randint(1, 5))])
    return [ticket(chance.randint(1, 5), csat=score, org_id=f"org-{chance.randint(1, 2)}")]


def invoices(chance: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "invoice_id": f"i-{chance.randint(1, 3)}",
            "org_id": f"org-{chance.randint(1, 2)}",
            "month": date(2025, 7, 1),
            "subtotal": Decimal(chance.randint(1, 100)),
            "currency": chance.choice(["USD", "EUR"]),
            "exchange_rate_to_usd": Decimal("1.1"),
        }
    ]


ROWS: dict[str, Callable[[random.Random], list[dict[str, Any]]]] = {
    "usage_events": usage,
    "support_tickets": tickets,
    "billing_monthly": invoices,
}


def read(answers: Live, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table: live ones over those of the lake."""
    model = answers.generation.models[name]
    served: list[dict[str, Any]] = answers.store.rows(name).read_all().to_pylist()
    found = {tuple(row[column] for column in model.grain): row for row in served}
    published = read_published(answers.blobs)
    if model.keep and published is not None:
        changed = answers.store.changed(name, 0).to_pylist()
        gone = {tuple(row[column] for column in model.grain) for row in changed}
        with answers.engine.session({name: published.relation(name)}) as session:
            lake = session.query(f"SELECT * FROM {name}").to_pylist()
        for row in lake:
            key = tuple(row[column] for column in model.grain)
            if key not in gone:
                found.setdefault(key, row)
    return [found[key] for key in sorted(found, key=lambda key: [(v is None, v) for v in key])]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_order_of_entries_batches_and_live_answers(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = SqliteServing(tmp_path / "serving.db", layouts(MODELS.by_name.values()))
    house = House(tmp_path, MODELS, dict(CONTRACTS), serving=store)
    answers = live(house, store)
    answers.lake = lambda: read_published(house.blobs)
    house.take("usage_events", *usage(chance))
    for _ in range(24):
        what = chance.choices([*ROWS, "batch", "follow"], [9, 3, 2, 2, 4])[0]
        if what == "batch":
            house.run()
        elif what == "follow":
            answers.follow(chance.randint(1, house.log.stamp().position))
        else:
            house.take(what, *ROWS[what](chance))

    answers.follow()

    expected = answers.expected()
    assert {name: read(answers, name) for name in expected} == expected
    answers.speed.close()
    store.close()
    house.close()
