"""What is lost of late data: a watermark pipeline and Meterhouse over the same delivery.

    python bench/late_data.py DELIVERY [--page docs/late-data.md]

Streams the files of usage events in the order of their names through the watermark rule
(``watermark.py``) and through Meterhouse, and says what is in the mart at the end. With
``--page`` the figures of that page and the picture beside it are written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import meterhouse
from late_picture import Bar, picture
from meterhouse.follow.say import Say
from meterhouse.scaffold import init
from watermark import Event, Mart, watermarked

DELAYS = {"10 minutes": timedelta(minutes=10), "2 days": timedelta(days=2)}
FILES_A_TRIGGER = (1, 5, 120)
PACES = ("paced", "backlog")
ORDERS = 100
"""How many other orders of the files are tried, to show that the order decides little."""
SPARK = Path(__file__).with_name("late_data_spark.json")
"""What the real Spark gave, written by ``late_data_spark.py``."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to stream the delivery through a watermark."""

    delay: str
    files: int
    pace: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a delivery."""

    mart: Mart
    held: Mart
    """Kept beside the mart, each record with its reason."""


def settings() -> Iterator[Setting]:
    """Yield every setting of the page."""
    for delay in DELAYS:
        for files in FILES_A_TRIGGER:
            for pace in PACES:
                yield Setting(delay, files, pace)


def delivered(folder: Path) -> list[list[Event]]:
    """Return the usage events of a delivery, file by file in the order of the names."""
    return [
        [event_of(line) for line in path.read_text("utf-8").splitlines()]
        for path in sorted((folder / "usage_events_stream").glob("*.jsonl"))
    ]


def event_of(line: str) -> Event:
    """Return time and charge of a line, digit for digit; no charge is 0."""
    record = json.loads(line, parse_float=Decimal, parse_int=Decimal)
    since = datetime.fromisoformat(record["timestamp"]) - datetime.fromisoformat("1970-01-01T00Z")
    return Event(since // timedelta(microseconds=1), record["cost_usd_increment"] or Decimal(0))


def simulated(files: Sequence[Sequence[Event]], setting: Setting) -> Mart:
    """Return what a watermark leaves of ``files``, read in this order."""
    triggers = [
        [event for file in files[start : start + setting.files] for event in file]
        for start in range(0, len(files), setting.files)
    ]
    return watermarked(triggers, DELAYS[setting.delay], paced=setting.pace == "paced")


def in_other_orders(files: Sequence[Sequence[Event]], setting: Setting) -> tuple[int, int]:
    """Return fewest and most events in the mart over ``ORDERS`` random orders of the files."""
    chance = random.Random(1)
    kept = [simulated(chance.sample(files, len(files)), setting).events for _ in range(ORDERS)]
    return min(kept), max(kept)


def metered(folder: Path, files_a_call: int) -> Outcome:
    """Return what Meterhouse makes of a delivery that comes ``files_a_call`` at a time.

    0 files a call: a follower takes them as it likes, and no batch has run.
    """
    paths = sorted((folder / "usage_events_stream").glob("*.jsonl"))
    with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as name:
        init(Path(name) / "project")
        house = meterhouse.open(Path(name) / "project")
        if files_a_call:
            for start in range(0, len(paths), files_a_call):
                house.ingest(*paths[start : start + files_a_call])
            house.batch()
        else:
            said = Say(lambda line: None, house.clock)
            house.follow(folder / "usage_events_stream", say=said, once=True)
        mart = house.sql(
            "SELECT sum(event_count)::BIGINT AS events, sum(daily_cost_usd) AS usd "
            "FROM gold.org_daily_usage_by_service"
        ).to_pylist()[0]
        groups = house.quarantine()
        held = sum((sum(group.money.values(), Decimal(0)) for group in groups), Decimal(0))
        return Outcome(
            Mart(mart["events"], mart["usd"]), Mart(sum(one.records for one in groups), held)
        )


def total(files: Sequence[Sequence[Event]]) -> Mart:
    """Return what was delivered."""
    return Mart(sum(map(len, files)), sum((row.usd for file in files for row in file), Decimal(0)))


def percent(part: Decimal | int, whole: Decimal | int) -> str:
    """Return a share as "91.7 %", half-even."""
    return f"{Decimal(part) * 100 / Decimal(whole):.1f} %"


def money(usd: Decimal) -> str:
    """Return USD in cents, as the picture and the table show them."""
    return f"{usd:,.2f}"


def watermark_rows(files: Sequence[Sequence[Event]]) -> list[str]:
    """Return the lines of the table, one a setting; the last cell is left to the orders."""
    everything = total(files)
    lines = []
    for one in settings():
        mart = simulated(files, one)
        lost = everything.events - mart.events
        lines.append(
            f"| {one.delay} | {one.files} | {one.pace} | {mart.events:,} | {money(mart.usd)} "
            f"| {lost:,} | **{percent(lost, everything.events)}** "
            f"| {percent(everything.usd - mart.usd, everything.usd)} |"
        )
    return lines


def orders_rows(files: Sequence[Sequence[Event]]) -> list[str]:
    """Return for each setting of several triggers the span of the loss over other orders."""
    events = total(files).events
    lines = []
    for one in settings():
        if one.files < len(files):
            fewest, most = in_other_orders(files, one)
            span = f"{percent(events - most, events)} to {percent(events - fewest, events)}"
            lines.append(f"| {one.delay} | {one.files} | {one.pace} | {span} |")
    return lines


def meterhouse_rows(everything: Mart, outcomes: dict[int, Outcome]) -> list[str]:
    """Return the lines of the product's table."""
    lines = []
    for files, found in outcomes.items():
        lost = everything.events - found.mart.events - found.held.events
        difference = everything.usd - found.mart.usd - found.held.usd
        lines.append(
            f"| {files or 'live'} | {found.mart.events:,} | {money(found.mart.usd)} "
            f"| {found.held.events:,} | {money(found.held.usd)} "
            f"| {lost:,} | **{percent(lost, everything.events)}** | {money(difference)} |"
        )
    return lines


