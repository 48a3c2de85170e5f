"""A small ray caster: textured flat quads, a ground plane and a sky, drawn with one depth buffer in NumPy.

Camera coordinates are metres: x right, y up, z forward, the camera at the origin looking along z. Depth is z.
Labels are decided by plain IEEE arithmetic, so that a scene gives the same label map everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Optional

import numpy as np

NEAR = 0.6  # metres; nothing nearer is drawn
FAR = 1.0e6  # depth of what has none
_TILE = 256

Vector = tuple[float, float, float]
# a, b in [0, 1] along the two sides and the depth of every hit pixel -> colour [n, 3] in 0..1, and which to keep.
Shader = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, Optional[np.ndarray]]]


@functools.lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """Periodic fractal noise [256, 256, 2] float32 in 0..1: fine grain, and soft clouds."""
    random = np.random.RandomState(20220711)

    def octave(cells: int) -> np.ndarray:
        grid = random.random_sample((cells, cells))
        position = np.arange(_TILE) * cells / _TILE
        low = position.astype(int)
        weight = position - low
        weight = weight * weight * (3 - 2 * weight)
        high = (low + 1) % cells
        rows = grid[low] * (1 - weight)[:, None] + grid[high] * weight[:, None]
        return rows[:, low] * (1 - weight) + rows[:, high] * weight

    def mix(amounts: dict[int, float]) -> np.ndarray:
        total = np.sum([octave(cells) * amount for cells, amount in amounts.items()], axis=0)
        order = np.argsort(total, axis=None, kind="stable")  # ranks: every value is equally frequent
        flat = np.empty(total.size, np.float32)
        flat[order] = np.linspace(0.0, 1.0, total.size, dtype=np.float32)
        return flat.reshape(total.shape)

    grain = mix({256: 1.0, 128: 0.8, 64: 0.5, 32: 0.4})
    clouds = mix({4: 1.0, 8: 0.6, 16: 0.35, 32: 0.2, 64: 0.1})
    return np.stack([grain, clouds], axis=-1)


def noise(u: np.ndarray, v: np.ndarray, channel: int) -> np.ndarray:
    """Noise at any coordinates (one tile cell per unit), float32 in 0..1."""
    columns = np.floor(u).astype(np.int32) & (_TILE - 1)
    rows = np.floor(v).astype(np.int32) & (_TILE - 1)
    return noise_tile()[rows, columns, channel]


class Canvas:
    """The picture in the making.

    `image` [h, w, 3] float32 in 0..1, `panoptic` [h, w] int32, `depth` [h, w] float32 metres (FAR: nothing).
    """

    def __init__(self, height: int, width: int, *, focal: float, horizon: float, background: int):
        self.height, self.width = height, width
        self.focal, self.horizon = focal, horizon
        self.image = np.zeros((height, width, 3), np.float32)
        self.panoptic = np.full((height, width), background, np.int32)
        self.depth = np.full((height, width), FAR, np.float32)
        # The ray of pixel (row, column) is (ray_x[column], ray_y[row], 1).
        self.ray_x = ((np.arange(width) - (width - 1) / 2) / focal).astype(np.float32)
        self.ray_y = ((horizon - np.arange(height)) / focal).astype(np.float32)

    def quad(self, corner: Vector, side_a: Vector, side_b: Vector, label: int, shader: Shader) -> None:
        """Draws the parallelogram corner + a * side_a + b * side_b where it is the nearest so far."""
        hits = self._hits(corner, side_a, side_b, bias=1.0)
        if hits is None:
            return
        pixels, a, b, z = hits
        color, keep = shader(a, b, z)
        if keep is not None:
            pixels, color, z = pixels[keep], color[keep], z[keep]
        self.image.reshape(-1, 3)[pixels] = color
        self.panoptic.reshape(-1)[pixels] = label
        self.depth.reshape(-1)[pixels] = z

    def darken(self, corner: Vector, side_a: Vector, side_b: Vector, amount: Callable) -> None:
        """Multiplies the colours on a parallelogram by 1 - amount(a, b): a shadow on what lies just there."""
        hits = self._hits(corner, side_a, side_b, bias=0.98)
        if hits is not None:
            pixels, a, b, _ = hits
            self.image.reshape(-1, 3)[pixels] *= (1.0 - amount(a, b))[:, None]

    def _hits(self, corner: Vector, side_a: Vector, side_b: Vector, *, bias: float):
        """Flat pixel indices, a, b and depth of the visible part; None where there is none."""
        box = self._bounds(corner, side_a, side_b)
        if box is None:
            return None
        top, bottom, left, right = box
        normal = _cross(side_a, side_b)
        toward_a, toward_b = _cross(side_b, normal), _cross(normal, side_a)
        dual_a = _scaled(toward_a, 1 / _dot(side_a, toward_a))
        dual_b = _scaled(toward_b, 1 / _dot(side_b, toward_b))
        ray_x, ray_y = self.ray_x[None, left:right], self.ray_y[top:bottom, None]

        def along(vector: Vector) -> np.ndarray:
            x, y, z = (np.float32(value) for value in vector)
            return ray_x * x + (ray_y * y + z)

        facing = along(normal)
        z = np.float32(_dot(normal, corner)) / np.where(np.abs(facing) < 1e-9, np.float32(1e-9), facing)
        a = along(dual_a) * z - np.float32(_dot(dual_a, corner))
        b = along(dual_b) * z - np.float32(_dot(dual_b, corner))
        depth = self.depth[top:bottom, left:right]
        inside = (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1) & (z > NEAR) & (z * np.float32(bias) < depth)
        rows, columns = np.nonzero(inside)
        if not len(rows):
            return None
        return (rows + top) * self.width + (columns + left), a[inside], b[inside], z[inside]

    def _bounds(self, corner: Vector, side_a: Vector, side_b: Vector) -> tuple[int, int, int, int] | None:
        """Rows and columns that the quad may cover, after clipping at the near plane."""
        p, a, b = corner, side_a, side_b
        corners = [
            p,
            (p[0] + a[0], p[1] + a[1], p[2] + a[2]),
            (p[0] + a[0] + b[0], p[1] + a[1] + b[1], p[2] + a[2] + b[2]),
            (p[0] + b[0], p[1] + b[1], p[2] + b[2]),
        ]
        xs, ys = [], []
        for (x0, y0, z0), (x1, y1, z1) in zip(corners, corners[1:] + corners[:1]):
            if z0 >= NEAR:
                xs.append(x0 / z0)
                ys.append(y0 / z0)
            if (z0 < NEAR) != (z1 < NEAR):
                t = (NEAR - z0) / (z1 - z0)
                xs.append((x0 + t * (x1 - x0)) / NEAR)
                ys.append((y0 + t * (y1 - y0)) / NEAR)
        if not xs:
            return None
        center = (self.width - 1) / 2
        left = max(0, int(np.ceil(min(xs) * self.focal + center - 1e-3)))
        right = min(self.width, int(np.floor(max(xs) * self.focal + center + 1e-3)) + 1)
        top = max(0, int(np.ceil(self.horizon - max(ys) * self.focal - 1e-3)))
        bottom = min(self.height, int(np.floor(self.horizon - min(ys) * self.focal + 1e-3)) + 1)
        if left >= right or top >= bottom:
            return None
        return top, bottom, left, right


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _scaled(a: Vector, factor: float) -> Vector:
    return a[0] * factor, a[1] * factor, a[2] * factor
