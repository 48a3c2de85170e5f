"""Procedural street scenes: a seed gives a small world of roads, houses, plants, vehicles and people that moves.

A scene is drawn at any time, so pictures, video with stable track ids, panoptic labels and depth come from one source.
Its random numbers come from NumPy's RandomState, whose streams never change.
"""

from __future__ import annotations

import numpy as np

from deeplab2_kmax.data.convert import synthetic_canvas, synthetic_view, synthetic_world

IGNORE_LABEL = synthetic_view.IGNORE_LABEL
LABEL_DIVISOR = synthetic_view.LABEL_DIVISOR
FRAMES_PER_SECOND = 10


class Scene:
    """One street, fixed by its seed.

    Args:
        seed: any integer >= 0; the same seed is the same world at every size.
        height, width: pixels of the pictures, at least 33.

    Raises:
        ValueError: pictures that are too small, or a negative seed.
    """

    def __init__(self, seed: int, *, height: int, width: int):
        if height < 33 or width < 33:
            raise ValueError(f"Pictures of at least 33 x 33 pixels are needed, not {height} x {width}.")
        if seed < 0:
            raise ValueError(f"The seed of a scene is at least 0, not {seed}.")
        self.seed, self.height, self.width = seed, height, width
        self.world = synthetic_world.World(seed)

    def render(self, time: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The scene after `time` seconds.

        Returns:
            image [H, W, 3] uint8, panoptic [H, W] int32 (class * 1000 + track, void 255000) and depth [H, W] float32
            in metres, 0 where there is none (sky).
        """
        canvas = synthetic_canvas.Canvas(
            self.height,
            self.width,
            focal=self.world.focal * max(self.width, 1.6 * self.height),
            horizon=self.world.horizon * (self.height - 1),
            background=synthetic_world.SKY * LABEL_DIVISOR,
        )
        return synthetic_view.View(self.world, canvas, time).draw()
