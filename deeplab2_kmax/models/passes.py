"""Several passes of one network over scaled and mirrored copies of its images, and the average of what they say.

Only maps that mean the same at a place in every pass can be averaged: class probabilities, heat maps, offsets, depth.
Mask slots cannot: slot 3 of a mirrored image is another object than slot 3 of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax.layers import resize, shapes

Maps = Mapping[str, tf.Tensor]  # [B, h, w, C] by name
OFFSET = "offset"  # in the names of maps that hold (y, x) in pixels


class Pass(NamedTuple):
    """How a network sees its images."""

    scale: float = 1.0
    mirrored: bool = False  # left and right


def make(scales: Sequence[float], *, add_mirrored: bool = False) -> tuple[Pass, ...]:
    """The passes that `eval_scales` (none: 1) and `add_flipped_images` ask for."""
    mirrorings = (False, True) if add_mirrored else (False,)
    return tuple(Pass(float(scale), mirrored) for scale in (scales or (1.0,)) for mirrored in mirrorings)


def average(
    network: Callable[[tf.Tensor, float], Maps],
    images: tf.Tensor,
    passes: Sequence[Pass],
    *,
    size: tuple[Any, Any] | None = None,
    finish: Callable[[dict[str, tf.Tensor]], Maps] = dict,
) -> dict[str, tf.Tensor]:
    """The mean over the passes of every map that a network gives.

    Args:
        network: (images [B, h, w, 3], their scale) -> maps on grids of its own. Its sides are
            `resize.scaled_side` of the whole.
        images: [B, H, W, 3].
        passes: one or more.
        size: of the maps that come out; None: (H, W).
        finish: what becomes of the maps of a pass once they are upright and of that size, for instance probabilities of
            logits: they are then averaged as probabilities.

    Returns:
        Maps [B, *size, C]. Those named `*offset*` hold (y, x) in pixels of that size.
    """
    whole = shapes.of(images)[1:3]
    height, width = size or whole
    total: dict[str, tf.Tensor] = {}
    for scale, mirrored in passes:
        scaled = [resize.scaled_side(side, scale) for side in whole]
        seen = images if scale == 1.0 else resize.bilinear(images, (scaled[0], scaled[1]))
        maps = network(tf.reverse(seen, [2]) if mirrored else seen, scale)
        upright = {
            name: resize_map(name, _mirror(name, values) if mirrored else values, (height, width))
            for name, values in maps.items()
        }
        finished = finish(upright)
        total = {name: values + total[name] if total else values for name, values in finished.items()}
    return {name: values / len(passes) for name, values in total.items()}


def resize_map(name: str, values: tf.Tensor, size: tuple[Any, Any]) -> tf.Tensor:
    """A map [B, h, w, C] at another size; offsets, one or more of (y, x), grow with it."""
    return resize.bilinear(in_pixels(values, size) if OFFSET in name else values, size)


def in_pixels(offsets: tf.Tensor, size: tuple[Any, Any]) -> tf.Tensor:
    """Offsets [B, h, w, 2 n], (y, x) on their own grid, in pixels of an image of `size`."""
    steps = [
        tf.cast(tf.maximum(new - 1, 1), offsets.dtype) / tf.cast(tf.maximum(old - 1, 1), offsets.dtype)
        for new, old in zip(size, shapes.of(offsets)[1:3])
    ]
    return offsets * tf.tile(tf.stack(steps), [offsets.shape[-1] // 2])


def _mirror(name: str, values: tf.Tensor) -> tf.Tensor:
    mirrored = tf.reverse(values, [2])
    return mirrored * tf.constant([1.0, -1.0], values.dtype) if OFFSET in name else mirrored
