"""What the surfaces of procedural street scenes look like: facades, vehicles, people, plants.

Each function returns a shader of `synthetic_canvas`: a, b in [0, 1] along the sides of a quad (b upwards) and the depth
of every pixel -> colour [n, 3] in 0..1, and which pixels belong to the thing (None: all).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplab2_kmax.data.convert import synthetic_canvas

Shader = synthetic_canvas.Shader
Color = Sequence[float]

_GLASS = (0.12, 0.15, 0.19)
_TIRE = (0.05, 0.05, 0.055)


def _paint(count: int, color: Color) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, np.float32), (count, 3)).copy()


def plain(color: Color, *, light: float, grain: float = 0.0, scale: tuple[float, float] = (64.0, 64.0)) -> Shader:
    """One colour with some noise."""

    def shade(a, b, z):
        value = light * (1 + grain * (synthetic_canvas.noise(a * scale[0], b * scale[1], 0) - 0.5))
        return value[:, None] * np.asarray(color, np.float32), None

    return shade


def facade(
    color: Color,
    *,
    length: float,
    height: float,
    pitch: float,
    window: tuple[float, float],
    lit: float,
    light: float,
    offset: float,
    shop: Color,
) -> Shader:
    """A house front: rows of windows, a shop floor, a cornice. `lit` is the share of windows with light on."""

    def shade(a, b, z):
        along, up = a * length, b * height
        grain = synthetic_canvas.noise(along * 9 + offset, up * 9, 0)
        stain = synthetic_canvas.noise(along * 2 + offset, up * 3 + offset, 1)
        rgb = np.asarray(color, np.float32) * (0.82 + 0.2 * grain + 0.16 * stain)[:, None]
        ground = up < 3.2
        rgb[ground] = 0.6 * rgb[ground] + 0.4 * np.asarray(shop, np.float32)
        rgb[up > height - 0.5] *= 0.78
        column, row = along / pitch, up / 3.1
        x, y = column - np.floor(column), row - np.floor(row)
        side = (1 - window[0]) / 2
        pane = (x > side) & (x < 1 - side) & (y > 0.28) & (y < 0.28 + window[1]) & (up < height - 0.7)
        flicker = synthetic_canvas.noise(np.floor(column) * 17 + offset, np.floor(row) * 29 + offset, 0)
        glass = (0.7 + 0.9 * flicker)[:, None] * np.asarray(_GLASS, np.float32)
        glass = np.where((flicker < lit)[:, None], np.asarray((1.0, 0.82, 0.5), np.float32) / max(light, 0.3), glass)
        contrast = (pane / (1 + (z / 60) ** 2)).astype(np.float32)[:, None]
        return (rgb * (1 - contrast) + glass * contrast) * np.float32(light), None

    return shade


def vehicle_side(color: Color, *, length: float, height: float, light: float, radius: float) -> Shader:
    """The lower half of a car's side with wheels; a runs to the front."""

    def shade(a, b, z):
        along, up = a * length, b * height
        wheel = np.minimum(
            (along - 0.19 * length) ** 2 + (up - radius) ** 2, (along - 0.81 * length) ** 2 + (up - radius) ** 2
        )
        rgb = _paint(len(a), color) * (0.72 + 0.4 * b)[:, None]
        rgb[np.abs(along - 0.52 * length) < 0.025] *= 0.6
        rgb[up < 0.34] = (0.08, 0.08, 0.09)
        rgb *= np.float32(light)
        rgb[wheel < (radius * 1.12) ** 2] = (0.03, 0.03, 0.03)
        rgb[wheel < radius**2] = _TIRE
        rgb[wheel < (radius * 0.6) ** 2] = np.asarray((0.42, 0.42, 0.44), np.float32) * light
        return rgb, (up > 0.2) | (wheel < radius**2)

    return shade


