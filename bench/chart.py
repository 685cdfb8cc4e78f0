"""Charts as SVG: bars of what is compared, lines of what grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
BAR, GAP, LABEL = 20, 6, 300
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
# Readable on white and on a dark page alike, where the chart brings its own ground.
STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#1f2937}"
    ".head{font-weight:600}.faint{fill:#6b7280;font-size:11px}</style>"
)


def _svg(height: float, parts: Sequence[str]) -> str:
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}">'
    return "\n".join([head, STYLE, ground, *parts, "</svg>", ""])


def _text(x: float, y: float, said: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(said)}</text>'


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Groups of bars, each with a scale of its own."""
    parts = [_text(16, 28, title, 'class="head"')]
    y = 44.0
    for group, values in groups.items():
        y += 18
        parts.append(_text(16, y, group, 'class="head"'))
        y += 8
        most = max(values.values())
        for name, value in values.items():
            length = value / most * (WIDTH - LABEL - 100)
            colour = COLOURS[0] if "shop" in name else "#9ca3af"
            parts += [
                _text(28, y + BAR * 0.72, name),
                f'<path d="M{LABEL} {y:.1f}h{length:.1f}v{BAR}h{-length:.1f}z" fill="{colour}"/>',
                _text(LABEL + length + 8, y + BAR * 0.72, f"{value:,.0f}"),
            ]
            y += BAR + GAP
    return _svg(y + 16, parts)


@dataclass(frozen=True)
class Plot:
    """Lines over sizes, both axes logarithmic."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Mapping[int, float]]


PLOT_HEIGHT = 330
_LEFT, _RIGHT = 64, 590


def lines(plots: Sequence[Plot]) -> str:
    """The plots, one below another."""
    parts: list[str] = []
    for number, plot in enumerate(plots):
        parts.append(f'<g transform="translate(0 {number * PLOT_HEIGHT})">')
        parts += _plot(plot)
        parts.append("</g>")
    return _svg(len(plots) * PLOT_HEIGHT, parts)


def _plot(plot: Plot) -> list[str]:
    top, bottom = 44, PLOT_HEIGHT - 46
    xs = sorted({size for line in plot.lines.values() for size in line})
    ys = [value for line in plot.lines.values() for value in line.values()]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    first, last = math.log10(xs[0]), math.log10(xs[-1])

    def at_x(size: int) -> float:
        return _LEFT + (math.log10(size) - first) / ((last - first) or 1) * (_RIGHT - _LEFT)

    def at_y(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * (bottom - top)

    parts = [_text(16, 26, plot.title, 'class="head"')]
    for power in range(low, high + 1):
        y = at_y(10.0**power)
        parts += [
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>',
            _text(_LEFT - 8, y + 4, f"{10.0**power:g}", 'class="faint" text-anchor="end"'),
        ]
    parts += [
        _text(at_x(size), bottom + 18, f"{size:,}", 'class="faint" text-anchor="middle"')
        for size in xs
    ]
    parts.append(_text(_LEFT, bottom + 36, f"{plot.y}, by {plot.x}", 'class="faint"'))
    for number, (name, line) in enumerate(plot.lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="6 4"' if number >= len(COLOURS) else ""
        path = " ".join(f"{at_x(size):.1f},{at_y(value):.1f}" for size, value in line.items())
        y = top + number * 17
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>',
            f'<path d="M{_RIGHT + 14} {y - 4}h20" stroke="{colour}" stroke-width="2"{dash}/>',
            _text(_RIGHT + 40, y, name, 'class="faint"'),
        ]
    return parts
