"""One frame of ``meterhouse watch``: text lines that fit the terminal. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Final

from meterhouse.cli.columns import printable

if TYPE_CHECKING:
    from meterhouse.alerts.register import Alert
    from meterhouse.analysis.latest import Latest
    from meterhouse.follow.standing import Standing

__all__ = ["Scene", "frame"]

CENT: Final = Decimal("0.01")
EXACT: Final = Context(prec=400)
LEFT: Final = 44
"""Columns of the left half."""
SERVICES: Final = 12
ALERTS: Final = 3
BAR: Final = 12
BLOCKS: Final = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to draw."""

    name: str
    now: datetime
    latest: Latest | None
    standing: Standing | None
    """None while nobody follows."""
    alerts: Sequence[Alert] = field(default=())
    """Open ones, the newest first."""


def frame(scene: Scene, columns: int, rows: int, *, colour: bool) -> list[str]:
    """Return at most ``rows`` lines of at most ``columns`` characters (escapes not counted)."""
    head = [*_head(scene, columns), *_troubles(scene), *_alerts(scene)]
    found = scene.latest
    if found is None:
        head += ["", "nothing is published yet: run `meterhouse follow`, or `meterhouse batch`"]
        body: list[str] = []
    elif found.day is None:
        head += ["", "no usage is published yet"]
        body = []
    else:
        body = _halves(_services(found), _windows(found), rows - len(head) - 1, columns)
        head.append("")
    lines = [line[:columns] for line in [*head, *body]][:rows]
    return [_bold(line, number) for number, line in enumerate(lines)] if colour else lines


def _bold(line: str, number: int) -> str:
    strong = number == 0 or line.startswith("cost on ")
    alarming = line.startswith(("parked", "failing", "alert", "stale"))
    return f"\x1b[{1 if strong else 31}m{line}\x1b[0m" if strong or alarming else line


def _head(scene: Scene, columns: int) -> Iterator[str]:
    clock = f"{scene.now:%Y-%m-%d %H:%M:%S} UTC"
    room = max(16, min(columns, 2 * LEFT) - len(clock) - 1)
    yield f"{_cut(f'meterhouse watch  {scene.name}', room):<{room}} {clock}"
    found = scene.latest
    if found is not None:
        age = _length((scene.now - found.ingest_ts).total_seconds())
        yield f"position {found.position:,}, entry taken {age} ago"
    one = scene.standing
    if one is None:
        yield "nobody follows: start `meterhouse follow`"
        return
    yield (
        f"following: lag {_length(one.lag_s)}, {one.events_per_s:,.0f} events/s, "
        f"held {one.held:,}, duplicates {one.duplicates:,}, waiting {len(one.waiting):,} files"
    )


def _troubles(scene: Scene) -> Iterator[str]:
    one = scene.standing
    if one is None:
        return
    if one.failure:
        yield f"failing: {printable(one.failure.get('what', ''))}"
    for name, error in list(one.parked.items())[:ALERTS]:
        yield f"parked {printable(name)}: {printable(error.get('what', ''))}"
    if len(one.parked) > ALERTS:
        yield f"parked: {len(one.parked) - ALERTS} more, see `meterhouse status`"
    if one.unrecognised:
        more = f" and {len(one.unrecognised) - 1} more" if len(one.unrecognised) > 1 else ""
        yield f"not recognised: {printable(one.unrecognised[0])}{more}"
    for table, why in list(one.stale.items())[:ALERTS]:
        yield f"stale {table}: {printable(why)}"


def _alerts(scene: Scene) -> Iterator[str]:
    for alert in scene.alerts[:ALERTS]:
        numbers = ", ".join(f"{name} {value}" for name, value in alert.numbers.items())
        window = f" {alert.group.window}" if alert.group.window else ""
        key = "".join(f" {value}" for value in json.loads(alert.group.key).values())
        yield printable(f"alert {alert.rule}{window}{key}: {numbers}")
    if len(scene.alerts) > ALERTS:
        yield f"alerts: {len(scene.alerts) - ALERTS:,} more open, see `meterhouse alerts`"


def _services(found: Latest) -> list[str]:
    """Return the left half: cost by service, with a bar of its share of the dearest."""
    lines = [f"cost on {found.day}, USD"]
    largest = max((cost for _, cost, _ in found.services), default=Decimal(0))
    for service, cost, _ in found.services[:SERVICES]:
        lines.append(f"{_cut(service, 14):<14} {_money(cost):>14}  {_bar(cost, largest)}".rstrip())
    if len(found.services) > SERVICES:
        lines.append(f"and {len(found.services) - SERVICES} more")
    total = Decimal(0)
    for _, cost, _ in found.services:
        total = EXACT.add(total, cost)
    lines.append(f"{'all':<14} {_money(total):>14}")
    return lines


def _windows(found: Latest) -> list[str]:
    """Return the right half: the newest windows, newest first."""
    lines = ["newest 5-minute windows, UTC"]
    for window in found.windows:
        events = f"{window.events:,} events" if window.events != 1 else "1 event"
        lines.append(f"{window.start:%H:%M} {_money(window.cost_usd):>14} {events:>14}")
    return lines


def _halves(left: list[str], right: list[str], rows: int, columns: int) -> list[str]:
    """Put two lists side by side; below each other where there is no room for both."""
    if columns < LEFT + 34:
        return [*left, "", *right][: max(0, rows)]
    height = max(0, min(rows, max(len(left), len(right))))
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    return [
        f"{one:<{LEFT}}{other}".rstrip()
        for one, other in zip(left[:height], right[:height], strict=True)
    ]


def _bar(value: Decimal, largest: Decimal) -> str:
    """Return a bar of eighths; a credit has none."""
    if largest <= 0 or value <= 0:
        return ""
    eighths = int(value * BAR * 8 / largest)
    return "█" * (eighths // 8) + (BLOCKS[eighths % 8] if eighths % 8 else "")


def _money(usd: Decimal) -> str:
    """Return USD in cents, half-even; the exact value is a `meterhouse query` away."""
    return f"{usd.quantize(CENT, rounding=ROUND_HALF_EVEN, context=EXACT):,}"


def _length(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def _cut(text: str, most: int) -> str:
    clean = printable(text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"
