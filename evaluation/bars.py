"""Stacked bars and heat maps, as HTML and SVG text without scripts."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

_LEFT, _TOP = 150, 110
_WIDTH = 760  # of all cells, if they are not larger or smaller than these
_SMALLEST, _LARGEST = 20, 48
_RIGHT_COLOR, _WRONG_COLOR = (71, 85, 105), (214, 80, 0)


class Slice(NamedTuple):
    """A part of a bar."""

    label: str
    value: float  # share of the whole bar, 0 to 1
    color: Sequence[int]  # RGB


def stacked(slices: Sequence[Slice]) -> str:
    """One bar of all slices; its rest stays empty."""
    parts = "".join(
        f'<i style="width:{100 * s.value:.2f}%;background:rgb({", ".join(map(str, s.color))})" '
        f'title="{html.escape(s.label, quote=True)}: {100 * s.value:.1f}"></i>'
        for s in slices
        if s.value > 0
    )
    return f'<div class="stack">{parts}</div>'


class Heat(NamedTuple):
    """A matrix of shares: rows are true classes, columns predicted ones; each row adds up to 1 at most."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]


def heat_map(heat: Heat) -> str:
    """The matrix as SVG: what is right (equal names) in grey, what is wrong in orange, small shares made visible."""
    cell = min(max(_WIDTH // max(len(heat.columns), 1), _SMALLEST), _LARGEST)
    width, height = _LEFT + cell * len(heat.columns) + 60, _TOP + cell * len(heat.rows) + 8
    body = [f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label="Confusion">']
    for column, name in enumerate(heat.columns):
        x = _LEFT + cell * (column + 0.5) + 4
        short = html.escape(_shortened(name))
        body.append(f'<text x="{x}" y="{_TOP - 6}" transform="rotate(-55 {x} {_TOP - 6})" class="tick">{short}</text>')
    for row, (name, values) in enumerate(zip(heat.rows, heat.values)):
        y = _TOP + cell * row
        short = html.escape(_shortened(name))
        body.append(f'<text x="{_LEFT - 8}" y="{y + cell / 2 + 4}" text-anchor="end" class="tick">{short}</text>')
        for column, (other, value) in enumerate(zip(heat.columns, values)):
            title = f"{name} as {other}: {100 * value:.2f} %"
            x = _LEFT + cell * column
            body.append(
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
                f'fill="{_shade(value, _RIGHT_COLOR if name == other else _WRONG_COLOR)}">'
                f"<title>{html.escape(title)}</title></rect>"
            )
            if cell == _LARGEST and value >= 0.005:  # room for a number
                color = "#ffffff" if value > 0.3 else "#475569"
                body.append(
                    f'<text x="{x + cell / 2}" y="{y + cell / 2 + 4}" text-anchor="middle" class="tick" '
                    f'style="fill:{color}">{100 * value:.0f}</text>'
                )
    return "".join([*body, "</svg>"])


def _shade(value: float, color: Sequence[int]) -> str:
    weight = math.sqrt(min(max(value, 0.0), 1.0))
    return "#" + "".join(f"{round(246 + (part - 246) * weight):02x}" for part in color)


def _shortened(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"