def against_spark(files: Sequence[Sequence[Event]]) -> str:
    """Return a sentence on how the simulation compares with what the real Spark gave."""
    told = json.loads(SPARK.read_text("utf-8"))
    runs = {Setting(one["delay"], one["files"], one["pace"]): one for one in told["runs"]}
    same = [
        one
        for one, run in runs.items()
        if simulated(files, one) == Mart(run["events"], Decimal(run["usd"]))
    ]
    return (
        f"Spark {told['spark']} itself ran {len(runs)} of these {len(list(settings()))} settings; "
        f"events and USD were those of the simulation, digit for digit, in {len(same)}."
    )


def bars(files: Sequence[Sequence[Event]], outcome: Outcome) -> list[Bar]:
    """Return what the picture shows: each setting of several triggers, then Meterhouse."""
    everything = total(files)
    found = []
    for one in settings():
        if one.files == len(files):
            continue
        mart = simulated(files, one)
        trigger = f"{one.files} file{'s' if one.files > 1 else ''} a trigger"
        found.append(
            Bar(
                f"{one.delay}, {trigger}, {one.pace}",
                float(mart.events / everything.events),
                0.0,
                f"{percent(everything.events - mart.events, everything.events)} lost",
                f"{money(mart.usd)} USD in the mart",
            )
        )
    lost = everything.events - outcome.mart.events - outcome.held.events
    found.append(
        Bar(
            "Meterhouse, any of these",
            outcome.mart.events / everything.events,
            outcome.held.events / everything.events,
            f"{percent(lost, everything.events)} lost",
            f"{money(outcome.mart.usd)} USD in the mart, {money(outcome.held.usd)} held",
        )
    )
    return found


def written_anew(text: str, blocks: dict[str, str]) -> str:
    """Return a page with what stands between its ``measured`` marks replaced."""
    for name, body in blocks.items():
        mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.S)
        text, count = mark.subn(lambda found, body=body: f"{found[1]}\n{body}\n\n{found[2]}", text)
        if count != 1:
            raise SystemExit(f'the page has {count} places for "{name}", not one')
    return text


def main() -> None:
    """Measure; print, or write the page and its picture."""
    parser = argparse.ArgumentParser()
    nearby = os.environ.get("METERHOUSE_SAMPLE", "../shared/data/landing")
    parser.add_argument("delivery", type=Path, nargs="?", default=Path(nearby))
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    files = delivered(given.delivery)
    if not files:
        raise SystemExit(f"no usage events below {given.delivery}; name a delivery")
    everything = total(files)
    outcomes = {number: metered(given.delivery, number) for number in (*FILES_A_TRIGGER, 0)}
    blocks = {
        "delivery": f"{everything.events:,} events, {money(everything.usd)} USD, "
        f"{len(files)} files.",
        "watermark": "\n".join(WATERMARK_HEAD + watermark_rows(files)),
        "orders": "\n".join(ORDERS_HEAD + orders_rows(files)),
        "meterhouse": "\n".join(METERHOUSE_HEAD + meterhouse_rows(everything, outcomes)),
        "spark": against_spark(files),
    }
    if given.page is None:
        print("\n\n".join(blocks.values()))
        return
    given.page.write_text(written_anew(given.page.read_text("utf-8"), blocks), "utf-8")
    drawn = picture(bars(files, outcomes[1]), f"{everything.events:,} events")
    given.page.with_suffix(".svg").write_text(drawn, "utf-8")


WATERMARK_HEAD = [
    "| delay | files a trigger | read | events in the mart | USD in the mart "
    "| events lost | of the events | of the USD |",
    "|---|---|---|---|---|---|---|---|",
]
ORDERS_HEAD = [
    f"| delay | files a trigger | read | events lost in {ORDERS} random orders of the files |",
    "|---|---|---|---|",
]
METERHOUSE_HEAD = [
    "| files a call | events in the mart | USD in the mart | held | USD held "
    "| events lost | of the events | USD unexplained |",
    "|---|---|---|---|---|---|---|---|",
]


if __name__ == "__main__":
    main()
