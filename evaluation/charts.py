"""Line charts as SVG text, for reports that need neither JavaScript nor a plotting library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#db2777", "#0891b2", "#ca8a04", "#475569")

SIZE = _WIDTH, _HEIGHT = 520, 270  # of a chart
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 22, 14, 34


class Chart(NamedTuple):
    """Some curves over the training step."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]  # label -> (step, value), ascending steps
    percent: bool = False  # values are fractions, drawn in percent from 0


class Key(NamedTuple):
    """A curve in the legend."""

    color: str
    label: str
    value: str  # the last one


def svg(chart: Chart) -> str:
    """The chart as an SVG element; values that are not finite leave gaps. Says so where there is nothing to draw."""
    factor = 100.0 if chart.percent else 1.0
    series = {
        label: [(float(x), factor * float(y)) for x, y in points if math.isfinite(y)]
        for label, points in chart.series.items()
    }
    points = [point for line in series.values() for point in line]
    body = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(chart.title, quote=True)}">']
    if not points:
        body.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle" class="tick">no values yet</text>')
        return "".join([*body, "</svg>"])

    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points), 6)
    low, high = min(y for _, y in points), max(y for _, y in points)
    y_ticks = ticks(min(low, 0.0), high, 5)
    x_low, x_high = x_ticks[0], x_ticks[-1]
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    for tick in y_ticks:
        _, y = place(x_low, tick)
        body.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" class="grid"/>')
        body.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" class="tick">{short(tick)}</text>')
    for tick in x_ticks:
        x, _ = place(tick, y_ticks[0])
        body.append(f'<text x="{x:.1f}" y="{_HEIGHT - 12}" text-anchor="middle" class="tick">{short(tick)}</text>')
    for color, (label, line) in zip(_cycle(len(series)), series.items()):
        if not line:
            continue
        places = [place(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{color}" class="curve"/>')
        # Few points are evaluations: worth a mark and a value each. Of many, only the last one is marked.
        for (x, y), (step, value) in list(zip(places, line))[0 if len(line) <= 40 else -1 :]:
            body.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}">'
                f"<title>{html.escape(label)}, step {step:g}: {value:.4g}</title></circle>"
            )
    return "".join([*body, "</svg>"])


def legend(chart: Chart) -> str:
    """Colour, label and last value of every curve, as HTML."""
    items = []
    for key in keys(chart):
        name = f'<i style="background:{key.color}"></i>{html.escape(key.label)}'
        items.append(f'<span class="key">{name} <b>{key.value}</b></span>')
    return "".join(items)


def keys(chart: Chart) -> list[Key]:
    """What the legend says of every curve."""
    found = []
    for color, (label, line) in zip(_cycle(len(chart.series)), chart.series.items()):
        value = (f"{100 * line[-1][1]:.1f}" if chart.percent else f"{line[-1][1]:.3g}") if line else "-"
        found.append(Key(color, label, value))
    return found


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that enclose [low, high]."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(count - 1, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def short(value: float) -> str:
    """A number for an axis: 25k, 0.02, 2e-3."""
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    if 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


def _cycle(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]