def vehicle_end(color: Color, *, width: float, height: float, light: float, front: bool, glow: float) -> Shader:
    """The lower half of a car's front or back: lamps, plate, bumper, tires."""

    def shade(a, b, z):
        across, up = np.abs(a - 0.5) * width, b * height
        rgb = _paint(len(a), color) * (0.75 + 0.35 * b)[:, None]
        rgb[up < 0.4] = (0.1, 0.1, 0.11)
        rgb *= np.float32(light)
        if front:
            rgb[(across < 0.5) & (up > 0.45) & (up < 0.62)] = (0.07, 0.07, 0.08)
        rgb[(across < 0.26) & (up > 0.42) & (up < 0.54)] = np.asarray((0.85, 0.85, 0.8), np.float32) * light
        lamp = (across > width / 2 - 0.38) & (across < width / 2 - 0.04) & (b > 0.62) & (b < 0.86)
        rgb[lamp] = (0.95, 0.95, 0.85) if front else (min(1.0, 0.6 + glow), 0.06, 0.05)
        tire = (across > width / 2 - 0.24) & (up < 0.3)
        rgb[tire] = _TIRE
        return rgb, (up > 0.2) | tire

    return shade


def cabin_side(color: Color, *, light: float, slopes: tuple[float, float]) -> Shader:
    """The upper half of a car's side: a trapezium with two windows; a runs to the front."""

    def shade(a, b, z):
        back, front = slopes[0] * b, 1 - slopes[1] * b
        share = (a - back) / np.maximum(front - back, 1e-3)
        glass = (share > 0.07) & (share < 0.93) & (np.abs(share - 0.5) > 0.03) & (b > 0.08) & (b < 0.84)
        rgb = _paint(len(a), color)
        rgb[glass] = _GLASS
        return rgb * np.float32(light), (a >= back) & (a <= front)

    return shade


def windshield(color: Color, *, light: float) -> Shader:
    """Glass in a frame, brighter towards the top where it mirrors the sky."""

    def shade(a, b, z):
        rgb = np.asarray(_GLASS, np.float32) * (0.8 + 1.3 * b)[:, None]
        rgb[(np.abs(a - 0.5) > 0.44) | (b > 0.9) | (b < 0.05)] = color
        return rgb * np.float32(light), None

    return shade


def bus_side(color: Color, stripe: Color, *, length: float, height: float, light: float, doors: bool) -> Shader:
    """A bus from the side: a band of windows, a stripe, two axles."""

    def shade(a, b, z):
        along, up = a * length, b * height
        rgb = _paint(len(a), color) * (0.85 + 0.2 * b)[:, None]
        rgb[(up > 0.75) & (up < 1.15)] = stripe
        step = along / 1.55
        pane = (up > 1.3) & (up < 2.35) & (step - np.floor(step) > 0.08) & (a > 0.02) & (a < 0.985)
        rgb[pane] = _GLASS
        if doors:
            door = ((np.abs(along - 0.9 * length) < 0.6) | (np.abs(along - 0.52 * length) < 0.6)) & (up < 2.35)
            rgb[door & (up > 0.4)] = (0.2, 0.23, 0.27)
        wheel = np.minimum((along - 0.22 * length) ** 2, (along - 0.76 * length) ** 2) + (up - 0.48) ** 2
        rgb *= np.float32(light)
        rgb[wheel < 0.58**2] = (0.04, 0.04, 0.04)
        rgb[wheel < 0.3**2] = (0.3, 0.3, 0.31)
        return rgb, (up > 0.32) | (wheel < 0.48**2)

    return shade


def bus_end(color: Color, stripe: Color, *, width: float, height: float, light: float, front: bool) -> Shader:
    """A bus from the front (one large pane, destination sign) or the back (a small pane, lamps)."""

    def shade(a, b, z):
        across, up = np.abs(a - 0.5) * width, b * height
        rgb = _paint(len(a), color)
        rgb[(up > 0.75) & (up < 1.15)] = stripe
        pane = (across < width * 0.45) & (up < 2.45) & (up > (1.2 if front else 1.6))
        rgb[pane] = _GLASS
        rgb[(up < 0.5)] = (0.12, 0.12, 0.13)
        rgb *= np.float32(light)
        if front:
            rgb[(across < 0.7) & (up > 2.55) & (up < 2.85)] = (0.9, 0.6, 0.1)
        lamp = (across > width / 2 - 0.35) & (across < width / 2 - 0.1) & (up > 0.55) & (up < 0.74)
        rgb[lamp] = (0.95, 0.95, 0.85) if front else (0.75, 0.08, 0.06)
        tire = (across > width / 2 - 0.32) & (up < 0.45)
        rgb[tire] = _TIRE
        return rgb, (up > 0.32) | tire

    return shade


