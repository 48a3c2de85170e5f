"""The first layer of a model of images in one that sees more: its kernel, and zeros for what comes after the colours.

The wider model is the same function at the start then (Motion-DeepLab from Panoptic-DeepLab).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COLORS = 3


def is_wider(shape: Sequence[int], stored: Sequence[int]) -> bool:
    """Whether a kernel of `shape` [k, k, C, D] has one of `stored` for its colours, and further input channels."""
    shape, stored = tuple(shape), tuple(stored)
    if len(stored) != 4 or len(shape) != 4 or stored[2] != COLORS:
        return False
    return shape[2] > COLORS and stored[:2] + stored[3:] == shape[:2] + shape[3:]


def widen(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel [k, k, C, D] with zeros for the input channels from C to `channels`."""
    return np.pad(kernel, [(0, 0), (0, 0), (0, channels - kernel.shape[2]), (0, 0)])
