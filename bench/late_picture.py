"""The picture of docs/late-data.md: what is in the mart, bar by bar, readable on any ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, FULL, STEP, TOP = 300, 380, 46, 84
"""Pixels: where bars start, how long all events are, from bar to bar, above the first."""

STYLE = """
    .name { font-size: 14.5px; fill: #1f2328 }
    .head { font-size: 18px; font-weight: 600; fill: #1f2328 }
    .said { font-size: 14.5px; font-weight: 600; fill: #1f2328 }
    .what { font-size: 12.5px; fill: #57606a }
    .mart { fill: #0969da }
    .held { fill: #bf8700 }
    .lost { fill: #ffebe9; stroke: #cf222e; stroke-width: 1.2 }
    .line { stroke: #cf222e; stroke-width: 1; opacity: 0.45 }
    @media (prefers-color-scheme: dark) {
      .name, .head, .said { fill: #e6edf3 }
      .what { fill: #9ea7b3 }
      .mart { fill: #58a6ff }
      .held { fill: #d29922 }
      .lost { fill: #3d1417; stroke: #f85149 }
      .line { stroke: #f85149 }
    }
"""
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Bar:
    """One pipeline. ``mart`` and ``held`` are shares of all events, 0 to 1."""

    name: str
    mart: float
    held: float
    said: str
    what: str


def picture(bars: Sequence[Bar], everything: str) -> str:
    """Return the SVG; the last bar is the product's and stands a little apart."""
    height = TOP + STEP * len(bars) + 34
    told = "; ".join(f"{bar.name}: {bar.said}, {bar.what}" for bar in bars)
    drawn = [
        drawing(bar, TOP + STEP * number + (14 if number == len(bars) - 1 else 0))
        for number, bar in enumerate(bars)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height}" role="img" '
            f'aria-labelledby="title desc" font-family="{FONT}">',
            '  <title id="title">What is left of late data</title>',
            f'  <desc id="desc">{escape(told)}.</desc>',
            f"  <style>{STYLE}  </style>",
            '  <defs><pattern id="gone" width="7" height="7" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><line class="line" x1="0" y1="0" x2="0" y2="7"/>'
            "</pattern></defs>",
            f'  <text class="head" x="12" y="30">The same {escape(everything)}, streamed</text>',
            *legend(),
            *drawn,
            "</svg>\n",
        ]
    )


def legend() -> list[str]:
    """Return what the colours mean, above the bars."""
    parts = [("mart", "in the mart"), ("held", "held, with a reason"), ("lost", "gone")]
    found = []
    for number, (kind, name) in enumerate(parts):
        x = LEFT + number * 160
        found += [
            f'  <rect class="{kind}" x="{x}" y="48" width="14" height="14"/>',
            f'  <text class="what" x="{x + 21}" y="60">{name}</text>',
        ]
    return found


def drawing(bar: Bar, y: int) -> str:
    """Return one bar with its words; a share too small to see is one pixel wide."""
    mart = max(1.0, bar.mart * FULL)
    held = bar.held * FULL
    middle = y + 18
    lines = [
        f'  <text class="name" x="12" y="{middle}">{escape(bar.name)}</text>',
    ]
    if bar.mart + bar.held < 1:
        shape = f'x="{LEFT}" y="{y}" width="{FULL}" height="26"'
        lines += [
            f'  <rect class="lost" {shape}/>',
            f'  <rect fill="url(#gone)" {shape}/>',
        ]
    lines += [f'  <rect class="mart" x="{LEFT}" y="{y}" width="{mart:.1f}" height="26"/>']
    if bar.held:
        lines += [
            f'  <rect class="held" x="{LEFT + mart:.1f}" y="{y}" width="{held:.1f}" height="26"/>'
        ]
    words = LEFT + FULL + 16
    lines += [
        f'  <text class="said" x="{words}" y="{y + 11}">{escape(bar.said)}</text>',
        f'  <text class="what" x="{words}" y="{y + 27}">{escape(bar.what)}</text>',
    ]
    return "\n".join(lines)