def person(*, top: Color, trousers: Color, skin: Color, hair: Color, stride: float, light: float, bag: bool) -> Shader:
    """Someone seen from the front or the back; `stride` in [-1, 1] is the phase of the step."""

    def shade(a, b, z):
        x = (a - 0.5) * 0.46  # in body heights
        size = np.abs(x)
        head = (x / 0.05) ** 2 + ((b - 0.925) / 0.068) ** 2 < 1
        neck = (size < 0.022) & (b > 0.82) & (b < 0.88)
        torso = (size < 0.085 + 0.035 * np.clip((b - 0.5) * 3, 0, 1)) & (b > 0.46) & (b < 0.845)
        down = np.clip((0.83 - b) / 0.35, 0, 1)
        arms = (np.abs(size - (0.125 + 0.025 * down * (1 + stride * np.sign(x)))) < 0.027) & (b > 0.45) & (b < 0.82)
        spread = np.float32(0.042) + 0.055 * np.float32(abs(stride)) * (0.5 - b) * 2
        legs = (np.abs(size - spread) < 0.036) & (b < 0.5)
        rgb = _paint(len(a), top)
        rgb[b < 0.5] = trousers
        rgb[arms & (b >= 0.45)] = np.asarray(top, np.float32) * 0.88
        rgb[arms & (b < 0.5)] = skin
        rgb[legs & (b < 0.045)] = (0.08, 0.07, 0.07)
        rgb[head | neck] = skin
        rgb[head & (b > 0.94)] = hair
        keep = head | neck | torso | arms | legs
        if bag:
            pack = (np.abs(x - 0.13) < 0.045) & (b > 0.4) & (b < 0.6)
            rgb[pack] = (0.25, 0.16, 0.1)
            keep = keep | pack
        return rgb * np.float32(light) * (0.85 + 0.3 * (a > 0.5))[:, None], keep

    return shade


def crown(color: Color, *, light: float, offset: float, size: float, pointed: bool) -> Shader:
    """Leaves: a ragged ball or a fir's cone, darker below."""

    def shade(a, b, z):
        cell_a, cell_b = a * size * 5, b * size * 5
        edge = synthetic_canvas.noise(cell_a * 1.7 + offset, cell_b * 1.7 + offset, 1)
        leaf = synthetic_canvas.noise(cell_a * 2.2 + offset, cell_b * 2.2, 0)
        if pointed:
            keep = np.abs(a - 0.5) * 2 < (1 - b) * (0.72 + 0.5 * edge) + 0.03
        else:
            keep = ((a - 0.5) * 2) ** 2 + ((b - 0.5) * 2) ** 2 < 0.55 + 0.6 * edge
        value = (0.5 + 0.45 * b) * (0.55 + 0.75 * leaf) * (0.9 + 0.25 * edge)
        return value[:, None] * np.asarray(color, np.float32) * np.float32(light), keep

    return shade


def hedge(color: Color, *, light: float, offset: float, length: float, height: float) -> Shader:
    """A wall of leaves with a ragged top."""

    def shade(a, b, z):
        leaf = synthetic_canvas.noise(a * length * 14 + offset, b * height * 14, 0)
        edge = synthetic_canvas.noise(a * length * 6 + offset, b * 3, 1)
        value = (0.55 + 0.4 * b) * (0.5 + 0.8 * leaf)
        return value[:, None] * np.asarray(color, np.float32) * np.float32(light), b < 0.78 + 0.3 * edge

    return shade


def skyline(color: Color, *, light: float, offset: float, cells: float, low: float, steps: bool) -> Shader:
    """The far end of the world: blocks of houses (`steps`) or a line of trees."""

    def shade(a, b, z):
        position = a * cells
        if steps:
            top = low + (1 - low) * synthetic_canvas.noise(np.floor(position) * 37 + offset, np.floor(position) * 11, 0)
            grain = synthetic_canvas.noise(position * 7, b * 40, 0)
            value = 0.9 + 0.2 * (grain - 0.5)
        else:
            top = low + (1 - low) * synthetic_canvas.noise(position * 6 + offset, a * 0 + offset, 1)
            top = top - 0.12 * synthetic_canvas.noise(position * 60, a * 0 + offset, 0)
            value = 0.65 + 0.6 * synthetic_canvas.noise(position * 60, b * 60, 0)
        return value[:, None] * np.asarray(color, np.float32) * np.float32(light), b < top

    return shade
